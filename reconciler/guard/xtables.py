"""What the rules of ebtables, iptables and ip6tables have in common: names of chains, the ways to them, the log. Pure.

Rules are written as the tools of iptables 1.8.9 save them, so that what is loaded can be compared with what should be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from reconciler.guard.binding import Guard, LogLimit
from reconciler.guard.grants import Ports
from reconciler.guard.port_trie import nodes

# The rules of each chain by its name; of a chain of the tool's own, only ours.
Chains = Mapping[str, tuple[str, ...]]
# `domgit` and `.` are what everybody shares, `/` is a port's own, `-` the way to ports with such a beginning.
ENTRY, LATE, UNKNOWN, LOG = "domgit", "domgit.late", "domgit.unknown", "domgit.log"
JUMP = f"-j {ENTRY}"
# The bit of a mark by which ebtables tells iptables that a packet is for dom0 itself, or for dom0 to route.
FOR_DOM0 = 0x08000000
# The entry for as long as the jump to it is put first anew: see iptables.full.
RESERVE = "domgit.reserve"
# A table's prefix has room for no more (xt_LOG(8) takes 29 bytes, ebtables 30).
_PREFIX_BYTES = 29
_UNITS = {"second": "sec", "minute": "min", "hour": "hour", "day": "day"}
_LEVELS = ("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug")


@dataclass(frozen=True, slots=True)
class Settings:
    """What of a guard is the same for all ports. `macs`: of the bridges; none where one is not known."""

    unknown_dropped: bool
    log: LogLimit
    alone: bool
    ibrname: bool
    macs: tuple[str, ...]


def settings_of(guard: Guard, *, ibrname: bool) -> Settings:
    """The settings of a guard; `ibrname`: this kernel's bridge family can match the bridge that a frame is on."""
    macs = tuple(sorted({bridge.mac for bridge in guard.bridges}))
    return Settings(guard.unknown_vifs == "drop", guard.log, guard.alone, ibrname, () if "" in macs else macs)


def port_chain(port: str) -> str:
    """The chain of one port: 22 of the 28 characters that iptables has room for."""
    return f"{ENTRY}/{port}"


def refusal(reason: str, mode: str) -> str:
    """The chain that refuses a frame, or only notes it."""
    return f"{ENTRY}.{'note' if mode == 'audit' else 'drop'}.{reason}"


def limit_match(log: LogLimit) -> str:
    """The options that a line of the log is limited by."""
    return f"--limit {log.count}/{_UNITS[log.per]}"


def prefix_of(log: LogLimit) -> str:
    """What a line of the log begins by: no more than every tool has room for."""
    return log.prefix[:_PREFIX_BYTES]


def level_number(log: LogLimit) -> int:
    """The level as syslog(3) counts it."""
    return _LEVELS.index(log.level)


def ways(
    ports: Ports, leaf: Callable[[str], str], rule: Callable[[str, str], str], end: tuple[str, ...] = ()
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The chains that lead to each bound or closed port, as (chain, rules); the first, of the entry itself, has no name.

    `leaf`: the chain that a port's name leads to; `rule`: the rule for a name or `PREFIX+` and a chain; `end`: the rules
    for what found no way on.
    """
    names = {*ports.grants} - ports.late | {*ports.closed} | ports.shut
    for prefix, asked in nodes(names):
        rules = tuple(
            rule(each, f"{ENTRY}-{each[:-1]}" if each.endswith("+") else leaf(each)) for each in asked
        )
        yield (f"{ENTRY}-{prefix}", (*rules, *end)) if prefix else ("", rules)
