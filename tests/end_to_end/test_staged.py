"""A commit that changes nearly everything about a running guest: what comes at once, what waits for its own reboot."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.dom0.toolstack import domids, xl
from tests.end_to_end.provider import IMAGES, Provider, booted, vif

pytestmark = pytest.mark.dom0
UUID, OTHER = "0d6f3f5e-5a4b-4c4e-9a53-0d6d3f0c2b11", "0d6f3f5e-5a4b-4c4e-9a53-0d6d3f0c2b12"
FIELDS = ["cmdline", "disks", "kernel", "maxMemory", "maxVcpus", "onCrash", "type"]
BEFORE: dict[str, Any] = {"uuid": UUID}
AFTER: dict[str, Any] = {
    "uuid": UUID,
    "type": "pvh",
    "memory": "192MiB",
    "maxMemory": "512MiB",
    "maxVcpus": 2,
    "boot": {"run": {"kernel": "/srv/xen/vmlinuz-2"}},
    "disks": [
        {"vdev": "xvda", "path": f"{IMAGES}/vm01.img", "size": "8MiB"},
        {"vdev": "xvdb", "path": f"{IMAGES}/more.img", "size": "8MiB"},
    ],
    "vifs": [{**vif("vm01", 7), "bridge": "xenbr1", "ips": ["198.51.100.7"]}],
    "onCrash": "preserve",
}
NETWORK = (
    "{apiVersion: domgit/v1, kind: Network, metadata: {name: b}, "
    "spec: {subnet: 198.51.100.0/24, gateway: 198.51.100.1, bridge: xenbr1}}\n"
)


@pytest.fixture
def other_bridge(provider: Provider) -> Iterator[None]:
    """A second bridge without an uplink, which git knows."""
    for argv in (("add", "dev", "xenbr1", "type", "bridge"), ("set", "dev", "xenbr1", "up")):
        subprocess.run(["ip", "link", *argv], check=True)
    host = provider.root / "hosts/dom0-a/host.yaml"
    bridges = "bridges: [{name: xenbr0, uplinks: [eth0]}"
    host.write_text(host.read_text().replace(bridges, f"{bridges}, {{name: xenbr1}}"))
    provider.write("networks/b.yaml", NETWORK)
    yield
    xl("destroy", "web01")
    subprocess.run(["ip", "link", "del", "dev", "xenbr1"], check=True)


def live() -> Any:
    """What libxl has saved of the one domain."""
    (entry,) = [each for each in json.loads(xl("list", "-l").stdout) if each["domid"] != 0]
    return entry["config"]


@pytest.mark.usefixtures("other_bridge")
def test_a_guest_keeps_what_it_has_until_its_own_reboot_brings_all_that_was_staged(
    provider: Provider,
) -> None:
    provider.domu("vm01", 1, **BEFORE)
    provider.settled()
    booted("vm01")
    domid = domids()["vm01"]
    provider.remove("hosts/dom0-a/domus/vm01.yaml")
    provider.domu("web01", 1, **AFTER)

    done = provider.apply("--disruption", "link")

    assert done.code == 0, done.out + done.err
    assert domids() == {"web01": domid}
    status, get = provider.domgit("status", "--json").json, provider.domgit("get", "web01", "--json").json
    assert status["pending_reboot"] == [{"address": "domu.web01", "fields": FIELDS}]
    assert get["pending_reboot"] == FIELDS
    assert f"PendingReboot domu.web01: the guest's own next reboot brings {', '.join(FIELDS)}\n" in (
        provider.domgit("status").out
    )
    config = live()
    assert (config["c_info"]["type"], config["b_info"]["target_memkb"]) == ("pv", 192 * 1024)
    assert [(nic["mac"], nic["bridge"]) for nic in config["nics"]] == [("00:16:3e:00:53:07", "xenbr1")]
    assert provider.domgit("plan").last == "Plan: 0 to add, 0 to change, 0 to remove, 1 staged, 0 blocked."

    booted("web01").reboot()
    booted("web01")

    config = live()
    assert (config["c_info"]["type"], config["c_info"]["uuid"]) == ("pvh", UUID)
    assert config["b_info"]["kernel"] == "/srv/xen/vmlinuz-2"
    assert (config["b_info"]["max_memkb"], config["b_info"]["max_vcpus"]) == (512 * 1024, 2)
    assert [disk["vdev"] for disk in config["disks"]] == ["xvda", "xvdb"]
    assert config["on_crash"] == "preserve"
    again = provider.domgit("plan", "--detailed-exitcode")
    assert again.code == 0, again.out

    after = domids()
    provider.domu("web01", 1, **{**AFTER, "uuid": OTHER})
    provider.commit()
    another = provider.domgit("run", "--once")

    assert another.code == 4
    assert domids() == after
    assert live()["c_info"]["uuid"] == UUID
    why = f"a domain of this name lives with another uuid ({UUID}; git says {OTHER})"
    assert f"blocked       domu.web01: {why}\n" in provider.domgit("status").out
