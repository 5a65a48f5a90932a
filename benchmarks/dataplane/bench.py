"""Bridges side by side, one for each design, and the time that a frame takes through each, in turn.

The sender is one call for many frames, on one processor, where the kernel does all of a frame's way before the call is back: the
processor time of its thread is the frame's, whatever else runs meanwhile. All bridges are there at once, so that slices of a few milliseconds alternate and a slow phase of the machine meets all.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.dataplane.designs import BRIDGE, MEASURED, UPLINK, Design, vif
from tests.packets import frames as f
from tests.packets.namespaces import Namespace
from tests.packets.streams import Volley, mouth

GATEWAY_MAC, GATEWAY4, GATEWAY6 = "00:16:3e:ff:00:01", "10.255.255.254", "2001:db8::ffff:1"
_SLICE_NS = 15_000_000
_MOST = 1024  # messages of one call
_WARM_UP = 32


@dataclass(frozen=True, slots=True)
class Cost:
    """Nanoseconds for a frame: the median of all rounds, and the quarters around it."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:,.0f} [{self.low:,.0f}..{self.high:,.0f}]"


class Bench:
    """One bridge with a guest, an uplink and any number of other ports, under one design.

    `kind` of the measured frame: v4, v6 or broadcast from the guest, or inbound, IPv4 from the uplink to it.
    """

    def __init__(self, design: Design, vifs: int, *, kind: str = "v4", ports: int = 0) -> None:
        self.design, self.vifs, self.kind = design, vifs, "v4" if kind == "inbound" else kind
        self.host, self.ends = Namespace(), Namespace()
        self._rounds: list[float] = []
        self._build(ports)
        design.load(self.host, vifs)
        self._mouth = mouth(self.ends, MEASURED)
        self._check()
        if kind == "inbound":
            self._turn_round()
        once = Volley([self._frame()] * _WARM_UP)
        took = min(self._time(once) for _ in range(3)) / _WARM_UP
        self._volley = Volley([self._frame()] * int(min(_MOST, max(8, _SLICE_NS / took / 4))))
        self._times = max(1, int(_SLICE_NS / took / self._volley.size))

    def _build(self, ports: int) -> None:
        self.host.sysctl(
            {f"bridge/bridge-nf-call-{kind}tables": self.design.filtered for kind in ("ip", "ip6", "arp")}
        )
        for each in (self.host, self.ends):
            each.sysctl({"ipv6/conf/default/disable_ipv6": 1, "ipv6/conf/all/disable_ipv6": 1})
        self.host.must(
            "ip", "link", "add", BRIDGE, "type", "bridge", "mcast_snooping", "0", "ageing_time", "0"
        )
        names = [MEASURED, UPLINK, *(f"other{number}" for number in range(ports))]
        lines = [f"link add {name} type veth peer name {name} netns {self.ends.path}" for name in names]
        lines += [f"link set {name} master {BRIDGE} up" for name in names]
        self.host.must("ip", "-batch", "-", stdin="\n".join([*lines, f"link set {BRIDGE} up", ""]))
        self.ends.must("ip", "-batch", "-", stdin="".join(f"link set {name} arp off up\n" for name in names))
        self.host.must("bridge", "fdb", "replace", GATEWAY_MAC, "dev", UPLINK, "master", "static")
        counting = f'table netdev t {{\ncounter heard {{ }}\nchain c {{\ntype filter hook ingress device "{UPLINK}" priority 0;\ncounter name heard drop\n}}\n}}\n'
        self.ends.must("nft", "-f", "-", stdin=counting)

    def _turn_round(self) -> None:
        self.kind = "inbound"
        self.host.must(
            "bridge", "fdb", "replace", vif(self.vifs - 1).mac, "dev", MEASURED, "master", "static"
        )
        self._mouth.close()
        self._mouth = mouth(self.ends, UPLINK)

    def _frame(self, *, forged: bool = False) -> bytes:
        own = vif(self.vifs - 1)
        if self.kind == "inbound":
            datagram = f.udp("198.51.100.1", GATEWAY4, (5001, 5000), b"measured" * 2)
            return f.ethernet(own.mac, GATEWAY_MAC, f.IPV4, f.ipv4("198.51.100.1", GATEWAY4, f.UDP, datagram))
        number = 1 if self.kind == "v6" else 0
        source = str(own.addresses[number].network_address)
        if forged:
            source = "10.254.0.1" if number == 0 else "2001:db8:ffff::1"
        target = (GATEWAY4, GATEWAY6)[number] if self.kind != "broadcast" else "255.255.255.255"
        datagram = f.udp(source, target, (5000, 5001), b"measured" * 2)
        packet = (f.ipv4, f.ipv6)[number](source, target, f.UDP, datagram)
        to = "ff:ff:ff:ff:ff:ff" if self.kind == "broadcast" else GATEWAY_MAC
        return f.ethernet(to, own.mac, (f.IPV4, f.IPV6)[number], packet)

    def _heard(self) -> int:
        return int(self.ends.must("nft", "list", "counters", "netdev").split("packets ")[1].split()[0])

    def _check(self) -> None:
        """What is fast and leaks, or loses, does not count."""
        before = self._heard()
        Volley([self._frame()] * 10).send(self._mouth)
        legal = self._heard()
        Volley([self._frame(forged=True)] * 10).send(self._mouth)
        forged = self._heard()
        expected = (10, 0 if self.design.stops else 10)
        if (legal - before, forged - legal) != expected:
            raise RuntimeError(
                f"{self.design.name}, {self.vifs}: {(legal - before, forged - legal)} of 10 heard"
            )

    def _time(self, volley: Volley) -> int:
        started = time.thread_time_ns()
        sent = volley.send(self._mouth)
        took = time.thread_time_ns() - started
        if sent != volley.size:
            raise RuntimeError(f"{self.design.name}: {sent} of {volley.size} sent")
        return took

    def slice(self) -> None:
        """One turn: the fastest of its calls, since whatever disturbs makes it slower."""
        self._rounds.append(min(self._time(self._volley) for _ in range(self._times)) / self._volley.size)

    @property
    def cost(self) -> Cost:
        """Over all its turns."""
        low, median, high = statistics.quantiles(self._rounds, n=4)
        return Cost(median, low, high)

    def close(self) -> None:
        """The bridge and everything on it gone."""
        self._mouth.close()
        for each in (self.host, self.ends):
            each.close()


def alternate(benches: Sequence[Bench], rounds: int) -> None:
    """Slices of all in turn, on one processor."""
    home = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(home)})
    try:
        for _ in range(rounds):
            for each in benches:
                each.slice()
    finally:
        os.sched_setaffinity(0, home)
