"""Frames as bytes, written from the RFCs: every field can be forged, lengths and checksums are right unless asked otherwise."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
ICMP, IGMP, TCP, UDP, ICMPV6, AH, PIM = 1, 2, 6, 17, 58, 51, 103
PIM_HELLO = b"\x20\0\xde\xfe\0\1\0\2\0\x69"  # RFC 7761, 4.9.2, with its hold time
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION, NO_NEXT = 0, 43, 44, 60, 59
ROUTER_ALERT = bytes((5, 2, 0, 0, 1, 0))  # RFC 2711 with two bytes of padding: MLD is sent behind it
RA, NS, NA, RS = 134, 135, 136, 133


def mac(text: str) -> bytes:
    """The six bytes of a MAC."""
    return bytes.fromhex(text.replace(":", ""))


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(destination: str, source: str, kind: int, payload: bytes) -> bytes:
    """An Ethernet frame."""
    return mac(destination) + mac(source) + struct.pack("!H", kind) + payload


def tagged(frame: bytes, vid: int, tpid: int = 0x8100) -> bytes:
    """The frame with one more VLAN tag in front of its type."""
    return frame[:12] + struct.pack("!HH", tpid, vid) + frame[12:]


def snap(frame: bytes) -> bytes:
    """The frame as 802.3 with LLC/SNAP, its type inside (RFC 1042)."""
    body = b"\xaa\xaa\x03\0\0\0" + frame[12:]
    return frame[:12] + struct.pack("!H", len(body)) + body


def arp(  # an ARP packet has these fields
    operation: int,
    sender: tuple[str, str],
    target: tuple[str, str],
    *,
    kind: int = 1,
    protocol: int = IPV4,
    sizes: tuple[int, int] = (6, 4),
) -> bytes:
    """An ARP packet; sender and target as (MAC, IPv4)."""
    head = struct.pack("!HHBBH", kind, protocol, *sizes, operation)
    return head + b"".join(
        mac(hardware) + IPv4Address(address).packed for hardware, address in (sender, target)
    )


def ipv4(  # noqa: PLR0913  # an IPv4 header has more
    source: str,
    destination: str,
    protocol: int,
    payload: bytes,
    *,
    fragment: int = 0,
    more: bool = False,
    options: bytes = b"",
    ident: int = 1,
) -> bytes:
    """An IPv4 packet; `fragment` is its offset in units of eight bytes."""
    words = 5 + len(options) // 4
    head = struct.pack(
        "!BBHHHBBH4s4s",
        0x40 | words,
        0,
        words * 4 + len(payload),
        ident,
        (0x2000 if more else 0) | fragment,
        64,
        protocol,
        0,
        IPv4Address(source).packed,
        IPv4Address(destination).packed,
    )
    head += options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ipv6(
    source: str, destination: str, following: int, payload: bytes, *, hops: int = 255, flow: int = 0
) -> bytes:
    """An IPv6 packet; `following` is the protocol or extension header that the payload starts with."""
    head = struct.pack("!IHBB", 6 << 28 | flow, len(payload), following, hops)
    return head + IPv6Address(source).packed + IPv6Address(destination).packed + payload


def extension(following: int, body: bytes = b"\x01\x04\0\0\0\0") -> bytes:
    """A hop-by-hop, routing or destination options header in front of `following`."""
    return bytes((following, (len(body) + 2) // 8 - 1)) + body


def fragment_header(following: int, offset: int, *, more: bool) -> bytes:
    """An IPv6 fragment header; the offset counts units of eight bytes."""
    return struct.pack("!BBHI", following, 0, offset << 3 | more, 0x1234)


def authentication(following: int) -> bytes:
    """An authentication header with a 12-byte check value that no key made."""
    return struct.pack("!BBHII", following, 4, 0, 0x100, 1) + b"\0" * 12


def _upper_layer(source: str, destination: str, protocol: int, body: bytes) -> bytes:
    """The pseudo header of RFC 8200 (IPv6) or RFC 768 (IPv4) and the body: what the checksum covers."""
    if ":" in source:
        ends = IPv6Address(source).packed + IPv6Address(destination).packed
        return ends + struct.pack("!II", len(body), protocol) + body
    ends = IPv4Address(source).packed + IPv4Address(destination).packed
    return ends + struct.pack("!BBH", 0, protocol, len(body)) + body


def udp(source: str, destination: str, ports: tuple[int, int], payload: bytes) -> bytes:
    """A UDP datagram between two addresses, of which only the checksum knows."""
    body = struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload
    total = checksum(_upper_layer(source, destination, UDP, body)) or 0xFFFF
    return body[:6] + struct.pack("!H", total) + body[8:]


def tcp(source: str, destination: str, ports: tuple[int, int], flags: int, payload: bytes) -> bytes:
    """A TCP segment between two addresses."""
    body = struct.pack("!HHIIBBHHH", *ports, 1, 1 if flags & 0x10 else 0, 5 << 4, flags, 8192, 0, 0) + payload
    total = checksum(_upper_layer(source, destination, TCP, body))
    return body[:16] + struct.pack("!H", total) + body[18:]


def icmp(kind: int, body: bytes) -> bytes:
    """An ICMP message of code 0."""
    message = struct.pack("!BBH", kind, 0, 0) + body
    return message[:2] + struct.pack("!H", checksum(message)) + message[4:]


def icmpv6(source: str, destination: str, kind: int, body: bytes) -> bytes:
    """An ICMPv6 message of code 0."""
    message = struct.pack("!BBH", kind, 0, 0) + body
    return (
        message[:2]
        + struct.pack("!H", checksum(_upper_layer(source, destination, ICMPV6, message)))
        + message[4:]
    )


def igmp(kind: int, group: str = "0.0.0.0") -> bytes:
    """An IGMP message of eight bytes (v1 and v2), or for kind 0x22 a v3 report that joins one group."""
    if kind == 0x22:  # RFC 3376's report
        body = struct.pack("!BBHHH", kind, 0, 0, 0, 1) + struct.pack(
            "!BBH4s", 4, 0, 0, IPv4Address(group).packed
        )
    else:
        body = struct.pack("!BBH4s", kind, 100, 0, IPv4Address(group).packed)
    return body[:2] + struct.pack("!H", checksum(body)) + body[4:]


def link_layer_option(kind: int, hardware: str) -> bytes:
    """A neighbour discovery option 1 (source) or 2 (target link-layer address)."""
    return bytes((kind, 1)) + mac(hardware)


def neighbor(target: str, flags: int = 0) -> bytes:
    """The body of a neighbour solicitation or advertisement before its options."""
    return struct.pack("!I", flags << 24) + IPv6Address(target).packed


def router_advertisement(hardware: str) -> bytes:
    """The body of a router advertisement with a lifetime, a prefix and its sender's MAC."""
    prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + IPv6Address("2001:db8:bad::").packed
    return struct.pack("!BBHII", 64, 0, 1800, 0, 0) + prefix + link_layer_option(1, hardware)


def bootp(operation: int, hardware: str, message: int) -> bytes:
    """A DHCPv4 payload; operation 1 from clients, 2 from servers."""
    head = struct.pack("!BBBBIHH16x", operation, 1, 6, 0, 0x1234, 0, 0)
    return (
        head + mac(hardware) + b"\0" * 10 + b"\0" * 192 + b"\x63\x82\x53\x63" + bytes((53, 1, message, 255))
    )


def solicited_node(address: str) -> str:
    """The group that neighbour solicitations for the address go to (RFC 4291)."""
    return str(IPv6Address(int(IPv6Address("ff02::1:ff00:0")) | int(IPv6Address(address)) & 0xFFFFFF))


def group_mac(group: str) -> str:
    """The MAC of an IPv4 or IPv6 group."""
    if ":" in group:
        return "33:33:" + IPv6Address(group).packed[12:].hex(":")
    return "01:00:5e:" + (int(IPv4Address(group)) & 0x7FFFFF).to_bytes(3, "big").hex(":")
