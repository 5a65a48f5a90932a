"""The example repository becomes running, guarded VPSs on real Xen."""

from __future__ import annotations

from pathlib import Path

import pytest

from state import xenstore, xl
from state.run import HostRunner
from tests.dom0.namespace import GATEWAY
from tests.dom0.toolstack import domids, run
from tests.xen.end_to_end.provider import NAMES, VM01, Provider, monitors, table
from tests.xen.inside import Guest

PORTS = ("vm01", "vm02", "mail", "mail-b")


def test_doctor_misses_nothing(provider: Provider) -> None:
    done = provider.domgit("doctor")

    assert done.code == 0, done.out + done.err
    assert "ok    guard by nftables" in done.out
    assert "ok    bridge xenbr0" in done.out


def test_the_plan_of_an_empty_dom0_is_to_add_everything(provider: Provider) -> None:
    planned = provider.domgit("plan", "--detailed-exitcode")

    assert planned.code == 2, planned.out + planned.err
    # Three VPSs, the guard and the hotplug script.
    assert planned.last == "Plan: 5 to add, 0 to change, 0 to remove, 0 staged, 0 blocked."
    assert domids() == {}
    assert table() == ""


@pytest.mark.usefixtures("guests")
def test_every_vps_of_the_example_repository_comes_up() -> None:
    assert set(domids()) == set(NAMES)
    assert [Guest(name).boots for name in NAMES] == [1, 1, 1]


def test_the_plan_after_it_is_empty(guests: Provider) -> None:
    after = guests.domgit("plan", "--detailed-exitcode")

    assert after.code == 0, after.out + after.err
    assert after.last.startswith("No changes. dom0-a matches main@")


@pytest.mark.usefixtures("guests")
def test_what_real_xl_prints_is_read() -> None:
    runner = HostRunner()
    rows = {row.name: row for row in xl.read_rows(runner)}
    saved = {each.name: each for each in xl.read_saved(runner).values()}
    uuids = xl.read_uuids(runner)

    assert set(rows) == set(saved) == set(NAMES)
    assert uuids == {each.domid: each.uuid for each in saved.values()}
    assert saved["vm01"].memory_mib == 128
    assert saved["mail"].vcpus == 2
    assert [vif.interface for vif in saved["mail"].vifs] == ["mail", "mail-b"]
    assert saved["vm01"].on_poweroff == "preserve"


@pytest.mark.usefixtures("guests")
def test_what_real_xenstore_prints_is_read() -> None:
    found = {vif.interface: vif for vif in xenstore.read_vifs(HostRunner())}

    assert set(found) == set(PORTS)
    assert found["vm01"].mac == VM01
    assert found["vm01"].rate == (62500, 50000)
    assert {vif.hotplug_status for vif in found.values()} == {"connected"}
    assert {Path(vif.script).name for vif in found.values()} == {"vif-domgit"}


@pytest.mark.usefixtures("guests")
@pytest.mark.parametrize("port", PORTS)
def test_a_port_is_netbacks_locked_and_learns_nothing(port: str) -> None:
    shown = run("bridge", "-d", "link", "show", "dev", port).stdout
    driver = Path(f"/sys/class/net/{port}/device/driver").resolve().name

    assert driver == "vif"
    assert "learning off" in shown
    assert "locked on" in shown


@pytest.mark.usefixtures("guests")
@pytest.mark.parametrize("name", NAMES)
def test_a_guest_reaches_the_gateway_and_dom0_and_is_reached(name: str) -> None:
    guest = Guest(name)
    own = {"vm01": "172.16.39.105", "vm02": "172.16.39.106", "mail": "172.16.39.109"}[name]

    assert guest.ping("172.16.39.1")
    assert guest.ping("172.16.39.2")
    assert GATEWAY.ping(own, 10.0)


@pytest.mark.usefixtures("guests")
def test_a_guest_with_ipv6_reaches_the_gateway_by_it() -> None:
    assert Guest("mail").ping("2001:db8:39::1", 5.0)


@pytest.mark.usefixtures("guests")
def test_guests_reach_each_other() -> None:
    assert Guest("vm01").ping("172.16.39.106", 5.0)
    assert Guest("vm02").ping("172.16.39.109", 5.0)


@pytest.mark.usefixtures("guests")
def test_every_domain_has_one_monitor() -> None:
    assert {name: len(monitors(name)) for name in NAMES} == dict.fromkeys(NAMES, 1)


def test_a_second_apply_touches_nothing(guests: Provider) -> None:
    files = [Path("/etc/xen/vm01.cfg"), Path("/etc/xen/scripts/vif-domgit"), Path("/var/lib/domgit/journal")]

    def state() -> object:
        backends = run("xenstore-ls", "-f", "/local/domain/0/backend").stdout
        return [(path.stat().st_ino, path.stat().st_mtime_ns) for path in files], backends, table(), domids()

    before = state()
    done = guests.domgit("apply", "--yes")

    assert done.code == 0, done.out + done.err
    assert state() == before


def test_get_tells_of_one_vps(guests: Provider) -> None:
    done = guests.domgit("get", "vm01")

    assert done.code == 0, done.out + done.err
    assert "172.16.39.105" in done.out
