"""The two phases of a guest over the real toolstack: an installer, its end, and what it has installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.dom0.guest import Guest
from tests.dom0.toolstack import domids, run, wait_until, xl
from tests.end_to_end.provider import DOMGIT, IMAGES, Provider, booted, vif

pytestmark = pytest.mark.dom0
ROOT = Path(__file__).resolve().parents[2]
ISO, INSTALLER, KERNEL = "/srv/xen/cd.iso", "/srv/xen/initrd.img", "/srv/xen/vmlinuz"
INSTALL = {"kernel": INSTALLER, "cdrom": ISO}
BOOT = {"phase": "install", "install": INSTALL, "run": {"kernel": KERNEL, "cmdline": "root=xbd0a"}}
# What a provider writes by hand, its keys and their order; the paths are this test's.
BY_HAND = """\
name = "netbsd"
memory = "256"
kernel = "{kernel}"
disk = [ {disks} ]
vif = [ 'bridge=xenbr0' ]
vcpus = "1"
"""


@pytest.fixture(autouse=True)
def _iso(provider: Provider) -> None:
    del provider
    Path(ISO).write_text("an image\n")


def live(name: str) -> Any:
    """The kernel and the disks of a living domain."""
    config = json.loads(xl("list", "-l", name).stdout)[0]["config"]
    return config["b_info"]["kernel"], [disk["vdev"] for disk in config["disks"]]


def ended(name: str, how: str) -> None:
    """Its installer's machine goes down, and nobody starts it again."""
    guest = booted(name)
    guest.reboot() if how == "reboot" else guest.poweroff()
    wait_until(lambda: "---s" in xl("list", name).stdout, "the end of the installer")


def test_an_installer_ends_once_and_what_it_installed_waits_for_a_word_in_git(provider: Provider) -> None:
    provider.domu("vm01", 1, boot=BOOT)
    provider.settled()
    booted("vm01")
    assert live("vm01") == (INSTALLER, ["xvda", "hdc"])
    assert (
        "when that has ended, it waits, halted, for `phase: run` [installing]" in provider.domgit("plan").out
    )

    ended("vm01", "reboot")
    passes = [provider.domgit("run", "--once") for _ in range(2)]

    assert [each.code for each in passes] == [0, 0], passes
    assert domids() == {}
    waits = "its installer has ended with a reboot: it waits for `boot.phase: run` in git"
    assert f"installed     domu.vm01: {waits}\n" in provider.domgit("status").out
    boots = Guest("vm01").boots

    provider.domu("vm01", 1, boot={**BOOT, "phase": "run"})
    provider.settled()

    booted("vm01")
    assert Guest("vm01").boots == boots + 1
    assert live("vm01") == (KERNEL, ["xvda"])


def test_what_is_installed_goes_on_by_itself_where_git_has_said_so(provider: Provider) -> None:
    provider.domu("vm01", 1, boot={**BOOT, "then": "run"})
    provider.commit()
    (start,) = [each for each in provider.changes().values() if each["address"] == "domu.vm01"]
    assert start["change"]["after"]["phase"] == "install, then run by itself"
    provider.settled()

    ended("vm01", "poweroff")
    done = provider.domgit("run", "--once")

    assert done.code == 0, done.out
    first = domids()["vm01"]
    booted("vm01").reboot()
    booted("vm01")
    assert domids()["vm01"] > first
    assert live("vm01") == (KERNEL, ["xvda"])
    assert provider.domgit("plan", "--detailed-exitcode").code == 0


def test_no_installer_starts_by_itself_where_one_has_begun(provider: Provider) -> None:
    """Neither after its domain has gone unseen, nor with other settings, nor over a guest that runs; by hand it does."""
    provider.domu("vm01", 1, boot=BOOT)
    provider.domu("vm02", 2)
    provider.settled()
    booted("vm01")
    runs = domids()["vm02"]
    xl("destroy", "vm01")
    provider.domu("vm02", 2, boot=BOOT)
    provider.commit()

    done = provider.domgit("run", "--once")

    assert done.code == 4, done.out
    assert domids() == {"vm02": runs}
    status = provider.domgit("status").out
    assert "domu.vm01: its installer ended unseen" in status
    assert "domu.vm02: it has run as it is installed" in status
    assert "kernel" not in provider.changes()["domu.vm02"]["change"]["after"]

    anew = provider.domgit("apply", "--yes", "--reinstall", "vm01", "--reinstall", "vm02")

    assert anew.code == 0, anew.out + anew.err
    assert "guest's data is touched" in anew.out
    assert {name: live(name)[0] for name in domids()} == {"vm01": INSTALLER, "vm02": INSTALLER}
    assert provider.domgit("plan", "--detailed-exitcode").code == 0
    wrong = provider.domgit("apply", "--yes", "--reinstall", "vm03")
    assert (wrong.code, "git does not say `boot.phase: install`" in wrong.err) == (1, True)


@pytest.mark.parametrize("phase", ["install", "run"])
def test_the_file_is_to_xl_what_the_one_made_by_hand_was(provider: Provider, phase: str) -> None:
    example = yaml.safe_load((ROOT / "examples/hosts/dom0-a/domus/netbsd.yaml").read_text())
    spec = example["spec"]
    install, after = spec["boot"]["install"], spec["boot"]["run"]
    disk = spec["disks"][0]["path"]
    disks = [f"'file:{disk},xvda,w'"]
    disks += [f"'file:{install['cdrom']},ioemu:hdc:cdrom,r'"] if phase == "install" else []
    kernel = (install if phase == "install" else after)["kernel"]
    text = BY_HAND.format(kernel=kernel, disks=", ".join(disks))
    # By hand there is no command line: a NetBSD kernel then asks for its root, or takes the first disk.
    boot = {**spec["boot"], "phase": phase, "run": {"kernel": after["kernel"]}}
    provider.host(extra="images: {roots: [/srv/xen/images], kernels: [/srv/xen]}")
    provider.domu("netbsd", 7, **{**spec, "boot": boot, "maxMemory": None, "vifs": [vif("netbsd", 7)]})
    provider.commit()

    where = ("--repo", str(provider.root), "--rev", "main", "--host", "dom0-a")
    rendered = run(str(DOMGIT), "render", "xl", "netbsd", *where)
    assert rendered.returncode == 0, rendered.stderr
    by_hand, ours = dry_run(text), dry_run(rendered.stdout)

    for key in ("name", "type"):
        assert ours["c_info"][key] == by_hand["c_info"][key]
    for key in ("target_memkb", "max_memkb", "kernel", "max_vcpus", "avail_vcpus"):
        assert ours["b_info"][key] == by_hand["b_info"][key]
    assert ours["disks"] == by_hand["disks"]
    assert len(ours["disks"]) == (2 if phase == "install" else 1)
    assert [nic["bridge"] for nic in ours["nics"]] == [nic["bridge"] for nic in by_hand["nics"]]
    assert {"ramdisk", "cmdline", "bootloader"}.isdisjoint({*ours["b_info"], *by_hand["b_info"]})


def dry_run(text: str) -> Any:
    """What xl understands of a file."""
    path = IMAGES / "read.cfg"
    path.write_text(text)
    done = run("xl", "create", "-q", "-n", "-f", str(path))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
