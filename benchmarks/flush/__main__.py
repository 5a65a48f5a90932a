"""`python -m benchmarks.flush`: as root; prints one JSON document. See docs/performance.md.

In a network namespace of its own: the guard of `--vifs` vifs is kept and watched as by `domgit run`, and `nft flush
ruleset` runs `--rounds` times. What is measured is the time between the two commits of the kernel, as it tells of them:
our table is gone, our table is back. `busy`: the same while the process reads and compares the same guard without a
pause, as in a pass.

`python -m tests.dom0 -- .venv/bin/python -m benchmarks.flush --attach` measures the hotplug script beside as many vifs.
"""

from __future__ import annotations

import argparse
import json
import logging
import queue
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.flush.attach import attached
from benchmarks.flush.many import guard_of
from benchmarks.load.stopwatch import machine
from reconciler.guard import nftables
from reconciler.guard.binding import Guard
from reconciler.guard_record import Record
from reconciler.guard_restore import Restorer
from reconciler.watch_kernel import KernelWatch
from state.events import listen_to_rules, parse_rule_changes
from state.nft import Features, probe_features, read_table
from tests.packets.namespaces import Namespace

GIVES_UP_S = 30.0


def measured(vifs: int, rounds: int, *, busy: bool) -> Mapping[str, Any]:
    """The milliseconds without the guard, flush by flush."""
    host = Namespace()
    features = probe_features(host)
    guard = guard_of(vifs)
    with tempfile.TemporaryDirectory() as folder:
        record = Record(Path(folder, "guard"), Path(folder, "run"), "boot")
        host.run(("nft", "-f", "-"), stdin=nftables.full(guard, features))
        record.save(host, frozenset())
        reasons: queue.SimpleQueue[str] = queue.SimpleQueue()
        watch = KernelWatch(reasons, Restorer(host, record, lambda: ""))
        ended = threading.Event()
        work = threading.Thread(target=_work, args=(host, guard, features, ended))
        if busy:
            work.start()
        with host.inside():
            ear = listen_to_rules()
            listening = watch.listening()
            listening.__enter__()
        found = []
        try:
            for _ in range(rounds):
                host.must("nft", "flush", "ruleset")
                found.append(_without(ear))
                reasons.get(timeout=GIVES_UP_S)
        finally:
            ended.set()
            listening.__exit__(None, None, None)
            ear.close()
            if busy:
                work.join()
        whole = nftables.script(read_table(host), guard, features) == ("", "elements")
    host.close()
    found.sort()
    return {
        "vifs": vifs,
        "busy": busy,
        "rounds": rounds,
        "whole_afterwards": whole,
        "median_ms": round(statistics.median(found), 1),
        "p95_ms": round(found[max(0, round(len(found) * 0.95) - 1)], 1),
        "max_ms": round(found[-1], 1),
    }


def _without(ear: socket.socket) -> float:
    """The milliseconds between hearing that our table is gone and that it is back."""
    gone = None
    ear.settimeout(GIVES_UP_S)
    while True:
        data = ear.recv(1 << 20)
        now = time.monotonic()
        for change in parse_rule_changes(data):
            if change.ours and change.what == "table":
                if gone is not None:
                    _drain(ear)
                    return (now - gone) * 1000
                gone = now


def _drain(ear: socket.socket) -> None:
    ear.settimeout(0.2)
    try:
        while True:
            ear.recv(1 << 20)
    except OSError:
        return


def _work(host: Namespace, guard: Guard, features: Features, ended: threading.Event) -> None:
    while not ended.is_set():
        nftables.script(read_table(host), guard, features)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flush", description=__doc__)
    parser.add_argument("--vifs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument(
        "--attach", action="store_true", help="the hotplug script instead, in a simulated dom0"
    )
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # a line for each flush
    if options.attach:
        print(json.dumps({"machine": machine(), "attach": attached(options.vifs, options.rounds)}, indent=2))
        return
    figures = [measured(options.vifs, options.rounds, busy=busy) for busy in (False, True)]
    print(json.dumps({"machine": machine(), "flush": figures}, indent=2))


if __name__ == "__main__":
    main()
