"""What can go wrong with one act of domgit: it is killed before or after it, or the act fails, half succeeds, or lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from state.run import ReadError
from tests.model.world import Argv, Seam

Kind = Literal[
    "killed before", "killed after", "fails", "fails though done", "succeeds without effect", "cannot be read"
]
CUTS: tuple[Kind, ...] = ("killed before", "killed after")
FAULTS: tuple[Kind, ...] = ("fails", "fails though done", "succeeds without effect", "cannot be read")


class Killed(BaseException):
    """domgit is gone, as by SIGKILL: nothing of it catches this, nothing is tidied up."""


@dataclass(slots=True)
class Fault(Seam):
    """Lets `kind` happen to the act with this number; counts acts, or readings for "cannot be read"."""

    kind: Kind
    number: int
    _seen: int = 0
    _meant: Argv | None = None

    def before(self, argv: Argv) -> Literal["do", "refuse", "skip"]:
        if self.kind == "cannot be read" or not self._is_it():
            return "do"
        self._meant = argv
        match self.kind:
            case "killed before":
                raise Killed
            case "fails":
                return "refuse"
            case "succeeds without effect" if not argv[0].startswith("domgit:"):
                return "skip"  # a tool's exit status may lie; a file system that does is past helping
        return "do"

    def after(self, argv: Argv) -> Literal["tell", "refuse"]:
        if argv is not self._meant:
            return "tell"
        self._meant = None
        if self.kind == "killed after":
            raise Killed
        return "refuse" if self.kind == "fails though done" else "tell"

    def reading(self, argv: Argv) -> None:
        if self.kind == "cannot be read" and self._is_it():
            raise ReadError(f"{' '.join(argv)}: no answer")

    def _is_it(self) -> bool:
        self._seen += 1
        return self._seen == self.number + 1


@dataclass(slots=True)
class Count(Seam):
    """Counts what a fault could happen to."""

    acts: int = 0
    readings: int = 0

    def before(self, argv: Argv) -> Literal["do", "refuse", "skip"]:
        del argv
        self.acts += 1
        return "do"

    def reading(self, argv: Argv) -> None:
        del argv
        self.readings += 1
