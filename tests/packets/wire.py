"""Frames through rules of others: sent one by one, told apart by a number inside, and no clock decides that one was dropped.

All of it runs on one processor, where the kernel hands frames on in the order they came: a few frames over a line of
their own, each sent when the one before arrived, push out whatever was under way before them.
"""

from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.foreign.match import Domain
from tests.packets import frames as f
from tests.packets.lab import DEADLINE_S, ETH_P_ALL, Lab, waiting
from tests.packets.namespaces import Namespace
from tests.packets.parties import BRIDGE, GATEWAY, A, B, Party

# A frame crosses two veth pairs; one more for the bridge between them.
_PUSHES = 4
_TAG = b"#judged#"


@dataclass(frozen=True, slots=True)
class Sent:
    """A frame on its way: who sends it, to whom, and its fields as a judge sees them."""

    sender: Party
    target: Party
    fields: Mapping[str, Domain]


class Wire:
    """The bench with a line beside it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._line = Namespace()
        self._line.must("ip", "link", "add", "near", "type", "veth", "peer", "name", "far")
        for end in ("near", "far"):
            self._line.must("ip", "link", "set", end, "arp", "off", "up")
        with self._line.inside():
            self._near, self._far = (_raw(end) for end in ("near", "far"))
        self._serial = itertools.count(1)

    def close(self) -> None:
        self._near.close()
        self._far.close()
        self._line.close()

    def know_everybody(self) -> None:
        """The bridge knows who is where whatever rules do, so that no frame is flooded."""
        for party in (A, B, GATEWAY):
            self.lab.dom0.must("bridge", "fdb", "replace", party.mac, "dev", party.port, "master", "static")

    def arrives(self, batch: Sequence[Sent]) -> list[bytes | None]:
        """For each frame what its target got, None where it got nothing."""
        for ear in self.lab.sockets.values():
            waiting(ear)
        tags = []
        for each in batch:
            tag = _TAG + struct.pack("!Q", next(self._serial))
            tags.append(tag)
            self.lab.sockets[each.sender.port].send(frame_bytes(each.fields, tag))
        self._push()
        heard = {port: waiting(ear) for port, ear in self.lab.sockets.items() if port != BRIDGE}
        by_tag: dict[tuple[str, bytes], bytes] = {}
        for port, frames in heard.items():
            for frame in frames:
                at = frame.find(_TAG)
                if at >= 0:
                    by_tag.setdefault((port, frame[at : at + len(_TAG) + 8]), frame)
        return [by_tag.get((each.target.port, tag)) for each, tag in zip(batch, tags, strict=True)]

    def seen_at(self, observer: str, frame: bytes, sender: str) -> bool:
        """Whether a frame gets to an observer, by whatever way."""
        for ear in self.lab.sockets.values():
            waiting(ear)
        self.lab.sockets[sender].send(frame)
        self._push()
        return any(got.startswith(frame) for got in waiting(self.lab.sockets[observer]))

    def _push(self) -> None:
        for number in range(_PUSHES):
            marker = f.ethernet(
                "00:00:5e:00:53:fe", "00:00:5e:00:53:fd", 0x88B5, struct.pack("!Q", number) * 8
            )
            self._near.send(marker)
            self._far.settimeout(DEADLINE_S)
            while self._far.recv(2048) != marker:
                continue


def _raw(device: str) -> socket.socket:
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    raw.bind((device, 0))
    return raw


def value(fields: Mapping[str, Domain], name: str) -> int:
    """The one value of a field."""
    domain = fields[name]
    assert isinstance(domain, tuple)
    ((low, high),) = domain
    assert low == high, name
    return low


def _mac(number: int) -> str:
    return number.to_bytes(6, "big").hex(":")


def _text(number: int, version: int) -> str:
    return socket.inet_ntop(
        socket.AF_INET if version == 4 else socket.AF_INET6, number.to_bytes(4 if version == 4 else 16, "big")
    )


def frame_bytes(fields: Mapping[str, Domain], tag: bytes) -> bytes:
    """The frame with these fields, each of which has one value; the tag lies where no rule looks."""
    ends = _mac(value(fields, "dmac")), _mac(value(fields, "smac"))
    if value(fields, "ethertype") == f.ARP:
        sender = _mac(value(fields, "arp_smac")), _text(value(fields, "arp_saddr"), 4)
        target = _mac(value(fields, "arp_dmac")), _text(value(fields, "arp_daddr"), 4)
        return f.ethernet(*ends, f.ARP, f.arp(value(fields, "arp_op"), sender, target) + tag)
    version = value(fields, "ip_version")
    source, destination = (_text(value(fields, f"{side}addr{version}"), version) for side in ("s", "d"))
    proto = value(fields, "proto")
    body = _upper(fields, proto, version, (source, destination), tag)
    if version == 4:
        return f.ethernet(*ends, f.IPV4, f.ipv4(source, destination, proto, body))
    return f.ethernet(*ends, f.IPV6, f.ipv6(source, destination, proto, body))


def _upper(
    fields: Mapping[str, Domain], proto: int, version: int, ends: tuple[str, str], tag: bytes
) -> bytes:
    if proto in {f.UDP, f.TCP}:
        ports = value(fields, "sport"), value(fields, "dport")
        return (
            f.udp(*ends, ports, tag)
            if proto == f.UDP
            else f.tcp(*ends, ports, value(fields, "tcp_flags"), tag)
        )
    kind = value(fields, f"icmp{version}_type")
    # An identifier of its own for each, or they would be one connection.
    identity = tag[-2:] + b"\0\1" + tag
    if kind == f.NS and version == 6:
        # Whom it asks for is told apart by nobody; the guard lets no other room.
        return f.icmpv6(*ends, kind, bytes(4) + tag)
    if kind == f.NA and version == 6:
        return f.icmpv6(*ends, kind, f.neighbor(ends[0]) + b"\x0e\x03" + tag + b"\0" * 6)
    if version == 6:
        return f.icmpv6(*ends, kind, identity)
    return f.icmp(kind, identity)
