"""What a test does from inside a network namespace: commands, frames, pings. For guests and for the gateway."""

import secrets
import socket
import struct
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.dom0 import kernel
from tests.dom0.network import OUTSIDE

COMMAND_S = 60.0
PING_EVERY_S = 0.1
ETH_P_ALL = 0x0003
ECHO = {4: (socket.AF_INET, socket.IPPROTO_ICMP, 8, 0), 6: (socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129)}


@dataclass(frozen=True, slots=True)
class Namespace:
    """A named network namespace of the simulated dom0."""

    netns: str

    def run(self, argv: Sequence[str], *, timeout_s: float = COMMAND_S) -> subprocess.CompletedProcess[str]:
        """The command's end, whatever its exit status.

        Raises:
            subprocess.TimeoutExpired: it did not end in time; it was killed.
        """
        return subprocess.run(
            ["ip", "netns", "exec", self.netns, *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def packet_socket(self, device: str = "eth0") -> socket.socket:
        """A raw socket on the device: what it sends goes out as is, what it receives is every frame that arrives.

        Raises:
            OSError: there is no such device, or it is down.
        """
        with kernel.network_namespace(self.netns):
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            raw.bind((device, 0))
            return raw

    def send(self, frame: bytes, device: str = "eth0") -> None:
        """Sends one Ethernet frame as it is, forged or not.

        Raises:
            OSError: there is no such device, or it is down.
        """
        with self.packet_socket(device) as raw:
            raw.send(frame)

    def ping(self, address: str, timeout_s: float = 2.0) -> bool:
        """Whether the address answers an echo request in time; asks again and again until then."""
        family, protocol, request, reply = ECHO[6 if ":" in address else 4]
        with kernel.network_namespace(self.netns):
            raw = socket.socket(family, socket.SOCK_RAW, protocol)
            target = socket.getaddrinfo(address, None, family, socket.SOCK_RAW)[0][4]
        ident = secrets.randbelow(0x10000)
        packet = struct.pack("!BBHHH", request, 0, 0, ident, 1)
        if family == socket.AF_INET:  # the kernel fills in ICMPv6 checksums, but not these
            packet = struct.pack("!BBHHH", request, 0, _checksum(packet), ident, 1)
        deadline = time.monotonic() + timeout_s
        with raw:
            while (left := deadline - time.monotonic()) > 0:
                try:
                    raw.sendto(packet, target)
                except OSError:  # no route, or the link is down, as yet
                    time.sleep(min(PING_EVERY_S, left))
                    continue
                if _answered(raw, (reply, ident), min(PING_EVERY_S, left)):
                    return True
        return False


def _answered(raw: socket.socket, expected: tuple[int, int], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while (left := deadline - time.monotonic()) > 0:
        raw.settimeout(left)
        try:
            data = raw.recv(2048)
        except TimeoutError:
            return False
        if raw.family == socket.AF_INET:
            data = data[(data[0] & 15) * 4 :]
        kind, _, _, ident, _ = struct.unpack("!BBHHH", data[:8])
        if (kind, ident) == expected:
            return True
    return False


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


GATEWAY = Namespace(OUTSIDE)
