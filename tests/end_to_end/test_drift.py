"""What somebody else changes is seen, named, and put right; what the customer does himself is respected."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.dom0.toolstack import domids, run, wait_until, xl
from tests.end_to_end.provider import IMAGES, Provider, booted, vif

pytestmark = pytest.mark.dom0


@pytest.fixture
def settled(provider: Provider) -> Provider:
    provider.domu("vm01", 1)
    provider.domu("vm02", 2)
    provider.settled()
    booted("vm01")
    booted("vm02")
    return provider


def attached(image: Path) -> bool:
    """Whether a loop device still has the image: a backend closes a moment after `xl destroy` has returned.

    By the file itself: another simulated dom0 on this machine may have one of the same path.
    """
    return bool(run("losetup", "--associated", str(image)).stdout)


def flush() -> None:
    run("nft", "flush", "ruleset")


def unlock() -> None:
    run("bridge", "link", "set", "dev", "vm01", "learning", "on", "locked", "off")


def forget_fdb() -> None:
    run("bridge", "fdb", "del", "00:16:3e:00:53:01", "dev", "vm01", "master")


def edit_rule() -> None:
    run("nft", "insert", "rule", "bridge", "domgit", "from_guest", "accept")


def take_element() -> None:
    run(
        "nft",
        "delete",
        "element",
        "bridge",
        "domgit",
        "own_v4",
        '{ "vm01" . 00:16:3e:00:53:01 . 172.16.39.101 }',
    )


def add_element() -> None:
    run("nft", "add", "element", "bridge", "domgit", "own_v4", '{ "vm01" . 00:16:3e:00:53:01 . 172.16.39.1 }')


def edit_file() -> None:
    with Path("/etc/xen/vm01.cfg").open("a") as file:
        file.write("pci = []\n")


def set_memory() -> None:
    xl("mem-set", str(domids()["vm01"]), "100")


def rename() -> None:
    xl("rename", "vm01", "vm01-old")


def destroy() -> None:
    xl("destroy", "vm01")


def take_port_off() -> None:
    run("ip", "link", "set", "dev", "vm01", "nomaster")


def attach_another() -> None:
    xl(
        "network-attach",
        "vm01",
        "mac=00:16:3e:00:53:99",
        "bridge=xenbr0",
        "vifname=extra",
        "script=vif-bridge",
    )


def edit_script() -> None:
    Path("/etc/xen/scripts/vif-domgit").write_text("#!/bin/sh\nexit 0\n")


def limit_rate() -> None:
    run("xenstore-write", f"/local/domain/0/backend/vif/{domids()['vm01']}/0/rate", "1000,50000")


def heard(ear: socket.socket, tag: bytes) -> bool:
    try:
        while tag not in ear.recv(2048):
            continue
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize(
    "harm",
    [
        flush,
        unlock,
        forget_fdb,
        edit_rule,
        take_element,
        add_element,
        edit_file,
        set_memory,
        rename,
        destroy,
        take_port_off,
        attach_another,
        edit_script,
        limit_rate,
    ],
    ids=lambda harm: harm.__name__,
)
def test_drift_is_seen_named_corrective_and_healed(settled: Provider, harm: object) -> None:
    assert callable(harm)
    assert settled.domgit("drift").code == 0
    harm()

    seen = settled.domgit("drift", "--json")
    healed = settled.domgit("apply", "--yes", "--disruption", "reboot")
    after = settled.domgit("drift")

    assert seen.code == 2, seen.out + seen.err
    assert {each["cause"] for each in seen.json["resource_drift"]} == {"corrective"}
    assert healed.code == 0, healed.out + healed.err
    assert after.code == 0, after.out
    wait_until(lambda: booted("vm01").ping("172.16.39.1", 0.5), "the healed guest's network")


def test_a_stolen_mac_is_stopped_while_every_rule_is_gone(settled: Provider) -> None:
    flush()
    victim = booted("vm01").packet_socket()
    victim.settimeout(0.3)
    frame = b"\xff" * 6 + bytes.fromhex("00163e005399") + b"\x88\xb5" + b"stolen" + bytes(60)

    booted("vm02").send(frame)

    with victim:
        assert not heard(victim, b"stolen")
    assert settled.domgit("apply", "--yes").code == 0


def test_a_guest_reboot_gets_a_new_domid_and_stays_bound_and_locked(settled: Provider) -> None:
    guest, domid = booted("vm01"), domids()["vm01"]

    guest.reboot()
    guest.wait_booted()

    assert domids()["vm01"] != domid
    assert guest.ping("172.16.39.1")
    assert settled.domgit("plan", "--detailed-exitcode").code == 0
    assert "locked on" in run("bridge", "-d", "link", "show", "dev", "vm01").stdout
    # From the hotplug script itself: without it, frames to LLDP's group reach dom0's own stack past every hook.
    assert "group_fwd_mask 0x4000" in run("ip", "-d", "link", "show", "dev", "vm01").stdout


def test_a_port_that_no_longer_forwards_lldp_is_put_right(settled: Provider) -> None:
    run("ip", "link", "set", "dev", "vm01", "type", "bridge_slave", "group_fwd_mask", "0")

    assert settled.domgit("drift").code == 2
    assert settled.domgit("run", "--once").code == 0
    assert "group_fwd_mask 0x4000" in run("ip", "-d", "link", "show", "dev", "vm01").stdout


def test_a_domu_whose_start_failed_is_no_orphan_and_no_drift(settled: Provider) -> None:
    settled.domu("vm03", 3, boot={"run": {"kernel": "/srv/xen/no-such-kernel"}})
    assert settled.apply().code == 1

    drift = settled.domgit("drift")
    change = settled.changes()["domu.vm03"]

    assert drift.code == 0, drift.out
    assert change["cause"] == "intentional"
    assert "up to date    no" in settled.domgit("status").out
    settled.domu("vm03", 3)
    settled.settled()
    assert "vm03" in domids()


def test_a_domu_that_was_started_by_hand_after_its_poweroff_is_to_run_again(settled: Provider) -> None:
    booted("vm01").poweroff()
    wait_until(lambda: "---s--" in xl("list").stdout, "the poweroff")
    assert settled.domgit("run", "--once").code == 0
    xl("create", "-q", "-f", "/etc/xen/vm01.cfg")

    assert settled.domgit("run", "--once").code == 0
    xl("destroy", "vm01")
    wait_until(lambda: not attached(IMAGES / "vm01.img"), "the backend letting go of its disk")

    assert settled.domgit("run", "--once").code == 0
    assert set(domids()) == {"vm01", "vm02"}


def test_a_domu_that_is_to_run_always_is_started_again(settled: Provider) -> None:
    settled.domu("vm01", 1, afterPoweroff="start")
    settled.settled()
    booted("vm01").poweroff()
    wait_until(lambda: "---s--" in xl("list").stdout, "the poweroff")

    done = settled.domgit("run", "--once")

    assert done.code == 0, done.out
    assert set(domids()) == {"vm01", "vm02"}


def test_the_hotplug_script_keeps_a_port_down_whose_binding_is_gone(settled: Provider) -> None:
    flush()
    guest = booted("vm01")

    guest.reboot()
    wait_until(lambda: "vm01" not in domids(), "the refused start")

    assert not guest.runs
    # Until the xl that made it has given up, the domain is left to that.
    wait_until(
        lambda: settled.domgit("apply", "--yes").code == 0, "the binding is there again, and the guest", 20
    )
    assert booted("vm01").ping("172.16.39.1")


def test_a_vif_whose_hotplug_failed_is_taken_away_and_attached_again(settled: Provider) -> None:
    settled.domu("vm01", 1, vifs=[vif("vm01", 1), vif("vm01b", 9, ips=["172.16.39.109"])])
    settled.commit()
    domid = domids()["vm01"]
    failed = xl(
        "network-attach",
        str(domid),
        "devid=1",
        "mac=00:16:3e:00:53:09",
        "bridge=xenbr0",
        "vifname=vm01b",
        "script=vif-domgit",
    )
    assert failed.returncode != 0

    settled.settled()

    assert "locked on" in run("bridge", "-d", "link", "show", "dev", "vm01b").stdout
