"""What others have loaded into netfilter, kept as opaque text: never parsed, only compared and counted.

Source: nft(8), nftables 1.0.6; iptables-save(8), iptables 1.8.9, both variants.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from state.files import Files
from state.listing import lines
from state.nft import LIST_TABLES, TABLE
from state.run import NotInstalledError, ReadError, Runner, read

# The legacy tools make the kernel load what they are asked about; where nobody used them, they are not asked.
LEGACY_TABLES = {
    "iptables-legacy-save": "/proc/net/ip_tables_names",
    "ip6tables-legacy-save": "/proc/net/ip6_tables_names",
}
SAVES = ("iptables-save", "ip6tables-save")
# Counters move with traffic, and the comments hold the time of the call.
_MOVING = re.compile(r"^#.*\n| ?\[\d+:\d+\]", re.MULTILINE)
_TABLE = re.compile(r"table (?P<family>[a-z0-9]+) (?P<name>\S+)")


@dataclass(frozen=True, slots=True)
class Foreign:
    """Rules that are not ours, by what lists them: `table FAMILY NAME`, or the name of a save command."""

    rules: Mapping[str, str] = field(default_factory=dict)


def stateless(saved: str) -> str:
    """The output of iptables-save without what moves by itself; rules and their order stay as they are."""
    return _MOVING.sub("", saved)


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
    """All rules of others. A table that its own tool cannot list is there with what the tool said of it.

    Raises:
        ReadError: nft does not answer.
    """
    rules = {}
    for family, name in parse_tables(read(runner, LIST_TABLES)):
        done = runner.run(("nft", "-s", "list", "table", family, name))
        rules[f"table {family} {name}"] = done.stdout if done.rc == 0 else str(done)
    rules.update(_saved(runner, files))
    return Foreign(rules)


def _saved(runner: Runner, files: Files) -> Iterator[tuple[str, str]]:
    used = [tool for tool, tables in LEGACY_TABLES.items() if (files.read_text(tables) or "").strip()]
    for tool in (*SAVES, *used):
        try:
            done = runner.run((tool,))
        except NotInstalledError:
            continue  # who has not got the tool has not used it
        text = stateless(done.stdout) if done.rc == 0 else str(done)
        if text.strip():
            yield tool, text
