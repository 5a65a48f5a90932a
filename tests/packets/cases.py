"""Frames with names and verdicts, each a row of its own: what a guest may send, and what it may not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from tests.packets import frames as f
from tests.packets.lab import LISTENING
from tests.packets.parties import A4_SECOND, BRIDGE, DOM0, GATEWAY, UNKNOWN, UPLINK, A, B, Party

BROADCAST, ANY_MAC, STRANGER = "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "00:00:5e:00:53:ee"
ALL_NODES, ALL_ROUTERS, MLD_ROUTERS = "ff02::1", "ff02::2", "ff02::16"
EVERYBODY = frozenset({B.port, UPLINK, BRIDGE, UNKNOWN.port})
A_NET6_ONE = "2001:db8:a::5"  # in A's own prefix
FOREIGN4, FOREIGN6 = "203.0.113.9", "2001:db8:ffff::9"
PORTS = (5000, LISTENING)


@dataclass(frozen=True, slots=True)
class Case:
    """A frame. `to`: who must hear it when it passes."""

    name: str
    frame: bytes
    verdict: Literal["pass", "drop"]
    to: frozenset[str]
    sender: Party = A

    def __str__(self) -> str:
        return f"{self.verdict}: {self.name}"


def reached(destination: str) -> frozenset[str]:
    """Who hears frames to a MAC."""
    known = {party.mac: party.port for party in (A, B, GATEWAY, DOM0, UNKNOWN)}
    return frozenset({known[destination]}) if destination in known else EVERYBODY


def udp4(
    source: str,
    target: Party,
    *,
    hardware: str = A.mac,
    payload: bytes = b"udp",
    ports: tuple[int, int] = PORTS,
) -> bytes:
    """A datagram from guest A to a party, with any source."""
    body = f.ipv4(source, target.v4, f.UDP, f.udp(source, target.v4, ports, payload))
    return f.ethernet(target.mac, hardware, f.IPV4, body)


def udp6(
    source: str,
    target: Party,
    *,
    hardware: str = A.mac,
    payload: bytes = b"udp",
    ports: tuple[int, int] = PORTS,
) -> bytes:
    """A datagram from guest A to a party, with any source."""
    body = f.ipv6(source, target.v6, f.UDP, f.udp(source, target.v6, ports, payload))
    return f.ethernet(target.mac, hardware, f.IPV6, body)


def icmp6(  # noqa: PLR0913  # each of these is forged by some case
    source: str,
    destination: str,
    kind: int,
    body: bytes = b"",
    *,
    hardware: str = A.mac,
    to: str = "",
    headers: tuple[int, ...] = (),
) -> bytes:
    """An ICMPv6 message behind any extension headers; to its group's MAC unless said otherwise."""
    payload, following = f.icmpv6(source, destination, kind, body), f.ICMPV6
    for header in reversed(headers):
        payload, following = f.extension(following) + payload, header
    packet = f.ipv6(source, destination, following, payload)
    return f.ethernet(to or f.group_mac(destination), hardware, f.IPV6, packet)


def arp(
    operation: int,
    sender: tuple[str, str],
    target: tuple[str, str],
    *,
    to: str = BROADCAST,
    hardware: str = A.mac,
) -> bytes:
    """An ARP packet in a frame from guest A."""
    return f.ethernet(to, hardware, f.ARP, f.arp(operation, sender, target))


def dhcp4(
    source: str, destination: str, *, chaddr: str = A.mac, server: bool = False, to: str = BROADCAST
) -> bytes:
    """A DHCP message: of a client, or of a server to a client."""
    ports = (67, 68) if server else (68, 67)
    payload = f.bootp(2 if server else 1, chaddr, 2 if server else 1)
    return f.ethernet(
        to, A.mac, f.IPV4, f.ipv4(source, destination, f.UDP, f.udp(source, destination, ports, payload))
    )


def igmp4(  # noqa: PLR0913  # each of these is forged by some case
    source: str,
    destination: str,
    message: bytes,
    *,
    protocol: int = f.IGMP,
    fragment: int = 0,
    more: bool = False,
    hardware: str = A.mac,
    to: str = "",
) -> bytes:
    """A message about groups, with the router alert of RFC 2113; to its group's MAC unless said otherwise."""
    packet = f.ipv4(
        source, destination, protocol, message, fragment=fragment, more=more, options=b"\x94\x04\0\0"
    )
    return f.ethernet(to or f.group_mac(destination), hardware, f.IPV4, packet)


def _legal_arp() -> Iterator[tuple[str, bytes]]:
    mine = (A.mac, A.v4)
    yield "arp request for the gateway", arp(1, mine, (ANY_MAC, GATEWAY.v4))
    yield "arp request from the second address", arp(1, (A.mac, A4_SECOND), (ANY_MAC, GATEWAY.v4))
    yield "arp reply with the own address, unicast to B", arp(2, mine, (B.mac, B.v4), to=B.mac)
    yield "arp probe for the own address", arp(1, (A.mac, "0.0.0.0"), (ANY_MAC, A.v4))
    yield "arp probe for the second address", arp(1, (A.mac, "0.0.0.0"), (ANY_MAC, A4_SECOND))
    yield "arp probe for an address in the own prefix", arp(1, (A.mac, "0.0.0.0"), (ANY_MAC, "198.51.100.20"))
    yield "gratuitous arp request", arp(1, mine, (ANY_MAC, A.v4))
    yield "gratuitous arp reply", arp(2, mine, (BROADCAST, A.v4))
    yield "arp request from the own prefix", arp(1, (A.mac, "198.51.100.17"), (ANY_MAC, GATEWAY.v4))
    yield "arp request with padding", arp(1, mine, (ANY_MAC, GATEWAY.v4)) + b"\0" * 18


def _legal_v4() -> Iterator[tuple[str, bytes]]:
    yield "udp to B", udp4(A.v4, B)
    yield "udp to the gateway", udp4(A.v4, GATEWAY)
    yield "udp to dom0", udp4(A.v4, DOM0)
    yield "udp from the second address", udp4(A4_SECOND, B)
    yield "udp from the first address of the own prefix", udp4("198.51.100.16", B)
    yield "udp from the last address of the own prefix", udp4("198.51.100.31", B)
    options = f.ipv4(A.v4, B.v4, f.UDP, f.udp(A.v4, B.v4, PORTS, b"options"), options=b"\x01\x01\x01\x00")
    yield "udp with IPv4 options", f.ethernet(B.mac, A.mac, f.IPV4, options)
    whole = f.udp(A.v4, B.v4, PORTS, b"x" * 40)
    yield (
        "a first fragment",
        f.ethernet(B.mac, A.mac, f.IPV4, f.ipv4(A.v4, B.v4, f.UDP, whole[:24], more=True)),
    )
    yield (
        "a later fragment",
        f.ethernet(B.mac, A.mac, f.IPV4, f.ipv4(A.v4, B.v4, f.UDP, whole[24:], fragment=3)),
    )
    # Payload that would be a refused message where the transport header of a whole packet stands.
    for name, protocol, body in (
        ("an answer to a dhcp client", f.UDP, b"\x13\x88\0\x44"),
        ("a question to a dhcp server", f.UDP, b"\x13\x88\0\x43"),
        ("an icmp redirect", f.ICMP, b"\5\0\0\0"),
    ):
        packet = f.ipv4(A.v4, B.v4, protocol, body * 6, fragment=3)
        yield f"a later fragment whose payload looks like {name}", f.ethernet(B.mac, A.mac, f.IPV4, packet)
    for name, kind, group in (
        ("version 3 report", 0x22, "224.0.0.22"),
        ("version 2 report", 0x16, "233.252.0.5"),
        ("version 1 report", 0x12, "233.252.0.5"),
        ("version 2 leave", 0x17, "224.0.0.2"),
    ):
        yield f"igmp {name} without address", igmp4("0.0.0.0", group, f.igmp(kind, "233.252.0.5"))
    yield "dhcp discover", dhcp4("0.0.0.0", "255.255.255.255")
    yield "dhcp renew, unicast to the gateway", dhcp4(A.v4, GATEWAY.v4, to=GATEWAY.mac)
    report = f.ipv4(A.v4, "224.0.0.22", f.IGMP, f.igmp(0x22, "233.252.0.5"), options=b"\x94\x04\0\0")
    yield "igmp version 3 report", f.ethernet(f.group_mac("224.0.0.22"), A.mac, f.IPV4, report)
    report = f.ipv4(A.v4, "233.252.0.5", f.IGMP, f.igmp(0x16, "233.252.0.5"))
    yield "igmp version 2 report", f.ethernet(f.group_mac("233.252.0.5"), A.mac, f.IPV4, report)
    multicast = f.ipv4(A.v4, "224.0.0.251", f.UDP, f.udp(A.v4, "224.0.0.251", (5353, 5353), b"mdns"))
    yield "multicast dns", f.ethernet(f.group_mac("224.0.0.251"), A.mac, f.IPV4, multicast)
    ping = f.ipv4(A.v4, B.v4, f.ICMP, b"\x08\0\xf7\xff\0\0\0\0")
    yield "ping to B", f.ethernet(B.mac, A.mac, f.IPV4, ping)
    broadcast = f.ipv4(A.v4, "255.255.255.255", f.UDP, f.udp(A.v4, "255.255.255.255", PORTS, b"all"))
    yield "udp broadcast", f.ethernet(BROADCAST, A.mac, f.IPV4, broadcast)
    behind = f.ipv4(A.v4, B.v4, f.AH, f.authentication(f.UDP) + f.udp(A.v4, B.v4, PORTS, b"ah"))
    yield "udp behind an authentication header", f.ethernet(B.mac, A.mac, f.IPV4, behind)


def _legal_v6() -> Iterator[tuple[str, bytes]]:
    own = A.link_local
    yield "udp over IPv6 to B", udp6(A.v6, B)
    yield "udp over IPv6 to dom0", udp6(A.v6, DOM0)
    yield "udp over IPv6 from the own prefix", udp6("2001:db8:a::77", B)
    yield "udp over IPv6 from the link-local address", udp6(own, B)
    yield "icmpv6 echo to all nodes", icmp6(own, ALL_NODES, 128, b"\0\1\0\1ping")
    yield (
        "icmpv6 echo behind destination options",
        icmp6(A.v6, B.v6, 128, b"\0\1\0\1", to=B.mac, headers=(f.DESTINATION,)),
    )
    for name, address in (("declared", A.v6), ("link-local", own), ("prefix", "2001:db8:a::5")):
        group = f.solicited_node(address)
        yield f"duplicate address detection, {name} address", icmp6("::", group, f.NS, f.neighbor(address))
        nonce = f.neighbor(address) + b"\x0e\x01nonce!"
        yield f"duplicate address detection with nonce, {name} address", icmp6("::", group, f.NS, nonce)
    asking = f.neighbor(GATEWAY.v6) + f.link_layer_option(1, A.mac)
    group = f.solicited_node(GATEWAY.v6)
    yield "neighbor solicitation for the gateway", icmp6(A.v6, group, f.NS, asking)
    yield (
        "neighbor solicitation without option",
        icmp6(A.v6, GATEWAY.v6, f.NS, f.neighbor(GATEWAY.v6), to=GATEWAY.mac),
    )
    telling = f.neighbor(A.v6, 0x60) + f.link_layer_option(2, A.mac)
    yield "neighbor advertisement to the gateway", icmp6(A.v6, GATEWAY.v6, f.NA, telling, to=GATEWAY.mac)
    yield (
        "unsolicited neighbor advertisement",
        icmp6(A.v6, ALL_NODES, f.NA, f.neighbor(A.v6, 0x20) + telling[20:]),
    )
    bare = f.neighbor(A.v6, 0x60)
    yield "neighbor advertisement without option", icmp6(A.v6, GATEWAY.v6, f.NA, bare, to=GATEWAY.mac)
    inner = f.neighbor("2001:db8:a::9", 0x20) + f.link_layer_option(2, A.mac)
    yield "neighbor advertisement of an address in the own prefix", icmp6(own, ALL_NODES, f.NA, inner)
    telling = f.neighbor(A_NET6_ONE, 0x60) + f.link_layer_option(2, A.mac)
    yield (
        "neighbor advertisement from the own prefix",
        icmp6(A_NET6_ONE, GATEWAY.v6, f.NA, telling, to=GATEWAY.mac),
    )
    yield "neighbor solicitation from the own prefix", icmp6(A_NET6_ONE, group, f.NS, asking)
    option = b"\0\0\0\0" + f.link_layer_option(1, A.mac)
    yield "router solicitation from the own prefix", icmp6(A_NET6_ONE, ALL_ROUTERS, f.RS, option)
    yield "router solicitation", icmp6(own, ALL_ROUTERS, f.RS, option)
    yield "router solicitation without option", icmp6(own, ALL_ROUTERS, f.RS, b"\0\0\0\0")
    yield "router solicitation without address", icmp6("::", ALL_ROUTERS, f.RS, b"\0\0\0\0")
    report = b"\0\0\0\1" + bytes((4, 0, 0, 0)) + f.mac("ff:02:00:00:00:00") + b"\0" * 7 + b"\1\xff\0\x11"
    yield "mld version 2 report without address", _mld("::", MLD_ROUTERS, 143, report)
    yield "mld version 2 report", _mld(own, MLD_ROUTERS, 143, report)
    yield "mld version 1 report without address", _mld("::", "ff02::1:ff00:11", 131, b"\0" * 20)
    yield "mld version 1 done without address", _mld("::", ALL_ROUTERS, 132, b"\0" * 20)
    yield "mld version 1 done", _mld(own, ALL_ROUTERS, 132, b"\0" * 20)
    datagram = f.udp(own, "ff02::1:2", (546, 547), b"\1\0\0\1")
    yield (
        "dhcpv6 solicit",
        f.ethernet(f.group_mac("ff02::1:2"), A.mac, f.IPV6, f.ipv6(own, "ff02::1:2", f.UDP, datagram)),
    )
    yield from _legal_fragments6()
    behind = f.ipv6(A.v6, B.v6, f.AH, f.authentication(f.UDP) + f.udp(A.v6, B.v6, PORTS, b"ah"))
    yield "udp over IPv6 behind an authentication header", f.ethernet(B.mac, A.mac, f.IPV6, behind)
    nothing = f.ethernet(B.mac, A.mac, f.IPV6, f.ipv6(A.v6, B.v6, f.NO_NEXT, b""))
    yield "an IPv6 packet with no next header", nothing


def _legal_fragments6() -> Iterator[tuple[str, bytes]]:
    whole = f.udp(A.v6, B.v6, PORTS, b"x" * 40)
    first = f.ipv6(A.v6, B.v6, f.FRAGMENT, f.fragment_header(f.UDP, 0, more=True) + whole[:24])
    yield "a first fragment over IPv6", f.ethernet(B.mac, A.mac, f.IPV6, first)
    later = f.ipv6(A.v6, B.v6, f.FRAGMENT, f.fragment_header(f.UDP, 3, more=False) + whole[24:])
    yield "a later fragment over IPv6", f.ethernet(B.mac, A.mac, f.IPV6, later)
    for name, flow in (("546", 0x50222), ("547", 0x223)):
        packet = f.ipv6(
            A.v6, B.v6, f.FRAGMENT, f.fragment_header(f.UDP, 3, more=False) + whole[24:], flow=flow
        )
        yield (
            f"a later fragment over IPv6, its flow label like port {name}",
            f.ethernet(B.mac, A.mac, f.IPV6, packet),
        )
    asked = f.icmpv6(A.link_local, ALL_NODES, 130, b"\x27\x10\0\0" + b"\0" * 16)
    alert = bytes((f.FRAGMENT, 0)) + f.ROUTER_ALERT + f.fragment_header(f.ICMPV6, 1, more=False)
    packet = f.ipv6(A.link_local, ALL_NODES, f.HOP_BY_HOP, alert + asked, hops=1)
    yield (
        "a later fragment over IPv6 whose payload looks like an mld query",
        f.ethernet(f.group_mac(ALL_NODES), A.mac, f.IPV6, packet),
    )


def _mld(source: str, group: str, kind: int, body: bytes) -> bytes:
    message = bytes((f.ICMPV6, 0)) + f.ROUTER_ALERT + f.icmpv6(source, group, kind, body)
    return f.ethernet(f.group_mac(group), A.mac, f.IPV6, f.ipv6(source, group, f.HOP_BY_HOP, message, hops=1))


def _inbound() -> Iterator[tuple[str, bytes]]:
    g, own = GATEWAY, GATEWAY.link_local
    far = f.ipv4(FOREIGN4, A.v4, f.UDP, f.udp(FOREIGN4, A.v4, (53, 5000), b"answer"))
    yield "udp from far away", f.ethernet(A.mac, g.mac, f.IPV4, far)
    yield "arp reply of the gateway", arp(2, (g.mac, g.v4), (A.mac, A.v4), to=A.mac, hardware=g.mac)
    yield "arp request of the gateway", arp(1, (g.mac, g.v4), (ANY_MAC, A.v4), hardware=g.mac)
    offer = f.udp(g.v4, "255.255.255.255", (67, 68), f.bootp(2, A.mac, 2))
    yield "dhcp offer", f.ethernet(BROADCAST, g.mac, f.IPV4, f.ipv4(g.v4, "255.255.255.255", f.UDP, offer))
    advertised = f.router_advertisement(g.mac)
    yield "router advertisement", icmp6(own, ALL_NODES, f.RA, advertised, hardware=g.mac)
    telling = f.neighbor(g.v6, 0xE0) + f.link_layer_option(2, g.mac)
    yield "neighbor advertisement", icmp6(g.v6, A.v6, f.NA, telling, hardware=g.mac, to=A.mac)
    query = b"\x27\x10\0\0" + b"\0" * 16 + b"\2\x7d\0\0"
    yield "mld query", icmp6(own, ALL_NODES, 130, query, hardware=g.mac)
    yield "a frame of an unknown type", f.ethernet(A.mac, g.mac, 0x88B5, b"uplink")


def _hardware() -> Iterator[tuple[str, bytes]]:
    for whose, source in (
        ("a random", STRANGER),
        ("B's", B.mac),
        ("the gateway's", GATEWAY.mac),
        ("dom0's", DOM0.mac),
    ):
        yield f"own IPv4 with {whose} MAC", udp4(A.v4, B if source != B.mac else GATEWAY, hardware=source)
        yield (
            f"own arp with {whose} MAC outside",
            arp(1, (A.mac, A.v4), (ANY_MAC, GATEWAY.v4), hardware=source),
        )
    yield "B's whole identity", udp4(B.v4, GATEWAY, hardware=B.mac)
    yield "the gateway's whole identity to B", udp4(GATEWAY.v4, B, hardware=GATEWAY.mac)
    yield "own IPv6 with a random MAC", udp6(A.v6, B, hardware=STRANGER)
    yield "B's whole identity over IPv6", udp6(B.v6, GATEWAY, hardware=B.mac)


def _v4_sources() -> Iterator[tuple[str, bytes]]:
    sources = {
        "B's address": B.v4,
        "the gateway's address": GATEWAY.v4,
        "dom0's address": DOM0.v4,
        "a free address of the subnet": "192.0.2.99",
        "a far address": FOREIGN4,
        "a loopback address": "127.0.0.1",
        "the address below the own prefix": "198.51.100.15",
        "the address above the own prefix": "198.51.100.32",
        "the unspecified address": "0.0.0.0",
        "the broadcast address": "255.255.255.255",
        "a group address": "224.0.0.1",
    }
    for name, source in sources.items():
        yield f"udp from {name} to B", udp4(source, B)
        yield f"udp from {name} to the gateway", udp4(source, GATEWAY)
    for name in ("B's address", "the gateway's address", "a far address"):
        yield f"udp from {name} to dom0", udp4(sources[name], DOM0)
    whole = f.udp(B.v4, GATEWAY.v4, PORTS, b"x" * 40)
    for name, part in (
        ("first", f.ipv4(B.v4, GATEWAY.v4, f.UDP, whole[:24], more=True)),
        ("later", f.ipv4(B.v4, GATEWAY.v4, f.UDP, whole[24:], fragment=3)),
    ):
        yield f"a {name} fragment from B's address", f.ethernet(GATEWAY.mac, A.mac, f.IPV4, part)
    optional = f.ipv4(
        GATEWAY.v4, B.v4, f.UDP, f.udp(GATEWAY.v4, B.v4, PORTS, b"o"), options=b"\x01\x01\x01\x00"
    )
    yield "udp with IPv4 options from the gateway's address", f.ethernet(B.mac, A.mac, f.IPV4, optional)
    answer = b"\x50\x12".rjust(14, b"\0").ljust(20, b"\0")
    yield (
        "a tcp answer from a far address",
        f.ethernet(B.mac, A.mac, f.IPV4, f.ipv4(FOREIGN4, B.v4, 6, answer)),
    )
    behind = f.ipv4(GATEWAY.v4, B.v4, f.AH, f.authentication(f.UDP) + f.udp(GATEWAY.v4, B.v4, PORTS, b"ah"))
    yield "the gateway's address behind an authentication header", f.ethernet(B.mac, A.mac, f.IPV4, behind)
    yield (
        "udp from B's address to an unknown MAC",
        f.ethernet("00:00:5e:00:53:ff", A.mac, f.IPV4, udp4(B.v4, GATEWAY)[14:]),
    )
    yield "dns-like answer from the gateway's address", udp4(GATEWAY.v4, B, ports=(53, 5000))


def _arp_forgeries() -> Iterator[tuple[str, bytes]]:
    mine, theirs, router = (A.mac, A.v4), (B.mac, B.v4), (GATEWAY.mac, GATEWAY.v4)
    yield "arp reply: the gateway is at A", arp(2, (A.mac, GATEWAY.v4), theirs, to=B.mac)
    yield "arp reply: the gateway is at A, to everybody", arp(2, (A.mac, GATEWAY.v4), theirs)
    yield "arp request from the gateway's address", arp(1, (A.mac, GATEWAY.v4), (ANY_MAC, B.v4))
    yield "gratuitous arp for the gateway", arp(1, (A.mac, GATEWAY.v4), (ANY_MAC, GATEWAY.v4))
    yield "gratuitous arp for B", arp(2, (A.mac, B.v4), (BROADCAST, B.v4))
    yield (
        "arp reply to dom0: the gateway is at A",
        arp(2, (A.mac, GATEWAY.v4), (DOM0.mac, DOM0.v4), to=DOM0.mac),
    )
    yield "arp reply to dom0: B is at A", arp(2, (A.mac, B.v4), (DOM0.mac, DOM0.v4), to=DOM0.mac)
    yield (
        "arp reply to dom0: the gateway is at a stranger's",
        arp(2, (STRANGER, GATEWAY.v4), (DOM0.mac, DOM0.v4), to=DOM0.mac),
    )
    yield "own address at another's MAC inside", arp(1, (STRANGER, A.v4), (ANY_MAC, GATEWAY.v4))
    yield "own address at B's MAC inside", arp(2, (B.mac, A.v4), router, to=GATEWAY.mac)
    yield "arp probe for B's address", arp(1, (A.mac, "0.0.0.0"), (ANY_MAC, B.v4))
    yield "arp probe for the gateway's address", arp(1, (A.mac, "0.0.0.0"), (ANY_MAC, GATEWAY.v4))
    yield (
        "arp probe for the own address with another's MAC inside",
        arp(1, (B.mac, "0.0.0.0"), (ANY_MAC, A.v4)),
    )
    yield "arp reply from the unspecified address", arp(2, (A.mac, "0.0.0.0"), (B.mac, A.v4), to=B.mac)
    for name, packet in {
        "operation 3 (reverse request)": f.arp(3, mine, mine),
        "operation 8 (inverse request)": f.arp(8, mine, router),
        "operation 0": f.arp(0, mine, router),
        "another hardware type": f.arp(1, mine, router, kind=6),
        "another protocol type": f.arp(1, mine, router, protocol=0x86DD),
        "another hardware size": f.arp(1, mine, router, sizes=(8, 4)),
        "another protocol size": f.arp(1, mine, router, sizes=(6, 16)),
        "half of it missing": f.arp(1, mine, router)[:12],
    }.items():
        yield f"arp with {name}", f.ethernet(BROADCAST, A.mac, f.ARP, packet)
    yield "reverse arp", f.ethernet(BROADCAST, A.mac, 0x8035, f.arp(3, mine, mine))


def _dhcp_from_odd_ports() -> Iterator[tuple[str, bytes]]:
    """A client takes an answer from any port, and a server a request."""
    offer, asking = f.bootp(2, B.mac, 2), f.bootp(1, B.mac, 1)

    def between(source: int, target: int, payload: bytes, to: Party | None = None) -> bytes:
        address = "255.255.255.255" if to is None else to.v4
        body = f.ipv4(A.v4, address, f.UDP, f.udp(A.v4, address, (source, target), payload))
        return f.ethernet(BROADCAST if to is None else to.mac, A.mac, f.IPV4, body)

    yield "dhcp offer from another port", between(6767, 68, offer)
    yield "dhcp offer from another port to B alone", between(6767, 68, offer, B)
    yield "dhcp discover from another port for B's hardware address", between(1068, 67, asking)
    yield "dhcp request as of a relay for B's hardware address", between(67, 67, asking, GATEWAY)
    whole = f.udp(A.v4, GATEWAY.v4, (68, 67), asking)
    first = f.ipv4(A.v4, GATEWAY.v4, f.UDP, whole[:32], more=True) + whole[32:36] + f.mac(A.mac) + b"\0" * 20
    yield (
        "a first fragment of a dhcp request, the own hardware address behind its end",
        f.ethernet(GATEWAY.mac, A.mac, f.IPV4, first),
    )
    datagram = f.udp(A.link_local, B.link_local, (1547, 546), b"\2\0\0\1")
    packet = f.ipv6(A.link_local, B.link_local, f.UDP, datagram)
    yield "dhcpv6 advertise from another port", f.ethernet(B.mac, A.mac, f.IPV6, packet)


def _neighbors_in_fragments() -> Iterator[tuple[str, bytes]]:
    """Part of the message in the packet, and what the guard asks for in the padding behind its end."""

    def first(message: bytes, padding: bytes, to: str) -> bytes:
        header = f.fragment_header(f.ICMPV6, 0, more=True)
        packet = f.ipv6(A.v6, to, f.FRAGMENT, header + message) + padding
        return f.ethernet(f.group_mac(to), A.mac, f.IPV6, packet)

    own = f.icmpv6(A.v6, ALL_NODES, f.NA, f.neighbor(A.v6, 0x20))
    gateway = f.neighbor(GATEWAY.v6, 0x20) + f.link_layer_option(2, A.mac)
    advertised = f.icmpv6(A.v6, ALL_NODES, f.NA, gateway)
    yield "advertises the gateway in a first fragment", first(advertised[:16], own[16:24], ALL_NODES)
    asked = f.icmpv6(A.v6, ALL_NODES, f.NS, f.neighbor(B.v6) + f.link_layer_option(1, GATEWAY.mac))
    yield "solicits in a first fragment", first(asked[:24], f.link_layer_option(1, A.mac), ALL_NODES)
    router = f.icmpv6(A.v6, ALL_ROUTERS, f.RS, b"\0" * 4 + f.link_layer_option(1, B.mac))
    yield (
        "solicits routers in a first fragment",
        first(router[:8], f.link_layer_option(1, A.mac), ALL_ROUTERS),
    )
    behind = f.ipv6(A.v6, ALL_NODES, f.DESTINATION, f.extension(f.ICMPV6) + advertised[:16]) + own[16:24]
    yield (
        "advertises the gateway behind destination options, the own address behind its end",
        f.ethernet(f.group_mac(ALL_NODES), A.mac, f.IPV6, behind),
    )


def _groups_in_fragments() -> Iterator[tuple[str, bytes]]:
    """Linux's snooping reads IGMP and PIM without a look at the fragment's offset: what follows is a message to it."""
    query, hello = f.igmp(0x11), f.PIM_HELLO
    of_routers = (
        ("an igmp query", "224.0.0.1", query, f.IGMP),
        ("an igmp query for one group", "233.252.0.5", f.igmp(0x11, "233.252.0.5"), f.IGMP),
        ("an igmp multicast router advertisement", "224.0.0.106", f.igmp(0x30), f.IGMP),
        ("a pim hello", "224.0.0.13", hello, f.PIM),
    )
    for name, group, message, protocol in of_routers:
        frame = igmp4(A.v4, group, message, protocol=protocol, fragment=1)
        yield f"a later fragment that is {name}", frame
    last = igmp4(A.v4, "224.0.0.1", query, fragment=0x1FFF, more=True)
    yield "the last fragment that there can be, an igmp query", last
    yield (
        "a later fragment from the own prefix, an igmp query",
        igmp4("198.51.100.17", "224.0.0.1", query, fragment=1),
    )
    yield "a later fragment from B's address, an igmp query", igmp4(B.v4, "224.0.0.1", query, fragment=1)
    yield "a later fragment from no address, an igmp query", igmp4("0.0.0.0", "224.0.0.1", query, fragment=1)
    frame = igmp4(A.v4, "224.0.0.1", query, fragment=1, hardware=STRANGER)
    yield "a later fragment with a random MAC, an igmp query", frame
    packet = f.ipv4(A.v4, B.v4, f.IGMP, b"\x11\0\0\0" * 6, fragment=3)
    frame = f.ethernet(B.mac, A.mac, f.IPV4, packet)
    yield "a later fragment whose payload looks like an igmp query", frame
    yield "a first fragment that is an igmp query", igmp4(A.v4, "224.0.0.1", query, more=True)
    alert, asked = bytes((f.FRAGMENT, 0)) + f.ROUTER_ALERT, b"\x27\x10\0\0" + b"\0" * 16
    message = f.icmpv6(A.link_local, ALL_NODES, 130, asked)
    for name, more in (("an atomic", False), ("a first", True)):
        header = alert + f.fragment_header(f.ICMPV6, 0, more=more)
        packet = f.ipv6(A.link_local, ALL_NODES, f.HOP_BY_HOP, header + message, hops=1)
        yield f"an mld query in {name} fragment", f.ethernet(f.group_mac(ALL_NODES), A.mac, f.IPV6, packet)


def _igmp_from_nobody() -> Iterator[tuple[str, bytes]]:
    """The neighbours of the reports that a guest may send before it has an address."""
    group = "233.252.0.5"
    report = f.igmp(0x16, group)
    yield "igmp report from no address to B alone", igmp4("0.0.0.0", B.v4, report, to=B.mac)
    yield (
        "igmp report from no address to everybody",
        igmp4("0.0.0.0", "255.255.255.255", report, to=BROADCAST),
    )
    yield "igmp report from no address with a random MAC", igmp4("0.0.0.0", group, report, hardware=STRANGER)
    yield "a later fragment of an igmp report from no address", igmp4("0.0.0.0", group, report, fragment=1)
    asking = igmp4("0.0.0.0", "224.0.0.2", f.igmp(0x31))
    yield "igmp multicast router solicitation from no address", asking
    yield "igmp report from B's address", igmp4(B.v4, group, report)
    ping = f.icmp(8, bytes(4))
    yield "ping from no address to a group", igmp4("0.0.0.0", group, ping, protocol=f.ICMP)


def _roles() -> Iterator[tuple[str, bytes]]:
    yield "dhcp offer from the own address", dhcp4(A.v4, "255.255.255.255", chaddr=B.mac, server=True)
    yield (
        "dhcp offer from the gateway's address",
        dhcp4(GATEWAY.v4, "255.255.255.255", chaddr=B.mac, server=True),
    )
    yield "dhcp offer to B alone", dhcp4(A.v4, B.v4, chaddr=B.mac, server=True, to=B.mac)
    yield "dhcp discover for B's hardware address", dhcp4("0.0.0.0", "255.255.255.255", chaddr=B.mac)
    yield (
        "dhcp request for B's hardware address from the own address",
        dhcp4(A.v4, GATEWAY.v4, chaddr=B.mac, to=GATEWAY.mac),
    )
    yield "dhcp discover from B's address", dhcp4(B.v4, "255.255.255.255")
    yield "dhcp discover from no address to the gateway alone", dhcp4("0.0.0.0", GATEWAY.v4, to=GATEWAY.mac)
    short = f.ipv4(
        "0.0.0.0", "255.255.255.255", f.UDP, f.udp("0.0.0.0", "255.255.255.255", (68, 67), b"short")
    )
    yield "dhcp discover without a hardware address", f.ethernet(BROADCAST, A.mac, f.IPV4, short)
    unbound = f.ipv4(
        "0.0.0.0", "255.255.255.255", f.UDP, f.udp("0.0.0.0", "255.255.255.255", PORTS, b"no dhcp")
    )
    yield "udp broadcast from no address", f.ethernet(BROADCAST, A.mac, f.IPV4, unbound)
    query = f.ipv4(A.v4, "224.0.0.1", f.IGMP, f.igmp(0x11))
    yield "igmp query", f.ethernet(f.group_mac("224.0.0.1"), A.mac, f.IPV4, query)
    found = f.ipv4(A.v4, "224.0.0.106", f.IGMP, f.igmp(0x30))
    yield "igmp multicast router advertisement", f.ethernet(f.group_mac("224.0.0.106"), A.mac, f.IPV4, found)
    for name, protocol, body in (
        ("distance vector probe", f.IGMP, f.igmp(0x13)),
        ("pim hello of version 1", f.IGMP, f.igmp(0x14)),
        ("igmp multicast router termination", f.IGMP, f.igmp(0x32)),
        ("pim hello", f.PIM, f.PIM_HELLO),
        ("icmp router advertisement", f.ICMP, f.icmp(9, b"\1\2\7\x08" + IPv4Address(A.v4).packed + bytes(4))),
        ("icmp redirect", f.ICMP, f.icmp(5, IPv4Address(A.v4).packed + udp4(B.v4, GATEWAY)[14:42])),
    ):
        packet = f.ipv4(A.v4, "224.0.0.13", protocol, body)
        yield name, f.ethernet(f.group_mac("224.0.0.13"), A.mac, f.IPV4, packet)
    for name, headers in (
        ("pim hello over IPv6", b""),
        ("pim hello behind destination options", f.extension(f.PIM)),
    ):
        packet = f.ipv6(A.link_local, "ff02::d", f.DESTINATION if headers else f.PIM, headers + f.PIM_HELLO)
        yield name, f.ethernet(f.group_mac("ff02::d"), A.mac, f.IPV6, packet)
    query = f.ipv4("0.0.0.0", "224.0.0.1", f.IGMP, f.igmp(0x11))
    yield "igmp query from no address", f.ethernet(f.group_mac("224.0.0.1"), A.mac, f.IPV4, query)
    yield "mld query", _mld(A.link_local, ALL_NODES, 130, b"\x27\x10\0\0" + b"\0" * 16 + b"\2\x7d\0\0")
    asked = b"\x27\x10\0\0" + IPv6Address("ff15::5").packed
    yield "mld query for one group", _mld(A.link_local, "ff15::5", 130, asked)
    yield "mld query without router alert", icmp6(A.link_local, ALL_NODES, 130, b"\x27\x10\0\0" + b"\0" * 16)
    yield "multicast router advertisement", icmp6(A.link_local, "ff02::6a", 151)
    yield "multicast router solicitation", icmp6(A.link_local, "ff02::6a", 152)
    yield "multicast router termination", icmp6(A.link_local, "ff02::6a", 153)
    yield "node information query", icmp6(A.v6, B.v6, 139, b"\0" * 12, to=B.mac)
    yield "node information answer", icmp6(A.v6, B.v6, 140, b"\0" * 12, to=B.mac)
    yield (
        "inverse neighbor solicitation",
        icmp6(A.v6, ALL_NODES, 141, b"\0\0\0\0" + f.link_layer_option(1, A.mac)),
    )
    yield "inverse neighbor advertisement", icmp6(A.v6, B.v6, 142, b"\0\0\0\0", to=B.mac)
    yield "home agent advertisement", icmp6(A.v6, B.v6, 147, b"\0\0\0\0", to=B.mac)
    datagram = f.udp(A.link_local, B.link_local, (547, 546), b"\2\0\0\1")
    packet = f.ipv6(A.link_local, B.link_local, f.UDP, datagram)
    yield "dhcpv6 advertise", f.ethernet(B.mac, A.mac, f.IPV6, packet)
    packet = f.ipv6(A.link_local, B.link_local, f.DESTINATION, f.extension(f.UDP) + datagram)
    yield "dhcpv6 advertise behind destination options", f.ethernet(B.mac, A.mac, f.IPV6, packet)


def _v6_sources() -> Iterator[tuple[str, bytes]]:
    for name, source in {
        "B's address": B.v6,
        "the gateway's address": GATEWAY.v6,
        "dom0's address": DOM0.v6,
        "B's link-local address": B.link_local,
        "another link-local address": "fe80::1",
        "a far prefix": FOREIGN6,
        "B's prefix": "2001:db8:b::1",
        "the loopback address": "::1",
        "the unspecified address": "::",
        "a group address": "ff02::1",
        "the own IPv4 address, mapped": f"::ffff:{A.v4}",
    }.items():
        yield f"udp over IPv6 from {name} to B", udp6(source, B)
        yield f"udp over IPv6 from {name} to dom0", udp6(source, DOM0)
    yield "echo from B's address to all nodes", icmp6(B.v6, ALL_NODES, 128, b"\0\1\0\1")
    whole = f.udp(B.v6, GATEWAY.v6, PORTS, b"x" * 40)
    for name, part in (
        ("first", f.fragment_header(f.UDP, 0, more=True) + whole[:24]),
        ("later", f.fragment_header(f.UDP, 3, more=False) + whole[24:]),
    ):
        packet = f.ipv6(B.v6, GATEWAY.v6, f.FRAGMENT, part)
        yield f"a {name} fragment over IPv6 from B's address", f.ethernet(GATEWAY.mac, A.mac, f.IPV6, packet)
    behind = f.authentication(f.UDP) + f.udp(B.v6, GATEWAY.v6, PORTS, b"ah")
    packet = f.ipv6(B.v6, GATEWAY.v6, f.AH, behind)
    yield "B's IPv6 address behind an authentication header", f.ethernet(GATEWAY.mac, A.mac, f.IPV6, packet)


def _neighbor_forgeries() -> Iterator[tuple[str, bytes]]:
    own, router = A.link_local, GATEWAY.v6
    mine = f.link_layer_option(2, A.mac)
    yield "advertises the gateway", icmp6(A.v6, ALL_NODES, f.NA, f.neighbor(router, 0xA0) + mine)
    yield "advertises the gateway to B", icmp6(A.v6, B.v6, f.NA, f.neighbor(router, 0xE0) + mine, to=B.mac)
    yield (
        "advertises the gateway to dom0",
        icmp6(A.v6, DOM0.v6, f.NA, f.neighbor(router, 0x60) + mine, to=DOM0.mac),
    )
    yield (
        "advertises the gateway from the gateway's address",
        icmp6(router, B.v6, f.NA, f.neighbor(router, 0xE0) + mine, to=B.mac),
    )
    yield "advertises B without option", icmp6(A.v6, GATEWAY.v6, f.NA, f.neighbor(B.v6, 0x60), to=GATEWAY.mac)
    yield "advertises B's prefix", icmp6(A.v6, ALL_NODES, f.NA, f.neighbor("2001:db8:b::1", 0x20) + mine)
    wrong = f.link_layer_option(2, STRANGER)
    yield (
        "advertises the own address at a stranger's MAC",
        icmp6(A.v6, ALL_NODES, f.NA, f.neighbor(A.v6, 0x20) + wrong),
    )
    yield (
        "advertises with a second option",
        icmp6(A.v6, ALL_NODES, f.NA, f.neighbor(A.v6, 0x20) + mine + wrong),
    )
    yield (
        "advertises with a foreign option first",
        icmp6(A.v6, ALL_NODES, f.NA, f.neighbor(A.v6, 0x20) + b"\x0e\x01nonce!" + wrong),
    )
    yield (
        "advertises with a source option",
        icmp6(A.v6, ALL_NODES, f.NA, f.neighbor(A.v6, 0x20) + f.link_layer_option(1, A.mac)),
    )
    for name, header in (("hop-by-hop", f.HOP_BY_HOP), ("destination", f.DESTINATION)):
        forged = icmp6(A.v6, B.v6, f.NA, f.neighbor(router, 0xE0) + mine, to=B.mac, headers=(header,))
        yield f"advertises the gateway behind {name} options", forged
    asking = f.neighbor(router)
    group = f.solicited_node(router)
    yield (
        "solicits from the gateway's address",
        icmp6(router, f.solicited_node(B.v6), f.NS, f.neighbor(B.v6) + f.link_layer_option(1, A.mac)),
    )
    yield "solicits with B's MAC", icmp6(A.v6, group, f.NS, asking + f.link_layer_option(1, B.mac))
    yield (
        "solicits with two options",
        icmp6(A.v6, group, f.NS, asking + f.link_layer_option(1, A.mac) + f.link_layer_option(1, B.mac)),
    )
    yield "solicits with a target option", icmp6(A.v6, group, f.NS, asking + f.link_layer_option(2, A.mac))
    yield "detects a duplicate of the gateway", icmp6("::", group, f.NS, asking)
    yield (
        "detects a duplicate of B, with nonce",
        icmp6("::", f.solicited_node(B.v6), f.NS, f.neighbor(B.v6) + b"\x0e\x01nonce!"),
    )
    yield (
        "detects a duplicate of the own address, asking B alone",
        icmp6("::", B.v6, f.NS, f.neighbor(A.v6), to=B.mac),
    )
    yield (
        "detects a duplicate with a MAC",
        icmp6("::", f.solicited_node(A.v6), f.NS, f.neighbor(A.v6) + f.link_layer_option(1, A.mac)),
    )
    yield "router solicitation from B's address", icmp6(B.link_local, ALL_ROUTERS, f.RS, b"\0" * 4)
    yield (
        "router solicitation with B's MAC",
        icmp6(own, ALL_ROUTERS, f.RS, b"\0" * 4 + f.link_layer_option(1, B.mac)),
    )
    yield (
        "router solicitation without address, with a MAC",
        icmp6("::", ALL_ROUTERS, f.RS, b"\0" * 4 + f.link_layer_option(1, A.mac)),
    )
    theirs = f.link_layer_option(1, B.mac)
    yield (
        "advertises the gateway from the own prefix",
        icmp6(A_NET6_ONE, ALL_NODES, f.NA, f.neighbor(router, 0x20) + mine),
    )
    yield (
        "advertises an address in the own prefix at a stranger's MAC",
        icmp6(own, ALL_NODES, f.NA, f.neighbor(A_NET6_ONE, 0x20) + wrong),
    )
    yield "solicits with B's MAC from the own prefix", icmp6(A_NET6_ONE, group, f.NS, asking + theirs)
    yield (
        "router solicitation with B's MAC from the own prefix",
        icmp6(A_NET6_ONE, ALL_ROUTERS, f.RS, b"\0" * 4 + theirs),
    )
    yield (
        "detects a duplicate in the own prefix with a MAC",
        icmp6(
            "::", f.solicited_node(A_NET6_ONE), f.NS, f.neighbor(A_NET6_ONE) + f.link_layer_option(1, A.mac)
        ),
    )
    redirect = b"\0" * 4 + f.neighbor(A.v6)[4:] + f.neighbor(router)[4:]
    yield "redirect", icmp6(own, B.v6, 137, redirect, to=B.mac)


def _router_advertisements() -> Iterator[tuple[str, bytes]]:
    own = A.link_local
    body = f.router_advertisement(A.mac)
    message = f.icmpv6(own, ALL_NODES, f.RA, body)

    def packet(following: int, payload: bytes) -> bytes:
        return f.ethernet(f.group_mac(ALL_NODES), A.mac, f.IPV6, f.ipv6(own, ALL_NODES, following, payload))

    yield "plain", packet(f.ICMPV6, message)
    yield "from the gateway's address", icmp6(GATEWAY.link_local, ALL_NODES, f.RA, body)
    yield "to B alone", icmp6(own, B.v6, f.RA, body, to=B.mac)
    for name, header in (
        ("hop-by-hop options", f.HOP_BY_HOP),
        ("destination options", f.DESTINATION),
        ("routing", f.ROUTING),
    ):
        yield f"behind {name}", packet(header, f.extension(f.ICMPV6) + message)
    twice = f.extension(f.DESTINATION) + f.extension(f.ICMPV6) + message
    yield "behind two extension headers", packet(f.HOP_BY_HOP, twice)
    yield "behind an authentication header", packet(f.AH, f.authentication(f.ICMPV6) + message)
    hiding = {
        "hop-by-hop options": (f.HOP_BY_HOP, f.extension(f.ICMPV6)),
        "destination options": (f.DESTINATION, f.extension(f.ICMPV6)),
        "routing": (f.ROUTING, f.extension(f.ICMPV6)),
        "a fragment header": (f.FRAGMENT, f.fragment_header(f.ICMPV6, 0, more=False)),
        "an authentication header": (f.AH, f.authentication(f.ICMPV6)),
    }
    for name, (header, extension) in hiding.items():
        hidden = extension + message
        yield f"behind an authentication header and {name}", packet(f.AH, f.authentication(header) + hidden)
        atomic, first, second = (
            f.fragment_header(header, offset, more=more)
            for offset, more in ((0, False), (0, True), (1, False))
        )
        yield f"in an atomic fragment behind {name}", packet(f.FRAGMENT, atomic + hidden)
        yield f"in the first fragment behind {name}", packet(f.FRAGMENT, first + hidden[:8])
        yield f"in the second fragment behind {name}", packet(f.FRAGMENT, second + hidden[8:])
    yield "in an atomic fragment", packet(f.FRAGMENT, f.fragment_header(f.ICMPV6, 0, more=False) + message)
    first = f.fragment_header(f.ICMPV6, 0, more=True) + message[:16]
    yield "in the first fragment", packet(f.FRAGMENT, first)
    hidden = f.extension(f.ICMPV6) + message
    mixed = f.extension(f.FRAGMENT) + f.fragment_header(f.DESTINATION, 0, more=False) + hidden
    yield "in a fragment behind hop-by-hop options", packet(f.HOP_BY_HOP, mixed)


def _types() -> Iterator[tuple[str, bytes]]:
    spoofed, legal = udp4(GATEWAY.v4, B), udp4(A.v4, B)
    asking = arp(2, (A.mac, GATEWAY.v4), (B.mac, B.v4), to=B.mac)
    advertising = icmp6(A.link_local, ALL_NODES, f.RA, f.router_advertisement(A.mac))
    for vid in (0, 1, 100, 4095):
        yield f"the gateway's address in VLAN {vid}", f.tagged(spoofed, vid)
        yield f"the own address in VLAN {vid}", f.tagged(legal, vid)
        yield f"forged arp in VLAN {vid}", f.tagged(asking, vid)
        yield f"router advertisement in VLAN {vid}", f.tagged(advertising, vid)
    yield "the gateway's address to dom0 in VLAN 0", f.tagged(udp4(GATEWAY.v4, DOM0), 0)
    yield "the gateway's address to dom0 in two VLAN 0", f.tagged(f.tagged(udp4(GATEWAY.v4, DOM0), 0), 0)
    yield "the own address to dom0 in VLAN 0", f.tagged(udp4(A.v4, DOM0, payload=b"tagged"), 0)
    yield "the gateway's address in two VLAN 0", f.tagged(f.tagged(spoofed, 0), 0)
    yield "the gateway's address in 802.1ad", f.tagged(f.tagged(spoofed, 100), 100, 0x88A8)
    yield "the gateway's address in 802.1ad alone", f.tagged(spoofed, 100, 0x88A8)
    yield "the gateway's address in old QinQ", f.tagged(f.tagged(spoofed, 100), 100, 0x9100)
    yield "the gateway's address in LLC/SNAP", f.snap(spoofed)
    yield "forged arp in LLC/SNAP", f.snap(asking)
    yield "the own address in LLC/SNAP in VLAN 0", f.tagged(f.snap(legal), 0)
    yield "novell's raw 802.3", f.ethernet(BROADCAST, A.mac, 4, b"\xff\xff\0\0")
    named = {
        "MPLS": (0x8847, b"\0\0\x11\x40" + spoofed[14:]),
        "MPLS multicast": (0x8848, b"\0\0\x11\x40" + spoofed[14:]),
        "PPPoE session": (0x8864, b"\x11\0\0\1\0\x2a\0\x21" + spoofed[14:]),
        "PPPoE discovery": (0x8863, b"\x11\x09\0\0\0\x04\x01\x01\0\0"),
        "MACsec": (0x88E5, b"\0" * 32),
        "802.1ah": (0x88E7, b"\0\0\0\x01" + spoofed),
        "NSH": (0x894F, b"\0" * 16),
        "IPX": (0x8137, b"\xff\xff" + b"\0" * 28),
        "LLDP to everybody": (0x88CC, b"\x02\x07\x04" + f.mac(A.mac) + b"\0\0"),
        "EAPOL to everybody": (0x888E, b"\1\1\0\0"),
        "qemu's mistyped announcement": (0x0835, b"\0" * 28),
        "loopback test": (0x9000, b"\0" * 46),
        "an experimental type": (0x88B5, b"experiment"),
        "type 0xffff": (0xFFFF, b"\0" * 46),
        "type 0x0801": (0x0801, spoofed[14:]),
    }
    for name, (kind, payload) in named.items():
        yield name, f.ethernet(BROADCAST, A.mac, kind, payload)
    bpdu = b"\x42\x42\x03" + b"\0\0\0\0\0" + b"\0" * 30
    yield "spanning tree", f.ethernet("01:80:c2:00:00:00", A.mac, len(bpdu), bpdu)
    cisco = b"\xaa\xaa\x03\0\0\x0c\x01\x0b" + b"\0" * 42
    yield "cisco's spanning tree", f.ethernet("01:00:0c:cc:cc:cd", A.mac, len(cisco), cisco)
    discovery = b"\xaa\xaa\x03\0\0\x0c\x20\0" + b"\2\xb4\0\0"
    yield "cisco discovery", f.ethernet("01:00:0c:cc:cc:cc", A.mac, len(discovery), discovery)
    yield (
        "IPv4 type with IPv6 inside from B",
        f.ethernet(GATEWAY.mac, A.mac, f.IPV4, udp6(B.v6, GATEWAY)[14:]),
    )
    yield (
        "IPv6 type with IPv4 inside from B",
        f.ethernet(GATEWAY.mac, A.mac, f.IPV6, udp4(B.v4, GATEWAY)[14:]),
    )
    yield "an IPv4 header cut short", f.ethernet(BROADCAST, A.mac, f.IPV4, udp4(A.v4, B)[14:26])
    yield "an IPv6 header cut short", f.ethernet(BROADCAST, A.mac, f.IPV6, udp6(A.v6, B)[14:36])
    yield "nothing behind the type", f.ethernet(BROADCAST, A.mac, f.IPV4, b"")


def _reserved_groups() -> Iterator[tuple[str, bytes]]:
    """IEEE 802.1D reserves these MACs: the bridge hands such frames to dom0's own stack, past prerouting."""
    for last in (0x00, 0x02, 0x03, 0x04, 0x0D, 0x0E, 0x0F):
        group = f"01:80:c2:00:00:{last:02x}"
        for name, frame in {
            "the gateway's address": udp4(GATEWAY.v4, DOM0, payload=group.encode()),
            "the gateway's whole identity": udp4(
                GATEWAY.v4, DOM0, hardware=GATEWAY.mac, payload=b"all " + group.encode()
            ),
            "B's address over IPv6": udp6(B.v6, DOM0, payload=b"six " + group.encode()),
        }.items():
            yield f"{name} to dom0 by {group}", f.mac(group) + frame[6:]


def _rows(
    rows: Iterator[tuple[str, bytes]], verdict: Literal["pass", "drop"], prefix: str = "", sender: Party = A
) -> Iterator[Case]:
    for name, frame in rows:
        destination = frame[:6].hex(":")
        to = reached(destination) - {sender.port}
        if verdict == "pass" and destination not in {party.mac for party in (A, B, GATEWAY, DOM0)}:
            to |= frozenset({A.port}) if sender is not A else frozenset()
        yield Case(f"{prefix}{name}", frame, verdict, to, sender)


# By what they are about, for whoever tells them apart.
LEGAL_BY_KIND = {
    "ARP": tuple(_rows(_legal_arp(), "pass")),
    "IPv4": tuple(_rows(_legal_v4(), "pass")),
    "IPv6": tuple(_rows(_legal_v6(), "pass")),
    "inbound": tuple(_rows(_inbound(), "pass", "inbound: ", GATEWAY)),
}
FORGED_BY_KIND = {
    "source MAC": tuple(_rows(_hardware(), "drop")),
    "IPv4 source": tuple(_rows(_v4_sources(), "drop")),
    "ARP": tuple(_rows(_arp_forgeries(), "drop")),
    "roles": tuple(_rows(_roles(), "drop")),
    "groups in fragments": tuple(_rows(_groups_in_fragments(), "drop")),
    "IGMP from nobody": tuple(_rows(_igmp_from_nobody(), "drop")),
    "DHCP from odd ports": tuple(_rows(_dhcp_from_odd_ports(), "drop")),
    "IPv6 source": tuple(_rows(_v6_sources(), "drop")),
    "neighbour discovery": tuple(_rows(_neighbor_forgeries(), "drop", "neighbor: ")),
    "neighbour discovery in fragments": tuple(_rows(_neighbors_in_fragments(), "drop", "neighbor: ")),
    "router advertisement": tuple(_rows(_router_advertisements(), "drop", "router advertisement: ")),
    "types": tuple(_rows(_types(), "drop")),
}
LEGAL = tuple(case for cases in LEGAL_BY_KIND.values() for case in cases)
FORGED = tuple(case for cases in FORGED_BY_KIND.values() for case in cases)
RESERVED = tuple(_rows(_reserved_groups(), "drop"))
# No hook of the bridge family sees these: they take the port lock (or a bridge that learns nothing from them).
LLDP_GROUP = tuple(case for case in RESERVED if case.frame[5] == 0x0E)
CASES = (*LEGAL, *FORGED, *(case for case in RESERVED if case not in LLDP_GROUP))
