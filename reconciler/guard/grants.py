"""What each port may send, as rules are made of it: from what is wanted, from what is loaded, and what both allow. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Literal

from reconciler.guard.binding import Address, Guard, Mode, outermost
from reconciler.guard.port_trie import matchable
from schemas.address import eui64_link_local
from state.nft import LoadedTable

_SETS = ("own_v4", "own_net4", "own_v6", "own_net6")


@dataclass(frozen=True, slots=True)
class Grant:
    """The MAC and the addresses of one port, sorted, its link-local address and prefixes among them.

    `settling`: what the port may tell its neighbours of is changing, and for a moment it tells them nothing.
    """

    mac: str
    addresses: tuple[Address, ...]
    mode: Mode = "enforce"
    settling: bool = False

    def of(self, version: int) -> tuple[Address, ...]:
        """The addresses of one version of IP."""
        return tuple(each for each in self.addresses if each.version == version)


@dataclass(frozen=True, slots=True)
class Ports:
    """What is decided by a port's name.

    `closed` are the ports that are refused as unknown ones are. `late` are bound, and not yet sorted in among the others.
    `shut` are those that may send nothing at all, for a moment.
    """

    bridges: tuple[str, ...]
    uplinks: tuple[str, ...]
    closed: tuple[str, ...]
    grants: Mapping[str, Grant]
    late: frozenset[str] = frozenset()
    shut: frozenset[str] = frozenset()


def wanted_ports(guard: Guard) -> Ports:
    """What this host's guard decides by name. A port that no rule can name is left to the rules for unknown ones."""
    grants: dict[str, Grant] = {}
    for binding in guard.bindings:
        addresses = {*binding.addresses, eui64_link_local(binding.mac)}
        grant = Grant(binding.mac, _sorted(outermost(addresses)), binding.mode)
        for port in (binding.interface, f"{binding.interface}-emu")[: 1 + binding.emulated]:
            grants[port] = grant
    uplinks = {uplink for bridge in guard.bridges for uplink in bridge.uplinks}
    return Ports(
        bridges=tuple(sorted({bridge.name for bridge in guard.bridges})),
        uplinks=tuple(sorted(filter(matchable, uplinks))),
        closed=tuple(sorted({*filter(matchable, guard.closed)} - {*grants} - uplinks)),
        grants=dict(sorted(grants.items())),
    )


def loaded_ports(loaded: LoadedTable, late: frozenset[str]) -> Ports:
    """What the loaded guard decides by name."""
    found: dict[str, set[str]] = {"accept": set(), "goto refused_unknown": set(), "goto from_guest": set()}
    for member in loaded.elements.get("ports", frozenset()):
        port, _, verdict = member.partition(" : ")
        found[verdict].add(port.strip('"'))
    macs = dict(_pair(member) for member in loaded.elements.get("own_mac", frozenset()))
    addresses: dict[str, list[Address]] = {}
    for name in _SETS:
        for member in loaded.elements.get(name, frozenset()):
            port, _, rest = member.partition(" . ")
            addresses.setdefault(port.strip('"'), []).append(ip_network(rest.partition(" . ")[2]))
    audited = {member.strip('"') for member in loaded.elements.get("audited", frozenset())}
    return Ports(
        bridges=tuple(sorted(member.strip('"') for member in loaded.elements.get("bridges", frozenset()))),
        uplinks=tuple(sorted(found["accept"])),
        closed=tuple(sorted(found["goto refused_unknown"])),
        grants={
            port: Grant(
                macs[port], _sorted(addresses.get(port, ())), "audit" if port in audited else "enforce"
            )
            for port in sorted(found["goto from_guest"])
            if port in macs
        },
        late=late,
    )


def both_allow(before: Ports, after: Ports, *, dropped_before: bool, dropped_after: bool) -> Ports:
    """What may pass while some tools know the one and some the other: only what both allow.

    `dropped_before`, `dropped_after`: an unknown port is closed there.
    """
    uplinks, closed, shut = set[str](), set[str](), set[str]()
    grants: dict[str, Grant] = {}
    named = (before.grants, before.uplinks, before.closed, after.grants, after.uplinks, after.closed)
    for port in sorted({port for ports in named for port in ports}):
        old, new = (
            _allowed(before, port, dropped=dropped_before),
            _allowed(after, port, dropped=dropped_after),
        )
        shared = _shared(old, new)
        if isinstance(shared, Grant):
            grants[port] = shared
        elif shared == "nothing":
            shut.add(port)
        elif port in after.grants:
            grants[port] = after.grants[port]
        elif port in after.uplinks:
            uplinks.add(port)
        elif port in after.closed:
            closed.add(port)
    return replace(
        after,
        uplinks=tuple(sorted(uplinks)),
        closed=tuple(sorted(closed)),
        grants=grants,
        shut=frozenset(shut),
    )


_Allowed = Grant | Literal["all", "nothing"]


def _allowed(ports: Ports, port: str, *, dropped: bool) -> _Allowed:
    """What a port may send; one that is neither bound nor an uplink is unknown."""
    if port in ports.uplinks:
        return "all"
    grant = ports.grants.get(port)
    if grant is not None:
        return "all" if grant.mode == "audit" else grant
    return "nothing" if dropped else "all"


def _shared(old: _Allowed, new: _Allowed) -> _Allowed:
    if old == "all" or new == "all":
        one = new if old == "all" else old
        return replace(one, settling=True) if isinstance(one, Grant) else one
    if not isinstance(old, Grant) or not isinstance(new, Grant) or old.mac != new.mac:
        return "nothing"
    shared = _sorted({*_narrower(old, new), *_narrower(new, old)})
    return replace(new, addresses=shared, settling=old.of(6) != new.of(6))


def _narrower(one: Grant, other: Grant) -> Iterator[Address]:
    """The addresses of the one that lie in some of the other."""
    return (each for each in one.addresses if any(_holds(wider, each) for wider in other.addresses))


def _holds(outer: Address, inner: Address) -> bool:
    return outer.prefixlen <= inner.prefixlen and outer.overlaps(inner)


def _sorted(addresses: Iterable[Address]) -> tuple[Address, ...]:
    return tuple(
        sorted(addresses, key=lambda each: (each.version, int(each.network_address), each.prefixlen))
    )


def _pair(member: str) -> tuple[str, str]:
    port, _, mac = member.partition(" . ")
    return port.strip('"'), mac
