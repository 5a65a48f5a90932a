"""dom0's forwarding and neighbour tables straight from the kernel: `bridge fdb` and `ip neigh` would be two processes for each look.

Source: rtnetlink(7); linux/neighbour.h and linux/rtnetlink.h of Linux 6.1.
"""

from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from tests.packets.namespaces import Namespace

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ENTRY = struct.Struct("=BBHiHBB")  # ndmsg: family, two of padding, interface, state, flags, type
_ATTRIBUTE = struct.Struct("=HH")
_DONE, _ERROR, _ENTRIES = 3, 2, 30  # NLMSG_DONE, NLMSG_ERROR, RTM_GETNEIGH
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_DESTINATION, _HARDWARE, _MASTER = 1, 2, 9  # NDA_DST, NDA_LLADDR, NDA_MASTER
_NO_ARP, _PERMANENT = 0x40, 0x80  # NUD_NOARP, NUD_PERMANENT


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of either table."""

    interface: int
    hardware: str
    address: str
    state: int
    of_a_bridge: bool


class Tables:
    """Both tables of a namespace."""

    def __init__(self, namespace: Namespace) -> None:
        with namespace.inside():
            self._kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._kernel.bind((0, 0))
        self._serial = itertools.count(1)

    def close(self) -> None:
        """The socket would keep the namespace alive."""
        self._kernel.close()

    def forwarding(self) -> Iterator[tuple[str, int]]:
        """MAC and port of everything that a bridge has learned or was told; not its own and its ports' addresses."""
        for entry in self._entries(socket.AF_BRIDGE):
            if entry.of_a_bridge and not entry.state & _PERMANENT:
                yield entry.hardware, entry.interface

    def neighbors(self, interface: int) -> Iterator[tuple[str, str]]:
        """Address and MAC of everybody known on the interface; a group's MAC is computed, not known."""
        for entry in self._entries(socket.AF_UNSPEC):
            if entry.interface == interface and entry.hardware and not entry.state & _NO_ARP:
                yield entry.address, entry.hardware

    def _entries(self, family: int) -> Iterator[Entry]:
        serial = next(self._serial)
        self._kernel.send(
            _HEADER.pack(_HEADER.size + _ENTRY.size, _ENTRIES, _REQUEST_DUMP, serial, 0)
            + _ENTRY.pack(family, 0, 0, 0, 0, 0, 0)
        )
        while True:
            answer = self._kernel.recv(1 << 18)
            offset = 0
            while offset < len(answer):
                length, kind, _, number, _ = _HEADER.unpack_from(answer, offset)
                assert number == serial, "an answer to another question"
                assert kind != _ERROR, answer[offset : offset + length]
                if kind == _DONE:
                    return
                yield _entry(answer[offset + _HEADER.size : offset + length])
                offset += (length + 3) & ~3


def _entry(message: bytes) -> Entry:
    _, _, _, interface, state, _, _ = _ENTRY.unpack_from(message)
    found: dict[int, bytes] = {}
    offset = _ENTRY.size
    while offset < len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, offset)
        found[kind] = message[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    destination = found.get(_DESTINATION, b"")
    version = {4: socket.AF_INET, 16: socket.AF_INET6}.get(len(destination))
    return Entry(
        interface,
        found.get(_HARDWARE, b"").hex(":"),
        socket.inet_ntop(version, destination) if version else "",
        state,
        _MASTER in found,
    )
