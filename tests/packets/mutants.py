"""Frames that nobody thought of: those of the table with bytes changed, headers put in, ends cut off and put together anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from tests.packets import frames as f

# What decides somewhere: protocols, headers, types of messages, ports.
_TELLING = (0, 1, 2, 3, 4, 6, 17, 43, 44, 50, 51, 58, 60, 67, 68, 130, 133, 134, 135, 136, 137, 143, 255)
_HEADERS = (f.HOP_BY_HOP, f.ROUTING, f.FRAGMENT, f.AH, f.DESTINATION)
_V6 = f.IPV6.to_bytes(2, "big")
_HEADER_END = 54  # of Ethernet and IPv6


def mutants(originals: Sequence[bytes], count: int, random: Random) -> Iterator[bytes]:
    """So many frames, each some steps away from one of the originals; IPv6 says how long it is, for br_netfilter cuts it there."""
    for _ in range(count):
        frame = bytearray(random.choice(originals))
        for _ in range(random.choice((1, 1, 1, 2, 2, 3, 4))):
            random.choice((_byte, _byte, _byte, _header, _cut, _splice))(frame, originals, random)
        if frame[12:14] == _V6 and len(frame) > _HEADER_END:
            frame[18:20] = (len(frame) - _HEADER_END).to_bytes(2, "big")
        yield bytes(frame)


def _byte(frame: bytearray, _: Sequence[bytes], random: Random) -> None:
    at = random.randrange(12, min(len(frame), 100)) if len(frame) > 12 else 0  # behind the MACs
    frame[at] = random.choice((*_TELLING, random.randrange(256))) if at else frame[at]


def _header(frame: bytearray, _: Sequence[bytes], random: Random) -> None:
    """One more extension header right behind IPv6's."""
    if frame[12:14] != _V6 or len(frame) <= _HEADER_END:
        return
    kind, following = random.choice(_HEADERS), frame[20]
    offset = random.choice((0, 0, 1, 8)) if kind == f.FRAGMENT else 0
    more = bytes((following, 4)) + bytes(22) if kind == f.AH else bytes((following, 0, 0, offset)) + bytes(4)
    frame[20] = kind
    frame[_HEADER_END:_HEADER_END] = more


def _cut(frame: bytearray, _: Sequence[bytes], random: Random) -> None:
    del frame[random.randrange(20, max(len(frame), 21)) :]


def _splice(frame: bytearray, originals: Sequence[bytes], random: Random) -> None:
    """What is behind another frame's header behind this one's."""
    frame[_HEADER_END:] = random.choice(originals)[_HEADER_END:]
