"""What our rules may ask of a frame, each with the place where the kernel finds it. Pure.

A match on a field that a frame does not have, or that is cut off, does not hold, negated or not: so such a field is left out.
What stands in no table here is not understood, which is an error and never an answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from reconciler.explain.headers import ARP, IPV4, IPV6, Headers, fragment_header
from reconciler.foreign.match import Domain, one
from state.netfilter import ETHERTYPES, PROTOCOLS
from state.nft_words import SELECTORS, Selector, Selectors, listed

_RAW = re.compile(r"@(?P<base>ll|nh|th),(?P<at>\d+),(?P<bits>\d+)")
# /etc/protocols calls IPv6's hop-by-hop options `ip`.
_PROTOCOL = listed({**PROTOCOLS, "ip": 0})
_IGMP = listed({
    "membership-query": 0x11, "membership-report-v1": 0x12, "membership-report-v2": 0x16,
    "membership-report-v3": 0x22, "leave-group": 0x17,
})  # fmt: skip


# Those whose words and numbers are read as in the rules of others.
_SHARED = (
    ("iifname",), ("meta", "ibrname"), ("meta", "mark"), ("meta", "l4proto"), ("ether", "saddr"), ("ether", "daddr"), ("ether", "type"),
    ("ip", "saddr"), ("ip", "daddr"), ("ip6", "saddr"), ("ip6", "daddr"), ("icmp", "type"), ("icmp", "code"), ("icmpv6", "type"), ("icmpv6", "code"),
    ("udp", "sport"), ("udp", "dport"), ("tcp", "sport"), ("tcp", "dport"), ("th", "dport"),
    ("arp", "operation"), ("arp", "htype"), ("arp", "ptype"), ("arp", "hlen"), ("arp", "plen"), ("arp", "saddr", "ip"),
    ("arp", "daddr", "ip"), ("arp", "saddr", "ether"), ("arp", "daddr", "ether"),
)  # fmt: skip
_OWN: Selectors = {
    ("iifgroup",): Selector("iifgroup"),
    ("meta", "protocol"): Selector("protocol", number=listed(ETHERTYPES)),
    ("ip", "frag-off"): Selector("ip_fragment"),
    ("ip", "length"): Selector("ip_length"),
    ("ip", "protocol"): Selector("ip_protocol", number=_PROTOCOL),
    ("ip6", "length"): Selector("ip6_length"),
    ("ip6", "nexthdr"): Selector("ip6_nexthdr", number=_PROTOCOL),
    ("frag", "nexthdr"): Selector("frag_nexthdr", number=_PROTOCOL),
    ("frag", "frag-off"): Selector("frag_offset"),
    ("igmp", "type"): Selector("igmp_type", number=_IGMP),
}
UNDERSTOOD: Selectors = {**{words: SELECTORS[words] for words in _SHARED}, **_OWN}
# The field, and the place and size of it: in the frame, behind the network header, behind the transport header.
_ETHERNET = {"dmac": (0, 6), "smac": (6, 6), "ethertype": (12, 2)}
_NETWORK: Mapping[int, Mapping[str, tuple[int, int]]] = {
    IPV4: {"ip_length": (2, 2), "ip_fragment": (6, 2), "ip_protocol": (9, 1), "saddr4": (12, 4), "daddr4": (16, 4)},
    IPV6: {"ip6_length": (4, 2), "ip6_nexthdr": (6, 1), "saddr6": (8, 16), "daddr6": (24, 16)},
    ARP: {
        "arp_htype": (0, 2), "arp_ptype": (2, 2), "arp_hlen": (4, 1), "arp_plen": (5, 1), "arp_op": (6, 2),
        "arp_smac": (8, 6), "arp_saddr": (14, 4), "arp_dmac": (18, 6), "arp_daddr": (24, 4),
    },
}  # fmt: skip
# By the frame's type and protocol; None: of any.
_TRANSPORT: Mapping[tuple[int | None, int | None], Mapping[str, tuple[int, int]]] = {
    (None, None): {"sport": (0, 2), "dport": (2, 2)},
    (IPV4, 1): {"icmp4_type": (0, 1), "icmp4_code": (1, 1)},
    (IPV4, 2): {"igmp_type": (0, 1)},
    (IPV6, 58): {"icmp6_type": (0, 1), "icmp6_code": (1, 1)},
}


def raw_selectors(lines: Iterable[str]) -> Selectors:
    """The selectors of bits by their place, such as `@th,64,128`, that some lines have."""
    return {
        (match[0],): Selector(match[0]) for line in lines for match in _RAW.finditer(line) if _whole(match)
    }


def _whole(match: re.Match[str]) -> bool:
    return int(match["at"]) % 8 == 0 and int(match["bits"]) % 8 == 0


def values(found: Headers, port: str, bridge: str, raw: Iterable[str]) -> dict[str, Domain]:
    """Every field that a frame from a port has; the port is in no group. `raw` are the fields of raw_selectors that are asked for."""
    numbers = {name: number for name, number in _numbers(found, raw) if number is not None}
    names = {"iif": frozenset({port}), "ibr": frozenset({bridge})}
    return {"iifgroup": one(0), **names, **{name: one(number) for name, number in numbers.items()}}


def _numbers(found: Headers, raw: Iterable[str]) -> Iterator[tuple[str, int | None]]:
    yield "protocol", found.kind
    for name, (at, count) in _ETHERNET.items():
        yield name, found.load(at, count)
    kind = found.load(12, 2)
    # nft asks for the type that the frame was sent with before it reads these, and for the one behind a tag before those.
    network = found.kind if found.kind != ARP else kind
    for name, (at, count) in _NETWORK.get(network or 0, {}).items():
        yield name, found.load(found.network + at, count)
    if kind == IPV6 and (header := fragment_header(found)) is not None:
        yield "frag_nexthdr", found.load(header, 1)
        offset = found.load(header + 2, 2)
        yield "frag_offset", None if offset is None else offset >> 3
    if found.transport is not None:
        yield "proto", found.transport.protocol
        for (of, protocol), places in _TRANSPORT.items():
            if of in {None, kind} and protocol in {None, found.transport.protocol}:
                for name, (at, count) in places.items():
                    yield name, found.behind(at, count)
    for name in raw:
        yield name, _raw(found, name)


def _raw(found: Headers, name: str) -> int | None:
    match = _RAW.fullmatch(name)
    if match is None:
        return None
    at, count = int(match["at"]) // 8, int(match["bits"]) // 8
    read: Callable[[int, int], int | None] = found.behind if match["base"] == "th" else found.load
    return read(at + (found.network if match["base"] == "nh" else 0), count)
