"""The classes of frames that a binding promises: what they have in each field. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from reconciler.foreign.match import Domain, common, one
from schemas.address import Address
from state.netfilter import ETHERTYPES, STATES, Ranges

# Whoever may be on the other side: the whole of unicast.
_REMOTE4: Ranges = ((1 << 24, (127 << 24) - 1), (128 << 24, (224 << 24) - 1))
_REMOTE6: Ranges = ((0x2 << 124, (0x4 << 124) - 1), (0xFC << 120, (0xFE << 120) - 1))
_ANY_MAC: Ranges = ((1, 2**48 - 2),)
_BROADCAST = 2**48 - 1
_PORTS: Ranges = ((0, 0xFFFF),)
# DHCP has bindings of its own: rules that let it alone pass do not make a guest reachable.
_PORTS_UDP: Ranges = ((0, 66), (69, 545), (548, 0xFFFF))
# What conntrack notes of a connection (nf_conntrack_common.h), all but that its destination was changed: those are gone.
_STATUS: Ranges = ((0, 0x1F),)
_SYN, _ACK, _SYN_ACK, _PUSH, _FIN = 0x02, 0x10, 0x12, 0x18, 0x11
_TCP, _UDP, _ICMP = 6, 17, {4: 1, 6: 58}
_ECHO = {4: 8, 6: 128}
_SOLICIT, _ADVERTISE = 135, 136
_SOLICITED_NODE = 0xFF02_0000_0000_0000_0000_0001_FF00_0000
Way = Literal["out", "in", "aside"]
Kind = Literal["tcp", "udp", "icmp", "reply", "ask", "answer"]
_CLASSES: tuple[tuple[Way, Kind], ...] = (
    ("out", "tcp"), ("out", "udp"), ("out", "icmp"), ("in", "tcp"), ("in", "udp"), ("in", "icmp"), ("aside", "tcp"),
    ("aside", "udp"), ("out", "reply"), ("in", "reply"),
)  # fmt: skip
_NEIGHBOURS: tuple[tuple[Way, Kind], ...] = (
    ("out", "ask"),
    ("out", "answer"),
    ("in", "ask"),
    ("in", "answer"),
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One class. `way`: out by the uplink, in by it, or aside to another guest.

    `kind`: new connections by protocol, replies, or asking and answering who has an address.
    """

    way: Way
    kind: Kind
    fields: dict[str, Domain]


def frames(mac: str, address: Address) -> Iterator[Frame]:
    """All classes of frames from and to a vif's address, or a prefix of them; replies after what they answer."""
    number = int(mac.replace(":", ""), 16)
    own: Ranges = ((int(address.network_address), int(address.broadcast_address)),)
    version = address.version
    for way, kind in _CLASSES:
        yield Frame(way, kind, {**_ends(way, number, own, version), **_transport(kind, version)})
    for way, kind in _NEIGHBOURS:
        fields = _arp(way, kind, number, own) if version == 4 else _neighbour(way, kind, number, own)  # noqa: PLR2004
        yield Frame(way, kind, fields)


def _ends(way: Way, mac: int, own: Ranges, version: int) -> dict[str, Domain]:
    remote = _REMOTE4 if version == 4 else _REMOTE6  # noqa: PLR2004
    sends = way != "in"
    return {
        **_ip(version),
        "smac": one(mac) if sends else _ANY_MAC,
        "dmac": _ANY_MAC if sends else one(mac),
        f"saddr{version}": own if sends else remote,
        f"daddr{version}": remote if sends else own,
        "pkttype": frozenset({"other"}),
    }


def _ip(version: int) -> dict[str, Domain]:
    return {
        "ethertype": one(ETHERTYPES["ip" if version == 4 else "ip6"]),  # noqa: PLR2004
        "nfproto": one(2 if version == 4 else 10),  # noqa: PLR2004
        "ip_version": one(version),
        "fragment": one(0),
        "saddr_type": frozenset({"unicast"}),
        "daddr_type": frozenset({"unicast"}),
        "mark": one(0),
        "ctmark": one(0),
    }


def _transport(kind: Kind, version: int) -> dict[str, Domain]:
    state: dict[str, Domain] = {"tracked": one(STATES["new"]), "ctdir": one(0), "ctstatus": _STATUS}
    match kind:
        case "tcp":
            return {**state, "proto": one(_TCP), "sport": _PORTS, "dport": _PORTS, "tcp_flags": one(_SYN)}
        case "udp":
            return {**state, "proto": one(_UDP), "sport": _PORTS_UDP, "dport": _PORTS_UDP}
        case "icmp":
            message = {f"icmp{version}_type": one(_ECHO[version]), f"icmp{version}_code": one(0)}
            # What lies there in place of ports may be anything.
            return {**state, "proto": one(_ICMP[version]), "sport": _PORTS, "dport": _PORTS, **message}
        case _:
            flags = tuple((each, each) for each in (_ACK, _FIN, _SYN_ACK, _PUSH))
            return {
                "tracked": one(STATES["established"]),
                "ctdir": one(1),
                "ctstatus": _STATUS,
                "proto": one(_TCP),
                "sport": _PORTS,
                "dport": _PORTS,
                "tcp_flags": tuple(sorted(flags)),
            }


def _arp(way: Way, kind: Kind, mac: int, own: Ranges) -> dict[str, Domain]:
    asks, sends = kind == "ask", way == "out"
    return {
        "ethertype": one(ETHERTYPES["arp"]),
        "smac": one(mac) if sends else _ANY_MAC,
        "dmac": one(_BROADCAST) if asks else _ANY_MAC if sends else one(mac),
        "arp_op": one(1 if asks else 2),
        "arp_htype": one(1),
        "arp_ptype": one(ETHERTYPES["ip"]),
        "arp_hlen": one(6),
        "arp_plen": one(4),
        "arp_smac": one(mac) if sends else _ANY_MAC,
        "arp_saddr": own if sends else _REMOTE4,
        "arp_dmac": one(0) if asks else _ANY_MAC if sends else one(mac),
        "arp_daddr": _REMOTE4 if sends else own,
        "mark": one(0),
        "ctmark": one(0),
        "pkttype": frozenset({"broadcast" if asks else "other"}),
    }


def _neighbour(way: Way, kind: Kind, mac: int, own: Ranges) -> dict[str, Domain]:
    fields = _ends(way, mac, own, 6)
    # RFC 4861: neighbour discovery is not tracked, and asks a group that follows from the address.
    fields |= {
        "tracked": one(STATES["untracked"]),
        "ctdir": one(0),
        "ctstatus": _STATUS,
        "proto": one(_ICMP[6]),
        "sport": _PORTS,
        "dport": _PORTS,
        "icmp6_type": one(_SOLICIT if kind == "ask" else _ADVERTISE),
        "icmp6_code": one(0),
    }
    if kind == "ask":
        first, last = (
            (each & 0xFFFFFF for each in own[0])
            if way == "in" and own[0][0] >> 24 == own[0][1] >> 24
            else (0, 0xFFFFFF)
        )
        fields |= {
            "dmac": ((0x3333_FF00_0000 + first, 0x3333_FF00_0000 + last),),
            "daddr6": ((_SOLICITED_NODE + first, _SOLICITED_NODE + last),),
            "daddr_type": frozenset({"multicast"}),
            "pkttype": frozenset({"multicast"}),
        }
    return fields


def answering(fields: dict[str, Domain], first: Ranges) -> dict[str, Domain]:
    """The fields of replies to frames that were left `tracked` as `first`: to what was not, conntrack knows no reply."""
    known = STATES["established"] if first != one(STATES["untracked"]) else STATES["invalid"]
    unsure = common(first, one(STATES["untracked"])) and known == STATES["established"]
    states = ((STATES["invalid"], known),) if unsure else one(known)
    return {**fields, "tracked": states}


def wild() -> Iterator[dict[str, Domain]]:
    """Everything that a guest may send, forged or not, by kind of frame: what comes before the guard meets all of it."""
    any4: Ranges = ((0, 2**32 - 1),)
    any6: Ranges = ((0, 2**128 - 1),)
    ends: dict[str, Domain] = {
        "smac": ((0, 2**48 - 1),),
        "dmac": ((0, 2**48 - 1),),
        "mark": one(0),
        "pkttype": frozenset({"other", "broadcast", "multicast", "host"}),
    }
    upper: dict[str, Domain] = {
        "proto": ((0, 255),),
        "sport": _PORTS,
        "dport": _PORTS,
        "tcp_flags": ((0, 255),),
        "fragment": ((0, 0xFFFF),),
    }
    for version, span in ((4, any4), (6, any6)):
        message = {f"icmp{version}_type": ((0, 255),), f"icmp{version}_code": ((0, 255),)}
        yield {
            **_ip(version),
            **ends,
            **upper,
            **message,
            f"saddr{version}": span,
            f"daddr{version}": span,
            "saddr_type": frozenset({"unicast", "local", "broadcast", "multicast"}),
            "daddr_type": frozenset({"unicast", "local", "broadcast", "multicast"}),
        }
    yield {
        **ends,
        "ethertype": one(ETHERTYPES["arp"]),
        "arp_op": ((0, 0xFFFF),),
        "arp_htype": ((0, 0xFFFF),),
        "arp_ptype": ((0, 0xFFFF),),
        "arp_hlen": ((0, 255),),
        "arp_plen": ((0, 255),),
        "arp_smac": ((0, 2**48 - 1),),
        "arp_dmac": ((0, 2**48 - 1),),
        "arp_saddr": any4,
        "arp_daddr": any4,
    }
    others = ((0, 0x7FF), (0x801, 0x805), (0x807, 0x86DC), (0x86DE, 0xFFFF))
    yield {**ends, "ethertype": others, "vlan": ((0, 4095),)}
