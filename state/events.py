"""What the kernel tells by itself: that rules of nftables, or the ports of bridges, have changed. Sockets and parsers.

An event says that something may be otherwise than it was, and nothing more: whoever hears it reads anew. ipset, the legacy
variants of the iptables tools and traffic control tell of nothing, or not here.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12
# Groups are bits from 1 on. Source: linux/netfilter/nfnetlink.h (NFNLGRP_NFTABLES), linux/rtnetlink.h (RTNLGRP_LINK).
_NFTABLES_GROUP, _LINK_GROUP = 1 << (7 - 1), 1 << (1 - 1)
_SUBSYSTEM_NFTABLES = 10
# Source: linux/netfilter/nf_tables.h. The name of the table is the first attribute of all of these.
_MESSAGES = {
    0: "table", 2: "table", 3: "chain", 5: "chain", 6: "rule", 8: "rule", 9: "set", 11: "set",
    12: "element", 14: "element",
}  # fmt: skip
_NEWLINK, _DELLINK = 16, 17
_AF_BRIDGE = socket.AddressFamily(7)
_HEADER, _NFGEN, _IFINFO, _ATTRIBUTE = (struct.Struct(each) for each in ("=IHHII", "=BBH", "=BxHiII", "=HH"))
_TYPE_MASK = 0x3FFF  # the two highest bits of an attribute's type are flags
# Source: linux/if_link.h.
_NAME, _MASTER, _PROTINFO, _GROUP = 3, 10, 12, 27
_PORT_SETTINGS = frozenset({8, 31, 39})  # IFLA_BRPORT_LEARNING, _GROUP_FWD_MASK, _LOCKED
_BUFFER_BYTES = 4 * 1024 * 1024
_SO_RCVBUFFORCE = 33
_ALIGNMENT = 4


@dataclass(frozen=True, slots=True)
class RuleChange:
    """Something of one table; `family` is the kernel's number for it, `what` table, chain, rule, set or element."""

    family: int
    table: str
    what: str

    @property
    def ours(self) -> bool:
        """Whether it is the guard's."""
        return (self.family, self.table) == (_AF_BRIDGE, "domgit")


@dataclass(slots=True)
class Ports:
    """The ports of bridges as the kernel last told of them, so that what has not changed can be told from what has."""

    _known: dict[int, dict[str, object]] = field(default_factory=dict)

    def changed(self, data: bytes) -> Iterator[str]:
        """The names of ports that came, went, or are otherwise than they were: name, bridge, lock, group."""
        for kind, body in _messages(data):
            if kind not in {_NEWLINK, _DELLINK} or len(body) < _IFINFO.size:
                continue
            family, _, index, _, _ = _IFINFO.unpack_from(body)
            told = _port(body[_IFINFO.size :])
            before = self._known.get(index)
            if kind == _DELLINK:
                # Of the bridge family it has left its bridge, else it is gone.
                if before is not None:
                    del self._known[index]
                    yield str(before.get("name", index))
                continue
            if family != _AF_BRIDGE and "bridge" not in told:
                continue  # no port, and what was one is told of as gone
            now = {**(before or {}), **told}
            self._known[index] = now
            if now != before:
                yield str(now.get("name", index))


def _port(attributes: bytes) -> Mapping[str, object]:
    told: dict[str, object] = {}
    for kind, value in _attributes(attributes):
        if kind == _NAME:
            told["name"] = value.rstrip(b"\0").decode("utf-8", "backslashreplace")
        elif kind == _MASTER:
            told["bridge"] = value
        elif kind == _GROUP:
            told["group"] = value
        elif kind == _PROTINFO:
            told |= {
                f"setting {number}": each for number, each in _attributes(value) if number in _PORT_SETTINGS
            }
    return told


def parse_rule_changes(data: bytes) -> Iterator[RuleChange]:
    """The changes in what one read from the socket gave; whatever else is in it is left out."""
    for kind, body in _messages(data):
        what = _MESSAGES.get(kind & 0xFF)
        if kind >> 8 != _SUBSYSTEM_NFTABLES or what is None or len(body) < _NFGEN.size:
            continue
        family, _, _ = _NFGEN.unpack_from(body)
        for number, value in _attributes(body[_NFGEN.size :]):
            if number == 1:
                yield RuleChange(family, value.rstrip(b"\0").decode("utf-8", "backslashreplace"), what)
                break


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, body) of each netlink message.

    Source: netlink(7).
    """
    while len(data) >= _HEADER.size:
        length, kind, _, _, _ = _HEADER.unpack_from(data)
        if length < _HEADER.size:
            return
        yield kind, data[_HEADER.size : length]
        data = data[-(-length // _ALIGNMENT) * _ALIGNMENT :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, data[_ATTRIBUTE.size : length]
        data = data[-(-length // _ALIGNMENT) * _ALIGNMENT :]


def listen_to_rules() -> socket.socket:
    """A socket that tells of every change of nftables in this network namespace.

    Raises:
        OSError: this needs root, or a kernel with nftables.
    """
    return _listening(NETLINK_NETFILTER, _NFTABLES_GROUP)


def listen_to_ports() -> socket.socket:
    """A socket that tells of every change of interfaces and bridge ports in this network namespace.

    Raises:
        OSError: the kernel has no more sockets.
    """
    return _listening(NETLINK_ROUTE, _LINK_GROUP)


def _listening(family: int, groups: int) -> socket.socket:
    ear = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
    try:
        # A whole guard is some thousand messages. What does not fit is told of as ENOBUFS, and that wakes, too.
        ear.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        ear.bind((0, groups))
    except OSError:
        ear.close()
        raise
    return ear
