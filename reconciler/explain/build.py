"""Frames as bytes from their fields, lengths and checksums right. Pure.

Source: RFC 826 (ARP), 791 (IPv4), 8200 (IPv6), 4302 (AH), 768 (UDP), 9293 (TCP), 792, 4443 and 4861 (ICMP), 2236 (IGMP), 2131 (DHCP).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from reconciler.explain.headers import FRAGMENT, IPV4, IPV6

IpAddress = IPv4Address | IPv6Address
TCP, UDP, ICMP, IGMP, ICMPV6, ARP_IPV4 = 6, 17, 1, 2, 58, 0x0800
# The identification that all parts of one packet have: any will do.
_IDENT = 0x4444


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a packet a fragment is: its offset in units of eight bytes, and whether more follow."""

    offset: int
    more: bool


def mac_bytes(text: str) -> bytes:
    """The six bytes of a MAC."""
    return bytes.fromhex(text.replace(":", ""))


def checksum(data: bytes) -> int:
    """The sum of RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(
    destination: str, source: str, kind: int, payload: bytes, *, tags: tuple[tuple[int, int], ...] = ()
) -> bytes:
    """A frame; `tags` are (type, VLAN), the outer one first."""
    tagged = b"".join(struct.pack("!HH", *tag) for tag in tags)
    return mac_bytes(destination) + mac_bytes(source) + tagged + struct.pack("!H", kind) + payload


def arp(operation: int, sender: tuple[str, IPv4Address], target: tuple[str, IPv4Address]) -> bytes:
    """An ARP packet; both ends as (MAC, address)."""
    ends = b"".join(mac_bytes(hardware) + address.packed for hardware, address in (sender, target))
    return struct.pack("!HHBBH", 1, ARP_IPV4, 6, 4, operation) + ends


def ipv4(
    source: IPv4Address, destination: IPv4Address, protocol: int, payload: bytes, part: Part | None
) -> bytes:
    """An IPv4 packet, or a part of one."""
    where = 0 if part is None else part.offset | (0x2000 if part.more else 0)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), _IDENT, where, 64, protocol, 0)
    head += source.packed + destination.packed
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ipv6(source: IPv6Address, destination: IPv6Address, following: int, payload: bytes) -> bytes:
    """An IPv6 packet; `following` is what the payload begins with."""
    return (
        struct.pack("!IHBB", 6 << 28, len(payload), following, 255)
        + source.packed
        + destination.packed
        + payload
    )


def extension(kind: int, following: int) -> bytes:
    """An extension header that says nothing but what follows, of the least length that its kind has."""
    match kind:
        case 44:  # FRAGMENT
            return fragment(following, Part(0, more=False))
        case 51:  # AH
            return struct.pack("!BBHII", following, 4, 0, 0x100, 1) + bytes(12)
        case _:
            return bytes((following, 0, 1, 4)) + bytes(4)  # padding of four bytes and its own two


def fragment(following: int, part: Part) -> bytes:
    """IPv6's fragment header."""
    return struct.pack("!BBHI", following, 0, part.offset << 3 | part.more, _IDENT)


def transport(protocol: int, message: bytes, source: IpAddress, destination: IpAddress) -> bytes:
    """A message with its checksum, whose place its protocol decides; none where it has none."""
    if protocol not in _CHECKSUMS:
        return message
    at, pseudo = _CHECKSUMS[protocol]
    covered = message
    if pseudo or isinstance(source, IPv6Address):
        long = isinstance(source, IPv6Address)
        end = struct.pack(
            "!II" if long else "!HH", *((len(message), protocol) if long else (protocol, len(message)))
        )
        covered = source.packed + destination.packed + end + message
    found = checksum(covered) or 0xFFFF
    return message[:at] + struct.pack("!H", found) + message[at + 2 :]


_CHECKSUMS = {UDP: (6, True), TCP: (16, True), ICMP: (2, False), IGMP: (2, False), ICMPV6: (2, True)}


def udp(ports: tuple[int, int], payload: bytes) -> bytes:
    """A datagram without its checksum."""
    return struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload


def tcp(ports: tuple[int, int]) -> bytes:
    """A segment that opens a connection, without its checksum."""
    return struct.pack("!HHIIBBHHH", *ports, 1, 0, 5 << 4, 2, 8192, 0, 0)


def icmp(kind: int, code: int, body: bytes = bytes(4)) -> bytes:
    """A message of ICMP, ICMPv6 or, with one of its types, IGMP, without its checksum."""
    return struct.pack("!BBH", kind, code, 0) + body


def dhcp(hardware: str, *, server: bool) -> bytes:
    """A message of a client (discover), or of a server to one (offer)."""
    head = struct.pack("!BBBBIHH16x", 2 if server else 1, 1, 6, 0, 1, 0, 0)
    return (
        head
        + mac_bytes(hardware)
        + bytes(202)
        + bytes.fromhex("63825363")
        + bytes((53, 1, 2 if server else 1, 255))
    )


def packet(  # what an IP packet is made of
    source: IpAddress,
    destination: IpAddress,
    protocol: int,
    message: bytes,
    *,
    headers: tuple[int, ...],
    part: Part | None,
) -> tuple[int, bytes]:
    """(type of the frame, packet): the message behind any extension headers, or a part of it.

    A part that begins at 0 has the first 24 bytes, a later one what comes then: enough for every header of a protocol.

    Raises:
        ValueError: the addresses are not of one family.
    """
    following, whole = _behind(protocol, headers, transport(protocol, message, source, destination))
    match source, destination:
        case IPv4Address(), IPv4Address():
            return IPV4, ipv4(source, destination, following, _cut(whole, part), part)
        case IPv6Address(), IPv6Address():
            if part is not None:
                following, whole = FRAGMENT, fragment(following, part) + _cut(whole, part)
            return IPV6, ipv6(source, destination, following, whole)
        case _:
            raise ValueError(f"{source} and {destination} are not of one family")


def _behind(protocol: int, headers: tuple[int, ...], body: bytes) -> tuple[int, bytes]:
    following = protocol
    for kind in reversed(headers):
        body, following = extension(kind, following) + body, kind
    return following, body


def _cut(body: bytes, part: Part | None) -> bytes:
    first = 24
    if part is None or (part.offset == 0 and not part.more):
        return body
    return body[:first] if part.offset == 0 else body[first:].ljust(8, b"\0")
