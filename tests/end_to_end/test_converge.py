"""From a commit to a converged dom0, and back to rest."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.dom0.toolstack import domids, node, wait_until, xl
from tests.end_to_end.provider import IMAGES, STATE, Provider, booted, mac, vif

pytestmark = pytest.mark.dom0


def rules() -> str:
    return subprocess.run(
        ["nft", "-a", "-s", "list", "ruleset"], capture_output=True, text=True, check=True
    ).stdout


def saved(name: str) -> str:
    return xl("list", "--long", name).stdout


def test_a_commit_becomes_running_domus_and_the_plan_after_it_is_empty(provider: Provider) -> None:
    provider.domu("vm01", 1)
    provider.domu("vm02", 2, vcpus=2, maxVcpus=4)
    provider.commit("two VPSs")

    before = provider.domgit("plan", "--detailed-exitcode")
    done = provider.domgit("apply", "--yes")
    after = provider.domgit("plan", "--detailed-exitcode")

    assert before.code == 2
    assert (
        before.last == "Plan: 4 to add, 0 to change, 0 to remove, 0 staged, 0 blocked."
    )  # two domUs, guard, script
    assert done.code == 0, done.out + done.err
    assert set(domids()) == {"vm01", "vm02"}
    assert after.code == 0
    assert after.last.startswith("No changes. dom0-a matches main@")
    assert booted("vm01").ping("172.16.39.1")


def test_a_second_apply_touches_nothing(provider: Provider) -> None:
    provider.domu("vm01", 1)
    provider.settled()
    files = [
        Path("/etc/xen/vm01.cfg"),
        Path("/etc/xen/scripts/vif-domgit"),
        IMAGES / "vm01.img",
        STATE / "ledger.json",
        STATE / "journal",
    ]

    def state() -> object:
        stats = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in files]
        xenstore = subprocess.run(
            ["xenstore-ls", "-f", "/local/domain/0/backend"], capture_output=True, text=True, check=True
        ).stdout
        return stats, xenstore, rules(), domids()

    before = state()
    done = provider.domgit("apply", "--yes")

    assert done.code == 0
    assert state() == before


def test_an_address_changes_live_and_the_guest_notices_nothing(provider: Provider) -> None:
    provider.domu("vm01", 1)
    provider.settled()
    guest, domid = booted("vm01"), domids()["vm01"]
    provider.domu("vm01", 1, vifs=[vif("vm01", 1, ips=["172.16.39.150"])])
    provider.commit()

    impacts = {each["impact"] for each in provider.changes().values()}
    done = provider.domgit("apply", "--yes")

    assert impacts == {"none"}
    assert done.code == 0
    assert not guest.ping("172.16.39.1", 0.5)
    guest.configure(["172.16.39.150/24"], gateway="172.16.39.1")
    assert guest.ping("172.16.39.1")
    assert domids()["vm01"] == domid
    assert "172.16.39.150" in Path("/etc/xen/vm01.cfg").read_text()


def test_two_domus_swap_their_addresses_in_one_commit(provider: Provider) -> None:
    provider.domu("vm01", 1)
    provider.domu("vm02", 2)
    provider.settled()
    provider.domu("vm01", 1, vifs=[vif("vm01", 1, ips=["172.16.39.102"])])
    provider.domu("vm02", 2, vifs=[vif("vm02", 2, ips=["172.16.39.101"])])

    provider.settled()

    elements = subprocess.run(
        ["nft", "list", "set", "bridge", "domgit", "own_v4"], capture_output=True, text=True, check=True
    ).stdout
    assert f'"vm01" . {mac(1)} . 172.16.39.102' in elements
    assert f'"vm02" . {mac(2)} . 172.16.39.101' in elements


def test_memory_and_vcpus_change_live_up_to_their_ceilings(provider: Provider) -> None:
    provider.domu("vm01", 1, vcpus=1, maxVcpus=4)
    provider.settled()
    domid = domids()["vm01"]
    provider.domu("vm01", 1, memory="192MiB", vcpus=3, maxVcpus=4)

    provider.settled()

    assert domids()["vm01"] == domid
    assert node(f"/local/domain/{domid}/memory/target") == str(192 * 1024)
    assert [node(f"/local/domain/{domid}/cpu/{cpu}/availability") for cpu in range(4)] == ["online"] * 3 + [
        "offline"
    ]


def test_a_rate_changes_live_and_is_staged_for_the_next_reboot(provider: Provider) -> None:
    provider.domu("vm01", 1)
    provider.settled()
    domid = domids()["vm01"]
    provider.domu("vm01", 1, vifs=[vif("vm01", 1, rate="10Mb/s")])

    assert provider.apply().code == 0

    assert node(f"/local/domain/0/backend/vif/{domid}/0/rate") == "62500,50000"
    assert provider.changes()["domu.vm01"]["when"] == "next_guest_reboot"


def test_what_cannot_change_live_waits_for_the_guests_own_reboot(provider: Provider) -> None:
    provider.domu("vm01", 1)
    provider.settled()
    guest, domid = booted("vm01"), domids()["vm01"]
    provider.domu(
        "vm01",
        1,
        boot={"run": {"kernel": "/srv/xen/vmlinuz-2", "cmdline": "root=/dev/xvda quiet"}},
        maxMemory="512MiB",
    )

    done = provider.apply()
    staged = provider.domgit("plan")

    assert done.code == 0
    assert staged.last == "Plan: 0 to add, 0 to change, 0 to remove, 1 staged, 0 blocked."
    assert "^ domu.vm01" in staged.out
    assert domids()["vm01"] == domid
    assert '"vmlinuz-2"' not in saved("vm01")

    guest.reboot()
    guest.wait_booted()

    wait_until(lambda: "vmlinuz-2" in saved("vm01"), "the staged kernel")
    assert provider.domgit("plan", "--detailed-exitcode").code == 0


def test_staging_that_nobody_wants_any_more_is_taken_back(provider: Provider) -> None:
    provider.domu("vm01", 1)
    provider.settled()
    provider.domu("vm01", 1, maxMemory="512MiB")
    provider.apply()
    provider.domu("vm01", 1)

    provider.settled()

    assert [path.name for path in Path("/var/lib/xen").glob("userdata-d.*.xl")] == []


def test_a_staged_configuration_of_a_dead_domain_is_purged_and_a_strangers_is_not(provider: Provider) -> None:
    provider.domu("vm01", 1, uuid="0d6f3f5e-5a4b-4c4e-9a53-0d6d3f0c2b11")
    provider.settled()
    ours = Path("/var/lib/xen/userdata-d.77.0d6f3f5e-5a4b-4c4e-9a53-0d6d3f0c2b11.xl")
    theirs = Path("/var/lib/xen/userdata-d.77.0d6f3f5e-5a4b-4c4e-9a53-0d6d3f0c2b99.xl")
    for path in (ours, theirs):
        path.write_text("name = 'somebody else'\n")

    assert provider.domgit("apply", "--yes").code == 0

    assert not ours.exists()
    assert theirs.exists()


def test_a_vif_comes_goes_and_is_replugged_when_its_mac_changes(provider: Provider) -> None:
    provider.domu("vm01", 1)
    provider.settled()
    guest = booted("vm01")
    second = vif("vm01b", 9, ips=["172.16.39.109"])
    provider.domu("vm01", 1, vifs=[vif("vm01", 1), second])
    provider.settled()
    assert Path("/sys/class/net/vm01b/master").resolve().name == "xenbr0"

    provider.domu("vm01", 1, vifs=[{**vif("vm01", 1), "mac": mac(77)}])
    provider.host(extra="limits: {detach: 100%}")
    provider.settled()

    assert not Path("/sys/class/net/vm01b").exists()
    assert mac(77) in guest.run(["ip", "link", "show", "eth0"]).stdout
    wait_until(lambda: guest.ping("172.16.39.1", 0.5), "the replugged vif")


def test_a_change_that_replugs_a_vif_waits_where_nothing_may_be_disturbed(provider: Provider) -> None:
    provider.domu("vm01", 1, disruption="none")
    provider.settled()
    provider.domu("vm01", 1, disruption="none", vifs=[{**vif("vm01", 1), "mac": mac(77)}])

    done = provider.apply()
    waiting = provider.changes()["domu.vm01.vif.0"]
    elements = rules()
    allowed = provider.domgit("apply", "--yes", "--disruption", "link")

    assert done.code == 4
    assert waiting["when"] == "approval"
    assert mac(1) in elements
    assert mac(77) not in elements
    assert allowed.code == 0, allowed.out
    assert mac(77) in rules()


def test_halting_and_starting_again(provider: Provider) -> None:
    provider.domu("vm01", 1)
    provider.settled()
    provider.domu("vm01", 1, state="halted")
    provider.settled()
    assert domids() == {}

    provider.domu("vm01", 1)
    provider.settled()

    assert set(domids()) == {"vm01"}


def test_a_guest_that_ignores_shutdown_is_destroyed_after_its_grace(
    provider: Provider, tmp_path: Path
) -> None:
    provider.domu("vm01", 1)
    provider.settled()
    booted("vm01").ignore_shutdown()
    config = tmp_path / "domgit.toml"
    config.write_text('[tools]\nshutdown_grace = "2s"\n')
    provider.domu("vm01", 1, state="halted")
    provider.commit()

    done = provider.domgit("apply", "--yes", "--config", str(config))

    assert done.code == 0, done.out
    assert domids() == {}


def test_a_plan_prints_as_markdown_and_html_too(provider: Provider) -> None:
    provider.domu("vm01", 1)
    provider.commit()

    markdown = provider.domgit("plan", "--format", "markdown").out
    page = provider.domgit("plan", "--format", "html").out

    assert "| `+` | `domu.vm01` | intentional |" in markdown
    assert page.startswith("<!DOCTYPE html>")
    assert "domu.vm01" in page
