"""What one commit changes while guests run: seen in the kernel, in Xen and in the guests themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from state import xenstore, xl
from state.run import HostRunner
from tests.dom0.toolstack import domids, node, run
from tests.xen.end_to_end.provider import Provider, monitors, wait_until
from tests.xen.inside import Guest

NEW = "172.16.39.120"
NEW_MAC = "00:16:3e:7c:1f:7a"


@dataclass(frozen=True, slots=True)
class Change:
    """A commit that was applied, with the domids before."""

    plan: str
    domids: Mapping[str, int]
    boots: Mapping[str, int]


def memory_kib(guest: Guest) -> int:
    """All of the memory that a guest's kernel has."""
    return int(guest.run(["sed", "-n", "s/^MemTotal: *\\([0-9]*\\).*/\\1/p", "/proc/meminfo"]).stdout)


def processors(guest: Guest) -> int:
    """How many processors a guest has online."""
    return int(guest.run(["grep", "-c", "^processor", "/proc/cpuinfo"]).stdout)


@pytest.fixture(scope="module")
def memory_before(guests: Provider) -> int:
    """vm01's, in KiB, before anything is changed."""
    assert guests.root.exists()
    return memory_kib(Guest("vm01"))


@pytest.fixture(scope="module")
def change(guests: Provider, memory_before: int) -> Change:
    """One commit: another address, more memory, a processor less, another rate, and a ceiling that needs a reboot."""
    assert memory_before > 0
    before = domids()
    boots = {name: Guest(name).boots for name in ("vm01", "vm02", "mail")}
    vm01, vm02 = guests.path("vm01"), guests.path("vm02")
    guests.edit(vm01, "ips: [172.16.39.105]", f"ips: [{NEW}]")
    guests.edit(vm01, "  profile: small\n", "  profile: small\n  memory: 160MiB\n")
    guests.edit(vm02, "      ips: [172.16.39.106]\n", "      ips: [172.16.39.106]\n      rate: 8Mb/s\n")
    guests.edit(vm02, "  profile: small\n", "  profile: small\n  maxMemory: 320MiB\n")
    guests.edit(guests.path("mail"), "  vcpus: 2\n", "  vcpus: 1\n  maxVcpus: 2\n")
    return Change(guests.applied().out, before, boots)


def test_no_guest_is_restarted_by_it(change: Change) -> None:
    assert domids() == change.domids
    assert {name: Guest(name).boots for name in change.boots} == change.boots


def test_the_plan_says_that_guests_notice_nothing(change: Change) -> None:
    assert "guest's network is interrupted" not in change.plan
    assert "guest is shut down" not in change.plan
    assert "vm01: [172.16.39.105] -> [172.16.39.120]" in change.plan


@pytest.mark.usefixtures("change")
def test_the_former_address_is_dark_and_the_new_one_answers() -> None:
    guest = Guest("vm01")
    assert not guest.ping("172.16.39.1", 2.0)

    guest.configure([f"{NEW}/24"], gateway="172.16.39.1")

    assert guest.ping("172.16.39.1", 5.0)


def test_memory_grows_in_the_guest_itself(change: Change, memory_before: int) -> None:
    assert "xl mem-set" in change.plan
    wait_until(lambda: memory_kib(Guest("vm01")) - memory_before > 24 << 10, "32 MiB more in the guest")


def test_a_processor_goes_offline_in_the_guest_itself(change: Change) -> None:
    assert "xl vcpu-set" in change.plan
    wait_until(lambda: processors(Guest("mail")) == 1, "one processor in the guest")


@pytest.mark.usefixtures("change")
def test_a_rate_stands_in_xenstore() -> None:
    rates = {vif.interface: vif.rate for vif in xenstore.read_vifs(HostRunner())}

    assert rates["vm02"] == (50000, 50000)


def test_what_needs_a_reboot_is_staged_and_comes_with_the_guests_own(
    guests: Provider, change: Change
) -> None:
    assert "^ domu.vm02" in change.plan
    guest, before = Guest("vm02"), domids()["vm02"]
    watching = monitors("vm02")

    guest.reboot()
    guest.wait_booted()

    after = domids()["vm02"]
    saved = xl.read_saved(HostRunner())[after]
    assert after != before
    assert saved.max_memory_mib == 320
    assert monitors("vm02") == watching
    assert guests.domgit("plan", "--detailed-exitcode").code == 0


@pytest.mark.usefixtures("change")
def test_after_its_reboot_a_guest_is_bound_and_locked_as_before() -> None:
    guest = Guest("vm02")
    shown = run("bridge", "-d", "link", "show", "dev", "vm02").stdout

    assert guest.ping("172.16.39.1", 5.0)
    assert "locked on" in shown
    assert "learning off" in shown
    assert "group_fwd_mask 0x4000" in run("ip", "-d", "link", "show", "dev", "vm02").stdout
    guest.run(["ip", "address", "add", f"{NEW}/24", "dev", "eth0"])
    try:
        said = guest.run(["ping", "-c", "1", "-W", "1", "-I", NEW, "172.16.39.1"]).stdout
        assert " 0 packets received" in said
    finally:
        guest.run(["ip", "address", "del", f"{NEW}/24", "dev", "eth0"])


@pytest.mark.usefixtures("change")
def test_another_mac_replugs_that_vif_alone(guests: Provider) -> None:
    guest, before = Guest("mail"), domids()["mail"]
    guests.edit(guests.path("mail"), "00:16:3e:7c:1f:73", NEW_MAC)

    done = guests.applied("--disruption", "link")

    assert "-/+ domu.mail.vif.1" in done.out
    assert domids()["mail"] == before
    wait_until(
        lambda: NEW_MAC in guest.run(["ip", "link", "show", "eth1"]).stdout,
        "the new card in the guest",
    )
    assert "locked on" in run("bridge", "-d", "link", "show", "dev", "mail-b").stdout
    assert guest.ping("172.16.39.1", 5.0)


def test_a_customers_poweroff_is_kept_and_undone_by_hand(guests: Provider) -> None:
    guest = Guest("vm02")
    guest.poweroff()
    wait_until(lambda: "---s--" in run("xl", "list", "vm02").stdout, "the poweroff")

    done = guests.domgit("apply", "--yes")

    assert done.code == 0, done.out + done.err
    assert "vm02" not in domids()
    assert "its customer switched it off" in guests.domgit("plan").out
    assert run("xl", "create", "-q", "/etc/xen/vm02.cfg").returncode == 0
    guest.wait_booted()
    assert guest.ping("172.16.39.1", 5.0)
    assert "powered_off: true -> false" in guests.applied().out


def test_a_crash_is_its_monitors_business(guests: Provider) -> None:
    guest, before = Guest("vm02"), domids()["vm02"]

    guest.crash()
    wait_until(lambda: domids().get("vm02", before) != before, "the new domain")
    guest.wait_booted()

    after = guests.domgit("plan", "--detailed-exitcode")
    assert after.code == 0, after.out


def spoil_everything() -> None:
    """Of each kind something, on real devices."""
    run("nft", "flush", "ruleset")
    run("bridge", "link", "set", "dev", "vm02", "learning", "on", "locked", "off")
    run("xl", "mem-set", "vm02", "100")
    run("ip", "link", "set", "dev", "mail", "nomaster")
    run("xenstore-write", f"/local/domain/0/backend/vif/{domids()['vm02']}/0/rate", "1000,50000")
    with Path("/etc/xen/mail.cfg").open("a", encoding="utf-8") as file:
        file.write("pci = []\n")
    run("xl", "destroy", "vm01")


@pytest.mark.usefixtures("change")
def test_all_that_somebody_spoilt_is_named_and_healed_at_once(guests: Provider) -> None:
    spoil_everything()

    drift = guests.domgit("drift", "--json")
    healed = guests.domgit("apply", "--yes", "--disruption", "reboot")

    named = {each["address"] for each in json.loads(drift.out)["resource_drift"]}
    assert drift.code == 2
    assert {"guard", "domu.vm01", "domu.vm02", "file./etc/xen/mail.cfg"} <= named
    assert any(address.startswith("domu.mail.vif.0") for address in named)
    assert healed.code == 0, healed.out + healed.err
    assert guests.domgit("drift").code == 0
    for name in ("vm01", "vm02", "mail"):
        Guest(name).wait_booted()
        assert Guest(name).ping("172.16.39.1", 10.0)
    assert node(f"/local/domain/0/backend/vif/{domids()['vm02']}/0/rate") == "50000,50000"


def test_a_guest_that_ignores_its_shutdown_is_destroyed_after_its_grace(guests: Provider) -> None:
    Guest("vm02").ignore_shutdown()
    guests.edit(guests.path("vm02"), "spec:\n", "spec:\n  state: halted\n")

    done = guests.applied("--disruption", "reboot")

    assert "vm02" not in domids(), done.out
    guests.edit(guests.path("vm02"), "spec:\n  state: halted\n", "spec:\n")
    guests.applied()
    Guest("vm02").wait_booted()
    Guest("vm02").ignore_shutdown(ignore=False)


def test_a_vps_that_left_git_runs_on_guarded_and_a_tombstone_ends_it(guests: Provider) -> None:
    image = Path("/srv/xen/images/vm03.img")
    guests.domu("vm03", 3)
    guests.applied()
    Guest("vm03").wait_booted()
    guests.remove(guests.path("vm03"))

    guests.applied()

    assert "vm03" in domids()
    assert Guest("vm03").ping("172.16.39.1", 5.0)
    assert "orphan" in guests.domgit("status").out
    guests.domu("vm03", 3, state="absent")
    guests.applied("--disruption", "reboot")
    assert "vm03" not in domids()
    assert not Path("/sys/class/net/vm03").exists()
    assert image.exists()
    guests.remove(guests.path("vm03"))
    guests.applied()
