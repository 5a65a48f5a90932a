"""What others have loaded into netfilter and traffic control: kept as text, compared byte for byte, and read as rules.

The text is what plans hold on to; the rules are made of it, so that nothing is judged but what was compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from state import ebtables, ipset, iptables, tc
from state.files import Files
from state.iptables_guard import foreign_listing, foreign_text
from state.listing import lines
from state.netfilter import Rules, Table, Unread
from state.nft import LIST_TABLES, TABLE
from state.nft_rules import list_table, parse_table
from state.run import Completed, NotInstalledError, ReadError, Runner, read

# Counters move with traffic, and the comments hold the time of the call.
_MOVING = re.compile(r"^#.*\n| ?\[\d+:\d+\]", re.MULTILINE)
_TABLE = re.compile(r"table (?P<family>[a-z0-9]+) (?P<name>\S+)")
_LISTED = re.compile(r"table (\w+) (\S+) \{")
_SAVED_TABLE = re.compile(r"^\*(\w+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Foreign:
    """Rules that are not ours, by what lists them: `table FAMILY NAME`, or the command that does."""

    rules: Mapping[str, str] = field(default_factory=dict)


def stateless(saved: str) -> str:
    """The output of iptables-save without what moves by itself and what is ours; rules and their order stay as they are."""
    return _MOVING.sub("", foreign_text(saved))


def parse_tables(text: str) -> tuple[tuple[str, str], ...]:
    """(family, name) of every table in `nft list tables` but our own, in nft's order.

    Raises:
        ReadError: a line is not `table FAMILY NAME`, or was cut.
    """
    found = []
    for line in lines("nft list tables", text) if text else ():
        match = _TABLE.fullmatch(line)
        if match is None:
            raise ReadError(f"nft list tables: cannot read the line {line[:120]!r}")
        if f"{match['family']} {match['name']}" != TABLE:
            found.append((match["family"], match["name"]))
    return tuple(found)


def read_foreign(runner: Runner, files: Files) -> Foreign:
    """All rules of others. What its own tool cannot list is there with what the tool said of it.

    Raises:
        ReadError: nft does not answer.
    """
    rules = {}
    tables = parse_tables(read(runner, LIST_TABLES))
    for family, name in tables:
        if text := foreign_listing(_told(runner.run(list_table(family, name)))):
            rules[f"table {family} {name}"] = text
    rules.update(_saved(runner, files, tables))
    if any("--match-set" in text for text in rules.values()):
        rules.update(_listed(runner, ipset.SAVE, lambda text: ipset.stateless(foreign_text(text))))
    try:
        rules.update(tc.read_filters(runner))
    except NotInstalledError:
        pass  # who has not got the tool has not used it
    except ReadError as exc:
        rules["tc filter show"] = str(exc)
    return Foreign(rules)


def _saved(runner: Runner, files: Files, tables: tuple[tuple[str, str], ...]) -> Iterator[tuple[str, str]]:
    for tool, family in iptables.NFT_SAVES.items():
        if any(each == family and name in iptables.NAMES for each, name in tables):
            yield from _listed(runner, (tool,), stateless)
    for tool, names in iptables.LEGACY_TABLES.items():
        if (files.read_text(names) or "").strip():
            yield from _listed(runner, (tool,), stateless)
    if any(family == "bridge" and name in ebtables.NAMES for family, name in tables):
        yield from _listed(runner, ebtables.NFT_SAVE, stateless)
    for table, module in ebtables.LEGACY_MODULES.items():
        if files.read_text(module) is not None:
            yield from _listed(runner, ebtables.legacy_list(table), str)


def _listed(runner: Runner, argv: tuple[str, ...], clean: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    try:
        done = runner.run(argv)
    except NotInstalledError:
        return  # who has not got the tool has not used it
    text = clean(_told(done))
    if text.strip():
        yield " ".join(argv), text


def _told(done: Completed) -> str:
    """What a tool printed, or what it said when it could not."""
    try:
        return done.output()
    except ReadError as exc:
        return str(exc)


def parse_rules(foreign: Foreign) -> Rules:
    """All rules of others as data; what cannot be read as such is named instead."""
    texts = dict(foreign.rules)
    sets = ipset.parse_sets(texts.pop(" ".join(ipset.SAVE), ""))
    tables, unread = list[Table](), list[Unread]()
    saved: set[tuple[str, str]] = set()
    # A save command shows what nft cannot: where it lists a table, nft's listing of the same adds only flowtables.
    for source, text in sorted(texts.items(), key=lambda item: (item[0].startswith("table "), item[0])):
        try:
            found = _parsed(source, text, sets)
        except (ValueError, IndexError, KeyError) as exc:
            unread.append(
                Unread(f"foreign.{source.removeprefix('table ').replace(' ', '.')}", _why(text, exc))
            )
            continue
        if source in _FAMILIES:
            saved |= {(_FAMILIES[source], name) for name in _SAVED_TABLE.findall(text)}
        match = _LISTED.match(text) if source.startswith("table ") else None
        if match is not None and (match[1], match[2]) in saved:
            found = tuple(Table(each.where, each.address, {}, each.offloaded) for each in found)
        tables += found
    return Rules(tuple(tables), tuple(unread))


_FAMILIES: Mapping[str, str] = {**iptables.NFT_SAVES, ebtables.NFT_SAVE[0]: "bridge"}
_SAVES = frozenset({*iptables.NFT_SAVES, *iptables.LEGACY_TABLES})
_LEGACY_LISTS = {" ".join(ebtables.legacy_list(table)): table for table in ebtables.LEGACY_MODULES}


def _parsed(source: str, text: str, sets: ipset.Sets) -> tuple[Table, ...]:
    if source.startswith("table "):
        return (parse_table(text),)
    if source.startswith("tc filter show dev "):
        return (tc.parse_filters(source, text),)
    if source in _LEGACY_LISTS:
        saved = ebtables.legacy_saved(_LEGACY_LISTS[source], text)
        return ebtables.parse_save("ebtables-legacy-save", saved)
    if source == ebtables.NFT_SAVE[0] and text.startswith("*"):
        return ebtables.parse_save(source, text)
    if source in _SAVES and text.startswith("*"):
        return iptables.parse_save(source, text, sets)
    raise ValueError(text)


def _why(text: str, exc: Exception) -> str:
    first = text.strip().partition("\n")[0]
    return f"cannot be read as rules ({exc if str(exc) != text else first})"
