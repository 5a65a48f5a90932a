"""Frames flat out from a guest's port, and a sink that the kernel counts them in: no user space is asked to keep up.

Source: sendmmsg(2); packet(7).
"""

from __future__ import annotations

import ctypes
import itertools
import multiprocessing
import os
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from tests.packets.lab import Lab
from tests.packets.namespaces import Namespace
from tests.packets.parties import BRIDGE, DOM0

LEGAL_MAC, FORGED_MAC = "00:00:5e:00:53:a1", "00:00:5e:00:53:a2"
_SETTLED_S, _POLL_S = 2.0, 0.02
_libc = ctypes.CDLL(None, use_errno=True)
_COUNTER = re.compile(r"counter (\w+) \{\s+packets (\d+)")


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(_Vector)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    _fields_ = (("header", _Header), ("sent", ctypes.c_uint32))


class Volley:
    """Frames that leave by one call, over and over."""

    def __init__(self, frames: Sequence[bytes]) -> None:
        self.size = len(frames)
        self._kept = [ctypes.create_string_buffer(frame, len(frame)) for frame in frames]
        self._vectors = (_Vector * self.size)(
            *(
                _Vector(ctypes.addressof(each), len(frame))
                for each, frame in zip(self._kept, frames, strict=True)
            )
        )
        self._messages = (_Message * self.size)()
        for number in range(self.size):
            self._messages[number].header.vectors = ctypes.pointer(self._vectors[number])
            self._messages[number].header.vector_count = 1

    def send(self, raw: socket.socket, *, first: int = 0) -> int:
        """How many frames left, beginning with `first`.

        Raises:
            OSError: none did.
        """
        rest = ctypes.byref(self._messages, first * ctypes.sizeof(_Message))
        sent: int = _libc.sendmmsg(raw.fileno(), rest, self.size - first, 0)
        if sent < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return sent


def mouth(namespace: Namespace, device: str = "eth0") -> socket.socket:
    """A socket that sends from a device and hears nothing."""
    with namespace.inside():
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        raw.bind((device, 0))
    return raw


@dataclass(frozen=True, slots=True)
class Sent:
    """What left of two kinds of frames."""

    legal: int = 0
    forged: int = 0

    def __add__(self, other: Sent) -> Sent:
        return Sent(self.legal + other.legal, self.forged + other.forged)

    @property
    def frames(self) -> int:
        return self.legal + self.forged


class Stream:
    """A process that sends legal and forged frames in turn, flat out, until it is told to end."""

    def __init__(self, raw: socket.socket, legal: Sequence[bytes], forged: Sequence[bytes]) -> None:
        context = multiprocessing.get_context("fork")  # the socket lives in a namespace without a name
        self._end, theirs = context.Pipe()
        kinds = [True, False] * max(len(legal), len(forged))
        each = {True: itertools.cycle(legal), False: itertools.cycle(forged)}
        frames = [next(each[kind]) for kind in kinds]
        self._process = context.Process(
            target=_send_until_told, args=(raw, frames, kinds, theirs), daemon=True
        )
        self._process.start()
        theirs.close()

    def end(self) -> Sent:
        """What it has sent."""
        self._end.send(None)
        legal, forged = self._end.recv()
        self._process.join()
        return Sent(legal, forged)


def _send_until_told(raw: socket.socket, frames: list[bytes], kinds: list[bool], told: Connection) -> None:
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    volley, counts = Volley(frames), {True: 0, False: 0}
    whole = {kind: kinds.count(kind) for kind in (True, False)}
    while not told.poll():
        sent = volley.send(raw)
        if sent == volley.size:
            counts = {kind: counts[kind] + whole[kind] for kind in counts}
        else:
            counts = {kind: counts[kind] + kinds[:sent].count(kind) for kind in counts}
    told.send((counts[True], counts[False]))


class Sink:
    """A port of the bridge with two MACs behind it, one for legal frames and one for forged ones; dom0 counts forged ones too."""

    def __init__(self, lab: Lab) -> None:
        self._lab, self._behind = lab, Namespace()
        lab.dom0.must(
            "ip", "link", "add", "sink", "address", "fe:ff:ff:ff:ff:ff", "type", "veth",
            "peer", "name", "eth0", "address", LEGAL_MAC, "netns", self._behind.path,
        )  # fmt: skip
        self._behind.must("ip", "link", "set", "eth0", "arp", "off", "up")
        lab.dom0.must("ip", "link", "set", "sink", "master", BRIDGE, "up")
        for mac in (LEGAL_MAC, FORGED_MAC):
            lab.dom0.must("bridge", "fdb", "replace", mac, "dev", "sink", "master", "static")
        counting = f"ether daddr {LEGAL_MAC} counter name legal drop\nether daddr {FORGED_MAC} counter name forged drop\n"
        self._behind.must("nft", "-f", "-", stdin=_counters("eth0", counting))

    def count_in_dom0(self, forged_sources: Sequence[str]) -> None:
        """Counts what guests send to dom0 itself: all of it forged."""
        sources = ", ".join(forged_sources)
        rule = f"ether saddr {{ {sources} }} ether daddr {DOM0.mac} counter name forged drop\n"
        self._lab.dom0.must("nft", "-f", "-", stdin=_counters(BRIDGE, rule))

    def heard(self, sent: Sent) -> Sent:
        """What has arrived, once nothing is under way any more: all legal frames, or nothing new for long."""
        found, since = self._heard(), time.monotonic()
        while found.legal < sent.legal and time.monotonic() < since + _SETTLED_S:
            time.sleep(_POLL_S)
            now = self._heard()
            if now != found:
                found, since = now, time.monotonic()
        return found

    def _heard(self) -> Sent:
        listed = [each.must("nft", "list", "counters", "netdev") for each in (self._behind, self._lab.dom0)]
        counts = [dict(_COUNTER.findall(text)) for text in listed]
        return Sent(int(counts[0]["legal"]), sum(int(each.get("forged", 0)) for each in counts))

    def close(self) -> None:
        """The port gone, and what counts in dom0."""
        self._lab.dom0.run(["nft", "delete", "table", "netdev", "counting"])
        self._lab.dom0.must("ip", "link", "del", "sink")
        self._behind.close()


def _counters(device: str, rules: str) -> str:
    return (
        "table netdev counting {\ncounter legal { }\ncounter forged { }\n"
        f'chain ingress {{\ntype filter hook ingress device "{device}" priority 0;\n{rules}}}\n}}\n'
    )
