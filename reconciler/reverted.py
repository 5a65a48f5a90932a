"""Changes of the guard that had to be taken back: remembered, so that the daemon does not try the same one again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from reconciler.durable import remove, write_whole
from state.run import ReadError

# What is loaded again after somebody flushed the table is another attempt than the change of one address.
Kind = Literal["table", "rules", "elements"]


@dataclass(frozen=True, slots=True)
class Reverted:
    """One attempt, as reconciler.guard_limits.attempt names it; when it was taken back, and why.

    `unjudged`: domgit ended before it was known whether the gateway answers.
    """

    attempt: str
    time: str
    why: str
    unjudged: bool = False

    def __str__(self) -> str:
        """For plans."""
        return f"taken back at {self.time}: {self.why}"


_ADAPTER: TypeAdapter[tuple[Reverted, ...]] = TypeAdapter(tuple[Reverted, ...])
_MOST = 16  # one for each kind since git last moved; the oldest go


def load(path: Path) -> tuple[Reverted, ...]:
    """What was taken back and not made good since, oldest first.

    Raises:
        ReadError: the file is damaged: what must not be tried again is not known.
    """
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except FileNotFoundError:
        return ()
    except OSError as exc:
        raise ReadError(f"{path}: {exc.strerror}") from exc
    except ValidationError as exc:
        raise ReadError(f"{path}: damaged: {exc.error_count()} values are not what was written") from exc


def add(path: Path, one: Reverted) -> None:
    """Remember one more.

    Raises:
        ReadError: as load.
    """
    save(path, (*load(path), one))


def save(path: Path, reverted: Iterable[Reverted]) -> None:
    """Write them, whole and durable; none: no file."""
    kept = tuple(reverted)[-_MOST:]
    if kept:
        write_whole(path, _ADAPTER.dump_json(kept, indent=1).decode() + "\n", mode=0o600)
    elif path.exists():
        remove(path)
