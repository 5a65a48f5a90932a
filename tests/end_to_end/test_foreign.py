"""Rules of others: never touched, byte for byte; named and refused where they keep guests dark or weaken the guard."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dom0.toolstack import domids, run
from tests.end_to_end.others import SWITCHES, clear, dumps, handed_over, load, load_everything
from tests.end_to_end.provider import Provider, booted, mac, vif
from tests.packets.corpora import loaded_by

pytestmark = pytest.mark.dom0
GATEWAY, ROUTER = "172.16.39.1", "172.16.39.200"
DROP = "`-A FORWARD -j DROP`"


@pytest.fixture
def others(provider: Provider) -> Iterator[Provider]:
    """A provider on a dom0 where others load rules."""
    clear()
    yield provider
    clear()


@pytest.fixture
def bridged(others: Provider) -> Iterator[Provider]:
    """The same, and bridged frames pass iptables."""
    if not SWITCHES[0].exists():
        pytest.skip("this kernel has no br_netfilter: bridged frames pass no iptables")
    with handed_over():
        yield others


def test_rules_of_others_stay_as_they_are_whatever_is_done(others: Provider) -> None:
    load_everything()
    before = dumps()
    assert "DOCKER-FORWARD" in before["iptables-legacy"]
    assert "KUBE-SVC" in before["iptables-nft"]
    assert "libvirt-I-vnet0" in before["ebtables"]
    assert "guest_nat" in before["ip virtual_networks"]
    changed: list[str] = []

    def done(what: str) -> None:
        changed.extend(f"{what}: {name}" for name, text in dumps().items() if text != before.get(name))
        changed.extend(f"{what}: {name} is gone" for name in before.keys() - dumps().keys())

    others.domu("vm01", 1)
    others.domu("web01", 2, vifs=[vif("web01", 2)])
    others.settled()
    done("first apply")
    others.domu("web01", 2, vifs=[vif("web01", 2, ips=["172.16.39.150"])])
    others.settled()
    done("another address")
    second = vif("web01b", 3)
    others.domu("web01", 2, vifs=[vif("web01", 2, ips=["172.16.39.150"]), second])
    others.settled()
    done("a vif attached")
    others.domu("web01", 2, vifs=[vif("web01", 2, ips=["172.16.39.150"], guard="audit")])
    others.settled()
    done("a vif detached, the other watched only")
    others.domu("web01", 2, vifs=[vif("web01", 2, ips=["172.16.39.150"])])
    run("nft", "delete", "table", "bridge", "domgit")
    assert others.apply().code == 0
    done("our table deleted and loaded again")
    others.domu("broken", 4, boot={"run": {"kernel": "/srv/xen/none"}})
    assert others.apply().code == 1
    done("a step that fails")
    others.remove("hosts/dom0-a/domus/broken.yaml")
    for number in range(3):
        others.domu("web01", 2, vifs=[vif("web01", 2, ips=[f"172.16.39.{160 + number}"])])
        killed_after(others, 0.7 + 0.4 * number)
        done("a kill in the middle")
    others.domu("web01", 2, state="absent")
    last = others.apply()
    assert last.code == 0, last
    done("a tombstone")

    assert changed == []
    assert set(domids()) == {"vm01"}


def killed_after(provider: Provider, seconds: float) -> None:
    """An apply that is killed at some moment."""
    provider.commit()
    process = subprocess.Popen(
        provider.argv("apply", "--yes"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_rules_of_others_stay_as_they_are_when_the_guard_is_taken_back(
    others: Provider, tmp_path: Path
) -> None:
    config = tmp_path / "domgit.toml"
    config.write_text('[tools]\nguard_revert = "6s"\n')
    load_everything()
    others.domu("vm01", 1, vifs=[vif("vm01", 1, guard="audit")])
    others.settled()
    # The way out leads over a guest that is only watched: to bind it cuts dom0 off.
    booted("vm01").configure(["172.16.39.101/24", f"{ROUTER}/24"])
    before, route = dumps(), run("ip", "-4", "route", "show", "default").stdout.split()
    assert run("ip", "-4", "route", "replace", "default", "via", ROUTER).returncode == 0
    others.domu("vm01", 1)
    others.commit()
    try:
        done = others.domgit("run", "--once", "--config", str(config))
    finally:
        assert run("ip", "-4", "route", "replace", *route).returncode == 0

    assert done.code == 5, done.out + done.err
    assert dumps() == before


def test_rules_made_by_hand_refuse_a_new_vps_and_let_those_with_their_lines_pass(bridged: Provider) -> None:
    load(loaded_by("by-hand iptables-legacy"))
    bridged.domu("vm01", 1)
    bridged.settled()
    bridged.domu("vm01", 1, memory="200MiB")
    bridged.domu("vm02", 2)

    done = bridged.apply()
    status = bridged.domgit("status")

    assert done.code == 4, done.out + done.err
    assert "! domu.vm02 " in done.out
    assert (
        f"iptables-legacy -t filter: {DROP} drops what it sends and what is sent to it (172.16.39.102)"
        in done.out
    )
    assert "Converged" not in done.out
    assert set(domids()) == {"vm01"}
    assert booted("vm01").ping(GATEWAY)
    assert "up to date    no" in status.out
    assert any(
        line.startswith("blocked") and "domu.vm02" in line and DROP in line
        for line in status.out.splitlines()
    )
    clear()
    bridged.settled()
    assert set(domids()) == {"vm01", "vm02"}


def test_a_vps_that_goes_dark_is_named_goes_on_otherwise_and_is_really_dark(bridged: Provider) -> None:
    bridged.domu("vm01", 1)
    bridged.domu("vm02", 2)
    bridged.settled()
    assert booted("vm02").ping(GATEWAY)
    load(loaded_by("by-hand iptables-nft"))
    bridged.domu("vm02", 2, memory="200MiB")

    done = bridged.apply()
    again = bridged.domgit("plan", "--detailed-exitcode")

    assert (done.code, again.code) == (4, 2), done.out + done.err
    assert (
        f"! domu.vm02.vif.0  (corrective)\n        blocked: dark: iptables-nft -t filter: {DROP}" in again.out
    )
    assert again.last == "Plan: 0 to add, 0 to change, 0 to remove, 0 staged, 1 blocked."
    assert "Converged" not in done.out
    assert "200" in run("xl", "list", "vm02").stdout
    # Its memory is as applied; that it is dark is all that differs.
    drifted = bridged.domgit("drift", "--json").json["resource_drift"]
    assert [each["address"] for each in drifted] == ["domu.vm02.vif.0"]
    assert not booted("vm02").ping(GATEWAY)
    assert booted("vm01").ping(GATEWAY)


def test_what_takes_frames_past_the_guard_is_named_and_the_rest_goes_on(others: Provider) -> None:
    others.domu("vm01", 1)
    others.domu("vm02", 2)
    others.settled()
    load(loaded_by("monitor nft"))
    others.domu("vm03", 3)

    done = others.apply()
    status = others.domgit("status", "--json").json

    assert done.code == 4, done.out + done.err
    assert set(domids()) == {"vm01", "vm02", "vm03"}
    assert [each["address"] for each in status["blocked"]] == ["foreign.netdev.taps"]
    assert (
        'chain tap: `tcp dport 25 dup to "vm02"` copies frames past the guard (vm01)'
        in status["blocked"][0]["why"]
    )
    assert not status["up_to_date"]
    assert run("nft", "list", "table", "netdev", "taps").returncode == 0
    run("nft", "delete", "table", "netdev", "taps")
    others.settled()


def notes(provider: Provider, reason: str) -> list[str]:
    """The messages of the present plan's notes with this reason."""
    plan = provider.domgit("plan", "--json").json
    return [each["message"] for each in plan["notes"] if each["reason"] == reason]


def test_a_host_goes_over_from_rules_made_by_hand_and_nobody_is_cut_off(bridged: Provider) -> None:
    load(loaded_by("by-hand iptables-nft"))
    before = dumps()["iptables-nft"]
    bridged.domu("vm01", 1, vifs=[vif("vm01", 1, guard="audit")])
    bridged.settled()
    assert booted("vm01").ping(GATEWAY)
    watched = notes(bridged, "by_hand")
    bridged.domu("vm01", 1)
    enforced = bridged.apply()
    assert booted("vm01").ping(GATEWAY)
    bridged.domu("vm02", 2)
    refused = bridged.apply()
    untouched = dumps()["iptables-nft"]
    run("iptables-nft", "-F", "FORWARD")
    assert booted("vm01").ping(GATEWAY)
    bridged.settled()

    # Each of the six lines, all of them together, and what they would keep dark; and the switch.
    assert len(watched) == 9
    assert any(f"binds vm01 to {mac(1)} and 172.16.39.101, for ARP" in each for each in watched)
    assert any(f"{DROP} keeps every other address of vm01 dark" in each for each in watched)
    assert (enforced.code, refused.code) == (0, 4), enforced.out + enforced.err
    assert untouched == before
    assert set(domids()) == {"vm01", "vm02"}
    assert booted("vm02").ping(GATEWAY)
    assert notes(bridged, "by_hand") == []
