"""What the guard has counted in the kernel, and what it holds beside: one listing of our table with all that traffic changes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from state.files import Files
from state.guard import read_guards
from state.iptables_drops import parse_counts, prefix_of, read_saved
from state.nft import BYPASSED, LIST_WHOLE, LoadedTable, is_missing, listed_members, parse_table
from state.run import Runner

_COUNTERS = "count_"
_COUNTED = re.compile(
    r'"(?P<port>[^"]+)" counter packets (?P<packets>[0-9]{1,20}) bytes (?P<bytes>[0-9]{1,20})(?: timeout \S+)?(?: expires \S+)?'
)
_PREFIX = re.compile(r'log prefix "(?P<prefix>[^"]*)"')
_BYPASSED = re.compile(
    r'"(?P<port>[^"]+)" \. (?P<mac>\S+) timeout \S+ expires (?P<left>\S+)(?: comment "(?P<comment>[^"]*)")?'
)
_LEFT = re.compile(
    r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m(?!s))?(?:([0-9]{1,9})s)?(?:[0-9]{1,9}ms)?"
)
_UNITS_S = (86400, 3600, 60, 1)


@dataclass(frozen=True, slots=True)
class Count:
    """Frames under one reason: dropped or, where that is the vif's mode, let pass all the same."""

    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class OpenFor:
    """A vif that a human has opened: for how long still, in whole seconds, and what was noted then."""

    mac: str
    left_s: int
    note: str


@dataclass(frozen=True, slots=True)
class Drops:
    """What is counted, by port and reason; the prefix of log lines; which ports are bypassed; and the table itself."""

    table: LoadedTable
    counts: Mapping[str, Mapping[str, Count]]
    prefix: str | None
    bypassed: Mapping[str, OpenFor]


def read_drops(runner: Runner, files: Files) -> Drops | None:
    """What our guard has counted, in whichever backend; None where none is loaded.

    Raises:
        ReadError: a tool failed in any other way, or listed something else, or less.
    """
    completed = runner.run(LIST_WHOLE)
    if not is_missing(completed):
        return parse_drops(completed.output())
    loaded = read_guards(runner, files)
    if not loaded or loaded[0].by == "nftables":
        return None
    saved = read_saved(runner, loaded[0].by)
    counts = {
        port: {reason: Count(*count) for reason, count in reasons.items()}
        for port, reasons in parse_counts(saved).items()
    }
    return Drops(loaded[0], counts, prefix_of(saved), {})


def parse_drops(text: str) -> Drops:
    """What was counted according to `nft list table bridge domgit`.

    Raises:
        ReadError: as parse_table.

    Source: nft(8), nftables 1.0.6.
    """
    table, members = parse_table(text), listed_members(text)
    counts: dict[str, dict[str, Count]] = {}
    for name, elements in sorted(members.items()):
        # A counter that is no element of ours says nothing of a port.
        for each in elements if name.startswith(_COUNTERS) else ():
            if match := _COUNTED.fullmatch(each):
                of_port = counts.setdefault(match["port"], {})
                of_port[name.removeprefix(_COUNTERS)] = Count(int(match["packets"]), int(match["bytes"]))
    prefix = _PREFIX.search(table.rules)
    bypassed = {
        match["port"]: OpenFor(match["mac"], _seconds(match["left"]), match["comment"] or "")
        for each in sorted(members.get(BYPASSED, ()))
        if (match := _BYPASSED.fullmatch(each))
    }
    return Drops(table, counts, None if prefix is None else prefix["prefix"], bypassed)


def _seconds(left: str) -> int:
    """A duration as nft writes it, such as `59m59s996ms`, parts of a second left out."""
    match = _LEFT.fullmatch(left)
    return (
        0
        if match is None
        else sum(int(part or 0) * unit for part, unit in zip(match.groups(), _UNITS_S, strict=True))
    )
