"""An address has one owner at every moment: the one before keeps it until he has ended, and then cannot send from it.

Guests claim the address without a pause, and the gateway hears who gets through.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dom0.toolstack import domids
from tests.end_to_end.air import Air, air
from tests.end_to_end.provider import IMAGES, Provider, booted, mac, vif

pytestmark = pytest.mark.dom0
CONTESTED = "172.16.39.101"
VM01 = "e608ed38-c1b9-532e-a769-0156b41e19e1"  # the uuid that follows from the name
BROKEN = "apiVersion: domgit/v1\nkind: DomU\nmetadata: {name: vm01}\nspec: {memroy: 1}\n"


def both(ips: str) -> dict[str, object]:
    """The specification of vm02 with its own address and another one."""
    return {"vifs": [vif("vm02", 2, ips=["172.16.39.102", ips])]}


@pytest.fixture
def two(provider: Provider) -> Iterator[tuple[Provider, Air]]:
    """vm01, whose address it is, and vm02, who wants it; both talk."""
    provider.domu("vm01", 1)
    provider.domu("vm02", 2)
    provider.settled()
    booted("vm01")
    booted("vm02")
    with air(CONTESTED, {"vm01": mac(1), "vm02": mac(2)}) as listening:
        assert listening.during(["vm01", "vm02"]) == {"vm01"}
        yield provider, listening


def test_an_orphans_address_is_its_own_until_it_is_removed(two: tuple[Provider, Air]) -> None:
    provider, heard = two
    provider.remove("hosts/dom0-a/domus/vm01.yaml")
    provider.domu("vm02", 2, **both(CONTESTED))

    refused = provider.apply()
    status = provider.domgit("status").out
    then = heard.during(["vm01", "vm02"])
    provider.domu("vm01", 1, state="absent")
    released = provider.apply()
    heard.wait_for("vm02")

    assert refused.code == 4
    assert (
        f"blocked       domu.vm02: address {CONTESTED} is still vm01's, an orphan: its file is gone\n"
        in status
    )
    assert then == {"vm01"}
    assert released.code == 0, released.out
    assert heard.order() == ["vm01", "vm02"]


def test_a_held_back_domus_address_is_its_own_until_its_file_is_right(two: tuple[Provider, Air]) -> None:
    provider, heard = two
    provider.write("hosts/dom0-a/domus/vm01.yaml", BROKEN)
    provider.domu("vm02", 2, **both(CONTESTED))

    refused = provider.apply()
    status = provider.domgit("status").out
    then = heard.during(["vm01", "vm02"])
    provider.domu("vm01", 1, vifs=[vif("vm01", 1, ips=["172.16.39.111"])])
    released = provider.apply()
    heard.wait_for("vm02")

    assert refused.code == 4
    assert f"blocked       domu.vm02: address {CONTESTED} is still vm01's, whose file has errors\n" in status
    assert then == {"vm01"}
    assert released.code == 0, released.out
    assert heard.during(["vm01", "vm02"]) == {"vm02"}
    assert heard.order() == ["vm01", "vm02"]


def test_the_address_of_one_that_is_to_go_is_its_own_until_it_has_stopped(
    two: tuple[Provider, Air], tmp_path: Path
) -> None:
    provider, heard = two
    config = tmp_path / "domgit.toml"
    config.write_text('[tools]\nshutdown_grace = "2s"\n')
    provider.host(extra="limits: {absent: 0}")
    provider.domu("vm01", 1, state="absent")
    provider.domu("vm02", 2, **both(CONTESTED))

    refused = provider.apply()
    status = provider.domgit("status").out
    then = heard.during(["vm01", "vm02"])
    booted("vm01").ignore_shutdown()
    provider.host()
    released = provider.apply("--config", str(config))
    heard.wait_for("vm02")

    assert refused.code == 4
    assert "blocked       domu.vm01: 1 domUs would be removed at once, limits.absent is 0\n" in status
    assert f"blocked       domu.vm02: address {CONTESTED} is still vm01's, whose removal waits\n" in status
    assert then == {"vm01"}
    assert released.code == 0, released.out
    assert heard.order() == ["vm01", "vm02"]


def test_a_rename_without_a_uuid_is_blocked_and_says_how(two: tuple[Provider, Air]) -> None:
    provider, heard = two
    provider.remove("hosts/dom0-a/domus/vm01.yaml")
    renamed = {
        "vifs": [vif("vm01", 1)],
        "disks": [{"vdev": "xvda", "path": f"{IMAGES}/vm01.img", "size": "8MiB"}],
    }
    provider.domu("web01", 1, **renamed)
    before = domids()

    refused = provider.apply()
    status = provider.domgit("status").out
    then, still = heard.during(["vm01", "vm02"]), domids()
    provider.domu("web01", 1, uuid=VM01, **renamed)
    provider.settled()

    assert refused.code == 4
    assert (
        f"blocked       domu.web01, domu.web01.disk.xvda: MAC {mac(1)} is still vm01's, an orphan: its file is gone "
        f"(if web01 is vm01 renamed: write `uuid: {VM01}` into its metadata)\n"
    ) in status
    assert then == {"vm01"}
    assert still == before
    assert domids() == {"web01": before["vm01"], "vm02": before["vm02"]}
    assert heard.during(["vm01", "vm02"]) == {"vm01"}
    assert heard.order() == ["vm01"]


def test_a_shared_address_is_heard_from_every_claimant_and_from_nobody_else(provider: Provider) -> None:
    everybody = ["vm01", "vm02", "vm03"]
    shared = {"address": "172.16.39.200", "shared": True}

    def claimants(*names: str) -> None:
        for number, name in enumerate(everybody, 1):
            own = [f"172.16.39.{100 + number}"]
            provider.domu(
                name, number, vifs=[vif(name, number, ips=[*own, *([shared] if name in names else [])])]
            )

    claimants("vm01", "vm02")
    provider.settled()
    for name in everybody:
        booted(name)
    with air("172.16.39.200", {name: mac(number) for number, name in enumerate(everybody, 1)}) as heard:
        two = heard.during(everybody)
        claimants("vm01", "vm03")
        assert provider.apply().code == 0
        moved = heard.during(everybody)
        claimants("vm01", "vm02", "vm03")
        provider.remove("hosts/dom0-a/domus/vm01.yaml")
        assert provider.apply().code == 0
        with_orphan = heard.during(everybody)
        alone = vif("vm02", 2, ips=["172.16.39.102", "172.16.39.200"])
        claimants()
        provider.remove("hosts/dom0-a/domus/vm01.yaml")
        provider.domu("vm02", 2, vifs=[alone])
        refused = provider.apply()

    assert two == {"vm01", "vm02"}
    assert moved == {"vm01", "vm03"}
    assert with_orphan == {"vm01", "vm02", "vm03"}
    assert refused.code == 4
    assert "address 172.16.39.200 is still vm01's, an orphan: its file is gone" in refused.out
