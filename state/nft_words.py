"""What nftables asks of a frame, by the words of its listing: where each value is found, and how it is written.

Source: nft(8), nftables 1.0.6, `nft -s list table`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from state.netfilter import (
    BRIDGE_PRIORITIES,
    ETHERTYPES,
    PRIORITIES,
    STATES,
    TCP_FLAGS,
    Condition,
    Within,
    address_range,
    ethertype_number,
    mac_number,
    number,
    number_range,
    protocol_number,
)

_IPV4, _IPV6 = Within("nfproto", ((2, 2),)), Within("nfproto", ((10, 10),))
_ARP = Within("ethertype", ((ETHERTYPES["arp"], ETHERTYPES["arp"]),))
_ICMP_TYPES: Mapping[str, int] = {
    "echo-reply": 0, "destination-unreachable": 3, "source-quench": 4, "redirect": 5, "echo-request": 8,
    "router-advertisement": 9, "router-solicitation": 10, "time-exceeded": 11, "parameter-problem": 12,
    "timestamp-request": 13, "timestamp-reply": 14, "info-request": 15, "info-reply": 16,
    "address-mask-request": 17, "address-mask-reply": 18,
}  # fmt: skip
_ICMPV6_TYPES: Mapping[str, int] = {
    "destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4,
    "echo-request": 128, "echo-reply": 129, "mld-listener-query": 130, "mld-listener-report": 131,
    "mld-listener-done": 132, "mld-listener-reduction": 132, "nd-router-solicit": 133, "nd-router-advert": 134,
    "nd-neighbor-solicit": 135, "nd-neighbor-advert": 136, "nd-redirect": 137, "router-renumbering": 138,
    "ind-neighbor-solicit": 141, "ind-neighbor-advert": 142, "mld2-listener-report": 143,
}  # fmt: skip
_ARP_OPERATIONS: Mapping[str, int] = {
    "request": 1, "reply": 2, "rrequest": 3, "rreply": 4, "inrequest": 8, "inreply": 9, "nak": 10,
}  # fmt: skip
_DIRECTIONS: Mapping[str, int] = {"original": 0, "reply": 1}
_STATUS: Mapping[str, int] = {
    "expected": 1, "seen-reply": 2, "assured": 4, "confirmed": 8, "snat": 16, "dnat": 32, "dying": 512,
}  # fmt: skip
_NFPROTOS: Mapping[str, int] = {"ipv4": 2, "ipv6": 10}


@dataclass(frozen=True, slots=True)
class Selector:
    """The left side of a match: the field ("" for one that is not known here), how its values are written, what it implies.

    `kind`: "number", "bits" (any of them, where nothing else is said), "name" (an interface), "word" (as it stands).
    """

    field: str
    kind: str = "number"
    number: Callable[[str], tuple[int, int]] = number_range
    implies: tuple[Condition, ...] = ()


def _one(value: Callable[[str], int]) -> Callable[[str], tuple[int, int]]:
    def read(text: str) -> tuple[int, int]:
        try:
            return value(text), value(text)
        except ValueError:  # no name with a dash in it, but a range
            first, _, last = text.partition("-")
            if value(first) > value(last):
                raise
            return value(first), value(last)

    return read


def listed(names: Mapping[str, int]) -> Callable[[str], tuple[int, int]]:
    """Reads a value that may be a name, a number, or a range of numbers."""
    return _one(lambda text: names[text] if text in names else number(text))


def _proto(number: int, *more: Condition) -> tuple[Condition, ...]:
    return (*more, Within("proto", ((number, number),)))


def _interface(field: str) -> Selector:
    return Selector(field, "name")


_PROTOCOL, _MAC, _TYPE = _one(protocol_number), _one(mac_number), _one(ethertype_number)
Selectors = Mapping[tuple[str, ...], Selector]
SELECTORS: Selectors = {
    ("iifname",): _interface("iif"),
    ("oifname",): _interface("oif"),
    ("iif",): _interface("iif"),
    ("oif",): _interface("oif"),
    ("meta", "ibrname"): _interface("ibr"),
    ("meta", "obrname"): _interface("obr"),
    ("meta", "l4proto"): Selector("proto", number=_PROTOCOL),
    ("meta", "nfproto"): Selector("nfproto", number=listed(_NFPROTOS)),
    ("meta", "protocol"): Selector("ethertype", number=_TYPE),
    ("meta", "mark"): Selector("mark"),
    ("meta", "pkttype"): Selector("pkttype", "word"),
    ("ct", "state"): Selector("ctstate", number=listed(STATES)),
    ("ct", "mark"): Selector("ctmark"),
    ("ct", "status"): Selector("ctstatus", "bits", listed(_STATUS)),
    ("ct", "direction"): Selector("ctdir", number=listed(_DIRECTIONS)),
    ("ether", "saddr"): Selector("smac", number=_MAC),
    ("ether", "daddr"): Selector("dmac", number=_MAC),
    ("ether", "type"): Selector("ethertype", number=_TYPE),
    ("ip", "saddr"): Selector("saddr4", number=address_range),
    ("ip", "daddr"): Selector("daddr4", number=address_range),
    ("ip", "protocol"): Selector("proto", number=_PROTOCOL, implies=(_IPV4,)),
    ("ip", "version"): Selector("ip_version"),
    ("ip", "frag-off"): Selector("fragment", implies=(_IPV4,)),
    ("ip6", "saddr"): Selector("saddr6", number=address_range),
    ("ip6", "daddr"): Selector("daddr6", number=address_range),
    ("ip6", "nexthdr"): Selector("proto", number=_PROTOCOL, implies=(_IPV6,)),
    ("icmp", "type"): Selector("icmp4_type", number=listed(_ICMP_TYPES)),
    ("icmp", "code"): Selector("icmp4_code"),
    ("icmpv6", "type"): Selector("icmp6_type", number=listed(_ICMPV6_TYPES)),
    ("icmpv6", "code"): Selector("icmp6_code"),
    ("th", "sport"): Selector("sport"),
    ("th", "dport"): Selector("dport"),
    **{(name, side): Selector(side, implies=_proto(number))
       for name, number in (("tcp", 6), ("udp", 17), ("dccp", 33), ("sctp", 132), ("udplite", 136))
       for side in ("sport", "dport")},
    ("tcp", "flags"): Selector("tcp_flags", "bits", listed(TCP_FLAGS), _proto(6)),
    ("vlan", "id"): Selector("vlan"),
    ("vlan", "pcp"): Selector("vlan"),
    ("vlan", "type"): Selector("vlan", number=_TYPE),
    ("arp", "operation"): Selector("arp_op", number=listed(_ARP_OPERATIONS)),
    ("arp", "htype"): Selector("arp_htype"),
    ("arp", "ptype"): Selector("arp_ptype", number=_TYPE),
    ("arp", "hlen"): Selector("arp_hlen"),
    ("arp", "plen"): Selector("arp_plen"),
    ("arp", "saddr", "ip"): Selector("arp_saddr", number=address_range, implies=(_ARP,)),
    ("arp", "daddr", "ip"): Selector("arp_daddr", number=address_range, implies=(_ARP,)),
    ("arp", "saddr", "ether"): Selector("arp_smac", number=_MAC),
    ("arp", "daddr", "ether"): Selector("arp_dmac", number=_MAC),
}  # fmt: skip
# The first words of selectors that are no field of ours, by how many words they have.
OTHERS: Mapping[str, int] = {
    "meta": 2, "ct": 2, "ether": 2, "vlan": 2, "ip": 2, "ip6": 2, "tcp": 2, "udp": 2, "udplite": 2, "sctp": 2,
    "dccp": 2, "icmp": 2, "icmpv6": 2, "igmp": 2, "arp": 2, "ah": 2, "esp": 2, "comp": 2, "th": 2, "frag": 2, "hbh": 2,
    "dst": 2, "mh": 2, "srh": 2, "iifgroup": 1, "oifgroup": 1, "iiftype": 1, "oiftype": 1, "skuid": 1, "skgid": 1,
    "mark": 1, "pkttype": 1, "cgroup": 1, "rt": 2,
}  # fmt: skip


def priority(family: str, text: str) -> int:
    """A chain's priority as it is listed: `filter`, `dstnat - 10`, `-310`.

    Raises:
        ValueError: it is none.
    """
    name, *offset = text.split()
    names = BRIDGE_PRIORITIES if family == "bridge" else PRIORITIES
    base = names[name] if name in names else _signed(name)
    match offset:
        case []:
            return base
        case ["+" | "-" as sign, count]:
            return base + _signed(f"{sign}{count}")
        case _:
            raise ValueError(text)


def _signed(text: str) -> int:
    return -number(text[1:]) if text.startswith("-") else number(text.removeprefix("+"))
