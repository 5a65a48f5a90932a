"""What humans and audit have let through: vifs that are open for a time, and what enforce would have dropped. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reconciler.guard.binding import Guard
from reconciler.guard.loaded import bound, bypassed
from reconciler.plan import Note
from reconciler.scope import Situation
from reconciler.tally import more


def lever_notes(situation: Situation, guard: Guard, names: Mapping[str, str]) -> Iterator[Note]:
    """What to know of vifs that are not held back just now. Being open is no drift: nobody undoes it but its time."""
    loaded = situation.observed.guard
    if loaded is None:
        return
    opened, held = bypassed(loaded), bound(loaded)
    for binding in guard.bindings:
        name = names.get(binding.uuid)
        address = f"port.{binding.interface}" if name is None else f"domu.{name}"
        note = opened.get((binding.interface, binding.mac))
        if note is not None:
            what = f"vif {binding.index} ({binding.interface}) is open {note}".rstrip()
            yield Note(
                address,
                "bypassed",
                f"{what}: it may send with any address (`domgit bypass {binding.interface} --end` closes it)",
            )
        there = held.get(binding.interface)
        if there is not None and (there.mode, binding.mode) == ("audit", "enforce"):
            yield Note(
                address,
                "would_drop",
                f"vif {binding.index} ({binding.interface}): {_would_drop(situation, binding.interface)}",
            )


def _would_drop(situation: Situation, port: str) -> str:
    """What enforce would have dropped of a port that was audited, and since when that was counted."""
    counted = situation.counted
    if counted is None:
        return "what enforce would have dropped is not known: its counters were not read"
    since = None if situation.tally is None else situation.tally.audited.get(port)
    ports = [each for each in (port, f"{port}-emu") if each in counted]
    found: dict[str, int] = {}
    for each in ports:
        base = (
            {}
            if situation.tally is None or each not in situation.tally.audited
            else situation.tally.audited[each].base
        )
        for reason, number in more(base, counted[each]).items():
            found[reason] = found.get(reason, 0) + number
    total = sum(found.values())
    reasons = ", ".join(f"{reason} {number}" for reason, number in sorted(found.items()) if number)
    when = (
        "for as long as its counters exist, and no pass has noted since when"
        if since is None
        else f"since {since.time}"
    )
    return f"enforce would have dropped {total} packets {when}" + (f" ({reasons})" if total else "")
