"""Rules of others as data: what a rule asks of a frame, and what it does with it. Pure; every tool's reader makes these.

What a reader does not understand becomes Unknown, never nothing: whoever judges frames then knows that he does not know.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Literal

# Sorted, disjoint, both ends included. Addresses, MACs, ports, marks and states are all numbers.
Ranges = tuple[tuple[int, int], ...]
Mode = Literal["fwd", "dup", "broute"]

# linux/netfilter/nf_conntrack_common.h: the bits of a connection's state as iptables and nft number them.
STATES: Mapping[str, int] = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
# /etc/protocols, under the names that the tools list.
PROTOCOLS: Mapping[str, int] = {
    "icmp": 1, "igmp": 2, "ipencap": 4, "ipip": 4, "tcp": 6, "egp": 8, "igp": 9, "udp": 17, "dccp": 33, "ipv6": 41,
    "ipv6-route": 43, "ipv6-frag": 44, "rsvp": 46, "gre": 47, "esp": 50, "ipsec-esp": 50, "ah": 51, "ipsec-ah": 51,
    "ipv6-icmp": 58, "icmpv6": 58, "ipv6-nonxt": 59, "ipv6-opts": 60, "eigrp": 88, "ospf": 89, "ospfigp": 89,
    "etherip": 97, "encap": 98, "pim": 103, "comp": 108, "ipcomp": 108, "vrrp": 112, "carp": 112, "l2tp": 115,
    "sctp": 132, "mobility-header": 135, "udplite": 136,
}  # fmt: skip
ETHERTYPES: Mapping[str, int] = {
    "ip": 0x0800, "ipv4": 0x0800, "arp": 0x0806, "ip6": 0x86DD, "ipv6": 0x86DD, "vlan": 0x8100, "802_1q": 0x8100,
    "8021q": 0x8100, "8021ad": 0x88A8, "lldp": 0x88CC,
}  # fmt: skip
TCP_FLAGS: Mapping[str, int] = {
    "fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ecn": 64, "cwr": 128, "none": 0, "all": 63,
}  # fmt: skip
# Where br_netfilter hands bridged frames over, and where conntrack looks at them (linux/netfilter_*.h).
PRIORITIES: Mapping[str, int] = {
    "raw": -300,
    "mangle": -150,
    "dstnat": -100,
    "filter": 0,
    "security": 50,
    "srcnat": 100,
}
_LONGEST = 40  # characters of a number of 128 bits
BRIDGE_PRIORITIES: Mapping[str, int] = {"dstnat": -300, "filter": -200, "out": 100, "srcnat": 300}


@dataclass(frozen=True, slots=True)
class Within:
    """A number in the frame lies in one of the ranges; a frame without that field does not match, negated or not."""

    field: str
    ranges: Ranges
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Named:
    """An interface has one of the names; a pattern with a `*` at its end stands for all that begin so."""

    field: str
    patterns: tuple[str, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Masked:
    """A number in the frame equals `value` under `mask`."""

    field: str
    mask: int
    value: int
    negated: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Tuples:
    """Several fields together are one of the members: ranges or patterns, one for each field."""

    fields: tuple[str, ...]
    members: tuple[tuple[Ranges | tuple[str, ...], ...], ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Sometimes:
    """Holds for some frames: as long as there is little traffic, say. `rarely`: only when there is too much of it."""

    rarely: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """A condition that is not understood."""

    text: str


Condition = Within | Named | Masked | Tuples | Sometimes | Unknown


@dataclass(frozen=True, slots=True)
class Verdict:
    """What ends a rule. `ask`: somebody else decides, such as a queue or a target that is not understood."""

    kind: Literal["accept", "drop", "return", "jump", "goto", "ask"]
    chain: str = ""


@dataclass(frozen=True, slots=True)
class SetMark:
    """mark or ctmark becomes `(old & keep) ^ flip`."""

    field: Literal["mark", "ctmark"]
    keep: int
    flip: int


@dataclass(frozen=True, slots=True)
class CopyMark:
    """mark or ctmark becomes `(old & keep) ^ (the other & take)`."""

    field: Literal["mark", "ctmark"]
    keep: int
    take: int


@dataclass(frozen=True, slots=True)
class Untrack:
    """The connection is not tracked."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """An address of the frame is changed; `ends`: and the chain is left with accept, as the nat tables do."""

    what: Literal["source", "destination"]
    ends: bool


@dataclass(frozen=True, slots=True)
class Leave:
    """The frame (`dup`: a copy of it) leaves the bridge's way: to the interface `to`, or (`broute`) to dom0 itself."""

    mode: Mode
    to: str = ""


Act = Verdict | SetMark | CopyMark | Untrack | Rewrite | Leave
Step = Condition | Act


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: `text` as its tool lists it; conditions and acts in the order they are carried out."""

    text: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Hook:
    """Where a base chain hangs. `devices` are those of ingress and egress; `drops`: its policy."""

    family: str
    place: str
    priority: int
    kind: str = "filter"
    drops: bool = False
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """A chain; `hook` None: only other chains lead there. `policy` is the line that says what becomes of the rest."""

    name: str
    rules: tuple[Rule, ...]
    hook: Hook | None = None
    policy: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table as one tool shows it. `offloaded` are devices whose flows may pass by all hooks; `where` names it to people."""

    where: str
    address: str
    chains: Mapping[str, Chain]
    offloaded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unread:
    """Something that cannot be judged as a whole, and why."""

    address: str
    why: str


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """All rules of others on a host."""

    tables: tuple[Table, ...] = ()
    unread: tuple[Unread, ...] = ()


@dataclass(slots=True)
class ChainDraft:
    """A chain while its table is read."""

    hook: Hook | None = None
    policy: str = ""
    rules: list[Rule] = field(default_factory=list)


def finished(
    where: str, address: str, drafts: Mapping[str, ChainDraft], offloaded: Iterable[str] = ()
) -> Table:
    """The table of these chains."""
    chains = {name: Chain(name, tuple(each.rules), each.hook, each.policy) for name, each in drafts.items()}
    return Table(where, address, chains, tuple(offloaded))


def without_leaving(rules: Rules, devices: Container[str]) -> Rules:
    """The rules without those acts that take frames to one of the devices."""

    def kept(rule: Rule) -> Rule:
        steps = tuple(step for step in rule.steps if not (isinstance(step, Leave) and step.to in devices))
        return Rule(rule.text, steps)

    tables = tuple(
        Table(
            table.where,
            table.address,
            {
                name: Chain(name, tuple(kept(rule) for rule in chain.rules), chain.hook, chain.policy)
                for name, chain in table.chains.items()
            },
            table.offloaded,
        )
        for table in rules.tables
    )
    return Rules(tables, rules.unread)


def merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """The ranges, sorted, those that touch made one."""
    found: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return tuple(found)


def address_range(text: str) -> tuple[int, int]:
    """An address, a prefix, an address with a mask that is a prefix, or `FIRST-LAST`.

    Raises:
        ValueError: it is none.
    """
    first, dash, last = text.partition("-")
    if dash:
        return _ordered(int(ip_address(first)), int(ip_address(last)), text)
    network = ip_network(text, strict=False)
    return int(network.network_address), int(network.broadcast_address)


def mac_number(text: str) -> int:
    """A MAC, its leading zeros left out or not.

    Raises:
        ValueError: it is none.
    """
    parts = text.split(":")
    if len(parts) != 6:  # noqa: PLR2004  # bytes of a MAC
        raise ValueError(text)
    number = 0
    for part in parts:
        if len(part) > 2:  # noqa: PLR2004  # hexadecimal digits of a byte
            raise ValueError(text)
        number = number << 8 | int(part, 16)
    return number


def number(text: str) -> int:
    """A number, decimal or with 0x, of at most 128 bits.

    Raises:
        ValueError: it is none.
    """
    if len(text) > _LONGEST or not 0 <= (found := int(text, 0)) < 2**128:
        raise ValueError(text[:_LONGEST])
    return found


def number_range(text: str, separator: str = "-") -> tuple[int, int]:
    """`N` or `N-M`, decimal or with 0x; an end that is left out is that of 16 bits.

    Raises:
        ValueError: it is none.
    """
    first, dash, last = text.partition(separator)
    low = number(first) if first else 0
    high = (number(last) if last else 0xFFFF) if dash else low
    return _ordered(low, high, text)


def _ordered(low: int, high: int, text: str) -> tuple[int, int]:
    if not 0 <= low <= high:
        raise ValueError(text)
    return low, high


def protocol_number(text: str) -> int:
    """A protocol by number or name.

    Raises:
        ValueError: it is none that the tools list.
    """
    return number(text) if text[:1].isdecimal() else _looked_up(PROTOCOLS, text)


def ethertype_number(text: str) -> int:
    """A frame's type by number or name.

    Raises:
        ValueError: it is none that the tools list.
    """
    return number(text) if text[:2].lower() == "0x" else _looked_up(ETHERTYPES, text)


def _looked_up(names: Mapping[str, int], text: str) -> int:
    number = names.get(text.lower())
    if number is None:
        raise ValueError(text)
    return number
