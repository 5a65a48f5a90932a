"""Single matches beside the kernel: for how many of some frames each holds, whether our rules ask for it at present or not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from reconciler.explain.headers import entered, headers
from reconciler.explain.selectors import values
from reconciler.explain.walk import Ruleset
from tests.packets.lab import Lab
from tests.packets.parties import BRIDGE, Party

_HOOK = "type filter hook prerouting priority -320; policy accept;"
_COUNTED = re.compile(r"counter packets (\d+) bytes")
MATCHES = (
    "meta protocol ip", "meta protocol != arp", "meta l4proto 17", "meta l4proto != 17", "meta l4proto 51", "meta l4proto 58",
    "ether type ip", "ether type 0x8100", "ether type != ip6", "ether saddr != 00:00:5e:00:53:0a", "ether daddr & ff:00:00:00:00:00 == 33:00:00:00:00:00",
    "ip saddr 192.0.2.11", "ip saddr != 192.0.2.11", "ip daddr 192.0.2.0-192.0.2.255", "ip protocol 17", "ip protocol != 17", "ip protocol igmp", "ip length > 40",
    "ip frag-off & 8191 != 0", "ip frag-off & 16383 == 0",
    "ip6 saddr ::", "ip6 saddr != 2001:db8::11", "ip6 daddr ff02::1", "ip6 nexthdr 58", "ip6 nexthdr != 58", "ip6 length 32", "ip6 length != 24",
    "frag frag-off != 0", "frag frag-off 0", "frag frag-off 1",
    "frag nexthdr 58", "frag nexthdr != 58", "frag nexthdr { ip, ipv6-route, ipv6-frag, ah, ipv6-opts }",
    "icmpv6 type nd-neighbor-advert", "icmpv6 type != nd-neighbor-advert", "icmpv6 code 0", "icmp type echo-request", "icmp type != echo-request", "icmp code 0", "iifgroup 0", "iifgroup != 0", "igmp type membership-query", "igmp type != 48", "igmp type membership-report-v1", "igmp type membership-report-v2", "igmp type membership-report-v3", "igmp type leave-group",
    "udp dport 67", "udp dport != 67", "udp sport 68 udp dport 67", "tcp dport != 0", "udp sport { 67, 68, 546 }",
    "arp htype 1", "arp ptype != ip", "arp hlen 6", "arp plen != 4", "arp operation request", "arp operation != { request, reply }",
    "arp saddr ip 192.0.2.11", "arp saddr ip != 192.0.2.11", "arp daddr ip 0.0.0.0", "arp saddr ether 00:00:5e:00:53:0a", "arp daddr ether != 00:00:00:00:00:00",
    # One, two and four bytes at a multiple of their size are loaded otherwise than all else.
    "@th,0,8 != 0x3a", "@th,8,8 0x0", "@th,0,16 != 0x1", "@th,8,16 != 0x1", "@th,0,32 != 0x1", "@th,16,32 != 0x1", "@th,64,64 != 0x1",
    "@th,64,128 != 0x1", "@th,192,16 0x101", "@th,208,48 0x5e00530a", "@th,208,48 != 0x5e00530a", "@th,288,48 != 0x5e00530a", "@th,0,24 != 0x1",
    "@nh,72,8 != { 0x2, 0x67 }", "@nh,48,16 & 0x1fff != 0x0",
    "@nh,0,8 0x45", "@nh,48,8 != 0x3a", "@nh,320,64 != 0x1", "@ll,96,16 0x8100", "@ll,112,16 != 0x64",
)  # fmt: skip


def differing(lab: Lab, sender: Party, frames: Sequence[bytes]) -> list[str]:
    """The matches that hold for more, or fewer, of the sender's frames in the kernel than the interpreter says."""
    counted = _counted(lab, sender, frames)
    expected = _expected(sender, frames)
    return [
        f"`{match}`: {expected[match]} explained, {counted[match]} counted"
        for match in MATCHES
        if expected[match] != counted[match]
    ]


def _counted(lab: Lab, sender: Party, frames: Sequence[bytes]) -> Counter[str]:
    rules = "".join(f'\t\tiifname "{sender.port}" {match} counter\n' for match in MATCHES)
    lab.load(f"table bridge probe {{\n\tchain c {{\n\t\t{_HOOK}\n{rules}\t}}\n}}\n")
    for frame in frames:
        lab.sockets[sender.port].send(frame)
    lab.settle()
    numbers = _COUNTED.findall(lab.dom0.must("nft", "list", "table", "bridge", "probe"))
    lab.dom0.must("nft", "delete", "table", "bridge", "probe")
    return Counter({match: int(number) for match, number in zip(MATCHES, numbers, strict=True)})


def _expected(sender: Party, frames: Sequence[bytes]) -> Counter[str]:
    lines = tuple(f"{match} meta mark set 0x1" for match in MATCHES)
    rules = Ruleset.read([("prerouting", (_HOOK, *lines))], {})
    found = Counter[str]()
    for frame in frames:
        if entered(frame, lldp_forwarded=False) == "prerouting":
            way = rules.way("prerouting", values(headers(frame), sender.port, BRIDGE, rules.raw))
            found.update(hop.rule.removesuffix(" meta mark set 0x1") for hop in way.hops)
    return found
