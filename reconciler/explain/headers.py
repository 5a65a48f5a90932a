"""Where the kernel's packet filter finds things in a frame of a bridge port. Pure.

Written after the kernel, not after the RFCs: what it takes for the transport header of a broken, cut or fragmented
packet decides what the rules see.

Source: Linux 6.18, include/net/netfilter/nf_tables_ipv{4,6}.h (`*_validate`), net/netfilter/nft_payload.c,
net/ipv6/exthdrs_core.c (`ipv6_find_hdr`), net/bridge/br_input.c (`br_handle_frame`); held against the kernel by
tests/packets/test_explain.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
TAGS = frozenset({0x8100, 0x88A8})  # a first tag of these is taken off before the bridge sees the frame
ETHERNET_BYTES, TAG_BYTES = 14, 4
_IPV4_BYTES, _IPV6_BYTES, _MOST_OFFSET = 20, 40, 0xFFFF
_HOP_BY_HOP, _ROUTING, FRAGMENT, AH, _NO_NEXT, _DESTINATION = 0, 43, 44, 51, 59, 60
_EXTENSIONS = frozenset({_HOP_BY_HOP, _ROUTING, FRAGMENT, AH, _NO_NEXT, _DESTINATION})
_RESERVED = bytes.fromhex("0180c20000")  # and a last byte below 16: IEEE 802.1D
_FAST = frozenset({1, 2, 4})
_STP, _PAUSE, _LLDP = 0x00, 0x01, 0x0E
Base = Literal["prerouting", "input"]


@dataclass(frozen=True, slots=True)
class Transport:
    """The header behind IP: protocol, where in the frame it begins, and for a later part of a packet the offset in it.

    Of a later part of an IPv6 packet the kernel keeps no place: what it reads by place, it reads from the IPv6 header.
    """

    protocol: int
    at: int
    fragment: int


@dataclass(frozen=True, slots=True)
class Headers:
    """A frame as the rules see it. `kind`: the type behind the first tag; `network`: where what it names begins."""

    frame: bytes
    kind: int
    network: int
    transport: Transport | None

    def load(self, at: int, count: int) -> int | None:
        """The number in `count` bytes at a place in the frame; None where it ends before."""
        return _load(self.frame, at, count)

    def behind(self, at: int, count: int) -> int | None:
        """The same, counted from the transport header.

        A later fragment has none, and most loads know that. Not so those of one, two or four bytes at a multiple of their size, such
        as of ports and types: they take what stands where the header would be (nft_payload_fast_eval).
        """
        if self.transport is None or (self.transport.fragment and (count not in _FAST or at % count)):
            return None
        return _load(self.frame, self.transport.at + at, count)


def headers(frame: bytes) -> Headers:
    """The headers of a frame of at least 14 bytes."""
    kind, network = int.from_bytes(frame[12:14]), ETHERNET_BYTES
    if kind in TAGS:
        network += TAG_BYTES
        kind = int.from_bytes(frame[16:18])
    match kind:
        case 0x0800:
            transport = _behind_v4(frame, network)
        case 0x86DD:
            transport = _behind_v6(frame, network)
        case _:
            transport = None
    return Headers(frame, kind, network, transport)


def _load(data: bytes, at: int, count: int) -> int | None:
    part = data[at : at + count]
    return int.from_bytes(part) if len(part) == count else None


def _behind_v4(frame: bytes, network: int) -> Transport | None:
    packet = frame[network:]
    if len(packet) < _IPV4_BYTES or packet[0] >> 4 != 4:  # noqa: PLR2004  # the version
        return None
    size, total = (packet[0] & 15) * 4, int.from_bytes(packet[2:4])
    if size < _IPV4_BYTES or total < size or total > len(packet):
        return None
    return Transport(packet[9], network + size, int.from_bytes(packet[6:8]) & 0x1FFF)


def _behind_v6(frame: bytes, network: int) -> Transport | None:
    packet = frame[network:]
    if len(packet) < _IPV6_BYTES or packet[0] >> 4 != 6:  # noqa: PLR2004  # the version
        return None
    if int.from_bytes(packet[4:6]) + _IPV6_BYTES > len(packet):
        return None
    at, following = _IPV6_BYTES, packet[6]
    while following in _EXTENSIONS and following not in {_NO_NEXT, AH}:
        if (size := _extension_bytes(packet, at, following)) is None:
            return None
        if following == FRAGMENT and (offset := int.from_bytes(packet[at + 2 : at + 4]) & 0xFFF8):
            inner = packet[at]
            # What begins in an earlier fragment has no place in this one. In front of another extension header there is nothing to tell.
            return None if inner in _EXTENSIONS - {_NO_NEXT} else Transport(inner, network, offset)
        at, following = at + size, packet[at]
    if following == AH and len(packet) < at + 2:
        return None
    # The kernel keeps the place in 16 bits.
    return None if at > _MOST_OFFSET else Transport(following, network + at, 0)


def _extension_bytes(packet: bytes, at: int, kind: int) -> int | None:
    """How long an extension header is; None where too little of it is there to tell."""
    needed = {_ROUTING: 4, FRAGMENT: 4}.get(kind, 2)
    if len(packet) < at + needed:
        return None
    if kind == FRAGMENT:
        return 8
    return (packet[at + 1] + 2) * 4 if kind == AH else (packet[at + 1] + 1) * 8


def fragment_header(found: Headers) -> int | None:
    """Where the first fragment header of an IPv6 packet begins, whatever is wrong with the rest; None without one."""
    packet, at = found.frame[found.network :], _IPV6_BYTES
    following = packet[6] if len(packet) >= _IPV6_BYTES else _NO_NEXT
    while following in _EXTENSIONS - {_NO_NEXT}:
        if (size := _extension_bytes(packet, at, following)) is None:
            return None
        if following == FRAGMENT:
            return found.network + at
        at, following = at + size, packet[at]
    return None


def entered(frame: bytes, *, lldp_forwarded: bool) -> Base | Literal["dropped", "unseen"]:
    """Which of our base chains a frame from a port gets to first.

    `dropped`: the bridge itself drops it before. `unseen`: no hook sees it, and dom0's own stack gets it. The bridge has
    no spanning tree, and forwards none of the reserved groups but that of LLDP where the port lock has asked for it.
    """
    source = frame[6:12]
    if int.from_bytes(frame[12:14]) in TAGS and len(frame) < ETHERNET_BYTES + TAG_BYTES + 2:
        return "dropped"
    if source[0] & 1 or source == bytes(6):
        return "dropped"
    if frame[:5] != _RESERVED or frame[5] > 0x0F or frame[5] == _STP:  # noqa: PLR2004  # 802.1D's sixteen
        return "prerouting"
    if frame[5] == _PAUSE:
        return "dropped"
    if frame[5] == _LLDP:
        return "prerouting" if lldp_forwarded else "unseen"
    return "input"
