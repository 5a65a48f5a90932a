"""Ethernet frames that ask who has an address, and what their answers look like. Pure.

Asked without an address of our own, a request is a probe (RFC 5227), a solicitation one of duplicate address detection
(RFC 4862): whoever has the address defends it, and nobody learns anything of us.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

ARP, IPV6 = 0x0806, 0x86DD
_BROADCAST = b"\xff" * 6
_ETHERNET, _IPV4, _REQUEST, _REPLY = 1, 0x0800, 1, 2
_SOLICITATION, _ADVERTISEMENT, _ICMPV6, _HOP_LIMIT = 135, 136, 58, 255
_UNSPECIFIED = IPv6Address(0)
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_IP6 = struct.Struct("!IHBB16s16s")
_HEADER, _IP6_END = 14, 54


def request(mac: bytes, own: IPv4Address | None, target: IPv4Address) -> bytes:
    """An ARP request for `target` from the interface with this MAC."""
    sender = (own or IPv4Address(0)).packed
    packet = _ARP.pack(_ETHERNET, _IPV4, 6, 4, _REQUEST, mac, sender, bytes(6), target.packed)
    return _framed(_BROADCAST, mac, ARP, packet)


def answer_of_arp(untrusted_frame: bytes) -> IPv4Address | None:
    """The address that an ARP reply is about; None for every other frame."""
    if len(untrusted_frame) < _HEADER + _ARP.size or untrusted_frame[12:14] != struct.pack("!H", ARP):
        return None
    kind, protocol, _, _, operation, _, sender, _, _ = _ARP.unpack_from(untrusted_frame, _HEADER)
    return IPv4Address(sender) if (kind, protocol, operation) == (_ETHERNET, _IPV4, _REPLY) else None


def solicitation(mac: bytes, own: IPv6Address | None, target: IPv6Address) -> bytes:
    """A neighbour solicitation for `target` from the interface with this MAC."""
    group = IPv6Address(int(IPv6Address("ff02::1:ff00:0")) | int(target) & 0xFFFFFF)
    # A source of its own needs the option that says where the answer is to go; without one it must not be there.
    option = b"" if own is None else b"\x01\x01" + mac
    message = struct.pack("!BBHI", _SOLICITATION, 0, 0, 0) + target.packed + option
    sender = own or _UNSPECIFIED
    checksum = _checksum(sender.packed + group.packed + struct.pack("!II", len(message), _ICMPV6) + message)
    message = message[:2] + struct.pack("!H", checksum) + message[4:]
    packet = _IP6.pack(6 << 28, len(message), _ICMPV6, _HOP_LIMIT, sender.packed, group.packed) + message
    return _framed(b"\x33\x33" + group.packed[-4:], mac, IPV6, packet)


def answer_of_nd(untrusted_frame: bytes) -> IPv6Address | None:
    """The address that a neighbour advertisement is about; None for every other frame."""
    if len(untrusted_frame) < _IP6_END + 24 or untrusted_frame[12:14] != struct.pack("!H", IPV6):
        return None
    _, _, following, hops, _, _ = _IP6.unpack_from(untrusted_frame, _HEADER)
    # The kernel checks sums before it believes; here a broken answer is an answer that came through.
    if (following, hops, untrusted_frame[_IP6_END]) != (_ICMPV6, _HOP_LIMIT, _ADVERTISEMENT):
        return None
    return IPv6Address(untrusted_frame[_IP6_END + 8 : _IP6_END + 24])


def _framed(to: bytes, mac: bytes, kind: int, packet: bytes) -> bytes:
    return (to + mac + struct.pack("!H", kind) + packet).ljust(60, b"\0")


def _checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
