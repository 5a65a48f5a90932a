"""`domgit render guard --json`: what it prints loads on a host that has nothing but its bridges, and guards it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.packets import frames
from tests.packets.lab import has_br_netfilter
from tests.packets.namespaces import Namespace

pytestmark = pytest.mark.netns
ROOT = Path(__file__).resolve().parents[2]
DOMGIT = Path(sys.executable).parent / "domgit"
VM01, VM02 = ("00:16:3e:7c:1f:6e", "172.16.39.105"), ("00:16:3e:7c:1f:6f", "172.16.39.106")


@pytest.fixture
def dom0() -> Iterator[Namespace]:
    """A host with the bridge of the example, and nothing else."""
    host = Namespace()
    host.must("ip", "link", "add", "xenbr0", "type", "bridge")
    host.must("ip", "link", "set", "xenbr0", "up")
    yield host
    host.close()


@pytest.fixture(params=["nftables", "iptables"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend, with frames passing iptables where it needs that; the switch is of the namespace's bridges."""
    if request.param == "iptables" and not has_br_netfilter():
        pytest.skip("this kernel has no br_netfilter")
    return str(request.param)


def rendered(backend: str) -> list[dict[str, Any]]:
    argv: list[str | Path] = [
        DOMGIT,
        "render",
        "guard",
        "--json",
        "--repo",
        ROOT / "examples",
        "--rev",
        "WORKTREE",
        "--host",
        "dom0-a",
        "--backend",
        backend,
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    assert (document["format_version"], document["backend"]) == ("1.0", backend)
    return list(document["steps"])


def load(host: Namespace, steps: list[dict[str, Any]]) -> None:
    for step in steps:
        done = host.run(step["argv"], stdin=step["stdin"])
        assert done.rc == 0 or step["optional"], done


def test_it_loads_before_any_vif_exists_and_a_second_time_changes_nothing(
    dom0: Namespace, backend: str
) -> None:
    steps = rendered(backend)

    load(dom0, steps)
    once = dom0.must("nft", "-s", "list", "ruleset")
    load(dom0, steps)

    assert dom0.must("nft", "-s", "list", "ruleset") == once
    bound = {"nftables": '"vm01" . 00:16:3e:7c:1f:6e . 172.16.39.105', "iptables": "ip saddr 172.16.39.105"}
    assert bound[backend] in once


def test_vifs_that_come_later_find_their_bindings_there(dom0: Namespace, backend: str) -> None:
    if backend == "iptables":
        dom0.sysctl({f"bridge/bridge-nf-call-{kind}tables": 1 for kind in ("ip", "ip6")})
    load(dom0, rendered(backend))
    guests = {}
    for port, (mac, _) in {"vm01": VM01, "vm02": VM02}.items():
        guest = Namespace()
        dom0.must(
            "ip",
            "link",
            "add",
            port,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "address",
            mac,
            "netns",
            guest.path,
        )
        dom0.must("ip", "link", "set", port, "master", "xenbr0", "up")
        guest.must("ip", "link", "set", "eth0", "arp", "off", "up")
        with guest.inside():
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            raw.bind(("eth0", 0))
        raw.settimeout(2)
        guests[port] = guest, raw
    sender, victim = guests["vm02"][1], guests["vm01"][1]

    def datagram(source: str, payload: bytes) -> bytes:
        body = frames.ipv4(source, VM01[1], frames.UDP, frames.udp(source, VM01[1], (5000, 9), payload))
        return frames.ethernet(VM01[0], VM02[0], frames.IPV4, body)

    sender.send(datagram("172.16.39.1", b"forged"))
    sender.send(datagram(VM02[1], b"honest"))
    heard: list[bytes] = []
    while not heard or b"honest" not in heard[-1]:
        heard.append(victim.recv(2048))

    assert not any(b"forged" in frame for frame in heard)
    for guest, raw in guests.values():
        raw.close()
        guest.close()
