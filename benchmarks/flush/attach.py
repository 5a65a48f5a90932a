"""How long the hotplug script takes for one vif beside many. Inside a simulated dom0; see benchmarks.flush."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.flush.many import guard_of
from reconciler import hotplug
from reconciler.config import Paths
from reconciler.execute import HostDisk
from reconciler.guard import nftables
from reconciler.guard_record import Record
from state.nft import probe_features
from state.run import HostRunner

NODE, UUID, PORT = "/local/domain/0/backend/vif/977/0", "0d6f3f5e-5a4b-4c4e-9a53-0d6d3f0c2b11", "vif977.0"


def attached(vifs: int, rounds: int) -> Mapping[str, Any]:
    """Milliseconds of `vif-domgit online type_if=vif` for a vif with a name."""
    runner, guard = HostRunner(), guard_of(vifs)
    binding = guard.bindings[vifs // 2]
    _must(runner, "nft", "-f", "-", stdin=nftables.full(guard, probe_features(runner)))
    owner = f'"{binding.interface}" {UUID}.0 xenbr0'
    Record(Paths().guard, Paths().run, "boot").save(runner, frozenset({owner}))
    HostDisk(str).write(hotplug.PATH, hotplug.script(), 0o755)
    nodes = {"vifname": binding.interface, "mac": binding.mac, "bridge": "xenbr0", "type": "vif"}
    for key, value in nodes.items():
        _must(runner, "xenstore-write", f"{NODE}/{key}", value)
    _must(runner, "xenstore-write", "/local/domain/977/vm", f"/vm/{UUID}")
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "XENBUS_PATH": NODE, "vif": PORT}
    found = []
    for _ in range(rounds):
        _must(runner, "ip", "link", "add", "dev", PORT, "type", "veth", "peer", "name", "far977")
        started = time.monotonic()
        done = runner.run((hotplug.PATH, "online", "type_if=vif"), environment=environment)
        found.append((time.monotonic() - started) * 1000)
        if done.rc != 0:
            raise RuntimeError(str(done))
        _must(runner, "ip", "link", "del", "dev", binding.interface)
    return {"vifs": vifs, "median_ms": round(statistics.median(found)), "max_ms": round(max(found))}


def _must(runner: HostRunner, *argv: str, stdin: str = "") -> None:
    done = runner.run(argv, stdin=stdin)
    if done.rc != 0:
        raise RuntimeError(str(done))
