"""The moment a vif comes: with the real toolstack, nothing passes that was not planned for it, and a failed one leaves nothing."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.config import Paths
from tests.dom0.toolstack import domids, node, run, wait_until, xl
from tests.end_to_end.provider import STATE, Provider, booted, mac, vif

pytestmark = pytest.mark.dom0
GATEWAY = "172.16.39.1"
TEMPLATES = STATE / "vifs"


@pytest.fixture
def settled(provider: Provider) -> Provider:
    """Two guests that run, of which the second has a second vif without a name."""
    provider.domu("vm01", 1)
    unnamed = {**vif("", 9, ips=["172.16.39.109"])}
    del unnamed["name"]
    provider.domu("vm02", 2, vifs=[vif("vm02", 2), unnamed])
    provider.settled()
    return provider


def interfaces() -> set[str]:
    return {path.name for path in Path("/sys/class/net").iterdir()}


def ports() -> set[str]:
    return {path.name for path in Path("/sys/class/net/xenbr0/brif").iterdir()}


def pinned() -> str:
    return run("bridge", "fdb", "show", "br", "xenbr0").stdout


def elements(port: str) -> str:
    listing = run("nft", "-s", "list", "table", "bridge", "domgit").stdout
    return "\n".join(line for line in listing.splitlines() if f'"{port}"' in line)


def attach(name: str, index: int, *words: str) -> subprocess.CompletedProcess[str]:
    return xl(
        "network-attach", str(domids()[name]), f"devid={index}", "script=vif-domgit", "bridge=xenbr0", *words
    )


def why(name: str, index: int) -> str | None:
    return node(f"/local/domain/0/backend/vif/{domids()[name]}/{index}/hotplug-error")


def nothing_left(name: str, index: int) -> None:
    """A failed attach has left the vif in xenstore, as libxl does, and nothing on the bridge or under a name of ours."""
    assert elements(f"vif{domids()[name]}.{index}") == ""
    detached(name, index)


def detached(name: str, index: int) -> None:
    """The same, and its port may have been bound before."""
    first = f"vif{domids()[name]}.{index}"
    assert first in interfaces()
    assert "UP" not in run("ip", "-br", "link", "show", "dev", first).stdout.split()
    assert first not in ports()
    assert xl("network-detach", str(domids()[name]), str(index)).returncode == 0
    wait_until(lambda: first not in interfaces(), "the end of the vif")


def test_the_name_and_mac_of_one_guest_are_refused_to_another(settled: Provider) -> None:
    settled.domu("vm01", 1, state="halted")
    settled.settled()
    assert '"vm01"' in elements("vm01")  # it has its binding, and nobody has its port

    done = attach("vm02", 5, "vifname=vm01", f"mac={mac(1)}")

    assert done.returncode != 0
    assert why("vm02", 5) == "the guard gives vm01 what was not planned for it on xenbr0"
    assert "vm01" not in interfaces()
    assert mac(1) not in pinned()
    nothing_left("vm02", 5)
    settled.domu("vm01", 1)
    settled.settled()
    assert booted("vm01").ping(GATEWAY)


def test_a_binding_that_is_more_or_less_than_was_planned_keeps_the_port_down(settled: Provider) -> None:
    domid = domids()["vm01"]
    own = f'"vm01" . {mac(1)}'
    for verb, member in (("add", f"{own} . 172.16.39.222"), ("delete", f"{own} . 172.16.39.101")):
        assert xl("network-detach", str(domid), "0").returncode == 0
        wait_until(lambda: "vm01" not in interfaces(), "the end of the vif")
        run("nft", verb, "element", "bridge", "domgit", "own_v4", f"{{ {member} }}")

        done = attach("vm01", 0, "vifname=vm01", f"mac={mac(1)}")

        assert done.returncode != 0
        assert why("vm01", 0) == "the guard gives vm01 what was not planned for it on xenbr0"
        assert "vm01" not in interfaces()
        nothing_left("vm01", 0)
        assert settled.domgit("apply", "--yes").code == 0
        assert booted("vm01").ping(GATEWAY)


# Each has a binding bind nothing, or less, and leaves every element as it is.
_SPOILT = (
    "flush chain bridge domgit refused",
    "insert rule bridge domgit from_guest accept",
    'insert rule bridge domgit prerouting iifname "vm01" accept',
    "add table bridge domgit { flags dormant ; }",
)


def test_rules_that_somebody_has_changed_keep_the_port_down(settled: Provider) -> None:
    for spoilt in _SPOILT:
        assert xl("network-detach", str(domids()["vm01"]), "0").returncode == 0
        wait_until(lambda: "vm01" not in interfaces(), "the end of the vif")
        assert run("nft", spoilt).returncode == 0

        assert attach("vm01", 0, "vifname=vm01", f"mac={mac(1)}").returncode != 0

        assert why("vm01", 0) == "the rules of the guard are not those that were applied"
        detached("vm01", 0)
        assert settled.domgit("apply", "--yes").code == 0
        assert booted("vm01").ping(GATEWAY)


@pytest.mark.usefixtures("settled")
def test_an_interface_of_others_that_has_the_name_of_a_vif_is_left_alone() -> None:
    domid = domids()["vm01"]
    run("ip", "link", "add", "dev", "other0", "type", "bridge")
    run("ip", "link", "set", "dev", "other0", "up")
    try:
        assert attach("vm01", 7, "vifname=other0", "mac=00:16:3e:00:00:77").returncode != 0
        assert why("vm01", 7) == "an interface called other0 exists already"
        assert xl("network-detach", str(domid), "7").returncode == 0
        wait_until(lambda: f"vif{domid}.7" not in interfaces(), "the end of the vif")

        assert "UP" in run("ip", "link", "show", "dev", "other0").stdout.split("<")[1].split(">")[0].split(
            ","
        )
    finally:
        run("ip", "link", "del", "dev", "other0")


@pytest.mark.usefixtures("settled")
def test_a_vif_on_another_bridge_than_was_planned_stays_down() -> None:
    domid = domids()["vm01"]
    run("ip", "link", "add", "dev", "other0", "type", "bridge")
    try:
        assert xl("network-detach", str(domid), "0").returncode == 0
        wait_until(lambda: "vm01" not in interfaces(), "the end of the vif")

        done = attach("vm01", 0, "vifname=vm01", f"mac={mac(1)}", "bridge=other0")

        assert done.returncode != 0
        assert why("vm01", 0) == "the guard gives vm01 what was not planned for it on other0"
        nothing_left("vm01", 0)
    finally:
        run("ip", "link", "del", "dev", "other0")


def test_a_record_that_is_damaged_or_gone_plans_nothing_and_the_next_pass_makes_it_again(
    settled: Provider,
) -> None:
    kept = Paths().guard / "boot.nft"
    text = kept.read_text(encoding="utf-8")
    for spoilt in (text.replace("172.16.39.101", "172.16.39.102"), text[: len(text) // 2], ""):
        kept.write_text(spoilt, encoding="utf-8")
        assert xl("network-detach", str(domids()["vm01"]), "0").returncode == 0
        wait_until(lambda: "vm01" not in interfaces(), "the end of the vif")

        assert attach("vm01", 0, "vifname=vm01", f"mac={mac(1)}").returncode != 0

        nothing_left("vm01", 0)
        assert settled.domgit("apply", "--yes").code == 0
        assert kept.read_text(encoding="utf-8") == text
        assert booted("vm01").ping(GATEWAY)


def test_a_vif_without_a_name_is_bound_by_its_own_template_alone(settled: Provider) -> None:
    guest, before = booted("vm02"), domids()["vm02"]
    old, template = f"vif{before}.1", next(TEMPLATES.glob("*.nft"))
    assert f'"{old}" . {mac(9)} . 172.16.39.109' in elements(old)

    guest.reboot()
    guest.wait_booted()

    new = f"vif{domids()['vm02']}.1"
    assert new != old
    assert f'"{new}" . {mac(9)} . 172.16.39.109' in elements(new)
    assert "locked on" in run("bridge", "-d", "link", "show", "dev", new).stdout

    # Without its template, or with the one of another domU alone, it stays down.
    other = template.with_name(f"{'0' * 8}-0000-4000-8000-{'0' * 12}.1.nft")
    text = template.read_text(encoding="utf-8")
    template.rename(other)
    assert xl("network-detach", str(domids()["vm02"]), "1").returncode == 0
    wait_until(lambda: new not in interfaces(), "the end of the vif")
    assert attach("vm02", 1, f"mac={mac(9)}").returncode != 0
    assert why("vm02", 1) == f"the guard gives {new} what was not planned for it on xenbr0"
    detached("vm02", 1)
    other.rename(template)

    # A failed attach and then one that is right; and the template of one vif is nothing to another.
    assert attach("vm02", 1, "mac=00:16:3e:00:53:77").returncode != 0
    detached("vm02", 1)
    assert attach("vm02", 4, f"mac={mac(9)}").returncode != 0
    nothing_left("vm02", 4)
    assert attach("vm02", 1, f"mac={mac(9)}").returncode == 0
    assert f'"{new}" . {mac(9)} . 172.16.39.109' in elements(new)
    assert template.read_text(encoding="utf-8") == text
    assert settled.domgit("apply", "--yes").code == 0
    assert elements(old) == ""


def test_what_a_domain_left_that_had_the_domid_before_is_nobodys_grant(settled: Provider) -> None:
    guest = booted("vm02")
    after = f"vif{domids()['vm02'] + 1}.1"
    own_v4 = f'"{after}" . {mac(77)} . 172.16.39.177'
    for name, member in (("own_mac", f'"{after}" . {mac(77)}'), ("own_v4", own_v4)):
        run("nft", "add", "element", "bridge", "domgit", name, f"{{ {member} }}")

    guest.reboot()
    guest.wait_booted()

    assert f"vif{domids()['vm02']}.1" == after
    assert f'"{after}" . {mac(9)} . 172.16.39.109' in elements(after)
    assert mac(77) not in elements(after)
    assert settled.domgit("apply", "--yes").code == 0


def test_an_interface_that_has_the_name_already_is_left_alone(settled: Provider) -> None:
    settled.domu("vm01", 1, state="halted")
    settled.settled()
    run("ip", "link", "add", "dev", "vm01", "type", "bridge")
    try:
        run("ip", "link", "set", "dev", "vm01", "up")

        done = attach("vm02", 5, "vifname=vm01", f"mac={mac(1)}")

        assert done.returncode != 0
        assert why("vm02", 5) == "an interface called vm01 exists already"
        assert "UP" in run("ip", "link", "show", "dev", "vm01").stdout
        nothing_left("vm02", 5)
    finally:
        run("ip", "link", "del", "dev", "vm01")


@pytest.mark.usefixtures("settled")
def test_after_a_boot_guests_start_on_the_guard_that_was_loaded_and_on_none_they_do_not() -> None:
    """As xendomains starts them, with domgit nowhere."""
    for domid in domids().values():
        xl("destroy", str(domid))
    wait_until(lambda: "vm01" not in interfaces(), "the end of the guests")
    run("nft", "flush", "ruleset")

    assert xl("create", "-q", "-f", "/etc/xen/vm01.cfg").returncode != 0
    assert run("sh", str(Paths().guard / "boot.sh")).returncode == 0
    done = xl("create", "-q", "-f", "/etc/xen/vm01.cfg")

    assert done.returncode == 0, done.stderr
    assert booted("vm01").ping(GATEWAY)
    assert "locked on" in run("bridge", "-d", "link", "show", "dev", "vm01").stdout


@contextmanager
def reloading() -> Iterator[None]:
    """Somebody loads the whole guard again and again, each time in one transaction."""
    ended = threading.Event()

    def reload() -> None:
        while not ended.is_set():
            run("nft", "-f", str(Paths().guard / "boot.nft"))

    thread = threading.Thread(target=reload)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.usefixtures("settled")
def test_vifs_come_and_guests_reboot_while_the_guard_is_being_reloaded() -> None:
    guest = booted("vm01")
    with reloading():
        for _ in range(3):
            assert xl("network-detach", str(domids()["vm01"]), "0").returncode == 0
            wait_until(lambda: "vm01" not in interfaces(), "the end of the vif")
            done = attach("vm01", 0, "vifname=vm01", f"mac={mac(1)}")
            assert done.returncode == 0, done.stderr
        guest.reboot()
        guest.wait_booted()
    assert guest.ping(GATEWAY)
    assert "locked on" in run("bridge", "-d", "link", "show", "dev", "vm01").stdout
