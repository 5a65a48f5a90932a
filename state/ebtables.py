"""What `ebtables-save` lists, as rules: argv and parser side by side.

Source: ebtables-nft(8), iptables 1.8.9; ebtables(8), ebtables 2.0.11, `-L --Lx`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

from state.iptables import sections, words
from state.iptables_options import ALL32, name_pattern
from state.netfilter import (
    ChainDraft,
    Condition,
    Hook,
    Leave,
    Masked,
    Named,
    Rewrite,
    Rule,
    SetMark,
    Sometimes,
    Step,
    Table,
    Unknown,
    Verdict,
    Within,
    address_range,
    ethertype_number,
    finished,
    mac_number,
    number,
    number_range,
    protocol_number,
)

NFT_SAVE = ("ebtables-nft-save",)
NAMES = frozenset({"filter", "nat", "broute"})
# A table of the old variant exists once its module does; asking for another one would load it.
LEGACY_MODULES: Mapping[str, str] = {name: f"/sys/module/ebtable_{name}/initstate" for name in sorted(NAMES)}
_HOOKS: Mapping[tuple[str, str], tuple[str, int]] = {
    ("broute", "BROUTING"): ("prerouting", -(2**31)),
    ("nat", "PREROUTING"): ("prerouting", -300),
    ("nat", "OUTPUT"): ("output", 100),
    ("nat", "POSTROUTING"): ("postrouting", 300),
    ("filter", "INPUT"): ("input", -200),
    ("filter", "FORWARD"): ("forward", -200),
    ("filter", "OUTPUT"): ("output", -200),
}
_ARP_OPERATIONS: Mapping[str, int] = {
    "Request": 1, "Reply": 2, "Request_Reverse": 3, "Reply_Reverse": 4, "DRARP_Request": 5, "DRARP_Reply": 6,
    "DRARP_Error": 7, "InARP_Request": 8, "ARP_NAK": 9,
}  # fmt: skip
_ICMPV6_TYPES: Mapping[str, int] = {
    "destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "ttl-exceeded": 3, "parameter-problem": 4,
    "echo-request": 128, "ping": 128, "echo-reply": 129, "pong": 129, "router-solicitation": 133,
    "router-advertisement": 134, "neighbour-solicitation": 135, "neighbor-solicitation": 135,
    "neighbour-advertisement": 136, "neighbor-advertisement": 136, "redirect": 137,
}  # fmt: skip
_MACS: Mapping[str, str] = {
    "Unicast": "00:00:00:00:00:00/01:00:00:00:00:00",
    "Multicast": "01:00:00:00:00:00/01:00:00:00:00:00",
    "Broadcast": "ff:ff:ff:ff:ff:ff",
    "BGA": "01:80:c2:00:00:00",
}
Reader = Callable[[str, bool], Condition]


def legacy_list(table: str) -> tuple[str, ...]:
    """The command that lists a table of the old variant as commands."""
    return ("ebtables-legacy", "-t", table, "-L", "--Lx")


def legacy_saved(table: str, listing: str) -> str:
    """The commands of `ebtables-legacy -L --Lx` in the form of ebtables-save."""
    lines = [f"*{table}"]
    for line in listing.splitlines():
        match line.partition(f"-t {table} ")[2].split(maxsplit=2):
            case ["-P", chain, policy]:
                lines.append(f":{chain} {policy}")
            case ["-N", chain, *rest]:
                lines.append(f":{chain} {rest[0].removeprefix('-P ') if rest else 'ACCEPT'}")
            case ["-A", chain, rule]:
                lines.append(f"-A {chain} {rule}")
            case _:
                continue
    return "\n".join([*lines, ""])


def parse_save(source: str, text: str) -> tuple[Table, ...]:
    """The tables in the output of ebtables-save; `source` is the command.

    Raises:
        ValueError, KeyError, IndexError: it is not what that command writes.
    """
    tool = source.removesuffix("-save")
    tables = []
    for name, lines in sections(text):
        drafts: dict[str, ChainDraft] = {}
        for line in lines:
            if line.startswith(":"):
                chain, policy = line[1:].split()[:2]
                place = _HOOKS.get((name, chain))
                hook = None if place is None else Hook("bridge", *place, drops=policy == "DROP")
                drafts[chain] = ChainDraft(hook, line)
            elif line.startswith("-A "):
                tokens = words(line)
                steps = tuple(_steps(tokens[2:], drafts))
                if name == "broute":
                    steps = tuple(Leave("broute") if each == Verdict("drop") else each for each in steps)
                drafts[tokens[1]].rules.append(Rule(line, steps))
        _close(drafts)
        tables.append(finished(f"{tool} -t {name}", f"foreign.{tool}.{name}", drafts))
    return tuple(tables)


def _close(drafts: Mapping[str, ChainDraft]) -> None:
    """A chain of one's own has a policy, too: what it does with frames that reach its end."""
    for draft in drafts.values():
        policy = draft.policy.rpartition(" ")[2]
        if draft.hook is None and policy in {"ACCEPT", "DROP"}:
            draft.rules.append(Rule(draft.policy, (Verdict("accept" if policy == "ACCEPT" else "drop"),)))


def _mac(field: str) -> Reader:
    def read(text: str, negated: bool) -> Condition:
        mac, slash, mask = _MACS.get(text, text).partition("/")
        found = mac_number(mac)
        if slash:
            return Masked(field, mac_number(mask), found & mac_number(mask), negated)
        return Within(field, ((found, found),), negated)

    return read


def _address(field: str) -> Reader:
    def read(text: str, negated: bool) -> Condition:
        mask = text.partition("/")[2]
        # A mask is written out where it is no prefix.
        if "." in mask or ":" in mask:
            return Masked(field, address_range(mask)[0], address_range(text.partition("/")[0])[0], negated)
        return Within(field, (address_range(text),), negated)

    return read


def _number(field: str, read: Callable[[str], int]) -> Reader:
    return lambda text, negated: Within(field, ((read(text), read(text)),), negated)


def _ports(field: str) -> Reader:
    return lambda text, negated: Within(field, (number_range(text, ":"),), negated)


def _name(field: str) -> Reader:
    return lambda text, negated: Named(field, (name_pattern(text),), negated)


def _mark(text: str, negated: bool) -> Condition:
    value, slash, mask = text.partition("/")
    bits = number(mask) if slash else ALL32
    if slash and not value:  # any of these bits
        return Masked("mark", bits, 0, not negated)
    return Masked("mark", bits, number(value), negated)


def _icmpv6(text: str, negated: bool) -> Condition:
    kind, slash, _ = text.partition("/")
    if slash:
        return Unknown(f"--ip6-icmp-type {text}")
    if kind in _ICMPV6_TYPES:
        return Within("icmp6_type", ((_ICMPV6_TYPES[kind], _ICMPV6_TYPES[kind]),), negated)
    return Within("icmp6_type", (number_range(kind, ":"),), negated)


def _operation(text: str) -> int:
    return _ARP_OPERATIONS[text] if text in _ARP_OPERATIONS else number(text)


def _type(text: str, negated: bool) -> Condition:
    if text == "LENGTH":
        return Within("ethertype", ((0, 0x5FF),), negated)
    return _number("ethertype", ethertype_number)(text, negated)


def _hardware(text: str) -> int:
    return 1 if text == "Ethernet" else number(text)


_OPTIONS: Mapping[str, Reader] = {
    "-p": _type,
    "-i": _name("iif"),
    "-o": _name("oif"),
    "--logical-in": _name("ibr"),
    "--logical-out": _name("obr"),
    "-s": _mac("smac"),
    "-d": _mac("dmac"),
    **{f"--ip-{word}": _address("saddr4") for word in ("src", "source")},
    **{f"--ip-{word}": _address("daddr4") for word in ("dst", "destination")},
    **{f"--ip6-{word}": _address("saddr6") for word in ("src", "source")},
    **{f"--ip6-{word}": _address("daddr6") for word in ("dst", "destination")},
    **{f"--{ip}-{word}": _number("proto", protocol_number) for ip in ("ip", "ip6") for word in ("proto", "protocol")},
    **{f"--{ip}-{word}": _ports("sport") for ip in ("ip", "ip6") for word in ("sport", "source-port")},
    **{f"--{ip}-{word}": _ports("dport") for ip in ("ip", "ip6") for word in ("dport", "destination-port")},
    "--ip6-icmp-type": _icmpv6,
    **{f"--arp-{word}": _number("arp_op", _operation) for word in ("op", "opcode")},
    "--arp-htype": _number("arp_htype", _hardware),
    "--arp-ptype": _number("arp_ptype", ethertype_number),
    "--arp-ip-src": _address("arp_saddr"),
    "--arp-ip-dst": _address("arp_daddr"),
    "--arp-mac-src": _mac("arp_smac"),
    "--arp-mac-dst": _mac("arp_dmac"),
    "--mark": _mark,
    "--pkttype-type": lambda text, negated: Named("pkttype", ("other" if text == "otherhost" else text,), negated),
    "--limit": lambda _, __: Sometimes(),
}  # fmt: skip
_SILENT = ("--limit-burst", "--log-", "--nflog", "--ulog")


def _steps(tokens: list[str], drafts: Mapping[str, ChainDraft]) -> Iterator[Step]:
    at = 0
    while at < len(tokens):
        option, at = tokens[at], at + 1
        if option == "-j":
            yield from _target(tokens[at], tokens[at + 1 :], drafts)
            return
        negated = tokens[at : at + 1] == ["!"]
        at += negated
        end = at
        while end < len(tokens) and not tokens[end].startswith("-"):
            end += 1
        values, at = tokens[at:end], end
        if option == "--log" or option.startswith(_SILENT):
            continue
        reader = _OPTIONS.get(option)
        try:
            if reader is None or len(values) != 1:
                raise ValueError(option)  # noqa: TRY301  # said in the same way as a value that is none
            yield reader(values[0], negated)
        except (ValueError, KeyError):
            yield Unknown(" ".join((option, *values)))


_VERDICTS: Mapping[str, tuple[Step, ...]] = {
    "ACCEPT": (Verdict("accept"),),
    "DROP": (Verdict("drop"),),
    "RETURN": (Verdict("return"),),
    "CONTINUE": (),
}
_MARKS: Mapping[str, Callable[[int], SetMark]] = {
    "--mark-set": lambda value: SetMark("mark", 0, value),
    "--mark-or": lambda value: SetMark("mark", ~value & ALL32, value),
    "--mark-and": lambda value: SetMark("mark", value, 0),
    "--mark-xor": lambda value: SetMark("mark", ALL32, value),
}
_REWRITES: Mapping[str, Rewrite] = {
    "snat": Rewrite("source", ends=False),
    "dnat": Rewrite("destination", ends=False),
    "redirect": Rewrite("destination", ends=False),
}


def _target(name: str, options: list[str], drafts: Mapping[str, ChainDraft]) -> tuple[Step, ...]:
    if name in _VERDICTS:
        return _VERDICTS[name]
    if name in drafts:
        return (Verdict("jump", name),)
    values = dict(pairwise(options))
    ends = _VERDICTS.get(values.get(f"--{name}-target", "ACCEPT"), (Verdict("ask"),))
    if name in _REWRITES:
        return (_REWRITES[name], *ends)
    for option, mark in _MARKS.items() if name == "mark" else ():
        if option in values:
            return (mark(number(values[option])), *ends)
    return (Verdict("ask"),)
