"""What is not done, and why: limits, claims, disks, errors in git, stale plans, strangers."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from state.spec_child import as_user
from tests.dom0.toolstack import domids, run, wait_until, xl
from tests.end_to_end.provider import DOMGIT, IMAGES, STATE, Provider, booted, mac, vif

pytestmark = pytest.mark.dom0


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def bound(port: str, address: str) -> bool:
    listing = run("nft", "list", "table", "bridge", "domgit").stdout
    return any(
        f'"{port}"' in line and line.rstrip(" ,}\n").endswith(f" {address}") for line in listing.splitlines()
    )


def test_more_tombstones_than_the_limit_are_all_blocked(provider: Provider) -> None:
    for number in (1, 2):
        provider.domu(f"vm0{number}", number)
    provider.settled()
    for number in (1, 2):
        provider.domu(f"vm0{number}", number, state="absent")

    done = provider.apply()

    assert done.code == 4
    assert "2 domUs would be removed at once, limits.absent is 1" in done.out
    assert set(domids()) == {"vm01", "vm02"}
    assert bound("vm01", "172.16.39.101")


@pytest.mark.parametrize("what", ["mac", "vif name", "disk"])
def test_nobody_gets_what_an_orphan_still_has(provider: Provider, what: str) -> None:
    provider.domu("vm01", 1)
    provider.settled()
    provider.remove("hosts/dom0-a/domus/vm01.yaml")
    theirs = vif("vm02", 2)
    disk = f"{IMAGES}/vm02.img"
    match what:
        case "mac":
            theirs["mac"] = mac(1)
        case "vif name":
            theirs["name"] = "vm01"
        case _:
            disk = f"{IMAGES}/vm01.img"
    provider.domu(
        "vm02", 2, vifs=[theirs], disks=[{"vdev": "xvda", "path": disk, "size": "8MiB", "adopt": True}]
    )

    done = provider.apply()

    assert done.code == 4, done.out
    assert "is still vm01's, an orphan: its file is gone" in done.out
    assert set(domids()) == {"vm01"}
    assert not bound("vm02", "172.16.39.102")
    assert booted("vm01").ping("172.16.39.1")


def test_a_name_that_somebody_else_has_is_not_taken(provider: Provider) -> None:
    Path("/etc/xen/foreign.cfg").write_text('name = "vm01"\nmemory = 64\nkernel = "/srv/xen/vmlinuz"\n')
    assert xl("create", "-q", "-f", "/etc/xen/foreign.cfg").returncode == 0
    domid = domids()["vm01"]
    provider.domu("vm01", 1)
    provider.domu("vm02", 2)

    done = provider.apply()

    assert done.code == 4
    assert "a domain of this name lives with another uuid" in done.out
    assert domids()["vm01"] == domid
    assert "vm02" in domids()


def test_a_living_domu_with_its_uuid_is_adopted_without_a_restart(provider: Provider) -> None:
    uuid = "0d6f3f5e-5a4b-4c4e-9a53-0d6d3f0c2b11"
    (IMAGES / "vm01.img").write_bytes(b"precious" * 1024 * 1024)
    Path("/etc/xen/vm01.cfg").write_text(
        f'name = "vm01"\nuuid = "{uuid}"\nmemory = 128\nmaxmem = 256\nkernel = "/srv/xen/vmlinuz"\n'
        f'disk = ["format=raw,vdev=xvda,access=rw,target={IMAGES}/vm01.img"]\n'
        f'vif = ["mac={mac(1)},bridge=xenbr0,vifname=vm01,ip=172.16.39.101"]\n'
    )
    assert xl("create", "-q", "-f", "/etc/xen/vm01.cfg").returncode == 0
    booted("vm01")
    domid = domids()["vm01"]
    provider.domu("vm01", 1, uuid=uuid)
    provider.commit()

    plan = provider.domgit("plan")
    done = provider.domgit("apply", "--yes")

    assert "= domu.vm01 " in plan.out
    assert "= domu.vm01.disk.xvda" in plan.out
    assert done.code == 0, done.out + done.err
    assert domids()["vm01"] == domid
    assert (STATE / "kept/vm01.cfg").read_text().startswith('name = "vm01"')
    assert "locked on" in run("bridge", "-d", "link", "show", "dev", "vm01").stdout
    assert booted("vm01").ping("172.16.39.1")
    assert (IMAGES / "vm01.img").read_bytes() == b"precious" * 1024 * 1024


def test_an_image_that_is_there_is_never_taken_without_a_word(provider: Provider) -> None:
    (IMAGES / "vm01.img").write_bytes(b"somebody else's" + bytes(8 * 1024 * 1024 - 15))
    before = digest(IMAGES / "vm01.img")
    provider.domu("vm01", 1)

    refused = provider.apply()
    blocked_then = set(domids())
    provider.domu(
        "vm01", 1, disks=[{"vdev": "xvda", "path": f"{IMAGES}/vm01.img", "size": "8MiB", "adopt": True}]
    )
    provider.settled()

    assert refused.code == 4
    assert "exists already and was not made for this domU" in refused.out
    assert blocked_then == set()
    assert set(domids()) == {"vm01"}
    assert digest(IMAGES / "vm01.img") == before


def test_what_is_refused_does_not_come_with_the_guests_own_reboot_either(provider: Provider) -> None:
    unnamed = {key: value for key, value in vif("vm01", 1).items() if key != "name"}
    provider.domu("vm01", 1, vifs=[unnamed])
    for number in (2, 3):
        provider.domu(f"vm0{number}", number)
    provider.settled()
    # By a vif that its hotplug script binds, the address of one that git has lost; and an image of somebody else's.
    provider.domu("vm01", 1, vifs=[{**unnamed, "ips": ["172.16.39.102"]}])
    provider.remove("hosts/dom0-a/domus/vm02.yaml")
    (IMAGES / "other.img").write_bytes(bytes(8 * 1024 * 1024))
    disks = [("xvda", "vm03"), ("xvdb", "other")]
    provider.domu(
        "vm03",
        3,
        disks=[{"vdev": vdev, "path": f"{IMAGES}/{name}.img", "size": "8MiB"} for vdev, name in disks],
    )

    refused = provider.apply()
    journal = (STATE / "journal").read_bytes()
    again = provider.domgit("apply", "--yes")
    at_rest = (STATE / "journal").read_bytes() == journal
    guests = [booted(name) for name in ("vm01", "vm03")]
    for guest in guests:
        guest.reboot()
    for guest in guests:
        guest.wait_booted()

    port, saved = f"vif{domids()['vm01']}.0", xl("list", "--long", "vm03").stdout
    assert (refused.code, again.code, at_rest) == (4, 4, True)
    assert bound(port, "172.16.39.101")
    assert not bound(port, "172.16.39.102")
    assert bound("vm02", "172.16.39.102")
    assert "vm03.img" in saved
    assert "other.img" not in saved
    assert "other.img" not in Path("/etc/xen/vm03.cfg").read_text(encoding="utf-8")


def test_a_new_image_is_sparse_and_has_its_size_to_the_byte(provider: Provider) -> None:
    provider.domu("vm01", 1, disks=[{"vdev": "xvda", "path": f"{IMAGES}/vm01.img", "size": "5001MiB"}])

    provider.settled()

    found = (IMAGES / "vm01.img").stat()
    assert found.st_size == 5001 * 1024 * 1024
    assert found.st_blocks == 0
    assert found.st_mode & 0o777 == 0o600


def test_a_disk_without_a_folder_is_refused_before_anything_is_done(provider: Provider) -> None:
    provider.domu("vm01", 1, disks=[{"vdev": "xvda", "path": f"{IMAGES}/new/vm01.img", "size": "8MiB"}])
    provider.commit()

    planned, checked = provider.domgit("plan"), provider.domgit("doctor")

    assert f"blocked: there is no folder {IMAGES}/new: create it, or mount what belongs there" in planned.out
    assert f"MISS  folder {IMAGES}/new does not exist: no disk is made in it\n" in checked.out
    (IMAGES / "new").mkdir()
    provider.settled()


def test_a_disk_that_was_made_and_is_gone_is_never_replaced_by_an_empty_one(provider: Provider) -> None:
    provider.domu("vm01", 1)
    provider.settled()
    xl("destroy", "vm01")
    (IMAGES / "vm01.img").unlink()

    done = provider.apply()

    assert done.code == 4
    assert "is gone: never replaced by an empty one" in done.out
    assert not (IMAGES / "vm01.img").exists()
    assert domids() == {}


@pytest.mark.parametrize(("size", "why"), [("4MiB", "never shrunk"), ("16MiB", "grow it by hand")])
def test_a_disk_keeps_its_size(provider: Provider, size: str, why: str) -> None:
    provider.domu("vm01", 1)
    provider.settled()
    before = digest(IMAGES / "vm01.img")
    provider.domu("vm01", 1, disks=[{"vdev": "xvda", "path": f"{IMAGES}/vm01.img", "size": size}])

    done = provider.apply()

    assert done.code == 4
    assert why in done.out
    assert digest(IMAGES / "vm01.img") == before
    assert set(domids()) == {"vm01"}


def test_a_held_back_domu_is_repaired_to_what_was_last_applied(provider: Provider) -> None:
    provider.domu("vm01", 1)
    provider.settled()
    provider.write("hosts/dom0-a/domus/vm01.yaml", "broken: [\n")
    provider.commit()
    xl("destroy", "vm01")
    run("nft", "flush", "ruleset")

    done = provider.domgit("apply", "--yes")

    assert done.code == 4
    assert set(domids()) == {"vm01"}
    assert bound("vm01", "172.16.39.101")


def test_an_address_claimed_twice_keeps_the_whole_host_at_last_good(provider: Provider) -> None:
    provider.domu("vm01", 1)
    provider.settled()
    provider.domu("vm02", 2, vifs=[vif("vm02", 2, ips=["172.16.39.101"])])

    done = provider.apply()

    assert done.code == 4
    assert "address 172.16.39.101 is claimed" in done.out
    assert set(domids()) == {"vm01"}


def test_a_reviewed_plan_is_done_and_a_second_time_does_no_harm(provider: Provider, tmp_path: Path) -> None:
    provider.domu("vm01", 1)
    provider.commit()
    plan = tmp_path / "plan.json"
    provider.domgit("plan", "--out", str(plan))

    first = provider.domgit("apply", "--yes", str(plan))
    second = provider.domgit("apply", "--yes", str(plan))

    assert first.code == 0, first.out + first.err
    assert second.code == 0, second.out + second.err
    assert set(domids()) == {"vm01"}


def test_a_stale_plan_is_refused_and_says_which_fields_moved(provider: Provider, tmp_path: Path) -> None:
    provider.domu("vm01", 1)
    provider.settled()
    provider.domu("vm01", 1, memory="192MiB")
    provider.commit()
    plan = tmp_path / "plan.json"
    provider.domgit("plan", "--out", str(plan))
    booted("vm01").reboot()
    wait_until(lambda: "vm01" not in domids(), "the guest's reboot")
    booted("vm01")

    done = provider.domgit("apply", "--yes", str(plan))

    assert done.code == 3, done.out + done.err
    assert "domu.vm01: domid was" in done.err


def test_a_plan_of_another_host_or_commit_is_refused(provider: Provider, tmp_path: Path) -> None:
    provider.domu("vm01", 1)
    host = (provider.root / "hosts/dom0-a/host.yaml").read_text()
    provider.write("hosts/dom0-b/host.yaml", host.replace("dom0-a", "dom0-b"))
    first = provider.commit()
    other, old, edited = (tmp_path / name for name in ("other.json", "old.json", "edited.json"))
    assert provider.domgit("plan", "--host", "dom0-b", "--out", str(other)).code == 0
    assert provider.domgit("plan", "--out", str(old)).code == 0
    edited.write_text(old.read_text().replace("vm01", "vm09"))
    provider.commit("another")

    of_host = provider.domgit("apply", "--yes", str(other), "--rev", first)
    of_commit = provider.domgit("apply", "--yes", str(old))
    by_editor = provider.domgit("apply", "--yes", str(edited))

    assert of_host.code == 3
    assert "the plan is for dom0-b, this is dom0-a" in of_host.err
    assert of_commit.code == 3
    assert f"the plan is for {first}" in of_commit.err
    assert by_editor.code == 1
    assert "changed since it was made" in by_editor.err
    assert domids() == {}


def test_a_branch_that_was_reset_is_not_followed_back_by_itself(provider: Provider) -> None:
    provider.domu("vm01", 1)
    first = provider.commit("the first")
    provider.domu("vm01", 1, vifs=[vif("vm01", 1, ips=["172.16.39.150"])])
    provider.settled()
    provider.git("reset", "-q", "--hard", first)

    alone = provider.domgit("run", "--once")
    still = bound("vm01", "172.16.39.150")
    status = provider.domgit("status").out
    by_hand = provider.domgit("apply", "--yes")

    assert alone.code == 4, alone.out + alone.err
    assert still
    assert "which was last applied (to go there: domgit apply) [DG1601]\n" in status
    assert "held back     host.dom0-a: what git says is not followed" in status
    assert "this goes back" in by_hand.err
    assert by_hand.code == 0, by_hand.out
    assert bound("vm01", "172.16.39.101")
    assert provider.domgit("run", "--once").code == 0


def test_drift_is_repaired_while_the_repository_cannot_be_read(provider: Provider) -> None:
    provider.domu("vm01", 1)
    provider.domu("vm02", 2)
    provider.settled()
    # An orphan that somebody has ended is no drift.
    provider.remove("hosts/dom0-a/domus/vm02.yaml")
    assert provider.apply().code == 0
    xl("destroy", "vm02")
    provider.root.rename(provider.root.with_name("away"))
    run("nft", "flush", "ruleset")

    done = provider.domgit("run", "--once")

    assert done.code == 4, done.out + done.err
    assert "the repository cannot be read" in done.err
    assert bound("vm01", "172.16.39.101")
    assert set(domids()) == {"vm01"}
    assert provider.domgit("drift").code == 0
    status = provider.domgit("status").out
    assert (
        f"error         the repository cannot be read: {provider.root}: no such folder [DG1602]\n" in status
    )
    assert (
        "held back     host.dom0-a: what git says is not followed: the whole host stays as last applied\n"
        in status
    )
    assert (
        "orphan        domu.vm02: no longer in git, and off: left so; `state: absent` would let it go\n"
        in status
    )


@pytest.mark.parametrize("configured", ["", 'host = "dom0-z"\n[repo]\nurl = "ROOT"\n'])
def test_status_and_get_say_that_git_is_not_followed_where_the_configuration_names_none_or_another_host(
    provider: Provider, tmp_path: Path, configured: str
) -> None:
    provider.domu("vm01", 1)
    provider.settled()
    config = tmp_path / "domgit.toml"
    config.write_text(configured.replace("ROOT", str(provider.root)))

    status, facts, get = (
        run(str(DOMGIT), *verb, "--config", str(config)).stdout
        for verb in (("status",), ("status", "--json"), ("get", "vm01"))
    )

    why = "no host 'dom0-z' in the repository" if configured else "no repository (expected --repo PATH"
    assert status.startswith("host          dom0-a\n")
    assert "up to date    no\n" in status
    assert f"error         the repository cannot be read: {why}" in status
    assert "dom0-z" not in status.replace(why, "")
    assert json.loads(facts)["host"] == "dom0-a"
    assert "(as last applied)" in get


def test_a_host_that_is_gone_from_the_repository_stays_as_it_is(provider: Provider) -> None:
    provider.domu("vm01", 1)
    provider.settled()
    provider.git("rm", "-q", "-r", "hosts")
    provider.commit()

    alone, by_hand = provider.domgit("run", "--once"), provider.domgit("apply", "--yes")

    assert alone.code == 4
    assert by_hand.code == 1
    assert "no host 'dom0-a' in the repository" in by_hand.err
    assert set(domids()) == {"vm01"}
    assert bound("vm01", "172.16.39.101")


def test_signatures_that_are_asked_for_and_not_checked_stop_everything(
    provider: Provider, tmp_path: Path
) -> None:
    provider.domu("vm01", 1)
    provider.commit()
    config = tmp_path / "domgit.toml"
    config.write_text('[repo]\nallowed_signers = "/etc/domgit/allowed_signers"\n')

    done = provider.domgit("apply", "--yes", "--config", str(config))

    assert done.code == 1
    assert "checks no signatures" in done.err
    assert domids() == {}


def test_without_a_terminal_nothing_is_done_unasked(provider: Provider) -> None:
    provider.domu("vm01", 1)
    provider.commit()

    done = provider.domgit("apply")

    assert done.code == 1
    assert "--yes is needed" in done.err
    assert domids() == {}


def test_what_was_done_is_reprinted_as_it_was(provider: Provider) -> None:
    provider.domu("vm01", 1)
    provider.settled()

    history = provider.domgit("history", "--json").json["applied"]
    shown = provider.domgit("show", history[0]["plan_id"].removeprefix("sha256:")[:10])

    assert len(history) == 1
    assert history[0]["failed"] == []
    assert "by Provider <noc@example.net>" in shown.out
    assert "+ domu.vm01 " in shown.out
    assert "rc 0" in shown.out
    assert "xl create -q -f /etc/xen/vm01.cfg" in shown.out


def test_a_second_writer_is_refused_at_once(provider: Provider) -> None:
    provider.domu("vm01", 1)
    provider.settled()
    Path("/run/domgit").mkdir(exist_ok=True)
    holder = subprocess.Popen(["flock", "/run/domgit/lock", "sleep", "30"])
    wait_until(
        lambda: subprocess.run(["flock", "-n", "/run/domgit/lock", "true"], check=False).returncode != 0,
        "the lock",
    )

    done = provider.domgit("apply", "--yes", timeout_s=10)
    plan = provider.domgit("plan")

    holder.kill()
    assert done.code == 1
    assert "is held by process" in done.err
    assert plan.code == 0


def test_a_port_that_is_neither_vif_nor_uplink_blocks_the_guard(provider: Provider) -> None:
    run("ip", "link", "add", "dummy9", "type", "veth", "peer", "name", "dummy9p")
    run("ip", "link", "set", "dummy9", "master", "xenbr0", "up")
    provider.domu("vm01", 1)

    done = provider.apply()
    run("ip", "link", "del", "dummy9")
    healed = provider.apply()

    assert done.code == 4
    assert "dummy9: a port that is no vif and no declared uplink would be cut off" in done.out
    assert healed.code == 0


@pytest.mark.parametrize(("unknown", "answers"), [("report", True), ("drop", False)])
def test_a_vif_that_nobody_specified_is_reported_or_dropped(
    provider: Provider, unknown: str, answers: bool
) -> None:
    Path("/etc/xen/foreign.cfg").write_text(
        f'name = "foreign"\nmemory = 64\nkernel = "/srv/xen/vmlinuz"\nvif = ["mac={mac(50)},bridge=xenbr0,vifname=foreign,ip=172.16.39.150"]\n'
    )
    xl("create", "-q", "-f", "/etc/xen/foreign.cfg")
    guest = booted("foreign")
    assert guest.ping("172.16.39.1")
    provider.host(unknown=unknown)
    provider.domu("vm01", 1)

    done = provider.apply()
    plan = provider.domgit("plan")

    assert done.code == 0, done.out
    assert "port.foreign: belongs to no specification" in plan.out
    assert guest.ping("172.16.39.1", 0.5) is answers
    assert booted("vm01").ping("172.16.39.1")


def test_another_machine_is_not_managed(provider: Provider) -> None:
    provider.host(extra="machineId: 00000000000000000000000000000001")
    provider.domu("vm01", 1)

    done = provider.apply()

    assert done.code == 1
    assert "this is another machine" in done.err
    assert domids() == {}


def test_validate_needs_neither_root_nor_xen() -> None:
    # Where nobody can read it: the checkout may lie in root's own folder, and only the program is read from there.
    examples = Path("/srv/xen/examples")
    shutil.copytree(Path(__file__).resolve().parents[2] / "examples", examples)
    try:
        done = subprocess.run(
            [*as_user(65534, 65534), str(DOMGIT), "validate", str(examples)],
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        shutil.rmtree(examples)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "valid." in done.stdout
