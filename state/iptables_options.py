"""The options of iptables' matches and targets, one by one: what each says of a frame, or does with it.

Source: iptables-extensions(8), iptables 1.8.9, as its save commands list them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Literal

from state.netfilter import (
    STATES,
    TCP_FLAGS,
    Condition,
    CopyMark,
    Masked,
    Named,
    Rewrite,
    SetMark,
    Sometimes,
    Step,
    Unknown,
    Untrack,
    Verdict,
    Within,
    address_range,
    mac_number,
    merged,
    number,
    number_range,
    protocol_number,
)

ALL32 = 0xFFFFFFFF
# Of one option: its values, whether `!` stands before it, and 4 or 6 for the addresses it may name.
Reader = Callable[[tuple[str, ...], bool, str], tuple[Step, ...]]
_CIDR_PARTS = 2


def _address(side: Literal["saddr", "daddr"]) -> Reader:
    def read(values: tuple[str, ...], negated: bool, version: str) -> tuple[Step, ...]:
        text = values[0]
        mask = text.partition("/")[2]
        if "." in mask:  # iptables writes masks that are no prefix
            return (Masked(f"{side}{version}", *_dotted(text), negated),)
        return (Within(f"{side}{version}", (address_range(text),), negated),)

    return read


def _dotted(text: str) -> tuple[int, int]:
    address, _, mask = text.partition("/")
    return address_range(mask)[0], address_range(address)[0]


def name_pattern(text: str) -> str:
    """An interface as iptables writes it: `vif+` are all that begin so."""
    return f"{text[:-1]}*" if text.endswith("+") else text


def _interface(field: str) -> Reader:
    return lambda values, negated, _: (Named(field, (name_pattern(values[0]),), negated),)


def _presence(field: str) -> Reader:
    """--physdev-is-…: whether there is such a port at all; the field of a frame without one holds an empty name."""
    return lambda _, negated, __: (Named(field, ("",), negated=not negated),)


def _numbers(field: str, read: Callable[[str], tuple[int, int]]) -> Reader:
    return lambda values, negated, _: (
        Within(field, merged(read(each) for each in values[0].split(",")), negated),
    )


def _port(text: str) -> tuple[int, int]:
    return number_range(text, ":")


def _protocol(values: tuple[str, ...], negated: bool, _: str) -> tuple[Step, ...]:
    found = protocol_number(values[0]) if values[0] != "all" else 0
    return (Within("proto", ((found, found),) if found else ((0, 255),), negated),)


def _states(values: tuple[str, ...], negated: bool, _: str) -> tuple[Step, ...]:
    # Whoever's destination was changed is not among the frames that are judged: to them, DNAT says nothing.
    names = {name.lower() for name in values[0].split(",")} - {"dnat"}
    if not names <= STATES.keys():
        return (Unknown(f"--ctstate {values[0]}"),)
    return (Within("ctstate", merged((STATES[name], STATES[name]) for name in names), negated),)


def _icmp(version: str) -> Reader:
    def read(values: tuple[str, ...], negated: bool, _: str) -> tuple[Step, ...]:
        kind, slash, code = values[0].partition("/")
        if kind == "any":
            return ()
        fields: list[Condition] = [Within(f"icmp{version}_type", (number_range(kind),), negated)]
        if slash:
            if negated:
                return (Unknown(f"! --icmp-type {values[0]}"),)
            fields.append(Within(f"icmp{version}_code", (number_range(code),)))
        return tuple(fields)

    return read


def flags_of(names: str) -> int:
    """The bits of TCP flags by name, separated by commas."""
    bits = 0
    for name in names.lower().split(","):
        bits |= TCP_FLAGS[name]
    return bits


def _tcp_flags(values: tuple[str, ...], negated: bool, _: str) -> tuple[Step, ...]:
    return (Masked("tcp_flags", flags_of(values[0]), flags_of(values[1]), negated),)


def _mark(field: str) -> Reader:
    def read(values: tuple[str, ...], negated: bool, _: str) -> tuple[Step, ...]:
        value, slash, mask = values[0].partition("/")
        return (Masked(field, number(mask) if slash else ALL32, number(value), negated),)

    return read


def _types(field: str) -> Reader:
    return lambda values, negated, _: (Named(field, tuple(values[0].lower().split(",")), negated),)


def _packet_type(values: tuple[str, ...], negated: bool, _: str) -> tuple[Step, ...]:
    # What is addressed to a host is called unicast here; br_netfilter gives that type to all that it hands over.
    return (Named("pkttype", ("host" if values[0] == "unicast" else values[0],), negated),)


def _mac(values: tuple[str, ...], negated: bool, _: str) -> tuple[Step, ...]:
    mac = mac_number(values[0])
    return (Within("smac", ((mac, mac),), negated),)


def _ignored(_: tuple[str, ...], __: bool, ___: str) -> tuple[Step, ...]:
    return ()


def _limited(*, over: bool) -> Reader:
    return lambda _, negated, __: (Sometimes(rarely=over != negated),)


# Options by match and name, with the number of values; "" are those of iptables itself.
MATCHES: Mapping[tuple[str, str], tuple[int, Reader]] = {
    ("", "-s"): (1, _address("saddr")),
    ("", "-d"): (1, _address("daddr")),
    ("", "-i"): (1, _interface("iif")),
    ("", "-o"): (1, _interface("oif")),
    ("", "-p"): (1, _protocol),
    ("", "-f"): (0, lambda _, negated, __: (Within("fragment", ((1, 1),), negated),)),
    ("comment", "--comment"): (1, _ignored),
    ("physdev", "--physdev-in"): (1, _interface("physin")),
    ("physdev", "--physdev-out"): (1, _interface("physout")),
    ("physdev", "--physdev-is-in"): (0, _presence("physin")),
    ("physdev", "--physdev-is-out"): (0, _presence("physout")),
    ("physdev", "--physdev-is-bridged"): (0, _presence("physout")),
    ("state", "--state"): (1, _states),
    ("conntrack", "--ctstate"): (1, _states),
    ("mark", "--mark"): (1, _mark("mark")),
    ("connmark", "--mark"): (1, _mark("ctmark")),
    ("mac", "--mac-source"): (1, _mac),
    ("multiport", "--sports"): (1, _numbers("sport", _port)),
    ("multiport", "--dports"): (1, _numbers("dport", _port)),
    ("icmp", "--icmp-type"): (1, _icmp("4")),
    ("icmp6", "--icmpv6-type"): (1, _icmp("6")),
    ("tcp", "--tcp-flags"): (2, _tcp_flags),
    ("addrtype", "--src-type"): (1, _types("saddr_type")),
    ("addrtype", "--dst-type"): (1, _types("daddr_type")),
    ("pkttype", "--pkt-type"): (1, _packet_type),
    ("iprange", "--src-range"): (1, lambda values, negated, version: (_between("saddr", values, negated, version),)),
    ("iprange", "--dst-range"): (1, lambda values, negated, version: (_between("daddr", values, negated, version),)),
    ("limit", "--limit"): (1, _limited(over=False)),
    ("limit", "--limit-burst"): (1, _ignored),
    ("hashlimit", "--hashlimit-upto"): (1, _limited(over=False)),
    ("hashlimit", "--hashlimit-above"): (1, _limited(over=True)),
    ("connlimit", "--connlimit-upto"): (1, _limited(over=False)),
    ("connlimit", "--connlimit-above"): (1, _limited(over=True)),
    # How often somebody came lately; without --hitcount, whether he came at all, which is not known.
    ("recent", "--set"): (0, _ignored),
    ("recent", "--hitcount"): (1, _limited(over=True)),
    **{(each, option): (1, _numbers(field, _port)) for each in ("tcp", "udp", "sctp", "dccp", "udplite")
       for option, field in (("--sport", "sport"), ("--dport", "dport"))},
}  # fmt: skip
# Options that only say how the match beside them counts.
DETAILS: Mapping[str, tuple[str, ...]] = {
    "hashlimit": ("--hashlimit-",),
    "connlimit": ("--connlimit-",),
    "recent": ("--name", "--mask", "--rsource", "--rdest", "--seconds", "--reap"),
    "limit": ("--limit-",),
}


def _between(side: str, values: tuple[str, ...], negated: bool, version: str) -> Within:
    return Within(f"{side}{version}", (address_range(values[0]),), negated)


# Targets that let the frame go on as it is, as far as a binding is concerned.
HARMLESS = frozenset(
    {
        "AUDIT", "CHECKSUM", "CLASSIFY", "CONNSECMARK", "DSCP", "ECN", "HL", "IDLETIMER", "LED", "LOG", "NFLOG",
        "RATEEST", "SECMARK", "SET", "TCPMSS", "TCPOPTSTRIP", "TEE", "TOS", "TRACE", "TTL", "ULOG", "HMARK",
    }
)  # fmt: skip
_ENDS: Mapping[str, Step] = {
    "ACCEPT": Verdict("accept"),
    "DROP": Verdict("drop"),
    "REJECT": Verdict("drop"),
    "RETURN": Verdict("return"),
    "SNAT": Rewrite("source", ends=True),
    "MASQUERADE": Rewrite("source", ends=True),
    "DNAT": Rewrite("destination", ends=True),
    "REDIRECT": Rewrite("destination", ends=True),
    "TPROXY": Rewrite("destination", ends=True),
    "NOTRACK": Untrack(),
}


def target(name: str, options: tuple[str, ...], hook: str) -> tuple[Step, ...]:
    """What `-j NAME OPTIONS` of iptables' own targets does; `hook` is the place its chain hangs at, "" for none.

    Raises:
        KeyError: it is none of them, so it may be a chain.
        ValueError: its options are not understood.
    """
    if name in HARMLESS:
        return ()
    values = dict(pairwise(options))
    match name:
        case "MARK":
            return (_set_mark("mark", values["--set-xmark"]),)
        case "CONNMARK":
            return (_connmark(options, values),)
        case "CT":
            return (Untrack(),) if "--notrack" in options else ()
        case "NETMAP":
            # The same map is for sources behind the routing decision, for destinations before it.
            return (Rewrite("source" if hook in {"postrouting", ""} else "destination", ends=True),)
        case "NFQUEUE" | "QUEUE" | "SYNPROXY":
            return (Verdict("ask"),)
        case _:
            return (_ENDS[name],)


def _set_mark(field: Literal["mark", "ctmark"], text: str) -> SetMark:
    value, slash, mask = text.partition("/")
    return SetMark(field, ~(number(mask) if slash else ALL32) & ALL32, number(value))


def _connmark(options: tuple[str, ...], values: Mapping[str, str]) -> Step:
    own, connection = (number(values.get(each, "0xffffffff")) for each in ("--nfmask", "--ctmask"))
    if "--save-mark" in options:
        return CopyMark("ctmark", ~connection & ALL32, own)
    if "--restore-mark" in options:
        return CopyMark("mark", ~own & ALL32, connection)
    return _set_mark("ctmark", values["--set-xmark"])
