"""Random rules of others, as their own tools load them: from everything that a judge of rules claims to understand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from tests.packets.parties import A4_SECOND, BRIDGE, GATEWAY, UPLINK, A, B

Tool = Literal["iptables-nft", "iptables-legacy", "nft", "nft bridge", "ebtables"]
REMOTE = {4: ("192.0.2.1", "203.0.113.9", "198.51.100.77"), 6: ("2001:db8::1", "2001:db8:ffff::9", "2a00::7")}
OWN = {4: (A.v4, A4_SECOND), 6: (A.v6, "2001:db8::12")}
PORTS = (22, 53, 80, 443, 1000, 8080, 40000)
_MACS = (A.mac, B.mac, GATEWAY.mac, "00:00:5e:00:53:ee")
_NAMES = (A.port, B.port, UPLINK, "vm", "e")


@dataclass(frozen=True, slots=True)
class Script:
    """What to give to which command."""

    argv: tuple[str, ...]
    text: str


def scripts(tool: Tool, dice: Random) -> tuple[Script, ...]:
    """A random rule set of one tool."""
    match tool:
        case "iptables-nft" | "iptables-legacy":
            kind = tool.removeprefix("iptables-")
            return tuple(
                Script((f"{name}-{kind}-restore",), _iptables(dice, version))
                for name, version in (("iptables", 4), ("ip6tables", 6))
            )
        case "nft":
            return (Script(("nft", "-f", "-"), _nft(dice, dice.choice(("inet", "inet", "ip", "ip6")))),)
        case "nft bridge":
            return (Script(("nft", "-f", "-"), _nft(dice, "bridge") + _netdev(dice)),)
        case _:
            return (Script(("ebtables-nft-restore",), _ebtables(dice)),)


def _not(dice: Random) -> str:
    return "! " if dice.random() < 0.25 else ""


def _address(dice: Random, version: int) -> str:
    if dice.random() < 0.3:
        return dice.choice(
            ("192.0.2.0/24", "192.0.2.8/29", "0.0.0.0/1", "192.0.2.0/28")
            if version == 4
            else ("2001:db8::/32", "2001:db8::/124", "2000::/3")
        )
    return dice.choice((*OWN[version], *REMOTE[version]))


def _span(dice: Random, mark: str) -> str:
    low = dice.choice(PORTS)
    return (
        str(low)
        if dice.random() < 0.6
        else f"{low}{mark}{low + dice.choice((10, 10, 30000 if low < 30000 else 10))}"
    )


# ---- iptables ----


def _iptables(dice: Random, version: int) -> str:
    tables = {
        "raw": ("PREROUTING",),
        "mangle": ("PREROUTING", "FORWARD", "POSTROUTING"),
        "filter": ("FORWARD",),
    }
    text = ""
    for table, chains in tables.items():
        if table != "filter" and dice.random() < 0.5:
            continue
        own = [f"own{number}" for number in range(dice.randrange(4))]
        text += f"*{table}\n"
        for chain in chains:
            text += f":{chain} {'DROP' if dice.random() < 0.2 else 'ACCEPT'} [0:0]\n"
        text += "".join(f":{chain} - [0:0]\n" for chain in own)
        for chain in chains:
            for _ in range(dice.randrange(7)):
                text += f"-A {chain} {_iptables_rule(dice, version, table, chain, own)}\n"
        for at, chain in enumerate(own):
            for _ in range(dice.randrange(5)):
                text += f"-A {chain} {_iptables_rule(dice, version, table, '', own[at + 1 :])}\n"
        text += "COMMIT\n"
    return text


def _iptables_rule(dice: Random, version: int, table: str, chain: str, own: Sequence[str]) -> str:
    parts: list[str] = []
    # Each kind of condition at most once, as the tool has it.
    kinds: list[Callable[[], str]] = [
        lambda: f"{_not(dice)}-s {_address(dice, version)}",
        lambda: f"{_not(dice)}-d {_address(dice, version)}",
        lambda: _iptables_transport(dice, version),
        lambda: (
            f"-m mac {_not(dice)}--mac-source {dice.choice(_MACS)}"
            if chain in {"PREROUTING", "FORWARD"}
            else ""
        ),
        lambda: f"-m mark {_not(dice)}--mark {dice.randrange(4)}/{dice.choice((1, 2, 3, 0xFF))}",
        lambda: f"-m connmark {_not(dice)}--mark {dice.randrange(4)}/3" if table != "raw" else "",
        lambda: f"-m conntrack {_not(dice)}--ctstate {_states(dice)}",
        lambda: f"-m state --state {dice.choice(('NEW', 'ESTABLISHED', 'RELATED,ESTABLISHED', 'INVALID'))}",
        lambda: _physdev(dice, chain),
        lambda: (
            f"{_not(dice)}-i {dice.choice((BRIDGE, 'xen+', A.port, 'eth+'))}"
            if chain in {"PREROUTING", "FORWARD"}
            else ""
        ),
        lambda: (
            f"{_not(dice)}-o {dice.choice((BRIDGE, 'xen+', A.port))}"
            if chain in {"POSTROUTING", "FORWARD"}
            else ""
        ),
        lambda: (
            f"-m addrtype {_not(dice)}--{dice.choice(('src', 'dst'))}-type {dice.choice(('LOCAL', 'MULTICAST', 'UNICAST'))}"
            if version == 4
            else ""
        ),
        lambda: f"-m iprange {_not(dice)}--src-range {OWN[version][0]}-{OWN[version][1]}",
        lambda: (
            f"-m pkttype {_not(dice)}--pkt-type {dice.choice(('unicast', 'multicast', 'broadcast'))}"
            if version == 4
            else ""
        ),
        lambda: '-m comment --comment "a \\"drop\\" -j DROP"',
    ]
    parts = [kind() for kind in dice.sample(kinds, dice.choice((0, 1, 1, 1, 2, 2, 3)))]
    return " ".join([*filter(None, parts), _iptables_target(dice, table, chain, own)])


def _states(dice: Random) -> str:
    return dice.choice(("NEW", "ESTABLISHED", "RELATED,ESTABLISHED", "NEW,UNTRACKED", "INVALID", "UNTRACKED"))


def _physdev(dice: Random, chain: str) -> str:
    side = "in" if chain not in {"POSTROUTING", "FORWARD"} or dice.random() < 0.5 else "out"
    name = dice.choice(_NAMES)
    pattern = name if name in {A.port, B.port, UPLINK} else f"{name}+"
    extra = " --physdev-is-bridged" if chain in {"POSTROUTING", "FORWARD"} and dice.random() < 0.3 else ""
    return f"-m physdev {_not(dice)}--physdev-{side} {pattern}{extra}"


def _iptables_transport(dice: Random, version: int) -> str:
    icmp = (
        ("icmp", "icmp", "--icmp-type", "8")
        if version == 4
        else ("ipv6-icmp", "icmp6", "--icmpv6-type", dice.choice(("128", "135", "136")))
    )
    match dice.randrange(6):
        case 0:
            return f"{_not(dice)}-p {dice.choice(('tcp', 'udp', icmp[0], '47'))}"
        case 1:
            return f"-p {icmp[0]} -m {icmp[1]} {_not(dice)}{icmp[2]} {icmp[3]}"
        case 2:
            return f"-p tcp -m tcp {_not(dice)}--tcp-flags {dice.choice(('FIN,SYN,RST,ACK SYN', 'ALL NONE', 'SYN,ACK SYN,ACK', 'ACK ACK'))}"
        case 3:
            several = ",".join(sorted({_span(dice, ":") for _ in range(3)}))
            return f"-p {dice.choice(('tcp', 'udp'))} -m multiport {_not(dice)}--{dice.choice(('s', 'd'))}ports {several}"
        case _:
            kind = dice.choice(("tcp", "udp"))
            return f"-p {kind} -m {kind} {_not(dice)}--{dice.choice(('s', 'd'))}port {_span(dice, ':')}"


def _iptables_target(dice: Random, table: str, chain: str, own: Sequence[str]) -> str:
    targets = ["-j ACCEPT", "-j DROP", "-j RETURN", "-j NFLOG --nflog-group 7"]
    targets += [f"-{dice.choice('jjg')} {name}" for name in own] * 2
    if table == "mangle":
        targets += [
            f"-j MARK --set-xmark {dice.randrange(4)}/{dice.choice((1, 2, 3, 0xFFFFFFFF))}",
            f"-j CONNMARK --set-xmark {dice.randrange(4)}/3",
            "-j CONNMARK --save-mark --nfmask 3 --ctmask 3",
            "-j CONNMARK --restore-mark --nfmask 3 --ctmask 1",
        ]
    if table == "raw":
        targets += ["-j CT --notrack"]
    if table == "filter" and chain == "FORWARD":
        targets += ["-j REJECT"]
    return dice.choice(targets)


# ---- nft ----


def _nft(dice: Random, family: str) -> str:
    own = [f"own{number}" for number in range(dice.randrange(4))]
    versions = {"ip": (4,), "ip6": (6,)}.get(family, (4, 6))
    text = (
        "\tset names {\n\t\ttype ifname\n\t\telements = { "
        + ", ".join(f'"{each}"' for each in (A.port, BRIDGE))
        + " }\n\t}\n"
    )
    for version in versions:
        members = ", ".join(sorted({dice.choice((*OWN[version], *REMOTE[version])) for _ in range(2)}))
        text += f"\tset some{version} {{\n\t\ttype ipv{version}_addr\n\t\telements = {{ {members} }}\n\t}}\n"
    rules = {
        name: [_nft_rule(dice, family, versions, own[at + 1 :], "") for _ in range(dice.randrange(5))]
        for at, name in enumerate(own)
    }
    for name in reversed(own):
        text += _chain(name, "", rules[name])
    for number in range(dice.randrange(1, 4)):
        hook = dice.choice(("prerouting", "forward", "postrouting"))
        kinds = (-400, -320, -250, -100, 0, 10, 350) if family == "bridge" else (-350, -250, -100, 0, 50, 200)
        head = f"type filter hook {hook} priority {dice.choice(kinds)}; policy {'drop' if dice.random() < 0.2 else 'accept'};"
        text += _chain(
            f"base{number}",
            head,
            [_nft_rule(dice, family, versions, own, hook) for _ in range(dice.randrange(8))],
        )
    return f"table {family} judged {{\n{text}}}\n"


def _chain(name: str, head: str, rules: Sequence[str]) -> str:
    lines = [line for line in (head, *rules) if line]
    return f"\tchain {name} {{\n" + "".join(f"\t\t{line}\n" for line in lines) + "\t}\n"


def _unlike(dice: Random) -> str:
    return "!= " if dice.random() < 0.25 else ""


def _nft_rule(dice: Random, family: str, versions: Sequence[int], own: Sequence[str], hook: str) -> str:
    layer = (
        "arp"
        if family == "bridge" and dice.random() < 0.3
        else dice.choice([f"ip{each}" for each in versions])
    )
    if own and layer != "arp" and dice.random() < 0.15:
        return _vmap(dice, int(layer[2]), own)
    kinds = [*_nft_ports(dice, family, hook)]
    if layer == "arp":
        kinds += _nft_arp(dice)
    else:
        kinds += [*_nft_addresses(dice, int(layer[2]), hook), *_nft_transport(dice, family, int(layer[2]))]
    if family != "bridge":
        kinds += [
            lambda: (
                f"ct state {_unlike(dice)}{dice.choice(('new', 'established,related', 'invalid', '{ new, untracked }'))}"
            ),
            lambda: f"fib daddr type {dice.choice(('local', 'multicast'))}",
        ]
    conditions = [kind() for kind in dice.sample(kinds, dice.choice((0, 1, 1, 1, 2, 2, 3)))]
    verdicts = [
        "accept",
        "drop",
        "return",
        "counter",
        "meta mark set 1",
        "meta mark set meta mark | 2",
        "meta mark set meta mark & 1",
        "continue",
    ]
    verdicts += [f"{dice.choice(('jump', 'jump', 'goto'))} {name}" for name in own] * 2
    if family != "bridge" and hook == "prerouting":
        verdicts.append("notrack")
    return " ".join([*filter(None, conditions), dice.choice(verdicts)])


Kinds = list[Callable[[], str]]


def _vmap(dice: Random, version: int, own: Sequence[str]) -> str:
    ip = "ip" if version == 4 else "ip6"
    verdict = dice.choice(("drop", f"jump {own[0]}", f"goto {own[0]}", "return"))
    return f"{ip} saddr vmap {{ {OWN[version][0]} : {verdict}, {REMOTE[version][0]} : accept }}"


def _side(dice: Random, hook: str) -> str:
    return dice.choice(
        ["iifname"] * (hook != "postrouting") + ["oifname"] * (hook in {"forward", "postrouting"})
    )


def _nft_ports(dice: Random, family: str, hook: str) -> Kinds:
    names = ", ".join(f'"{each}"' for each in dice.sample((A.port, B.port, UPLINK, BRIDGE), 2))
    one = dice.choice((f'"{A.port}"', '"vm*"', f'"{UPLINK}"', f"{{ {names} }}", "@names"))
    kinds: Kinds = [
        lambda: f"{_side(dice, hook)} {_unlike(dice)}{one}",
        lambda: f"meta mark {_unlike(dice)}{dice.randrange(3)}",
        lambda: f"meta mark & {dice.choice((1, 2, 3))} {dice.choice(('==', '!='))} {dice.randrange(2)}",
        lambda: "limit rate over 100000/second" if dice.random() < 0.3 else "",
    ]
    if family == "bridge":
        kinds += [
            lambda: f"ether saddr {_unlike(dice)}{dice.choice(_MACS)}",
            lambda: f"ether daddr {_unlike(dice)}{dice.choice((*_MACS, 'ff:ff:ff:ff:ff:ff'))}",
            lambda: f"ether type {_unlike(dice)}{dice.choice(('ip', 'arp', 'ip6', '{ ip, arp }'))}",
        ]
    elif hook != "postrouting":
        kinds.append(lambda: f"ether saddr {_unlike(dice)}{dice.choice(_MACS)}")
    return kinds


def _nft_arp(dice: Random) -> Kinds:
    return [
        lambda: f"arp operation {_unlike(dice)}{dice.choice(('request', 'reply'))}",
        lambda: (
            f"arp {dice.choice(('saddr', 'daddr'))} ip {_unlike(dice)}{dice.choice((*OWN[4], *REMOTE[4]))}"
        ),
        lambda: f"arp saddr ether {_unlike(dice)}{dice.choice(_MACS)}",
        lambda: f"arp daddr ip {{ {', '.join(OWN[4])} }}",
    ]


def _nft_addresses(dice: Random, version: int, hook: str) -> Kinds:
    ip = "ip" if version == 4 else "ip6"
    pairs = f'"{dice.choice((A.port, BRIDGE))}" . {OWN[version][0]}, "{UPLINK}" . {REMOTE[version][0]}'
    return [
        lambda: f"{ip} {dice.choice(('saddr', 'daddr'))} {_unlike(dice)}{_address(dice, version)}",
        lambda: (
            f"{ip} {dice.choice(('saddr', 'daddr'))} {_unlike(dice)}{{ {', '.join(sorted({*OWN[version], *REMOTE[version][:2]}))} }}"
        ),
        lambda: f"{ip} saddr {_unlike(dice)}@some{version}",
        lambda: f"{ip} daddr {OWN[version][0]}-{OWN[version][1]}",
        lambda: f"{_side(dice, hook)} . {ip} saddr {_unlike(dice)}{{ {pairs} }}",
    ]


def _nft_transport(dice: Random, family: str, version: int) -> Kinds:
    """Conditions on one protocol: more of them at once would not be accepted."""
    kind = dice.choice(("tcp", "udp", "icmp", "any"))
    icmp = (
        "icmp type echo-request"
        if version == 4
        else f"icmpv6 type {{ echo-request, {dice.choice(('nd-neighbor-solicit', 'nd-neighbor-advert'))} }}"
    )
    match kind:
        case "tcp":
            flags = dice.choice(("syn", "== syn", "& (fin|syn|rst|ack) == syn", "! syn", "!= syn"))
            return [
                lambda: f"tcp {dice.choice(('sport', 'dport'))} {_unlike(dice)}{_span(dice, '-')}",
                lambda: f"tcp flags {flags}",
            ]
        case "udp":
            return [lambda: f"udp dport {_unlike(dice)}{{ 53, 80-443, {dice.choice((8080, 40000))} }}"]
        case "icmp":
            return [lambda: icmp]
        case _:
            header = "ip protocol" if version == 4 else "ip6 nexthdr"
            found = [
                lambda: (
                    f"meta l4proto {_unlike(dice)}{{ {dice.choice(('tcp', 'udp'))}, {dice.choice(('icmp', 'ipv6-icmp'))} }}"
                )
            ]
            if family != "inet":
                found.append(lambda: f"{header} {dice.choice(('tcp', 'udp'))}")
            return found


def _netdev(dice: Random) -> str:
    if dice.random() < 0.6:
        return ""
    rules = []
    for _ in range(dice.randrange(1, 4)):
        version = dice.choice((4, 6))
        what = dice.choice(
            (
                f"ip{'' if version == 4 else '6'} saddr {_address(dice, version)}",
                f"ether saddr {dice.choice(_MACS)}",
                "ether type arp",
            )
        )
        rules.append(f"{what} {dice.choice(('drop', 'accept', 'meta mark set 1'))}")
    device = dice.choice((A.port, UPLINK))
    head = f'type filter hook ingress device "{device}" priority 0; policy accept;'
    return f"table netdev judged {{\n{_chain('base', head, rules)}}}\n"


# ---- ebtables ----


def _ebtables(dice: Random) -> str:
    text = ""
    for table, chains in (("filter", ("FORWARD",)), ("nat", ("PREROUTING", "POSTROUTING"))):
        own = [f"own{number}" for number in range(dice.randrange(3))]
        text += f"*{table}\n"
        text += "".join(f":{chain} {'DROP' if dice.random() < 0.2 else 'ACCEPT'}\n" for chain in chains)
        text += "".join(f":{chain} {dice.choice(('ACCEPT', 'DROP', 'RETURN'))}\n" for chain in own)
        for chain in chains:
            text += "".join(
                f"-A {chain} {_ebtables_rule(dice, chain, own)}\n" for _ in range(dice.randrange(6))
            )
        for at, chain in enumerate(own):
            text += "".join(
                f"-A {chain} {_ebtables_rule(dice, '', own[at + 1 :])}\n" for _ in range(dice.randrange(4))
            )
    return text


def _after(dice: Random) -> str:
    return "! " if dice.random() < 0.25 else ""


def _ebtables_rule(dice: Random, chain: str, own: Sequence[str]) -> str:
    return " ".join([*_ebtables_conditions(dice, chain), _ebtables_target(dice, own)])


def _ebtables_conditions(dice: Random, chain: str) -> Iterator[str]:  # noqa: C901  # one case a kind
    match dice.randrange(7):
        case 0:
            yield f"-p IPv4 --ip-{dice.choice(('src', 'dst'))} {_after(dice)}{_address(dice, 4)}"
        case 1:
            kind = dice.choice(("tcp", "udp"))
            yield f"-p IPv4 --ip-proto {kind} --ip-dport {_after(dice)}{_span(dice, ':')}"
        case 2:
            yield f"-p ARP --arp-op {dice.choice(('Request', 'Reply'))}"
        case 3:
            yield f"-p ARP --arp-ip-{dice.choice(('src', 'dst'))} {_after(dice)}{dice.choice((*OWN[4], *REMOTE[4]))}"
        case 4:
            yield f"-p IPv6 --ip6-{dice.choice(('src', 'dst'))} {_after(dice)}{_address(dice, 6)}"
        case 5:
            yield f"-p {_after(dice)}{dice.choice(('IPv4', 'ARP', 'IPv6'))}"
        case _:
            pass
    if chain in {"PREROUTING", "FORWARD"} and dice.random() < 0.3:
        yield f"-i {_after(dice)}{dice.choice((A.port, UPLINK, 'vm+'))}"
    if chain in {"POSTROUTING", "FORWARD"} and dice.random() < 0.3:
        yield f"-o {_after(dice)}{dice.choice((A.port, UPLINK, 'vm+'))}"
    if dice.random() < 0.3:
        yield f"-{dice.choice('sd')} {_after(dice)}{dice.choice((*_MACS, 'ff:ff:ff:ff:ff:ff', '01:00:00:00:00:00/01:00:00:00:00:00'))}"
    if chain in {"PREROUTING", "FORWARD"} and dice.random() < 0.2:
        yield f"--logical-in {_after(dice)}{dice.choice((BRIDGE, 'xen+', A.port))}"
    if dice.random() < 0.2:
        yield f"--mark {_after(dice)}{dice.randrange(3)}/3"


def _ebtables_target(dice: Random, own: Sequence[str]) -> str:
    targets = ["ACCEPT", "DROP", "CONTINUE", *own, *own]
    targets += [f"mark --mark-set {dice.randrange(3)} --mark-target {dice.choice(('ACCEPT', 'CONTINUE'))}"]
    targets += ["mark --mark-or 2 --mark-target CONTINUE"]
    return f"-j {dice.choice(targets)}"
