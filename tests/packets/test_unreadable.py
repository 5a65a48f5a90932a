"""IP headers behind which the kernel reads neither protocol nor ports, and a less strict program does."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

import pytest

from reconciler.guard import nftables
from state.nft import Features
from tests.packets import frames as f
from tests.packets.cases import BROADCAST, dhcp4
from tests.packets.lab import Lab
from tests.packets.oracle import Oracle
from tests.packets.parties import A_BINDING, GATEWAY, GUARD, A, B

pytestmark = pytest.mark.netns
EVERYBODY = "255.255.255.255"
FROM_PREFIX = "198.51.100.17"
REDIRECT = f.ethernet(B.mac, A.mac, f.IPV4, f.ipv4(A.v4, B.v4, f.ICMP, b"\5\1\0\0" + bytes(32)))
HEADERS = {
    "version 5": (0x55, None),
    "version 0": (0x05, None),
    "version 6": (0x65, None),
    "four words": (0x44, None),
    "more words than bytes": (0x4F, 300),
    "longer than the frame": (0x45, 60_000),
    "of no length": (0x45, 0),
    "shorter than its header": (0x45, 19),
}
MESSAGES = {
    "dhcp offer": dhcp4(A.v4, EVERYBODY, chaddr=B.mac, server=True),
    "dhcp offer from a prefix": dhcp4(FROM_PREFIX, EVERYBODY, chaddr=B.mac, server=True),
    "dhcp request for B's hardware address": dhcp4(A.v4, GATEWAY.v4, chaddr=B.mac, to=GATEWAY.mac),
    "redirect": REDIRECT,
}

MESSAGES6 = {
    "router advertisement": (f.ICMPV6, bytes((f.RA, 0, 0, 0, 64, 0, 7, 8)) + bytes(8)),
    "neighbor advertisement for B": (
        f.ICMPV6,
        bytes((f.NA, 0, 0, 0, 0x20, 0, 0, 0)) + IPv6Address(B.v6).packed,
    ),
    "dhcpv6 advertise": (f.UDP, f.udp(A.v6, B.v6, (547, 546), bytes(20))),
}


def behind(header: str, frame: bytes) -> bytes:
    """The frame with another first byte and length in its IPv4 header, and a checksum that is right for all that."""
    first, total = HEADERS[header]
    packet = bytearray(frame[14:])
    if first == 0x4F:
        packet = packet[:50]  # a message of which less is there than the header says that it has itself
    packet[0] = first
    packet[2:4] = packet[2:4] if total is None else struct.pack("!H", total)
    packet[10:12] = bytes(2)
    packet[10:12] = struct.pack("!H", f.checksum(bytes(packet[:20])))
    return frame[:14] + bytes(packet)


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("header", HEADERS)
def test_what_the_kernel_cannot_read_is_let_to_nobody(
    bridged_lab: Lab, features: Features, header: str, message: str
) -> None:
    bridged_lab.load(nftables.full(GUARD, features))

    assert bridged_lab.send(behind(header, MESSAGES[message])).nothing


@pytest.mark.parametrize("message", MESSAGES6)
@pytest.mark.parametrize(("first", "length"), [(0x50, None), (0x40, None), (0x60, 6_000)])
def test_what_the_kernel_cannot_read_of_ipv6_is_let_to_nobody(
    bridged_lab: Lab, features: Features, message: str, first: int, length: int | None
) -> None:
    bridged_lab.load(nftables.full(GUARD, features))
    protocol, body = MESSAGES6[message]
    head = struct.pack("!BxxxHBB", first, len(body) if length is None else length, protocol, 255)
    packet = head + IPv6Address(A.v6).packed + IPv6Address(B.v6).packed + body

    assert bridged_lab.send(f.ethernet(B.mac, A.mac, f.IPV6, packet)).nothing


@pytest.mark.parametrize("header", HEADERS)
def test_without_the_guard_the_bridge_hands_it_on(lab: Lab, header: str) -> None:
    assert not lab.send(behind(header, MESSAGES["dhcp offer"])).nothing


@pytest.mark.parametrize("header", HEADERS)
def test_the_other_opinion_is_the_same(header: str) -> None:
    assert Oracle(A_BINDING).judge(behind(header, MESSAGES["dhcp offer"])).verdict == "drop"


@pytest.mark.parametrize("protocol", [0, 1, 2, 6, 17, 41, 47, 50, 51, 58, 89, 112, 132, 136, 253, 254, 255])
@pytest.mark.parametrize("source", [A.v4, FROM_PREFIX])
def test_every_protocol_is_still_one(lab: Lab, features: Features, source: str, protocol: int) -> None:
    lab.load(nftables.full(GUARD, features))

    # As the first bytes of a message of ICMP and IGMP: an echo, and a report.
    body = b"\x16\0\0\0" if protocol == f.IGMP else b"\x08\0\0\0"
    packet = f.ipv4(source, B.v4, protocol, body + b"some bytes of whatever it is")
    assert lab.send(f.ethernet(B.mac, A.mac, f.IPV4, packet)).where
    assert lab.send(f.ethernet(BROADCAST, A.mac, f.IPV4, packet)).where
