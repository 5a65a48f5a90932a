"""What the guard had counted at an earlier look: rates and since-whens need one. Under /run: it ends with the counters, at a reboot.

Written by passes alone. What only looks writes nothing, so that two who look do not take each other's measure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from reconciler.durable import write_whole
from reconciler.guard.loaded import Bound

Counts = Mapping[str, Mapping[str, int]]  # packets by port and reason


@dataclass(frozen=True, slots=True)
class Since:
    """Since when a vif is seen as it is now, RFC 3339, and what had been counted of it by then."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    time: str
    mac: str
    mode: str
    base: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tally:
    """One look: when, by the clock and in seconds since boot, what was counted, and how long audited vifs have been audited."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    time: str
    uptime_s: float
    counts: Counts = field(default_factory=dict)
    audited: Mapping[str, Since] = field(default_factory=dict)


_ADAPTER: TypeAdapter[Tally] = TypeAdapter(Tally)


def load(path: Path, uptime_s: float) -> Tally | None:
    """The earlier look; None where there was none since boot, or nothing can be made of what is there."""
    try:
        found = _ADAPTER.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    return found if found.uptime_s <= uptime_s else None


def save(path: Path, tally: Tally) -> None:
    """Replace the earlier look.

    Raises:
        OSError: it could not be written.
    """
    write_whole(path, _ADAPTER.dump_json(tally).decode() + "\n")


def taken(
    before: Tally | None, bound: Mapping[str, Bound], counts: Counts, *, time: str, uptime_s: float
) -> Tally:
    """This look, with what the one before knew of vifs that are as they were."""
    audited = {}
    for port, each in sorted(bound.items()):
        if each.mode != "audit":
            continue
        known = None if before is None else before.audited.get(port)
        now = counts.get(port, {})
        same = known is not None and (known.mac, known.mode) == (each.mac, each.mode)
        # Counters that went back were loaded anew: what was counted before is not in them.
        if (
            known is None
            or not same
            or any(now.get(reason, 0) < number for reason, number in known.base.items())
        ):
            known = Since(time, each.mac, each.mode, now)
        audited[port] = known
    return Tally(time, uptime_s, {port: counts[port] for port in sorted(counts)}, audited)


def more(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    """What was counted in between; all of it where a counter began anew."""
    return {
        reason: number - before.get(reason, 0) if number >= before.get(reason, 0) else number
        for reason, number in now.items()
    }
