"""The bench: dom0's bridge with two guests, a port nobody declared, and an uplink with a gateway behind it."""

from __future__ import annotations

import itertools
import json
import os
import socket
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.guard import port_lock
from state.links import FDB, parse_fdb
from state.run import read
from tests.packets import frames
from tests.packets.namespaces import Namespace
from tests.packets.netlink import Tables as Dump
from tests.packets.parties import BRIDGE, DOM0, GATEWAY, UNKNOWN, A, B, Party

ETH_P_ALL = 3
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
SO_RCVBUFFORCE = 33
BUFFER_BYTES = 64 * 1024 * 1024
DEADLINE_S = 5.0
# The port that forged datagrams to dom0 go to; something listens there, so that delivery shows as delivery.
LISTENING = 4321
_MARK = b"end of the observation "
_BROADCAST = "ff:ff:ff:ff:ff:ff"
_TAGS = {0x8100, 0x88A8}
_ETHERNET_BYTES = 14
# dom0's forwarding table (MAC to port) and its neighbours (address to MAC).
Tables = tuple[Mapping[str, str], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a frame did: which observers it reached, and which entries of dom0's tables are new or altered."""

    where: frozenset[str]
    forwarding: Mapping[str, str] = field(default_factory=dict)
    neighbors: Mapping[str, str] = field(default_factory=dict)

    @property
    def nothing(self) -> bool:
        """No trace of it anywhere."""
        return not (self.where or self.forwarding or self.neighbors)


class Lab:
    """The bench. Observers are named by their port; dom0 is the bridge's name."""

    def __init__(self) -> None:
        # Frames then pass bridge and sockets in the order they are sent: an observation ends with a marker. Where it
        # runs already, since there may be another bench.
        os.sched_setaffinity(0, {_processor()})
        self.dom0 = Namespace()
        self._serial = itertools.count(1)
        self._guests: dict[str, Namespace] = {}
        self.sockets: dict[str, socket.socket] = {}
        self._build_bridge()
        self._tables = Dump(self.dom0)
        for party in (GATEWAY, A, B, UNKNOWN):
            self.plug(party.port, party.mac)
        with self.dom0.inside():
            self.sockets[BRIDGE] = _raw_socket(BRIDGE)
            self._listeners = (_listener(socket.AF_INET), _listener(socket.AF_INET6))

    def _build_bridge(self) -> None:
        # Ports have link-local addresses of dom0, as vifs do; no source is refused for its route.
        settings = {
            "ipv6/conf/default/accept_dad": 0,
            "ipv6/conf/default/accept_ra": 0,
            "ipv4/conf/all/rp_filter": 0,
        }
        self.dom0.sysctl({**settings, "ipv4/conf/default/rp_filter": 0})
        # Snooping off: the bridge would drop malformed IGMP and MLD by itself and so hide what a guard lets through.
        options = ("stp_state", "0", "forward_delay", "0", "mcast_snooping", "0")
        self.dom0.must("ip", "link", "add", BRIDGE, "address", DOM0.mac, "type", "bridge", *options)
        lines = f"link set lo up\nlink set {BRIDGE} up\naddress add {DOM0.v4}/24 dev {BRIDGE}\naddress add {DOM0.v6}/64 dev {BRIDGE}\n"
        self.dom0.must("ip", "-batch", "-", stdin=lines)

    def plug(self, port: str, hardware: str, *, bridge: str = BRIDGE) -> None:
        """A new port of the bridge, with a silent party behind it."""
        guest = self._guests.setdefault(port, Namespace())
        guest.sysctl({"ipv6/conf/default/disable_ipv6": 1, "ipv6/conf/all/disable_ipv6": 1})
        self.dom0.must(
            "ip", "link", "add", port, "address", "fe:ff:ff:ff:ff:ff", "type", "veth",
            "peer", "name", "eth0", "address", hardware, "netns", guest.path,
        )  # fmt: skip
        guest.must("ip", "link", "set", "eth0", "arp", "off", "up")
        self.dom0.must("ip", "link", "set", port, "master", bridge, "up")
        with guest.inside():
            self.sockets[port] = _raw_socket("eth0")

    def unplug(self, port: str) -> None:
        """The port and its party gone."""
        self.sockets.pop(port).close()
        self.dom0.must("ip", "link", "del", port)
        self._guests.pop(port).close()

    def namespace(self, port: str) -> Namespace:
        """Where the party behind a port lives."""
        return self._guests[port]

    def dropped(self, port: str) -> int:
        """How many frames the two ends of a port have dropped because a queue was full."""
        ends = [(self.dom0, port), *([(self._guests[port], "eth0")] if port in self._guests else [])]
        found = [json.loads(each.must("ip", "-j", "-s", "link", "show", device)) for each, device in ends]
        return sum(link[0]["stats64"][way]["dropped"] for link in found for way in ("rx", "tx"))

    def close(self) -> None:
        """Everything gone; the kernel removes what was in the namespaces."""
        for each in (*self.sockets.values(), *self._listeners):
            each.close()
        self._tables.close()
        for namespace in (*self._guests.values(), self.dom0):
            namespace.close()

    def filter_by_iptables(self, *, enabled: bool) -> None:
        """Turns br_netfilter on or off for the bridge.

        Raises:
            OSError: the kernel lacks it.
        """
        self.dom0.sysctl({f"bridge/bridge-nf-call-{kind}tables": enabled for kind in ("ip", "ip6", "arp")})

    def load(self, script: str) -> None:
        """Gives nft a script that has to succeed."""
        self.dom0.must("nft", "-f", "-", stdin=script)

    def clear(self) -> None:
        """No rules at all, and every port an ordinary one."""
        self.dom0.must("nft", "flush", "ruleset")
        for port in self._guests:
            self.dom0.must("bridge", "link", "set", "dev", port, "learning", "on", "locked", "off")
            self.dom0.must(
                *("ip", "link", "set", "dev", port, "group", "default"),
                *("type", "bridge_slave", "group_fwd_mask", "0", "fdb_flush"),
            )
        for entry in parse_fdb(read(self.dom0, FDB)):
            self.dom0.run(["bridge", "fdb", "del", entry.mac, "dev", entry.port, "master"])

    def mark(self, party: Party) -> None:
        """The guard knows the guest's port by its group, whatever becomes of its name."""
        self.dom0.must(*port_lock.mark(party.port))

    def lock(self, party: Party) -> None:
        """The second layer on a guest's port."""
        for argv in port_lock.lock(party.port, party.mac):
            self.dom0.must(*argv)

    def restore(self) -> None:
        """The bridge and dom0 know again who is where, as after a moment of ordinary traffic."""
        known = [
            f"neigh replace {address} lladdr {party.mac} dev {BRIDGE} nud stale"
            for party in (B, GATEWAY)
            for address in (party.v4, party.v6)
        ]
        self.dom0.must("ip", "-batch", "-", stdin="\n".join([f"neigh flush dev {BRIDGE}", *known, ""]))
        for party in (A, B, GATEWAY):
            packet = frames.arp(1, (party.mac, party.v4), ("00:00:00:00:00:00", party.v4))
            self.sockets[party.port].send(frames.ethernet(_BROADCAST, party.mac, frames.ARP, packet))

    def send(self, frame: bytes, sender: Party = A) -> Seen:
        """What becomes of one frame, with a look at dom0's tables before and after."""
        self.restore()
        before = self.forwarding(), self.neighbors()
        self.drain()
        self.sockets[sender.port].send(frame)
        # Read before the markers: they teach the bridge again where their senders are.
        after = self.forwarding(), self.neighbors()
        where = self._observe(frame, sender)
        return Seen(
            where,
            *(dict(set(new.items()) - set(old.items())) for old, new in zip(before, after, strict=True)),
        )

    def send_all(self, batch: Sequence[bytes], sender: Party = A) -> list[frozenset[str]]:
        """For each frame the observers it reached."""
        self.drain()
        found: list[frozenset[str]] = []
        for frame in batch:
            self.sockets[sender.port].send(frame)
            found.append(self._observe(frame, sender))
        return found

    def send_together(self, batch: Sequence[bytes], sender: Party = A) -> tuple[list[frozenset[str]], Tables]:
        """For each frame of a batch, no two alike, the observers it reached; and dom0's tables before anything else was sent.

        Some thousand times a second, where one frame after the other is some hundred times. What listens in dom0 is not asked:
        a frame that gets there has passed the bridge's own socket.
        """
        self.drain()
        for frame in batch:
            self.sockets[sender.port].send(frame)
        tables = self.forwarding(), self.neighbors()
        by_bytes = {variant: number for number, frame in enumerate(batch) for variant in variants(frame)}
        mark = self._mark()
        found: list[set[str]] = [set() for _ in batch]
        for observer, ear in self.sockets.items():
            if observer != sender.port:
                for got in _until(ear, mark):
                    if (number := by_bytes.get(got)) is not None:
                        found[number].add(observer)
        return [frozenset(each) for each in found], tables

    def _observe(self, frame: bytes, sender: Party) -> frozenset[str]:
        mark = self._mark()
        where = {
            observer
            for observer, ear in self.sockets.items()
            if observer != sender.port and any(_same(got, frame) for got in _until(ear, mark))
        }
        if any(data in frame for ear in self._listeners for data in waiting(ear)):
            where.add(BRIDGE)
        return frozenset(where)

    def _mark(self) -> bytes:
        # From two parties, because nobody hears himself.
        text = _MARK + struct.pack("!Q", next(self._serial))
        for party in (B, GATEWAY):
            datagram = frames.udp(party.v4, "255.255.255.255", (9, 9), text)
            packet = frames.ipv4(party.v4, "255.255.255.255", frames.UDP, datagram)
            self.sockets[party.port].send(frames.ethernet(_BROADCAST, party.mac, frames.IPV4, packet))
        return text

    def settle(self) -> None:
        """Waits until all that was sent before has gone its way, and forgets what was heard of it."""
        mark = self._mark()
        for ear in self.sockets.values():
            _until(ear, mark)
        self.drain()

    def drain(self, observers: Iterable[str] = ()) -> None:
        """Forgets what was heard so far."""
        for observer in tuple(observers) or tuple(self.sockets):
            waiting(self.sockets[observer])
        for ear in self._listeners:
            waiting(ear)

    def heard(self, observer: str) -> list[bytes]:
        """All frames an observer has heard since it was last asked."""
        return waiting(self.sockets[observer])

    def forwarding(self) -> dict[str, str]:
        """The port that the bridge sends to, by MAC."""
        with self.dom0.inside():
            return {mac: socket.if_indextoname(port) for mac, port in self._tables.forwarding()}

    def neighbors(self) -> dict[str, str]:
        """The MAC that dom0 sends to, by address."""
        with self.dom0.inside():
            return dict(self._tables.neighbors(socket.if_nametoindex(BRIDGE)))


def _processor() -> int:
    """The number of the processor that this process runs on.

    Source: proc_pid_stat(5), field 39; the second, a name, may have blanks.
    """
    return int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[39 - 3])


def _raw_socket(device: str) -> socket.socket:
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    raw.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    raw.bind((device, 0))
    return raw


def _listener(family: socket.AddressFamily) -> socket.socket:
    ear = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    ear.bind(("", LISTENING))
    return ear


def waiting(ear: socket.socket) -> list[bytes]:
    """All that a socket has heard so far, taken from it."""
    got = []
    ear.settimeout(0)
    while True:
        try:
            got.append(ear.recv(65536))
        except BlockingIOError:
            return got


def _until(ear: socket.socket, mark: bytes) -> list[bytes]:
    """What arrived before the marker.

    Raises:
        TimeoutError: the marker did not arrive: legal broadcasts are lost.
    """
    got = []
    ear.settimeout(DEADLINE_S)
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        got.append(ear.recv(65536))
        if mark in got[-1]:
            return got[:-1]
    raise TimeoutError


def _same(received: bytes, sent: bytes) -> bool:
    """Whether it is that frame: the kernel keeps VLAN tags apart, and br_netfilter cuts what is behind an IP packet."""
    candidate = sent
    for _ in range(3):
        if len(received) >= _ETHERNET_BYTES and candidate.startswith(received):
            return True
        if int.from_bytes(candidate[12:14], "big") not in _TAGS:
            return False
        candidate = candidate[:12] + candidate[16:]
    return False


def variants(frame: bytes) -> frozenset[bytes]:
    """A frame as observers may get it: the kernel keeps VLAN tags apart, and br_netfilter cuts what is behind an IP packet."""
    found = {frame}
    for _ in range(3):
        if int.from_bytes(frame[12:14], "big") not in _TAGS:
            break
        frame = frame[:12] + frame[16:]
        found.add(frame)
    if frame[12:14] == b"\x08\0":
        found.add(frame[: _ETHERNET_BYTES + int.from_bytes(frame[16:18], "big")])
    elif frame[12:14] == b"\x86\xdd":
        found.add(frame[: _ETHERNET_BYTES + 40 + int.from_bytes(frame[18:20], "big")])
    return frozenset(each for each in found if len(each) >= _ETHERNET_BYTES)


def has_br_netfilter() -> bool:
    """Whether this kernel can pass bridged frames through iptables."""
    return Path("/proc/sys/net/bridge/bridge-nf-call-iptables").exists()
