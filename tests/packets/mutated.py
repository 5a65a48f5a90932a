"""Frames as nobody would write them: those of the table, broken in ways that parsers stumble over. Drawn by a seed."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address

from tests.packets import frames as f
from tests.packets.cases import A_NET6_ONE, STRANGER
from tests.packets.parties import A4_SECOND, DOM0, GATEWAY, A, B

_LONGEST = 1514
_TYPES = (f.IPV4, f.ARP, f.IPV6, 0x8100, 0x88A8, 0x9100, 0x0806, 0x8847, 4, 0x05DC, 0x0600)
_PROTOCOLS = (0, 1, 2, 6, 17, 43, 44, 50, 51, 58, 59, 60, 132, 135, 255)
_MESSAGES = (128, 130, 131, 132, 133, 134, 135, 136, 137, 139, 141, 143, 147, 151, 0, 8, 17, 18, 22, 23, 34)
_PORTS = (67, 68, 546, 547, 53, 4321, 0)
_MACS = tuple(
    f.mac(each) for each in (A.mac, B.mac, GATEWAY.mac, STRANGER, "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00")
)
_V4 = tuple(
    IPv4Address(each).packed
    for each in (A.v4, A4_SECOND, B.v4, GATEWAY.v4, DOM0.v4, "198.51.100.16", "198.51.100.31", "198.51.100.32", "0.0.0.0", "255.255.255.255", "224.0.0.1")
)  # fmt: skip
_V6 = tuple(
    IPv6Address(each).packed
    for each in (A.v6, A.link_local, A_NET6_ONE, B.v6, B.link_local, GATEWAY.v6, "::", "ff02::1", f.solicited_node(A.v6), "ff02::16")
)  # fmt: skip
_EXTENSIONS = (f.HOP_BY_HOP, f.ROUTING, f.FRAGMENT, f.FRAGMENT, f.DESTINATION, f.AH, f.NO_NEXT)
Change = Callable[[random.Random, bytearray], None]


def mutated(seeds: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """`count` frames, each one of the seeds with one to four changes; the same ones for the same seed."""
    dice = random.Random(seed)  # noqa: S311  # to draw frames
    for _ in range(count):
        frame = bytearray(dice.choice(seeds))
        for _ in range(dice.choice((1, 1, 1, 2, 2, 3, 4))):
            dice.choice(_CHANGES)(dice, frame)
        yield bytes(frame[:_LONGEST]).ljust(14, b"\0")


def _put(frame: bytearray, at: int, value: bytes) -> None:
    """Writes over what is there, and no further."""
    room = max(0, len(frame) - at)
    frame[at : at + len(value)] = value[:room]


def _a_bit(dice: random.Random, frame: bytearray) -> None:
    if frame:
        at = dice.randrange(min(len(frame), 90))
        frame[at] ^= 1 << dice.randrange(8)


def _a_byte(dice: random.Random, frame: bytearray) -> None:
    if len(frame) > 14:
        frame[dice.randrange(14, min(len(frame), 90))] = dice.choice(
            (0, 1, 2, 4, 6, 58, 255, dice.randrange(256))
        )


def _cut(dice: random.Random, frame: bytearray) -> None:
    del frame[dice.randrange(14, len(frame) + 1) if len(frame) > 14 else 14 :]


def _padded(dice: random.Random, frame: bytearray) -> None:
    frame += dice.choice((b"\0" * dice.randrange(64), dice.randbytes(dice.randrange(64)), dice.choice(_MACS)))


def _type(dice: random.Random, frame: bytearray) -> None:
    _put(frame, 12, struct.pack("!H", dice.choice(_TYPES)))


def _tag(dice: random.Random, frame: bytearray) -> None:
    frame[12:12] = struct.pack("!HH", dice.choice((0x8100, 0x88A8, 0x9100)), dice.choice((0, 1, 100, 4095)))


def _a_mac(dice: random.Random, frame: bytearray) -> None:
    _put(frame, dice.choice((0, 6, 6, 22, 32)), dice.choice(_MACS))


def _a_group(dice: random.Random, frame: bytearray) -> None:
    _put(frame, 0, bytes.fromhex("0180c20000") + bytes((dice.choice((0, 1, 2, 3, 14, 15, 16)),)))


def _an_address(dice: random.Random, frame: bytearray) -> None:
    if frame[12:14] == b"\x86\xdd":
        _put(frame, dice.choice((22, 38, 62)), dice.choice(_V6))
    else:
        _put(frame, dice.choice((26, 30) if frame[12:14] == b"\x08\0" else (28, 38)), dice.choice(_V4))


def _a_length(dice: random.Random, frame: bytearray) -> None:
    at = 18 if frame[12:14] == b"\x86\xdd" else 16
    there = int.from_bytes(frame[at : at + 2])
    _put(
        frame,
        at,
        struct.pack("!H", dice.choice((0, 8, 16, 20, 24, 32, there + 1, max(0, there - 1), 0xFFFF)) & 0xFFFF),
    )


def _a_version(dice: random.Random, frame: bytearray) -> None:
    if len(frame) > 14:
        frame[14] = dice.choice((0x45, 0x46, 0x4F, 0x44, 0x60, 0x65, 0x55, 0x00))


def _a_fragment(dice: random.Random, frame: bytearray) -> None:
    _put(frame, 20, struct.pack("!H", dice.choice((0x2000, 0x4000, 1, 0x100, 0x2001, 0x1FFF, 0x8000))))


def _a_protocol(dice: random.Random, frame: bytearray) -> None:
    _put(frame, 20 if frame[12:14] == b"\x86\xdd" else 23, bytes((dice.choice(_PROTOCOLS),)))


def _a_message(dice: random.Random, frame: bytearray) -> None:
    _put(frame, 54 if frame[12:14] == b"\x86\xdd" else 34, bytes((dice.choice(_MESSAGES),)))


def _ports(dice: random.Random, frame: bytearray) -> None:
    at = 54 if frame[12:14] == b"\x86\xdd" else 34
    _put(frame, at, struct.pack("!HH", dice.choice(_PORTS), dice.choice(_PORTS)))


def _an_extension(dice: random.Random, frame: bytearray) -> None:
    """One more header behind that of IPv6, of right or wrong length, the packet's length made right or left."""
    if frame[12:14] != b"\x86\xdd" or len(frame) < 54:
        return
    kind = dice.choice(_EXTENSIONS)
    following = dice.choice((*[frame[20]] * 4, f.NO_NEXT, f.NO_NEXT, f.AH, f.DESTINATION))
    header: bytes = {
        f.FRAGMENT: f.fragment_header(
            following, dice.choice((0, 0, 1, 3, 0x100, 0x1FE0)), more=dice.random() < 0.5
        ),
        f.AH: f.authentication(following),
    }.get(kind, f.extension(following))
    if dice.random() < 0.2:
        header = header[:1] + bytes((dice.choice((0, 1, 2, 5, 255)),)) + header[2:]
    frame[20] = kind
    frame[54:54] = header
    if dice.random() < 0.8:
        frame[18:20] = struct.pack("!H", (int.from_bytes(frame[18:20]) + len(header)) & 0xFFFF)


def _nothing_behind(dice: random.Random, frame: bytearray) -> None:
    """The IP header alone, and one that says so, or is off by one."""
    six, off = frame[12:14] == b"\x86\xdd", dice.choice((0, 0, 0, -1, 1))
    if len(frame) > (54 if six else 34):
        _put(frame, 18 if six else 16, struct.pack("!H", max(0, (0 if six else 20) + off)))
        del frame[(54 if six else 34) + dice.choice((0, 0, 0, -1, 1)) :]


def _an_option(dice: random.Random, frame: bytearray) -> None:
    if len(frame) > 78:
        _put(frame, 78, bytes((dice.choice((1, 2, 14, 0)), dice.choice((0, 1, 1, 2)))) + dice.choice(_MACS))


_CHANGES: tuple[Change, ...] = (
    _a_bit, _a_byte, _cut, _padded, _type, _tag, _a_mac, _a_group, _an_address, _an_address, _a_length, _a_version, _a_fragment,
    _a_protocol, _a_message, _ports, _an_extension, _an_extension, _an_option,
    _nothing_behind,
)  # fmt: skip
