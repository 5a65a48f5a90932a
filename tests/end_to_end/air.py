"""Who is heard with an address: guests that claim it without a pause, and the gateway that listens, all the while."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from tests.dom0.guest import Guest
from tests.dom0.namespace import GATEWAY
from tests.dom0.network import GATEWAY_MAC
from tests.dom0.toolstack import wait_until
from tests.packets.frames import ARP, IPV4, UDP, arp, ethernet, ipv4, udp

BROADCAST, NOBODY = "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"
EVERY_S = 0.005
GATEWAY_IP = "172.16.39.1"


@dataclass(slots=True)
class Air:
    """What the gateway hears with one source address: the guests' names, in the order in which their frames came."""

    address: str
    macs: Mapping[str, str]  # the guests' names by MAC
    heard: list[str] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    ended: threading.Event = field(default_factory=threading.Event)

    def during(self, names: Sequence[str], times: int = 20) -> frozenset[str]:
        """Who is heard from now on, until each of these has sent so many times more."""
        mark, before = len(self.heard), {name: self.sent.get(name, 0) for name in names}
        wait_until(
            lambda: all(self.sent.get(name, 0) >= before[name] + times for name in names), "guests that send"
        )
        return frozenset(self.heard[mark:])

    def wait_for(self, name: str) -> None:
        """Until this one is heard.

        Raises:
            TimeoutError: it is not.
        """
        mark = len(self.heard)
        wait_until(lambda: name in self.heard[mark:], f"{name} with {self.address}")

    def order(self) -> Sequence[str]:
        """Who was heard, turn by turn: names that alternate have had the address at the same time."""
        heard = list(self.heard)
        return [name for place, name in enumerate(heard) if place == 0 or heard[place - 1] != name]

    def listen(self) -> None:
        """Keep who is heard, until the end."""
        with GATEWAY.packet_socket() as ear:
            ear.settimeout(0.1)
            while not self.ended.is_set():
                try:
                    frame = ear.recv(2048)
                except TimeoutError:
                    continue
                name = self.macs.get(frame[6:12].hex(":"))
                if name is not None and _source(frame) == self.address:
                    self.heard.append(name)

    def claim(self, name: str, mac: str) -> None:
        """Say it with packets and with ARP, whatever becomes of the guest, until the end."""
        packet = ipv4(self.address, GATEWAY_IP, UDP, udp(self.address, GATEWAY_IP, (4000, 9), b"mine"))
        frames = (
            ethernet(GATEWAY_MAC, mac, IPV4, packet),
            ethernet(BROADCAST, mac, ARP, arp(1, (mac, self.address), (NOBODY, self.address))),
        )
        mouth: socket.socket | None = None
        while not self.ended.is_set():
            time.sleep(EVERY_S)
            try:
                mouth = mouth or Guest(name).packet_socket()
                for frame in frames:
                    mouth.send(frame)
            except OSError:
                # Its link is down, or it is no more: a later boot brings another one.
                if mouth is not None:
                    mouth.close()
                mouth = None
            else:
                self.sent[name] = self.sent.get(name, 0) + 1
        if mouth is not None:
            mouth.close()


def _source(frame: bytes) -> str | None:
    """The IPv4 address that a frame says it is from."""
    kind = int.from_bytes(frame[12:14])
    if kind == IPV4:
        return str(IPv4Address(frame[26:30]))
    return str(IPv4Address(frame[28:32])) if kind == ARP else None


@contextmanager
def air(address: str, macs: Mapping[str, str]) -> Iterator[Air]:
    """The air while these guests, each with its MAC, claim the address."""
    listening = Air(address, {mac: name for name, mac in macs.items()})
    threads = [threading.Thread(target=listening.listen)]
    threads += [threading.Thread(target=listening.claim, args=item) for item in macs.items()]
    for thread in threads:
        thread.start()
    try:
        yield listening
    finally:
        listening.ended.set()
        for thread in threads:
            thread.join()
