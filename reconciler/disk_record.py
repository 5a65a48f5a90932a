"""What the last look into guests' disks has found. Under /run: who has rebooted looks anew.

Written by the daemon's watch alone; passes read it, and tell what is in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from reconciler.durable import write_whole
from state.inside.getty import Login


@dataclass(frozen=True, slots=True)
class Filled:
    """How full one file system of a domU is. Inodes are None where they have no end, days where nothing tells."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    uuid: str
    domu: str
    volume: str
    kind: str
    size_bytes: int
    used_bytes: int
    available_bytes: int
    used_percent: int
    inodes: int | None
    inodes_free: int | None
    inodes_percent: int | None
    full_in_days: int | None

    def over(self, percent: int) -> bool:
        """Whether so much of its room or of its inodes is used."""
        return max(self.used_percent, self.inodes_percent or 0) >= percent


@dataclass(frozen=True, slots=True)
class LetsIn:
    """How the system on one of a domU's disks lets people in."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    uuid: str
    login: Login


@dataclass(frozen=True, slots=True)
class Looked:
    """One look: when, in seconds since 1970, how long it took, what it found, and how many disks could not be read."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    time_s: int
    took_ms: int
    filled: tuple[Filled, ...] = ()
    unread: int = 0
    logins: tuple[LetsIn, ...] = ()

    def login_of(self, uuid: str) -> Login | None:
        """How a domU's system lets people in; None where that is not known."""
        return next((each.login for each in self.logins if each.uuid == uuid), None)

    def of(self, uuids: Iterable[str]) -> tuple[Filled, ...]:
        """What was found of these domUs."""
        wanted = frozenset(uuids)
        return tuple(each for each in self.filled if each.uuid in wanted)


# Without the daemon nobody looks, and what was so is told no longer.
_STALE_S = 86_400
_ADAPTER: TypeAdapter[Looked] = TypeAdapter(Looked)


def load(path: Path, *, now_s: float) -> Looked | None:
    """The last look; None where there was none since boot or for a day, or nothing can be made of what is there."""
    try:
        found = _ADAPTER.validate_json(path.read_bytes(), strict=True)
    except (OSError, ValidationError):
        return None
    return found if now_s - found.time_s < _STALE_S else None


def save(path: Path, looked: Looked) -> None:
    """Replace the last look.

    Raises:
        OSError: it could not be written.
    """
    write_whole(path, _ADAPTER.dump_json(looked).decode() + "\n")
