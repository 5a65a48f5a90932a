"""Lines that somebody wrote by hand so that no vif sends as another: found among rules of others. Pure.

Two sets of lines are in use: those that Xen's scripts made of `antispoof=yes`, and the file of FORWARD rules with four
lines a vif. Both are iptables rules that name a bridge port. A line is taken for one of them by what it asks and does,
and not by who loaded it.

Source: vif-common.sh of Xen 3.0 to 4.4; captures of iptables-save 1.8.9 in tests/cases/foreign/by-hand.iptables.rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from state.iptables import words
from state.netfilter import (
    STATES,
    Chain,
    Named,
    Ranges,
    Rule,
    Rules,
    Sometimes,
    Step,
    Table,
    Untrack,
    Verdict,
    Within,
)

Kind = Literal[
    "source", "any_source", "destination", "any_destination", "dhcp", "answers", "untracked", "log", "drop"
]
_UDP, _CLIENT, _SERVER = 17, 68, 67
_FORWARD, _PREROUTING = "forward", "prerouting"
Version = Literal[4, 6]
# Each of these alone names a vif and what it may do; the others are nothing by themselves.
_OF_A_VIF = frozenset({"source", "destination", "dhcp", "untracked", "any_destination"})


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `port` is the one that it names, "" where it is for all of them; `addresses` are numbers."""

    kind: Kind
    table: Table
    rule: Rule
    port: str = ""
    version: Version = 4
    addresses: Ranges = ()


@dataclass(frozen=True, slots=True)
class LogLine:
    """What a LOG target asks for. `count` and `per` are None where there is no limit."""

    prefix: str
    level: str
    count: int | None
    per: str | None


def lines(rules: Rules, uplinks: Iterable[str]) -> tuple[Line, ...]:
    """All such lines, in the order of the rules; none where no line is about a vif.

    What is accepted from an uplink is none: there, it opens what the last line would close.
    """
    away = frozenset(uplinks)
    found: list[Line] = []
    for table in rules.tables:
        if table.where.startswith(("iptables", "ip6tables")):
            for chain in table.chains.values():
                found += _in_chain(table, chain, away)
    return tuple(found)


def _in_chain(table: Table, chain: Chain, uplinks: frozenset[str]) -> list[Line]:
    if chain.hook is None or chain.hook.place not in {_FORWARD, _PREROUTING}:
        return []
    found = [line for rule in chain.rules for line in _line(table, chain.hook.place, rule)]
    found = [line for line in found if line.port not in uplinks]
    if not any(line.kind in _OF_A_VIF for line in found):
        return []
    if chain.hook.drops:
        found.append(Line("drop", table, Rule(chain.policy, ())))
    return found


def _line(table: Table, place: str, rule: Rule) -> Iterator[Line]:
    """The line that a rule is; none where it asks for anything else than such a line would."""
    asked, acts = _parts(rule)
    if place == _FORWARD and asked.keys() <= {"physin"} and (end := _end(rule, acts)) is not None:
        port = _port(asked.get("physin"))
        if port is not None or not asked:
            yield Line(end, table, rule, port or "")
        return
    version: Version = 6 if table.where.startswith("ip6") else 4
    into, out = _port(asked.pop("physin", None)), _port(asked.pop("physout", None))
    if (into is None) == (out is None):
        return
    if place == _PREROUTING:
        kind: Kind | None = "untracked" if acts == [Untrack()] and into is not None else None
    elif into is not None:
        kind = _sent(asked, acts, f"saddr{version}")
    else:
        kind = _received(asked, acts, f"daddr{version}")
    if kind is not None:
        own = asked.get(f"saddr{version}") or asked.get(f"daddr{version}")
        addresses = own.ranges if isinstance(own, Within) else ()
        yield Line(kind, table, rule, into or out or "", version, addresses)


def _end(rule: Rule, acts: list[Step]) -> Kind | None:
    """What a line is that is about all that the lines before it have left."""
    if acts == [Verdict("drop")]:
        return "drop"
    return "log" if all(isinstance(step, Sometimes) for step in acts) and log_of(rule) is not None else None


def _parts(rule: Rule) -> tuple[dict[str, Within | Named], list[Step]]:
    """What a rule asks, by field, and everything else of it. That there is a port at all (--physdev-is-bridged) is nothing."""
    asked: dict[str, Within | Named] = {}
    rest: list[Step] = []
    for step in rule.steps:
        if isinstance(step, Named) and step.patterns == ("",):
            continue
        if isinstance(step, Within | Named) and step.field not in asked:
            asked[step.field] = step
        else:
            rest.append(step)
    return asked, rest


def _port(asked: Within | Named | None) -> str | None:
    """The one port that is asked for; None where it is none, several, or all but one."""
    if not isinstance(asked, Named) or asked.negated or len(asked.patterns) != 1:
        return None
    return None if asked.patterns[0].endswith("*") else asked.patterns[0]


def _sent(asked: dict[str, Within | Named], acts: list[Step], source: str) -> Kind | None:
    """What a line is that is about what a vif sends; its MAC may be asked for as well."""
    fields = asked.keys() - {"smac"}
    own = asked.get(source)
    if own is not None and fields == {source}:
        # Either what has the address is let through, or what has not is dropped.
        return "source" if acts == [Verdict("drop" if own.negated else "accept")] else None
    if acts != [Verdict("accept")] or any(step.negated for step in asked.values()):
        return None
    if not fields:
        return "any_source"
    dhcp = {"proto": _UDP, "sport": _CLIENT, "dport": _SERVER}
    return (
        "dhcp"
        if fields == dhcp.keys() and all(_is(asked[name], value) for name, value in dhcp.items())
        else None
    )


def _received(asked: dict[str, Within | Named], acts: list[Step], destination: str) -> Kind | None:
    """What a line is that is about what is sent to a vif."""
    if acts != [Verdict("accept")] or any(step.negated for step in asked.values()):
        return None
    if asked.keys() == {"ctstate"}:
        return "answers" if _has_established(asked["ctstate"]) else None
    if not asked:
        return "any_destination"
    return "destination" if asked.keys() == {destination} else None


def _is(step: Within | Named, value: int) -> bool:
    return isinstance(step, Within) and step.ranges == ((value, value),)


def _has_established(step: Within | Named) -> bool:
    return isinstance(step, Within) and any(low <= STATES["established"] <= high for low, high in step.ranges)


def log_of(rule: Rule) -> LogLine | None:
    """What a rule logs; None where it does not.

    Source: iptables-extensions(8), LOG and limit, as iptables-save 1.8.9 writes them.
    """
    said = words(rule.text)
    if "-j" not in said or said[said.index("-j") + 1 :][:1] != ["LOG"]:
        return None
    values = dict(pairwise(said))
    count, slash, per = values.get("--limit", "").partition("/")
    limited = slash and count.isdecimal()
    return LogLine(
        prefix=values.get("--log-prefix", ""),
        level=_LEVELS.get(values.get("--log-level", "4"), ""),
        count=int(count) if limited else None,
        per=_PER.get(per) if limited else None,
    )


_LEVELS = dict(
    zip("01234567", ("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"), strict=True)
)
_PER = {
    "sec": "second",
    "second": "second",
    "min": "minute",
    "minute": "minute",
    "hour": "hour",
    "day": "day",
}
