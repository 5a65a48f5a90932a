"""One problem found in a repository, and the error that carries all of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]
PROBLEMS_LIMIT = 50  # of one file are told: who has more has one mistake fifty times


@dataclass(frozen=True, slots=True, order=True)
class Diagnostic:
    """What is wrong, where, and what was expected instead.

    `line` and `column` count from 1. `code` is stable and explained in docs/errors.md.
    `address` names the object as plans do: `domu.vm01.vif.0`, `host.dom0-a`, `network.vps-a`.
    """

    file: str | None
    line: int | None
    column: int | None
    code: str
    message: str
    address: str | None = None
    severity: Severity = "error"

    def __str__(self) -> str:
        """`FILE:LINE:COLUMN: error[DG1203]: message`, leaving out the parts that are unknown."""
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        return f"{place}{': ' if place else ''}{self.severity}[{self.code}]: {self.message}"


class SpecError(Exception):
    """The repository says something that cannot be: someone must edit git; no retry before it moves."""

    def __init__(self, diagnostics: tuple[Diagnostic, ...]) -> None:
        super().__init__("\n".join(str(diagnostic) for diagnostic in diagnostics))
        self.diagnostics = diagnostics
