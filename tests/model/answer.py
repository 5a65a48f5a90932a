"""How a tool of the dom0 in memory answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command prints, and its exit status."""

    stdout: str = ""
    rc: int = 0
    stderr: str = ""


class Refused(Exception):  # noqa: N818  # a tool's refusal is no error of the test
    """The tool says no, as the real one would: its message and exit status."""

    def __init__(self, message: str, rc: int = 1) -> None:
        super().__init__(message)
        self.answer = Answer(rc=rc, stderr=f"{message}\n")


def unknown(tool: str, arguments: Iterable[str]) -> AssertionError:
    """A strict fake knows what it was told; anything else is a change that nobody has thought through here."""
    return AssertionError(f"the dom0 in memory does not know `{tool} {' '.join(arguments)}`")
