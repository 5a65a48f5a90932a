"""`python -m benchmarks.backends`: what each backend of the guard costs with few and with many vifs; as root, after `make setup`.

Prints one JSON document. A frame's time is the processor time of sending one datagram from a guest to the gateway, the
shortest of many rounds: the bridge works in the sender's own system call, so what else the machine does is not in it.
The first row is a bridge without any guard, with br_netfilter on as for all.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address, ip_network

from reconciler.guard.binding import Binding, Guard
from tests.packets.backends import BACKENDS, Backend, forget
from tests.packets.cases import udp4, udp6
from tests.packets.lab import Lab
from tests.packets.parties import A_BINDING, GATEWAY, A, binding, guard

ROUNDS, FRAMES = 25, 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backends", description=__doc__)
    parser.add_argument("--vifs", type=int, nargs="+", default=[10, 1000, 4000])
    options = parser.parse_args()
    lab = Lab()
    lab.clear()
    lab.filter_by_iptables(enabled=True)
    rows: list[Mapping[str, str | int | float]] = [{"backend": "none", **_frames(lab)}]
    for backend in BACKENDS:
        for count in options.vifs:
            rows.append({"backend": backend.name, "vifs": count, **_measured(lab, backend, count)})
            forget(lab)
            lab.clear()
    lab.close()
    print(json.dumps(rows, indent=2))


def guards(count: int) -> Iterator[Guard]:
    """A guard of so many vifs with two addresses each, and the same with one address less at one of them."""
    others = tuple(
        Binding(
            f"vm{number + 100:04}",
            f"00:16:3e:00:{number >> 8:02x}:{number & 255:02x}",
            (ip_network(ip_address("10.0.0.1") + number), ip_network(ip_address("2001:db8:1::1") + number)),
            f"uuid-{number}",
            0,
        )
        for number in range(count - 1)
    )
    yield guard(A_BINDING, *others)
    yield guard(binding(A), *others)


def _measured(lab: Lab, backend: Backend, count: int) -> Mapping[str, float]:
    whole, changed = guards(count)
    load = _seconds(lambda: backend.load(lab, whole))
    read = _seconds(lambda: backend.loaded(lab))
    found = {"load_s": load, "read_s": read, **_frames(lab)}
    return {**found, "change_s": _seconds(lambda: backend.change(lab, changed))}


def _seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return round(time.perf_counter() - start, 2)


def _frames(lab: Lab) -> Mapping[str, int]:
    lab.restore()
    return {
        "ipv4_ns": _nanoseconds(lab, udp4(A.v4, GATEWAY)),
        "ipv6_ns": _nanoseconds(lab, udp6(A.v6, GATEWAY)),
    }


def _nanoseconds(lab: Lab, frame: bytes) -> int:
    mouth, best = lab.sockets[A.port], float("inf")
    for _ in range(ROUNDS):
        lab.drain()
        start = time.thread_time_ns()
        for _ in range(FRAMES):
            mouth.send(frame)
        best = min(best, (time.thread_time_ns() - start) / FRAMES)
    return round(best)


if __name__ == "__main__":
    main()
