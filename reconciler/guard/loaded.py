"""What a loaded guard binds each port to, whichever backend it is of: the kernel's word, without git and without any record. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from state.nft import BYPASSED, LoadedTable

# A port's name may hold whatever parts the rest.
_ELEMENT = re.compile(r'"(?P<port>[^"]+)" \. (?P<rest>.+)')
_ADDRESSES = ("own_v4", "own_net4", "own_v6", "own_net6")


@dataclass(frozen=True, slots=True)
class Bound:
    """What a port may send, and what becomes of the rest. `bypassed` is what was noted when a human opened it."""

    mac: str
    addresses: tuple[str, ...]
    mode: Literal["audit", "enforce"]
    bypassed: str | None = None


def bound(table: LoadedTable) -> Mapping[str, Bound]:
    """The bindings in the table, by port. What is no element of ours is left out."""
    addresses: dict[str, list[str]] = {}
    for name in _ADDRESSES:
        for port, rest in _elements(table, name):
            addresses.setdefault(port, []).append(rest.partition(" . ")[2])
    audited = {member.strip('"') for member in table.elements.get("audited", frozenset())}
    opened = bypassed(table)
    return {
        port: Bound(
            mac,
            tuple(sorted(addresses.get(port, ()))),
            "audit" if port in audited else "enforce",
            opened.get((port, mac)),
        )
        for port, mac in sorted(_elements(table, "own_mac"))
    }


def bypassed(table: LoadedTable) -> Mapping[tuple[str, str], str]:
    """What was noted of each (port, MAC) that a human has opened and the kernel has not closed yet."""
    found = {}
    for port, rest in _elements(table, BYPASSED):
        mac, _, said = rest.partition(" ")
        found[port, mac] = said.partition('comment "')[2].rstrip('"')
    return found


def _elements(table: LoadedTable, name: str) -> Iterator[tuple[str, str]]:
    """Of each element the port and what stands behind it."""
    for member in table.elements.get(name, frozenset()):
        if match := _ELEMENT.fullmatch(member):
            yield match["port"], match["rest"]
