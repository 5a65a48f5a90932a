"""Who sends what he may not: counters, bindings and the kernel's log put together, for somebody who must decide. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from reconciler.guard.loaded import Bound, bound
from reconciler.tally import Tally, more
from state.drops import Drops
from state.kernel_log import LoggedFrame, parse_logged

Facts = dict[str, Any]
_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose vif is behind a port, and which of his."""

    domu: str
    index: int


@dataclass(frozen=True, slots=True)
class Moment:
    """When something was looked at: by the clock, and in seconds since boot."""

    time: datetime
    uptime_s: float

    def at(self, uptime_s: float) -> str:
        """What the clock said at another second since boot."""
        return stamp(self.time - timedelta(seconds=self.uptime_s - uptime_s))


def stamp(time: datetime) -> str:
    """RFC 3339, in UTC."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def mode_of(held: Bound | None) -> str:
    """What becomes of what a port may not send: enforce, audit or bypassed; of a port without a binding, unknown."""
    if held is None:
        return "unknown"
    return held.mode if held.bypassed is None else "bypassed"


def last_frames(records: Iterable[str], prefix: str) -> Mapping[str, LoggedFrame]:
    """The last refused frame of each port in the kernel's log, which is given oldest first."""
    found = (parse_logged(record, prefix) for record in records)
    return {frame.port: frame for frame in found if frame is not None}


def packets(drops: Drops) -> dict[str, dict[str, int]]:
    """How many packets were counted, by port and reason."""
    return {
        port: {reason: count.packets for reason, count in reasons.items()}
        for port, reasons in drops.counts.items()
    }


def violation_facts(
    drops: Drops,
    owners: Mapping[str, Owner],
    frames: Mapping[str, LoggedFrame],
    *,
    now: Moment,
    before: Tally | None,
) -> list[Facts]:
    """One entry for each port of which something was counted, who sends most first.

    Rates are packets a minute since `before`; None without one. What a frame says of itself is `untrusted_`.
    """
    counted, held = packets(drops), bound(drops.table)
    found = []
    for port, reasons in counted.items():
        rates = _rates(port, reasons, now, before)
        owner = owners.get(port, owners.get(port.removesuffix("-emu")))
        binding = held.get(port)
        found.append(
            {
                "vif": port,
                "domu": None if owner is None else owner.domu,
                "index": None if owner is None else owner.index,
                "mode": mode_of(binding),
                "packets": sum(reasons.values()),
                "reasons": [
                    {
                        "reason": reason,
                        "packets": count.packets,
                        "bytes": count.bytes,
                        "packets_per_minute": rates.get(reason),
                    }
                    for reason, count in sorted(drops.counts[port].items())
                ],
                "bound": None
                if binding is None
                else {"mac": binding.mac, "addresses": list(binding.addresses)},
                "last_frame": _frame(frames.get(port), now),
            }
        )
    return sorted(found, key=lambda each: (-each["packets"], each["vif"]))


def _rates(port: str, reasons: Mapping[str, int], now: Moment, before: Tally | None) -> dict[str, float]:
    if before is None or now.uptime_s <= before.uptime_s:
        return {}
    minutes = (now.uptime_s - before.uptime_s) / _MINUTE_S
    return {
        reason: round(number / minutes, 2)
        for reason, number in more(before.counts.get(port, {}), reasons).items()
    }


def _frame(frame: LoggedFrame | None, now: Moment) -> Facts | None:
    if frame is None:
        return None
    claims = {
        each.name: getattr(frame, each.name) for each in fields(frame) if each.name.startswith("untrusted_")
    }
    return {"time": now.at(frame.uptime_s), **claims}


_ENDS = {
    "enforce": "dropped",
    "audit": "would have been dropped (audit)",
    "bypassed": "counted, bypassed now",
    "unknown": "of an unknown vif",
}


def violation_lines(facts: Facts) -> Iterator[str]:
    """The facts for a terminal."""
    if not facts["violations"]:
        yield "No violations: nothing was refused since the guard was loaded."
        return
    since = facts["rates_since"]
    yield (
        "no rates: nothing is remembered since boot (`domgit run` does at each pass; `--over 10s` looks twice)"
        if since is None
        else f"rates since {since}"
    )
    for each in facts["violations"]:
        who = "no domU" if each["domu"] is None else f"domu.{each['domu']}.vif.{each['index']}"
        yield f"{each['vif']}  {who}: {each['packets']} packets {_ENDS[each['mode']]}"
        for reason in each["reasons"]:
            rate = reason["packets_per_minute"]
            yield f"    {reason['reason']:<8} {reason['packets']} packets" + (
                "" if rate is None else f", {rate:g} a minute"
            )
        if each["bound"] is not None:
            addresses = ", ".join(each["bound"]["addresses"]) or "no addresses"
            yield f"    bound    {each['bound']['mac']}: {addresses}"
        yield f"    last     {_told(each['last_frame'], readable=facts['kernel_log'])}"


def _told(frame: Facts | None, *, readable: bool) -> str:
    if frame is None:
        where = "the kernel's log has no line of it" if readable else "the kernel's log cannot be read"
        return f"not known: {where}"
    claims = [
        f"{words} {frame[key]}"
        for words, key in (
            ("from", "untrusted_mac"),
            ("says that", "untrusted_sender_mac"),
            ("has" if frame["untrusted_sender_mac"] else "as", "untrusted_source"),
            ("asks for" if frame["untrusted_kind"] == "ARP request" else "to", "untrusted_target"),
        )
        if frame[key] is not None
    ]
    return " ".join([frame["time"], frame["untrusted_kind"], *claims])
