"""What a change of the guard costs: whole processes of nft as they are started by a pass, and reading back.

Milliseconds. A table that is changed has a bridge and ports beside it, but no traffic.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_network
from pathlib import Path

from benchmarks.dataplane.designs import by_hand, guard
from reconciler.guard import nftables
from reconciler.guard.binding import Guard
from state.nft import Features, LoadedTable, read_table
from tests.packets.namespaces import Namespace

_FEATURES = Features(ibrname=False)
ROOT = Path(__file__).resolve().parents[2]
SIZES = (10, 100, 1_000, 4_000)


@dataclass(frozen=True, slots=True)
class Took:
    """Milliseconds from start to end, and of a processor, in this process and in those that it waited for."""

    wall: float
    processor: float


def _timed(what: Callable[[], object]) -> Took:
    started, busy = time.perf_counter(), _busy_s()
    what()
    return Took((time.perf_counter() - started) * 1000, (_busy_s() - busy) * 1000)


def _busy_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def spread(times: Sequence[Took]) -> str:
    """`12.3 ms [11.0..15.2], 8.0 ms of a processor`."""
    walls = [each.wall for each in times]
    busy = statistics.median(each.processor for each in times)
    return f"{statistics.median(walls):.1f} ms [{min(walls):.1f}..{max(walls):.1f}], {busy:.1f} ms of a processor"


def _changed(of: Guard, turn: int, *, prefix: bool = False) -> Guard:
    """One vif with another address, or another prefix."""
    first = of.bindings[0]
    bound = ip_network(f"192.168.{turn}.0/28" if prefix else f"192.168.0.{turn}")
    return replace(of, bindings=(replace(first, addresses=(*first.addresses, bound)), *of.bindings[1:]))


def _loaded(host: Namespace) -> LoadedTable:
    found = read_table(host)
    if found is None:
        raise RuntimeError("the guard is not loaded")
    return found


def install(rounds: int) -> Mapping[str, list[Took]]:
    """The whole guard of 4,000 vifs, and what is written by hand, each by one process."""
    ours, hand = nftables.full(guard(SIZES[-1]), _FEATURES), by_hand(SIZES[-1])
    times: dict[str, list[Took]] = {
        "nft -f -": [],
        "iptables-legacy-restore": [],
        "iptables-nft-restore": [],
    }
    for _ in range(rounds):
        for name, mine in times.items():
            host, text = Namespace(), ours if name == "nft -f -" else hand
            mine.append(_timed(partial(host.must, *name.split(), stdin=text)))
            host.close()
    return times


def changes(rounds: int) -> Mapping[int, Mapping[str, list[Took]]]:
    """By number of vifs: one address more (`nft -f -`), one prefix more, and reading and comparing the whole table."""
    hosts = {size: Namespace() for size in SIZES}
    times: dict[int, dict[str, list[Took]]] = {
        size: {"address": [], "prefix": [], "read": []} for size in SIZES
    }
    for size, host in hosts.items():
        host.must("nft", "-f", "-", stdin=nftables.full(guard(size), _FEATURES))
    for turn in range(rounds):
        for size, host in hosts.items():
            of = guard(size)
            loaded = _loaded(host)
            for kind, prefix in (("address", False), ("prefix", True)):
                there = nftables.delta(loaded, _changed(of, turn, prefix=prefix))
                times[size][kind].append(_timed(partial(host.must, "nft", "-f", "-", stdin=there)))
                host.must("nft", "-f", "-", stdin=nftables.delta(_loaded(host), of))
            times[size]["read"].append(_timed(partial(_compare, host, of)))
    for host in hosts.values():
        host.close()
    return times


def _compare(host: Namespace, of: Guard) -> None:
    if nftables.script(read_table(host), of, _FEATURES)[0]:
        raise RuntimeError("the table is not as it was loaded")


def one_shot(rounds: int, vifs: int) -> list[Took]:
    """A whole process that starts, reads the table, compares it with what is wanted, loads one binding that changed, and reads back."""
    host = Namespace()
    host.must("nft", "-f", "-", stdin=nftables.full(guard(vifs), _FEATURES))
    times = []
    for turn in range(rounds):
        argv = (sys.executable, "-m", "benchmarks.dataplane.control", str(vifs), str(turn))
        times.append(_timed(partial(host.must, "env", f"PYTHONPATH={ROOT}", *argv)))
    host.close()
    return times


def main() -> None:
    """The process that one_shot measures, in the namespace where it is started."""
    from state.run import HostRunner  # noqa: PLC0415  # for this process alone

    vifs, turn = int(sys.argv[1]), int(sys.argv[2])
    runner, wanted = HostRunner(), _changed(guard(vifs), turn)
    script, _ = nftables.script(read_table(runner), wanted, _FEATURES)
    done = runner.run(("nft", "-f", "-"), stdin=script)
    if not script or done.rc != 0 or nftables.script(read_table(runner), wanted, _FEATURES)[0]:
        sys.exit(f"nothing to do, or not done: {done}")


if __name__ == "__main__":
    main()
