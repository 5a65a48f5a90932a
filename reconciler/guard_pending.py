"""Changes of the guard that nobody has confirmed yet: a file each, with the commands that take the change back.

The name of a file says who has it; see reconciler/guard/revert.sh. What follows is written whole and forced to disk
before the change is made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from reconciler.durable import remove, write_whole
from reconciler.guard.binding import Step
from reconciler.guard.runnable import runnable, steps_of

State = Literal["new", "armed", "reverting", "reverted"]
STATES: tuple[State, ...] = ("new", "armed", "reverting", "reverted")
_HEAD = "# domgit 2 "


@dataclass(frozen=True, slots=True)
class Pending:
    """What there is to know of one change: whose it is, in which boot it was made, what must answer afterwards.

    `undo` are the commands that take it back, and that do nothing where it was not made. `attempt` is what was tried, as
    reconciler.guard_limits names it.
    """

    apply: str
    boot: str
    time: str
    needs: tuple[str, ...]
    undo: tuple[Step, ...]
    attempt: str

    def text(self) -> str:
        """The file: the commands, and a first line with all the rest."""
        about = {key: value for key, value in asdict(self).items() if key != "undo"}
        commands = runnable(self.undo)
        about["digest"] = hashlib.sha256(commands.encode()).hexdigest()
        return f"{_HEAD}{json.dumps(about)}\n{commands}"


_ADAPTER: TypeAdapter[Pending] = TypeAdapter(Pending)


def parse_pending(text: str) -> Pending:
    """What a file says.

    Raises:
        ValueError: it is not as it was written.
    """
    head, _, commands = text.partition("\n")
    try:
        about = json.loads(head.removeprefix(_HEAD))
        digest = about.pop("digest")
        pending = _ADAPTER.validate_python({**about, "undo": ()})
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as exc:
        raise ValueError("its first line is not as it was written") from exc
    if hashlib.sha256(commands.encode("utf-8", "surrogateescape")).hexdigest() != digest:
        raise ValueError("what it runs is not as it was written")
    return replace(pending, undo=steps_of(commands))


@dataclass(frozen=True, slots=True)
class PendingFile:
    """The file of one change, without its ending."""

    base: Path

    def at(self, state: str) -> Path:
        """Its path in a state."""
        return self.base.with_name(f"{self.base.name}.{state}")

    def write(self, pending: Pending) -> None:
        """Put it there, for the watchdog to take charge of."""
        self.base.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(self.at("new"), pending.text(), mode=0o600)

    def disarm(self) -> bool:
        """Take it from the watchdog for good; False when the watchdog was first and is taking the change back."""
        try:
            self.at("armed").unlink()
        except FileNotFoundError:
            return False
        return True

    def discard(self) -> None:
        """It is dealt with, whoever has it."""
        for state in STATES:
            if self.at(state).exists():
                remove(self.at(state))

    def read(self) -> str:
        """Its text, in whatever state it is by now; "" where it is in none."""
        for state in STATES:  # in the order in which the watchdog renames it
            try:
                return self.at(state).read_text(encoding="utf-8", errors="replace")
            except FileNotFoundError:
                continue
        return ""

    def set_aside(self) -> Path:
        """Keep what cannot be used for a human to look at, where nobody takes it for a change any more."""
        aside = self.at("damaged")
        for state in STATES:
            with suppress(FileNotFoundError):
                self.at(state).rename(aside)
        return aside


def left_behind(folder: Path) -> Iterator[tuple[PendingFile, State]]:
    """Every file that is there, oldest first. Asked by who holds the host's lock: nobody is about to confirm any of them."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        for state in STATES:
            if path.suffix == f".{state}" and not path.name.startswith("."):
                yield PendingFile(path.with_suffix("")), state
