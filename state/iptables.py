"""What `iptables-save` and its siblings list, as rules: argv and parser side by side.

Source: iptables-save(8), iptables 1.8.9, both variants.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from state.ipset import Sets, match_set
from state.iptables_options import DETAILS, MATCHES, target
from state.netfilter import (
    PRIORITIES,
    ChainDraft,
    Hook,
    Rule,
    Step,
    Table,
    Unknown,
    Verdict,
    finished,
)

# The legacy tools make the kernel load what they are asked about; where nobody used them, they are not asked.
LEGACY_TABLES: Mapping[str, str] = {
    "iptables-legacy-save": "/proc/net/ip_tables_names",
    "ip6tables-legacy-save": "/proc/net/ip6_tables_names",
}
# The tables that the nft variant keeps its rules in, by the family that nft has them in.
NFT_SAVES: Mapping[str, str] = {"iptables-nft-save": "ip", "ip6tables-nft-save": "ip6"}
NAMES = frozenset({"raw", "mangle", "nat", "filter", "security"})
_PLACES: Mapping[str, str] = {
    "PREROUTING": "prerouting",
    "INPUT": "input",
    "FORWARD": "forward",
    "OUTPUT": "output",
    "POSTROUTING": "postrouting",
}
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_POLICIES = frozenset({"ACCEPT", "DROP"})
_MODULES = frozenset(module for module, _ in MATCHES) | {"set"}


def words(line: str) -> list[str]:
    """The words of a saved rule; quotes hold one together."""
    if '"' not in line:
        return line.split()
    return [found[1] or re.sub(r"\\(.)", r"\1", found[0]) for found in _WORD.findall(line)]


def sections(text: str) -> Iterator[tuple[str, list[str]]]:
    """The name of each table in the output of a save command, and its lines.

    Raises:
        ValueError: there is none, one has no name or stands twice, or lines belong to none.
    """
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("*"):
            name = line[1:]
            if not name or name in found:
                raise ValueError(f"unexpected table {line[:80]!r}")
            found[name] = []
        elif line.strip():
            found[name].append(line)
    if not found:
        raise ValueError("no table")
    yield from found.items()


def parse_save(source: str, text: str, sets: Sets) -> tuple[Table, ...]:
    """The tables in the output of a save command, counters left out; `source` is the command, `sets` are ipset's.

    Raises:
        ValueError, KeyError, IndexError: it is not what that command writes.
    """
    version = "6" if source.startswith("ip6") else "4"
    tool = source.removesuffix("-save")
    tables = []
    for name, lines in sections(text):
        drafts: dict[str, ChainDraft] = {}
        for line in lines:
            if line.startswith(":"):
                chain, policy = line[1:].split()[:2]
                drafts[chain] = ChainDraft(_hook(version, name, chain, policy), line)
            elif line.startswith("-A "):
                drafts[line.split(maxsplit=2)[1]].rules.append(_rule(line, version, drafts, sets))
        tables.append(finished(f"{tool} -t {name}", f"foreign.{tool}.{name}", drafts))
    return tuple(tables)


def _hook(version: str, table: str, chain: str, policy: str) -> Hook | None:
    if policy not in _POLICIES or chain not in _PLACES:
        return None
    place = _PLACES[chain]
    priority = PRIORITIES[
        "srcnat" if table == "nat" and place == "postrouting" else "dstnat" if table == "nat" else table
    ]
    kind = "nat" if table == "nat" else "filter"
    return Hook("ip6" if version == "6" else "ip", place, priority, kind, drops=policy == "DROP")


def _rule(line: str, version: str, drafts: Mapping[str, ChainDraft], sets: Sets) -> Rule:
    tokens = words(line)
    own = drafts.get(tokens[1])
    place = "" if own is None or own.hook is None else own.hook.place
    return Rule(line, tuple(_steps(tokens[2:], version, _Place(drafts, place, sets))))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a rule stands: beside which chains, at which hook ("" for none), and with which sets."""

    drafts: Mapping[str, ChainDraft]
    hook: str
    sets: Sets


def _steps(tokens: list[str], version: str, place: _Place) -> Iterator[Step]:
    module, negated, at = "", False, 0
    while at < len(tokens):
        word, at = tokens[at], at + 1
        if word == "!":
            negated = True
            continue
        if word in {"-j", "-g"}:
            yield from _target(word, tokens[at:], place)
            return
        end = at
        while end < len(tokens) and not tokens[end].startswith("-") and tokens[end] != "!":
            end += 1
        values = tuple(tokens[at:end])
        if word == "-m":
            module = values[0] if values else ""
            if module not in _MODULES:
                yield Unknown(f"-m {module}")
        elif word == "--match-set" and len(values) > 1:
            yield match_set(place.sets, values[0], values[1], version, negated=negated)
        else:
            yield from _option(module, word, values, version, negated=negated)
        negated, at = False, end


def _option(
    module: str, option: str, values: tuple[str, ...], version: str, *, negated: bool
) -> tuple[Step, ...]:
    found = MATCHES.get((module, option)) or MATCHES.get(("", option))
    if found is None:
        if module not in _MODULES or option.startswith(DETAILS.get(module, ("\0",))):
            return ()  # said once for the whole match, or of no meaning by itself
        return (Unknown(" ".join((option, *values))),)
    count, reader = found
    try:
        return reader(values[:count], negated, version)
    except (ValueError, KeyError, IndexError):
        return (Unknown(" ".join((option, *values))),)


def _target(how: str, tokens: list[str], place: _Place) -> tuple[Step, ...]:
    name, options = (tokens[0] if tokens else ""), tuple(tokens[1:])
    if name in place.drafts:
        return (Verdict("goto" if how == "-g" else "jump", name),)
    try:
        return target(name, options, place.hook)
    except (ValueError, KeyError):
        return (Verdict("ask"),)
