"""What `ipset save` lists, as conditions of the rules that match on sets: argv and parser side by side.

Source: ipset(8), ipset 7.17.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from state.netfilter import (
    Condition,
    Named,
    Ranges,
    Tuples,
    Unknown,
    Within,
    address_range,
    mac_number,
    merged,
    number_range,
    protocol_number,
)

SAVE = ("ipset", "save")
# These move by themselves: how long a member stays, and what it has met.
_MOVING = re.compile(r" (?:timeout|packets|bytes) \d+")
_ADDRESSES = frozenset({"ip", "net"})
_KINDS = _ADDRESSES | {"port", "mac", "iface"}
_SIDES = frozenset({"src", "dst"})


@dataclass(slots=True)
class IpSet:
    """A set: what each member consists of ("ip", "net", "port", "mac", "iface"; none: not understood), and the members."""

    parts: tuple[str, ...]
    version: str
    members: list[str] = field(default_factory=list)


Sets = Mapping[str, IpSet]


def stateless(saved: str) -> str:
    """The output of ipset save without what moves by itself."""
    return "".join(
        _MOVING.sub("", line) if line.startswith("add ") else line for line in saved.splitlines(keepends=True)
    )


def parse_sets(text: str) -> Sets:
    """The sets in `ipset save` by name."""
    sets: dict[str, IpSet] = {}
    for line in text.splitlines():
        words = line.split()
        match words:
            case ["create", name, kind, *options]:
                parts = tuple(kind.partition(":")[2].split(","))
                known = kind.startswith(("hash:", "bitmap:")) and _KINDS.issuperset(parts)
                sets[name] = IpSet(parts if known else (), "6" if "inet6" in options else "4")
            case ["add", name, member, *options] if name in sets:
                if "nomatch" in options:  # an exception from the others: the set is not a plain list
                    sets[name].parts = ()
                sets[name].members.append(member)
            case _:
                continue
    return sets


def match_set(sets: Sets, name: str, sides: str, version: str, *, negated: bool) -> Condition:
    """The condition `--match-set NAME SIDES` of a rule for addresses of that version."""
    found = sets.get(name)
    text = f"--match-set {name} {sides}"
    which = sides.split(",")
    if found is None or not found.parts or len(which) < len(found.parts) or not _SIDES.issuperset(which):
        return Unknown(text)
    addressed = bool(_ADDRESSES & {*found.parts})
    if addressed and found.version != version:
        return Within("proto", ((0, 255),) if negated else ())  # no address of that family is ever in it
    fields = tuple(
        each for part, side in zip(found.parts, which, strict=False) for each in _fields(part, side, version)
    )
    if None in fields:
        return Unknown(text)
    names = tuple(each for each in fields if each is not None)
    try:
        members = tuple(_member(found.parts, member) for member in found.members if "physdev:" not in member)
    except ValueError:
        return Unknown(text)
    if len(names) > 1:
        return Tuples(names, members, negated)
    if names[0] in {"iif", "oif"}:
        return Named(names[0], tuple(str(name) for (patterns,) in members for name in patterns), negated)
    return Within(names[0], merged(_pairs(members)), negated)


def _pairs(members: Iterable[tuple[Ranges | tuple[str, ...], ...]]) -> Iterable[tuple[int, int]]:
    for (ranges,) in members:
        for each in ranges:
            if isinstance(each, tuple):
                yield each


def _fields(part: str, side: str, version: str) -> tuple[str | None, ...]:
    source = side == "src"
    match part:
        case "ip" | "net":
            return (f"{'saddr' if source else 'daddr'}{version}",)
        case "port":
            return ("proto", "sport" if source else "dport")
        case "mac":
            return ("smac" if source else None,)
        case _:
            return ("iif" if source else "oif",)


def _member(parts: tuple[str, ...], text: str) -> tuple[Ranges | tuple[str, ...], ...]:
    values: list[Ranges | tuple[str, ...]] = []
    pieces = text.split(",")
    if len(pieces) != len(parts):
        raise ValueError(text)
    for part, piece in zip(parts, pieces, strict=True):
        match part:
            case "ip" | "net":
                values.append((address_range(piece),))
            case "port":
                protocol, colon, port = piece.partition(":")
                number = protocol_number(protocol) if colon else None
                values += [
                    ((0, 255),) if number is None else ((number, number),),
                    (number_range(port or piece),),
                ]
            case "mac":
                values.append(((mac_number(piece), mac_number(piece)),))
            case _:
                values.append((piece,))
    return tuple(values)
