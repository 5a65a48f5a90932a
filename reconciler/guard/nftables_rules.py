"""The rules of the nftables backend: what a guest's frame must look like, stage by stage. Pure.

One base chain in the bridge family's prerouting at -310: before ebtables' nat table, before br_netfilter, and
before the bridge learns a source address, for frames to other guests, to the uplink and to dom0 alike. Nothing
is stateful, so that taking an element away acts at once. Addresses are checked before every exception, and each
exception has an unspecified source and a fixed destination.

Lines are written as nft 1.0.6 lists them, so that what is loaded can be compared with what should be.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.guard.binding import Guard, LogLimit
from reconciler.guard.log_shares import QUIET, shares
from state import nft
from state.links import GUEST_GROUP
from state.nft import Features

TABLE = "bridge domgit"
# In the bridge family dstnat is -300, ebtables' nat table; ten before it. Only prerouting has a name for that.
_BASE_CHAINS = {
    "prerouting": "type filter hook prerouting priority dstnat - 10; policy accept;",
    "input": "type filter hook input priority -310; policy accept;",
}


@dataclass(frozen=True, slots=True)
class Set:
    """A set or map of the table, without its elements."""

    name: str
    key: str
    flags: str = ""
    kind: str = "set"

    def text(self) -> str:
        """Its declaration."""
        flags = f"\t\tflags {self.flags}\n" if self.flags else ""
        return f"\t{self.kind} {self.name} {{\n\t\t{self.key}\n{flags}\t}}\n"


# Keys start with the port: one lookup stands for a rule per address, however many vifs there are.
SETS = (
    Set("bridges", "type ifname"),
    Set("ports", "type ifname : verdict", kind="map"),
    Set("audited", "type ifname"),
    Set("own_mac", "type ifname . ether_addr"),
    Set("own_v4", "type ifname . ether_addr . ipv4_addr"),
    Set("own_v6", "type ifname . ether_addr . ipv6_addr"),
    # Prefixes cost a copy of their whole set at every change, so they do not share one with single addresses.
    Set("own_net4", "type ifname . ether_addr . ipv4_addr", "interval"),
    Set("own_net6", "type ifname . ether_addr . ipv6_addr", "interval"),
    # nft 1.0.6 has no name for these fields: the target of a neighbour message, and a MAC inside a message.
    Set("own_target", "typeof iifname . @th,64,128"),
    Set("own_target_net", "typeof iifname . @th,64,128", "interval"),
    Set("own_inner_mac", "typeof iifname . @th,208,48"),
)
# Vifs that a human has opened for a time. By MAC as well: whoever gets the name meanwhile does not get this.
# The kernel closes them: it needs nobody of us for that.
BYPASSED = Set(nft.BYPASSED, "type ifname . ether_addr", "timeout")
# The kernel adds ports as they send, and forgets a port that has sent nothing wrong for so long: names come and go.
REMEMBERED = "30d"
_BY_PORT = "type ifname\n\t\tsize 65535"
REASONS = ("mac", "type", "arp", "v4", "v6", "nd", "dhcp", "router", "unknown")

# No map without a name in any rule: when rules are loaded again, the elements of the old one are gone at once for a frame that
# is still on its way through the old rules, which then finds its kind refused (Linux 6.18: one frame in some 60 reloads under load).
# IPv4 from a single address has been looked up before it came here: see _ports.
_FROM_GUEST = """
ether type ip goto from_v4
iifname . ether saddr != @own_mac goto refused_mac
ether type ip6 goto from_v6
ether type arp goto from_arp
goto refused_type
"""
# The inner MAC is bound like the outer one. A probe (RFC 5227) may ask for the guest's own addresses only.
_FROM_ARP = """
arp htype != 1 goto refused_arp
arp ptype != ip goto refused_arp
arp hlen != 6 goto refused_arp
arp plen != 4 goto refused_arp
arp operation != { request, reply } goto refused_arp
iifname . arp saddr ether . arp saddr ip @own_v4 accept
iifname . arp saddr ether . arp saddr ip @own_net4 accept
arp operation request arp saddr ip 0.0.0.0 iifname . arp saddr ether . arp daddr ip @own_v4 accept
arp operation request arp saddr ip 0.0.0.0 iifname . arp saddr ether . arp daddr ip @own_net4 accept
goto refused_arp
"""
# A later fragment has no transport header: what stands where one would be is payload, and reading it as ports would lose two
# in 65,536 (Linux 6.18). Its offset is read without a name: by name, nft would ask for the protocol a second time.
# TCP, and UDP that has nothing to do with DHCP, are through by one or two comparisons: of protocol and offset at once, since the
# four bytes from the offset on end with the protocol.
# A later fragment of IGMP or PIM is nobody's message, and a bridge that snoops takes it for one: Linux reads both without a look at
# the offset.
# The kernel reads no protocol and no ports behind a header with another version in it, or with lengths that cannot be: none of the
# rules that ask for them is met then. Programs that take frames as they come are less strict: a DHCP client of ISC's takes an answer
# of "version 5". So what has no protocol passes nowhere; every protocol is in 0-255.
_BOUND_V4 = """
@nh,48,32 & 0x1fff00ff == 0x6 accept
@nh,48,32 & 0x1fff00ff == 0x11 th dport != 67-68 accept
@nh,48,16 & 0x1fff != 0x0 @nh,72,8 != { 0x2, 0x67 } accept
udp dport 67-68 goto dhcp
meta l4proto { icmp, igmp, pim } jump control_v4
meta l4proto 0-255 accept
goto refused_v4
"""
_KNOWN_V4 = """
iifname . ether saddr . ip saddr @own_v4 goto bound_v4
"""
_FROM_V4 = """
@nh,48,16 & 0x1fff != 0x0 @nh,72,8 != { 0x2, 0x67 } goto source_v4
udp dport 67-68 goto dhcp
meta l4proto { icmp, igmp, pim } jump control_v4
meta l4proto 0-255 goto source_v4
iifname . ether saddr != @own_mac goto refused_mac
goto refused_v4
"""
_SOURCE_V4 = """
iifname . ether saddr . ip saddr @own_v4 accept
iifname . ether saddr . ip saddr @own_net4 accept
iifname . ether saddr != @own_mac goto refused_mac
goto refused_v4
"""
# Who has no address yet reports the groups that it is in all the same (RFC 3376, 4.2.13).
_CONTROL_V4 = """
iifname . ether saddr != @own_mac goto refused_mac
@nh,48,16 & 0x1fff != 0x0 goto refused_router
igmp type { membership-query, 19, 20, 48, 50 } goto refused_router
icmp type { redirect, router-advertisement } goto refused_router
meta l4proto pim goto refused_router
ip saddr 0.0.0.0 ip daddr 224.0.0.0/4 igmp type { membership-report-v1, membership-report-v2, leave-group, membership-report-v3 } accept
"""
# A DHCP client takes an answer from whatever port, so the port that is asked or answered decides, not the sender's.
# Behind the header of a fragment may stand padding in place of the message: none asks a server.
_DHCP = """
iifname . ether saddr != @own_mac goto refused_mac
udp dport 68 goto refused_dhcp
ip frag-off & 16383 != 0 goto refused_dhcp
jump dhcp_client
ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 accept
goto source_v4
"""
# Fails closed on a message that is too short to hold the client's hardware address.
_DHCP_CLIENT = """
iifname . @th,288,48 @own_inner_mac return
goto refused_dhcp
"""
# Neighbour discovery stands right behind the header: extension headers would shift what exact lengths are about.
# First what the transport parser cannot look behind: extension headers behind a fragment header or AH. Last, what it cannot read at
# all has no protocol, as in IPv4.
_FROM_V6 = """
frag nexthdr { ip, ipv6-route, ipv6-frag, ah, ipv6-opts } goto refused_v6
meta l4proto 51 @th,0,8 { 0x0, 0x2b, 0x2c, 0x33, 0x3a, 0x3c } goto refused_v6
icmpv6 type { mld-listener-query, nd-router-advert, nd-redirect, 139, 140, ind-neighbor-solicit, ind-neighbor-advert, 147, 151, 152, 153 } goto refused_router
meta l4proto pim goto refused_router
udp dport 546 goto dhcp_answer
ip6 nexthdr != ipv6-icmp icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } goto refused_nd
icmpv6 type nd-router-solicit goto solicit_router
icmpv6 type nd-neighbor-solicit goto solicit_neighbor
icmpv6 type nd-neighbor-advert goto advertise
meta l4proto 0-255 goto source_v6
goto refused_v6
"""
# The kernel keeps no place of a later fragment's payload: where it is asked for ports, it takes a flow label for them (Linux 6.18).
_DHCP_ANSWER = """
frag frag-off != 0 goto source_v6
goto refused_dhcp
"""
_SOURCE_V6 = """
iifname . ether saddr . ip6 saddr @own_v6 accept
iifname . ether saddr . ip6 saddr @own_net6 accept
ip6 saddr :: ip6 daddr ff02::/16 icmpv6 type { mld-listener-report, mld-listener-done, mld2-listener-report } accept
goto refused_v6
"""
# Exact lengths leave no room for a second option behind a correct first one.
_ADVERTISE = """
iifname . ether saddr . ip6 saddr @own_v6 goto advertise_target
iifname . ether saddr . ip6 saddr @own_net6 goto advertise_target
goto refused_nd
"""
_ADVERTISE_TARGET = """
iifname . @th,64,128 @own_target goto advertise_option
iifname . @th,64,128 @own_target_net goto advertise_option
goto refused_nd
"""
_ADVERTISE_OPTION = """
ip6 length 24 accept
ip6 length 32 @th,192,16 0x201 iifname . @th,208,48 @own_inner_mac accept
goto refused_nd
"""
_SOLICIT_NEIGHBOR = """
ip6 saddr :: goto detect_duplicate
iifname . ether saddr . ip6 saddr @own_v6 goto solicit_option
iifname . ether saddr . ip6 saddr @own_net6 goto solicit_option
goto refused_nd
"""
_SOLICIT_OPTION = """
ip6 length 24 accept
ip6 length 32 @th,192,16 0x101 iifname . @th,208,48 @own_inner_mac accept
goto refused_nd
"""
# Option 14 of one unit is the nonce of RFC 7527.
_DETECT_DUPLICATE = """
ip6 daddr != ff02::1:ff00:0/104 goto refused_nd
iifname . @th,64,128 @own_target goto detect_option
iifname . @th,64,128 @own_target_net goto detect_option
goto refused_nd
"""
_DETECT_OPTION = """
ip6 length 24 accept
ip6 length 32 @th,192,16 0xe01 accept
goto refused_nd
"""
_SOLICIT_ROUTER = """
ip6 saddr :: ip6 length 8 accept
iifname . ether saddr . ip6 saddr @own_v6 goto solicit_router_option
iifname . ether saddr . ip6 saddr @own_net6 goto solicit_router_option
goto refused_nd
"""
_SOLICIT_ROUTER_OPTION = """
ip6 length 8 accept
ip6 length 16 @th,64,16 0x101 iifname . @th,80,48 @own_inner_mac accept
goto refused_nd
"""
_GUEST_CHAINS = (
    ("from_guest", _FROM_GUEST),
    ("from_arp", _FROM_ARP),
    ("known_v4", _KNOWN_V4),
    ("bound_v4", _BOUND_V4),
    ("from_v4", _FROM_V4),
    ("control_v4", _CONTROL_V4),
    ("dhcp", _DHCP),
    ("source_v4", _SOURCE_V4),
    ("dhcp_client", _DHCP_CLIENT),
    ("from_v6", _FROM_V6),
    ("dhcp_answer", _DHCP_ANSWER),
    ("source_v6", _SOURCE_V6),
    ("advertise", _ADVERTISE),
    ("advertise_target", _ADVERTISE_TARGET),
    ("advertise_option", _ADVERTISE_OPTION),
    ("solicit_neighbor", _SOLICIT_NEIGHBOR),
    ("solicit_option", _SOLICIT_OPTION),
    ("detect_duplicate", _DETECT_DUPLICATE),
    ("detect_option", _DETECT_OPTION),
    ("solicit_router", _SOLICIT_ROUTER),
    ("solicit_router_option", _SOLICIT_ROUTER_OPTION),
)
# nft 1.0.6 lists these otherwise than it reads them; left, as written above, right, as listed.
# What it lists for AH it does not read back: it aborts on its own `ah nexthdr` behind `frag`.
UNREADABLE = (("meta l4proto 51 @th,0,8 {", "ah nexthdr {"),)
LISTED = (
    *UNREADABLE,
    ("\t\tigmp type", "\t\tether type ip igmp type"),
    (" level warn\n", "\n"),  # the default is left out
    (" level warn return\n", " return\n"),
)


def chains(guard: Guard, features: Features) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """All chains as (name, lines), those that others jump to before them."""
    found: list[tuple[str, tuple[str, ...]]] = [
        ("log_refused", _log(guard.log)),
        (
            "refused",
            (
                "jump log_refused",
                "iifname @audited accept",
                f"iifname . ether saddr @{BYPASSED.name} accept",
                "drop",
            ),
        ),
    ]
    found += [
        (f"refused_{reason}", (f"update @count_{reason} {{ iifname }}", "goto refused"))
        for reason in REASONS
        if reason != "unknown"
    ]
    counted_and_dropped = ("update @count_unknown { iifname }", "jump log_refused", "drop")
    found.append(("refused_renamed", counted_and_dropped))
    if guard.unknown_vifs == "drop":
        found.append(("refused_unknown", counted_and_dropped))
    else:
        found.append(("refused_unknown", ("update @count_unknown { iifname }", "accept")))
    found += [(name, tuple(text.strip().splitlines())) for name, text in reversed(_GUEST_CHAINS)]
    ports = _ports(guard, features)
    # The bridge takes frames to the MACs that 802.1D reserves past prerouting: it learns their source, and dom0's
    # own stack gets them on the port itself. Input is the first hook that sees them (all but LLDP's, see port_lock).
    ordinary = "ether daddr & ff:ff:ff:ff:ff:f0 != 01:80:c2:00:00:00 accept"
    found.append(("input", (_BASE_CHAINS["input"], ordinary, *ports)))
    found.append(("prerouting", (_BASE_CHAINS["prerouting"], *ports)))
    return tuple(found)


def _log(limit: LogLimit) -> tuple[str, ...]:
    """The lines for what is dropped: a rule that has no more to give, or no room for another port, ends, and the next one is asked."""
    of, line = shares(limit), f'log prefix "{limit.prefix}" level {limit.level}'
    return (
        f"update @log_first {{ iifname limit rate {of.one_first} }} limit rate {of.first} {line} return",
        f"update @log_share {{ iifname limit rate {of.port} }} limit rate {of.common} {line}",
    )


def _ports(guard: Guard, features: Features) -> tuple[str, ...]:
    # What most frames are comes first. An uplink is a comparison, where the map would be a look-up; IPv4 from a bound address is one
    # look-up for port, MAC and address, and says by itself that the port is a guest's. In one rule nft would list it without the type,
    # and read that back as the protocol, which a tagged frame has as well.
    lines = [f'iifname "{uplink}" accept' for bridge in guard.bridges for uplink in bridge.uplinks]
    lines += ["ether type ip jump known_v4", "iifname vmap @ports"]
    # A guest's port that is bound by no name it has: somebody has renamed it, or taken its binding away. The group goes
    # with the port on every kernel, under any name, and no port of another bridge is in it.
    lines.append(f"iifgroup {GUEST_GROUP} goto refused_renamed")
    if features.ibrname:
        lines.append("meta ibrname @bridges goto refused_unknown")
    elif guard.alone:
        # Without knowing the frame's bridge a name must do, and only where no other bridge can have such names.
        lines.append('iifname "vif*" goto refused_unknown')
    return tuple(lines)


def declarations() -> str:
    """The sets, maps, counters and limiters, without elements."""
    by_traffic = (
        *(
            Set(f"count_{reason}", _BY_PORT, f"dynamic,timeout\n\t\tcounter\n\t\ttimeout {REMEMBERED}")
            for reason in REASONS
        ),
        # By then a share is whole again anyway.
        *(
            Set(name, _BY_PORT, f"dynamic,timeout\n\t\ttimeout {QUIET}")
            for name in ("log_first", "log_share")
        ),
    )
    return "".join(each.text() for each in (*SETS, BYPASSED, *by_traffic))


def chain_text(name: str, lines: tuple[str, ...]) -> str:
    """One chain as nft lists it."""
    return f"\tchain {name} {{\n" + "".join(f"\t\t{line}\n" for line in lines) + "\t}\n"


def listed(guard: Guard, features: Features) -> str:
    """The whole table without elements as `nft -s list table` of nft 1.0.6 would print it, order aside."""
    text = declarations() + "".join(chain_text(name, lines) for name, lines in chains(guard, features))
    for written, shown in LISTED:
        text = text.replace(written, shown)
    return text
