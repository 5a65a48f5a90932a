"""`python -m tests.packets.planted`: classic mistakes made on purpose, each in our own rendered script, and what notices them; root.

A mistake is an edit of text that our functions gave. Each names rows of the table of frames that have to go wrong. The last line is its own count.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass

from tests.packets.cases import CASES
from tests.packets.fuzz import Fuzzer, Setting, Tally, script
from tests.packets.lab import Lab
from tests.packets.parties import A4_SECOND, GATEWAY, A, B
from tests.packets.test_frames import complaint

Edit = Callable[[str], str]
_DRAWN = Setting(locked=False, filtered=False)


@dataclass(frozen=True, slots=True)
class Mistake:
    """A name, the edit that makes it, and some of the rows that it must turn wrong."""

    name: str
    edit: Edit
    caught_by: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


def instead(written: str, mistaken: str) -> Edit:
    """Some text another, wherever it stands."""

    def edit(text: str) -> str:
        assert written in text, f"nothing to spoil: {written}"
        return text.replace(written, mistaken)

    return edit


def without(line: str) -> Edit:
    """The lines that contain something left out."""

    def edit(text: str) -> str:
        kept = [each for each in text.splitlines(keepends=True) if line not in each]
        assert len(kept) < text.count("\n"), f"nothing to spoil: {line}"
        return "".join(kept)

    return edit


def first_in(chain: str, rule: str) -> Edit:
    """A rule before all others of a chain, behind its hook."""

    def edit(text: str) -> str:
        found = re.search(rf"\tchain {chain} \{{\n(\t\ttype .*\n)?", text)
        assert found is not None, f"nothing to spoil: {chain}"
        return f"{text[: found.end()]}\t\t{rule}\n{text[found.end() :]}"

    return edit


def element(name: str, member: str) -> Edit:
    """One element too many."""
    return lambda text: f"{text}add element bridge domgit {name} {{ {member} }}\n"


_NO_INPUT = re.compile(r"\tchain input \{\n.*?\n\t\}\n", re.DOTALL)
_HOOK = "type filter hook prerouting priority dstnat - 10"
_BOUND4 = "iifname . ether saddr . ip saddr @own_v4 accept"
_EVERYBODY4 = f"ip saddr {{ {A.v4}, {A4_SECOND}, {B.v4} }} accept"
_OWN_LINK_LOCAL = f'"{A.port}" . {A.mac} . {A.link_local}'

MISTAKES = (
    Mistake(
        "rules in FORWARD",
        instead(_HOOK, "type filter hook forward priority -310"),
        (
            "drop: udp from B's address to dom0",
            "drop: B's whole identity",
            "drop: arp reply to dom0: B is at A",
        ),
    ),
    Mistake(
        "accept by bare ip saddr",
        instead(_BOUND4, _EVERYBODY4),
        ("drop: udp from B's address to the gateway",),
    ),
    Mistake(
        "exception before the check",
        first_in("from_v4", "udp sport 68 udp dport 67 accept"),
        ("drop: dhcp discover from B's address", "drop: dhcp discover for B's hardware address"),
    ),
    Mistake(
        "answers accepted first, as ESTABLISHED is",
        first_in("prerouting", "tcp flags & (syn | ack) != syn accept"),
        ("drop: a tcp answer from a far address",),
    ),
    Mistake(
        "dhcp and arp accepted above the filters",
        first_in("from_guest", "ether type arp accept"),
        ("drop: arp reply: the gateway is at A", "drop: gratuitous arp for B"),
    ),
    Mistake(
        "the EUI-64 address without its universal bit",
        instead(A.link_local, A.link_local.replace("fe80::200:", "fe80::")),
        ("pass: router solicitation", "pass: mld version 2 report"),
    ),
    Mistake(
        "a link-local address for everybody",
        first_in("from_v6", "ip6 saddr fe80::/10 accept"),
        ("drop: router advertisement: plain",),
    ),
    Mistake(
        "meta protocol instead of ether type",
        instead("\t\tether type ", "\t\tmeta protocol "),
        ("drop: the own address in VLAN 0", "drop: router advertisement in VLAN 100"),
    ),
    Mistake(
        "priority tags let through",
        first_in("from_guest", "ether type 8021q vlan id 0 accept"),
        ("drop: the gateway's address to dom0 in VLAN 0", "drop: router advertisement in VLAN 0"),
    ),
    Mistake(
        "unknown types let through",
        without("goto refused_type"),
        ("drop: MPLS", "drop: spanning tree", "drop: reverse arp"),
    ),
    Mistake(
        "no source MAC", without("@own_mac goto refused_mac"), ("drop: own arp with a random MAC outside",)
    ),
    Mistake(
        "the MAC inside ARP unchecked",
        instead("iifname . arp saddr ether . arp saddr ip", "iifname . ether saddr . arp saddr ip"),
        ("drop: own address at another's MAC inside", "drop: own address at B's MAC inside"),
    ),
    Mistake(
        "an ARP probe for any target",
        first_in("from_arp", "arp operation request arp saddr ip 0.0.0.0 accept"),
        ("drop: arp probe for B's address", "drop: arp probe for the gateway's address"),
    ),
    Mistake("no ARP probe at all", without("arp saddr ip 0.0.0.0"), ("pass: arp probe for the own address",)),
    Mistake(
        "ARP of any operation",
        without("arp operation != "),
        ("drop: arp with operation 8 (inverse request)",),
    ),
    Mistake("ARP of any size", without("len != 6"), ("drop: arp with another hardware size",)),
    Mistake(
        "DHCP for any hardware address",
        without("jump dhcp_client"),
        ("drop: dhcp discover for B's hardware address",),
    ),
    Mistake(
        "DHCP servers let through",
        first_in("bound_v4", "udp sport 67 udp dport 68 accept"),
        ("drop: dhcp offer from the own address",),
    ),
    Mistake(
        "later fragments read as messages",
        without("& 0x1fff != 0x0"),
        ("pass: a later fragment whose payload looks like an icmp redirect",),
    ),
    Mistake(
        "later fragments of whatever protocol let through",
        instead("& 0x1fff != 0x0 @nh,72,8 != { 0x2, 0x67 }", "& 0x1fff != 0x0"),
        ("drop: a later fragment that is an igmp query", "drop: a later fragment that is a pim hello"),
    ),
    Mistake(
        "a flow label read as ports",
        without("frag frag-off != 0"),
        ("pass: a later fragment over IPv6, its flow label like port 546",),
    ),
    Mistake(
        "whatever a guest without address says to a group",
        first_in("control_v4", "ip saddr 0.0.0.0 ip daddr 224.0.0.0/4 accept"),
        ("drop: igmp query from no address", "drop: igmp report from no address with a random MAC"),
    ),
    Mistake(
        "no target of an advertisement",
        instead("@own_v6 goto advertise_target", "@own_v6 goto advertise_option"),
        ("drop: neighbor: advertises the gateway",),
    ),
    Mistake(
        "no option of an advertisement",
        instead(
            "ip6 length 32 @th,192,16 0x201 iifname . @th,208,48 @own_inner_mac accept",
            "ip6 length 32 accept",
        ),
        ("drop: neighbor: advertises the own address at a stranger's MAC",),
    ),
    Mistake(
        "inexact lengths",
        instead("ip6 length 32 @th,192,16 0x", "ip6 length >= 32 @th,192,16 0x"),
        ("drop: neighbor: advertises with a second option",),
    ),
    Mistake(
        "neighbour discovery accepted before the check",
        first_in("from_v6", "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"),
        ("drop: neighbor: advertises the gateway from the gateway's address",),
    ),
    Mistake(
        "duplicate address detection for any target",
        first_in("detect_duplicate", "accept"),
        ("drop: neighbor: detects a duplicate of the gateway",),
    ),
    Mistake(
        "whatever comes from nobody",
        first_in("from_v6", "ip6 saddr :: accept"),
        ("drop: udp over IPv6 from the unspecified address to B",),
    ),
    Mistake(
        "router advertisements looked for right behind the header only",
        instead(
            "\ticmpv6 type { mld-listener-query", "\tip6 nexthdr ipv6-icmp icmpv6 type { mld-listener-query"
        ),
        ("drop: router advertisement: behind hop-by-hop options",),
    ),
    Mistake(
        "headers behind a fragment header",
        # What hides there leaves the kernel without a protocol, and is refused for that too.
        lambda text: without("frag nexthdr")(text).replace(
            "meta l4proto 0-255 goto source_v6", "goto source_v6"
        ),
        ("drop: router advertisement: in the second fragment behind destination options",),
    ),
    Mistake(
        "headers behind an authentication header",
        without("meta l4proto 51"),
        ("drop: router advertisement: behind an authentication header",),
    ),
    Mistake(
        "no chain for the groups that 802.1D reserves",
        lambda text: _NO_INPUT.sub("", text),
        ("drop: the gateway's address to dom0 by 01:80:c2:00:00:02",),
    ),
    Mistake(
        "the audited are one too many",
        element("audited", f'"{A.port}"'),
        ("drop: udp from B's address to the gateway",),
    ),
    Mistake(
        "a prefix one bit too wide",
        instead("198.51.100.16/28", "198.51.100.0/27"),
        ("drop: udp from the address below the own prefix to B",),
    ),
    Mistake(
        "a port's name cut to a prefix",
        first_in("prerouting", f'iifname "{A.port[:3]}*" accept'),
        ("drop: udp from B's address to the gateway",),
    ),
    Mistake(
        "addresses of all under every name",
        element("own_v4", f'"{A.port}" . {A.mac} . {B.v4}'),
        ("drop: udp from B's address to the gateway",),
    ),
    Mistake(
        "the own address forgotten",
        instead(_OWN_LINK_LOCAL, f'"{A.port}" . {A.mac} . 2001:db8:ffff::1'),
        ("pass: udp over IPv6 from the link-local address",),
    ),
    Mistake(
        "an address of the gateway",
        element("own_v6", f'"{A.port}" . {A.mac} . {GATEWAY.v6}'),
        ("drop: udp over IPv6 from the gateway's address to B",),
    ),
)


def wrong(lab: Lab, mistake: Mistake, right: str, names: frozenset[str]) -> list[str]:
    """Which of the named rows go wrong with this mistake in the guard; all of them for no name."""
    lab.clear()
    lab.load(mistake.edit(right))
    rows = [case for case in CASES if not names or str(case) in names]
    return [str(case) for case in rows if complaint(case, lab.send(case.frame, case.sender))]


def main() -> int:
    """Exit status 1 when a mistake is not noticed by the table of frames."""
    lab = Lab()
    missed = 0
    try:
        right, _ = script(lab)
        print(f"{'mistake':<64} {'rows wrong':>10} {'drawn wrong':>12}")
        for mistake in MISTAKES:
            rows = wrong(lab, mistake, right, frozenset())
            tally = Tally()
            Fuzzer(lab, mistake.edit(right), 1, tally).block(0, _DRAWN)
            missed += not set(rows) & set(mistake.caught_by)
            print(f"{mistake.name:<64} {len(rows):>10} {len(tally.violations):>12}", flush=True)
    finally:
        lab.close()
    print(f"{len(MISTAKES)} mistakes, {missed} that no named row noticed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
