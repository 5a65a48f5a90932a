"""What a domU can be in besides running as git says: what plan, status and get say of it, and what a pass does about it.

One host on which all of that is so at once, as in a bad night. The texts are read by somebody who has been woken up:
they name the object, say what is so, and what happens by itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.dom0 import hypervisor
from tests.dom0.toolstack import domids, run, wait_until, xl
from tests.end_to_end.conftest import provided
from tests.end_to_end.provider import IMAGES, Provider, Run, booted, mac, vif

pytestmark = pytest.mark.dom0
VOLUMES = Path("/dev/vol-vps")
ORPHAN, HELD, OFF, PROTECTED, WAITS, FINE, REBOOTS = (f"vm0{number}" for number in range(1, 8))
# Destroyed by hand, and their disks in use: opened by a process, under a loop device, mounted, under device-mapper.
IN_USE = OPENED, LOOPED, MOUNTED, MAPPED = "vm08", "vm09", "vm10", "vm11"
AS_JSON = (ORPHAN, HELD, OFF, PROTECTED, REBOOTS, OPENED)
BROKEN = f"apiVersion: domgit/v1\nkind: DomU\nmetadata: {{name: {HELD}}}\nspec: {{memroy: 1}}\n"
EVERYBODY = (ORPHAN, HELD, OFF, PROTECTED, WAITS, FINE, REBOOTS, *IN_USE)


@dataclass(frozen=True, slots=True)
class Moment:
    """What the verbs say at one moment."""

    plan: str
    status: str
    get: Mapping[str, str]
    domids: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Night:
    """Before the daemon's pass, the pass, and after it; `users` are those who have disks in use."""

    before: Moment
    done: Run
    after: Moment
    facts: Any
    domus: Mapping[str, Any]
    users: Mapping[str, str]
    released: Run  # the pass after the process has closed its disk

    def known(self, name: str) -> dict[str, str]:
        """What there is to know of a domU after the pass, by the word for it: the same from plan, status and get."""
        address, after = f"domu.{name}", self.after
        known = {
            each["reason"]: each["message"] for each in self.facts["notes"] if each["address"] == address
        }
        assert {each["reason"]: each["message"] for each in self.domus[name]["notes"]} == known
        for word, message in known.items():
            label = f"{word.replace('_', ' '):<13}"
            assert f"{label} {address}: {message}\n" in after.status
            assert f"{label} {message}\n" in after.get[name]
            assert f"  # {address}: {message} [{word}]\n" in after.plan
        return known

    def blocked(self, name: str) -> str | None:
        """Why nothing is done about a domU: the same from plan, status and get."""
        address, after = f"domu.{name}", self.after
        why = {each["address"]: each["why"] for each in self.facts["blocked"]}.get(address)
        if name in self.domus:
            assert [each["blocked"] for each in self.domus[name]["changes"]] == [why]
        if why is not None:
            assert f"blocked       {address}: {why}\n" in after.status
            line = f"  ! {address}  (intentional)\n        blocked: {why}\n"
            assert line in after.plan
            assert line in after.get[name]
        return why


def moment(provider: Provider, *names: str) -> Moment:
    return Moment(
        provider.domgit("plan").out,
        provider.domgit("status").out,
        {name: provider.domgit("get", name).out for name in names},
        domids(),
    )


@contextmanager
def stopped_midway(name: str) -> Iterator[None]:
    """The guest reboots, and its monitor stands still between the old domain and the new one."""
    guest, domid = booted(name), domids()[name]
    guest.reboot()
    wait_until(lambda: domid not in hypervisor.domains(), "the gap between the old domain and the new one")
    monitors = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if f"/etc/xen/{name}.cfg" in path.read_text().split("\0")
    ]
    for process in monitors:
        os.kill(process, signal.SIGSTOP)
    assert len(monitors) == 1
    assert name not in domids()
    try:
        yield
    finally:
        for process in monitors:
            os.kill(process, signal.SIGCONT)


@contextmanager
def opened(disk: Path) -> Iterator[str]:
    with subprocess.Popen(["sh", "-c", 'exec sleep 600 < "$0"', str(disk)]) as holder:
        comm = Path(f"/proc/{holder.pid}/comm")
        wait_until(lambda: comm.read_text() == "sleep\n", "the process that has the disk open")
        yield f"process {holder.pid} (sleep)"
        holder.kill()


@contextmanager
def looped(disk: Path) -> Iterator[str]:
    loop = run("losetup", "--find", "--show", str(disk)).stdout.strip()
    yield loop
    run("losetup", "--detach", loop)


@contextmanager
def mounted(disk: Path) -> Iterator[str]:
    Path("/run/rescue").mkdir()
    done = run("mount", str(disk), "/run/rescue")
    assert done.returncode == 0, done.stderr
    yield "the mount /run/rescue"
    run("umount", "/run/rescue")


@contextmanager
def mapped(disk: Path) -> Iterator[str]:
    """What the kernel shows of a device that device-mapper has built upon, laid over what it shows: not every one has it."""
    holders = Path(f"/sys/block/{disk.resolve().name}/holders")
    shown = Path("/run/holders/dm-3")
    shown.mkdir(parents=True)
    run("mount", "--bind", str(shown.parent), str(holders))
    yield "/dev/dm-3"
    run("umount", str(holders))


@contextmanager
def volume(name: str) -> Iterator[Path]:
    """A block device with a file system on it, as a logical volume is."""
    image, disk = IMAGES / f"{name}.backing", VOLUMES / name
    run("truncate", "-s", "8M", str(image))
    run("mkfs.ext4", "-q", str(image))
    loop = run("losetup", "--find", "--show", str(image)).stdout.strip()
    VOLUMES.mkdir(exist_ok=True)
    disk.unlink(missing_ok=True)  # /dev is this machine's: a run that was killed leaves it
    disk.symlink_to(loop)
    try:
        yield disk
    finally:
        xl("destroy", name)
        run("losetup", "--detach", loop)
        disk.unlink()


def destroyed(name: str, image: Path) -> None:
    """The domU gone by hand, and its backend with it."""
    loop = run("losetup", "--associated", str(image)).stdout.partition(":")[0]
    xl("destroy", name)
    wait_until(
        lambda: not run("losetup", "--associated", str(image)).stdout, "the backend letting go of its disk"
    )
    if image.suffix == ".backing":
        run("losetup", loop, str(image))


def evening(provider: Provider, volumes: Mapping[str, Path]) -> None:
    """Everybody runs as git says."""
    provider.host(extra="images: {volumeGroups: [vol-vps]}\nlimits: {detach: 100%}")
    more: dict[str, dict[str, Any]] = {
        PROTECTED: {"protect": True},
        WAITS: {"disruption": "none"},
        **{name: {"disks": [{"vdev": "xvda", "path": str(disk)}]} for name, disk in volumes.items()},
    }
    for number, name in enumerate(EVERYBODY, 1):
        provider.domu(name, number, **more.get(name, {}))
    done = provider.apply()
    assert done.code == 0, done.out


def midnight(provider: Provider) -> None:
    """A commit that does something to each, a hand that does more, and a customer who does the rest."""
    provider.remove(f"hosts/dom0-a/domus/{ORPHAN}.yaml")
    provider.write(f"hosts/dom0-a/domus/{HELD}.yaml", BROKEN)
    provider.domu(PROTECTED, 4, state="absent")
    provider.domu(WAITS, 5, disruption="none", vifs=[{**vif(WAITS, 5), "mac": mac(77)}])
    provider.domu(FINE, 6, memory="96MiB")
    provider.commit()
    xl("mem-set", str(domids()[HELD]), "100")
    booted(OFF).poweroff()
    wait_until(lambda: "---s--" in xl("list").stdout, "the poweroff")


@pytest.fixture(scope="class")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    with ExitStack() as until_dawn, ExitStack() as short:
        provider = until_dawn.enter_context(provided(tmp_path_factory.mktemp("night")))
        volumes = {name: until_dawn.enter_context(volume(name)) for name in (MOUNTED, MAPPED)}
        evening(provider, volumes)
        midnight(provider)
        users = {}
        for name, use in {OPENED: opened, LOOPED: looped, MOUNTED: mounted, MAPPED: mapped}.items():
            destroyed(name, IMAGES / (f"{name}.backing" if name in volumes else f"{name}.img"))
            disk = volumes.get(name, IMAGES / f"{name}.img")
            users[name] = (short if name == OPENED else until_dawn).enter_context(use(disk))
        with stopped_midway(REBOOTS):
            before = moment(provider, OFF)
            done = provider.domgit("run", "--once")
            after = moment(provider, *EVERYBODY)
            facts = provider.domgit("status", "--json").json
            domus = {name: provider.domgit("get", name, "--json").json for name in AS_JSON}
        short.close()
        released = provider.domgit("run", "--once")
        yield Night(before, done, after, facts, domus, users, released)


@pytest.mark.shared
@pytest.mark.long
class TestInABadNight:
    """Each situation on the same host; all tests of this class look at one pass over it."""

    def test_the_host_is_not_as_it_should_be_and_the_rest_was_done(self, night: Night) -> None:
        assert night.done.code == 4, night.done.out + night.done.err
        assert not night.facts["up_to_date"]
        assert "up to date    no\n" in night.after.status
        assert "to do         0 add, 1 change, 0 remove, 0 staged, 5 blocked\n" in night.after.status
        assert (
            f"live          domain {night.before.domids[FINE]}, running, 96 MiB, 1 vcpus\n"
            in night.after.get[FINE]
        )
        assert f"domu.{FINE}" not in night.after.status
        assert "differs       nothing\n" in night.after.get[FINE]

    def test_an_orphan_runs_on_and_is_named(self, night: Night) -> None:
        get = night.after.get[ORPHAN]
        assert night.known(ORPHAN) == {
            "orphan": "no longer in git: keeps running, guarded; `state: absent` would remove it"
        }
        assert night.after.domids[ORPHAN] == night.before.domids[ORPHAN]
        assert "file          hosts/dom0-a/domus/vm01.yaml\n" in get
        assert "wanted        running (as last applied)\n" in get
        assert f"vif           vm01  {mac(1)}  xenbr0  172.16.39.101\n" in get
        assert "differs       nothing\n" in get
        assert night.domus[ORPHAN]["specified_by"] == "last applied"

    def test_a_held_back_domu_is_repaired_to_what_was_applied(self, night: Night) -> None:
        get, domid = night.after.get[HELD], night.before.domids[HELD]
        assert night.known(HELD) == {"held_back": "its file has errors: kept as last applied"}
        assert f"        memory: 100MiB -> 128MiB\n        $ xl mem-set {domid} 128\n" in night.before.plan
        assert f"live          domain {domid}, running, 128 MiB, 1 vcpus\n" in get
        assert "wanted        running (as last applied)\n" in get
        assert f"vif           vm02  {mac(2)}  xenbr0  172.16.39.102\n" in get
        problem = "hosts/dom0-a/domus/vm02.yaml:4:8: memroy: unknown key (did you mean 'memory'?) [DG1101]\n"
        assert f"error         {problem}" in get
        assert f"error         {problem}" in night.after.status
        assert night.domus[HELD]["changes"] == []

    def test_one_that_its_customer_switched_off_stays_off(self, night: Night) -> None:
        domid, before, get = night.before.domids[OFF], night.before, night.after.get[OFF]
        assert (
            f"        state: shut down (poweroff) -> halted\n        domid: {domid} -> (none)\n"
            f"        by: (none) -> customer\n        $ xl destroy {domid}\n"
        ) in before.plan
        assert f"live          domain {domid}, shut down (poweroff), 128 MiB, 1 vcpus\n" in before.get[OFF]
        assert night.known(OFF) == {
            "powered_off": "its customer switched it off: left off (afterPoweroff: stay)"
        }
        assert OFF not in night.after.domids
        assert "wanted        running\nlive          not running\n" in get
        assert "differs       nothing\n" in get

    def test_one_that_reboots_is_not_started_a_second_time(self, night: Night) -> None:
        get = night.after.get[REBOOTS]
        assert night.known(REBOOTS) == {"rebooting": "no domain, but its monitor lives: it is rebooting"}
        assert REBOOTS not in night.after.domids
        assert "wanted        running\nlive          not running\n" in get
        assert "differs       nothing\n" in get
        booted(REBOOTS)
        assert domids()[REBOOTS] > night.before.domids[FINE]

    def test_a_tombstone_that_needs_an_approval_removes_nothing(self, night: Night) -> None:
        get = night.after.get[PROTECTED]
        assert night.blocked(PROTECTED) == "protected: needs an approval"
        assert night.after.domids[PROTECTED] == night.before.domids[PROTECTED]
        assert (
            f"        state: running -> absent\n        disks: [{IMAGES}/vm04.img] -> 1 kept where they are\n"
            in get
        )
        assert f"wanted        absent\nlive          domain {night.before.domids[PROTECTED]}, running" in get
        assert f"vif           vm04  {mac(4)}  xenbr0  172.16.39.104\n" in get

    def test_a_change_that_waits_for_a_human_says_how_to_let_it_through(self, night: Night) -> None:
        why = "disturbs the guest more than `disruption` allows: `domgit apply --disruption link`"
        line = (
            "-/+ domu.vm05.vif.0  (intentional, guest's network is interrupted, waits: awaiting_approval)\n"
        )
        assert {"address": "domu.vm05.vif.0", "why": why} in night.facts["waits"]
        assert f"domu.vm05.vif.0: {why}\n" in night.after.status
        assert line in night.after.plan
        assert line in night.after.get[WAITS]

    @pytest.mark.parametrize("name", IN_USE)
    def test_one_that_was_destroyed_is_not_started_while_its_disk_is_in_use(
        self, night: Night, name: str
    ) -> None:
        disk = VOLUMES / name if name in {MOUNTED, MAPPED} else IMAGES / f"{name}.img"
        assert night.blocked(name) == f"its disk is in use: {disk} by {night.users[name]}"
        assert name not in night.after.domids
        assert "wanted        running\nlive          not running\n" in night.after.get[name]

    def test_one_whose_disk_is_free_again_is_started(self, night: Night) -> None:
        assert night.released.code == 4, night.released.out
        assert OPENED in domids()
        assert not {LOOPED, MOUNTED, MAPPED} & domids().keys()


def test_a_tombstone_is_carried_out_and_then_forgotten(provider: Provider) -> None:
    provider.domu("vm01", 1)
    provider.settled()
    provider.domu("vm01", 1, state="absent")
    provider.commit()
    domid, kept = domids()["vm01"], (IMAGES / "vm01.img").read_bytes()

    before, facts = moment(provider, "vm01"), provider.domgit("status", "--json").json
    done = provider.domgit("run", "--once")
    after = moment(provider, "vm01")

    change = (
        "  - domu.vm01  (intentional, guest is shut down)\n        state: running -> absent\n"
        f"        disks: [{IMAGES}/vm01.img] -> 1 kept where they are\n        $ xl shutdown {domid}\n"
    )
    assert change in before.plan
    assert change in before.get["vm01"]
    assert (
        f"wanted        absent\nlive          domain {domid}, running, 128 MiB, 1 vcpus\n"
        in before.get["vm01"]
    )
    assert "removes       domu.vm01: its file says `state: absent`\n" in before.status
    assert (facts["removes"], facts["up_to_date"]) == (["domu.vm01"], False)
    assert done.code == 0, done.out
    assert after.domids == {}
    assert not Path("/etc/xen/vm01.cfg").exists()
    assert "172.16.39.101" not in run("nft", "list", "table", "bridge", "domgit").stdout
    assert (IMAGES / "vm01.img").read_bytes() == kept
    assert "up to date    yes\n" in after.status
    assert "domu.vm01" not in after.status
    assert "wanted        absent\nlive          not running\ndiffers       nothing\n" in after.get["vm01"]


def test_a_host_whose_own_file_is_spoilt_stays_at_last_good_and_says_so(provider: Provider) -> None:
    provider.domu("vm01", 1)
    provider.settled()
    provider.write("hosts/dom0-a/host.yaml", "kind: Host\n")
    provider.domu("vm01", 1, memory="96MiB")
    provider.domu("vm02", 2)
    provider.commit()
    run("nft", "flush", "ruleset")

    done = provider.domgit("run", "--once")
    after, facts = moment(provider, "vm01"), provider.domgit("status", "--json").json

    why = "what git says is not followed: the whole host stays as last applied"
    assert done.code == 4, done.out
    assert set(after.domids) == {"vm01"}
    assert booted("vm01").ping("172.16.39.1")
    assert "hosts/dom0-a/host.yaml:1:1: error[DG1102]: metadata: missing" in after.plan
    assert f"  # host.dom0-a: {why} [held_back]\n" in after.plan
    assert after.plan.endswith("Nothing to do. dom0-a stays as last applied where errors hold it back.\n")
    assert "up to date    no\n" in after.status
    assert f"held back     host.dom0-a: {why}\n" in after.status
    assert {"address": "host.dom0-a", "reason": "held_back", "message": why} in facts["notes"]
    assert "error         hosts/dom0-a/host.yaml:1:1: metadata: missing" in after.status
    assert f"held back     {why}\n" in after.get["vm01"]
    assert "wanted        running (as last applied)\n" in after.get["vm01"]
    assert f"live          domain {after.domids['vm01']}, running, 128 MiB, 1 vcpus\n" in after.get["vm01"]
