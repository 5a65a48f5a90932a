"""A change of the guard after which the gateway is gone: taken back in time, whoever is killed meanwhile. Real packets.

The gateway is a guest here, a router, which git first only watches: then a commit binds it, and its address is not its own.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli.machine import dom0
from reconciler.config import Config, Paths
from reconciler.follow import applied_revision
from reconciler.guard import nftables
from reconciler.guard.binding import Step
from reconciler.guard_pending import Pending, PendingFile
from reconciler.guard_record import LOADER
from reconciler.guard_watchdog import SCRIPT, HostWatchdog
from reconciler.policy import Policy
from reconciler.reconcile import apply
from state.nft import read_listing
from state.run import HostRunner
from state.source import read_repository
from tests.dom0 import kernel
from tests.dom0.namespace import GATEWAY
from tests.dom0.toolstack import create, run, wait_until
from tests.end_to_end.provider import STATE, Provider, booted, mac, vif

pytestmark = pytest.mark.dom0
ROUTER = "172.16.39.200"
PENDING = STATE / "guard"
# What is 25 s on a host, so that nobody waits for it here.
SHORT = 6


def listing() -> str:
    """Our table word for word, counters left out; "" for none."""
    return run("nft", "-s", "list", "table", "bridge", "domgit").stdout


def answers(address: str) -> bool:
    """Whether somebody answers dom0, asked anew."""
    run("ip", "neigh", "flush", "dev", "xenbr0")
    return run("ping", "-c", "1", "-W", "1", address).returncode == 0


def left() -> list[str]:
    """What is there of changes, beside programs and the guard that is kept."""
    stays = {SCRIPT, LOADER, "boot.nft"}
    return sorted({path.name for path in PENDING.iterdir()} - stays) if PENDING.is_dir() else []


def watchdogs() -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"{PENDING}/{SCRIPT}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue  # it has ended
    return found


def records() -> list[Mapping[str, Any]]:
    """What the journal says of guards on trial."""
    lines = (STATE / "journal").read_text(encoding="utf-8").splitlines()
    return [each for line in lines if (each := json.loads(line.split(" ", 2)[2]))["type"] == "guard"]


@pytest.fixture
def short(tmp_path: Path) -> list[str]:
    """Options for a shorter trial."""
    config = tmp_path / "domgit.toml"
    config.write_text(f'[tools]\nguard_revert = "{SHORT}s"\n')
    return ["--config", str(config)]


@pytest.fixture
def routed(provider: Provider) -> Iterator[Provider]:
    """dom0 leaves by a guest that is only watched so far; another guest is none of its business."""
    provider.domu("vm01", 1, vifs=[vif("vm01", 1, guard="audit")])
    provider.domu("vm02", 2)
    provider.settled()
    booted("vm01").configure(["172.16.39.101/24", f"{ROUTER}/24"])
    booted("vm02")
    before = run("ip", "-4", "route", "show", "default").stdout.split()
    assert run("ip", "-4", "route", "replace", "default", "via", ROUTER).returncode == 0
    assert answers(ROUTER)
    yield provider
    assert run("ip", "-4", "route", "replace", *before).returncode == 0


def bind(provider: Provider) -> None:
    """Commit what cuts the router off."""
    provider.domu("vm01", 1, vifs=[vif("vm01", 1)])
    provider.commit()


def test_a_change_after_which_everybody_answers_is_confirmed_and_leaves_nothing_behind(
    routed: Provider,
) -> None:
    before = listing()
    routed.domu("vm02", 2, vifs=[vif("vm02", 2, ips=["172.16.39.150"])])

    done = routed.apply()

    assert done.code == 0
    assert listing() != before
    assert records()[-1]["outcome"] == "confirmed"
    assert set(records()[-1]["answered"]) == {
        f"{ROUTER} on xenbr0",
        "172.16.39.1 on xenbr0",
        "2001:db8:39::1 on xenbr0",
    }
    assert left() == []
    wait_until(lambda: not watchdogs(), "no watchdog is left")


def test_a_change_that_cuts_off_the_gateway_is_taken_back_and_told(
    routed: Provider, short: list[str]
) -> None:
    before = listing()
    bind(routed)

    done = routed.domgit("run", "--once", *short)

    assert done.code == 5, done.out + done.err
    assert f"FAILED guard: taken back: {ROUTER} on xenbr0 did not answer afterwards" in done.out
    assert listing() == before
    assert answers(ROUTER)
    assert booted("vm02").ping("172.16.39.1")
    assert GATEWAY.ping("172.16.39.102")
    # The lock of the port would have cut it off as well, from others' MACs.
    assert "locked off" in run("bridge", "-d", "link", "show", "dev", "vm01").stdout
    assert left() == ["reverted.json"]
    wait_until(lambda: not watchdogs(), "no watchdog is left")


def test_it_is_not_tried_again_until_git_or_a_human_says_so(routed: Provider, short: list[str]) -> None:
    bind(routed)
    routed.domu("vm03", 3)
    routed.commit()
    assert routed.domgit("run", "--once", *short).code == 5
    before = listing()

    again = routed.domgit("run", "--once", *short)
    plan, status, history = (routed.domgit(verb).out for verb in ("plan", "status", "history"))
    by_hand = routed.domgit("apply", "--yes", *short)

    why = f"{ROUTER} on xenbr0 did not answer afterwards"
    assert again.code == 4
    assert listing() == before
    assert "  ! guard  (intentional)\n        blocked: taken back at " in plan
    assert "  ! domu.vm03  (intentional)\n        blocked: the guard is blocked: taken back at " in plan
    assert f"{why} (change it in git, or `domgit apply` to try again)" in status
    assert "guard reverted\n" in history
    assert by_hand.code == 5
    assert "# guard: taken back at " in by_hand.out
    assert "; now it is tried again [guard_reverted]" in by_hand.out
    # A commit that mends it goes through by itself, with all that waited for it.
    routed.domu("vm01", 1, vifs=[vif("vm01", 1, ips=["172.16.39.101", ROUTER])])
    routed.commit()
    assert routed.domgit("run", "--once", *short).code == 0
    assert answers(ROUTER)
    assert booted("vm03").ping("172.16.39.1")
    assert left() == []


def test_rules_that_cut_off_the_gateway_are_put_back_word_for_word(
    provider: Provider, short: list[str]
) -> None:
    provider.domu("vm01", 1)
    provider.settled()
    create("router", 77, vif='["vifname=router,mac=00:16:3e:00:53:77,bridge=xenbr0"]')
    booted("router").configure([f"{ROUTER}/24"])
    before = run("ip", "-4", "route", "show", "default").stdout.split()
    run(
        "nft", "insert", "rule", "bridge", "domgit", "from_guest", "counter", "accept", "comment", '"by hand"'
    )
    run("ip", "-4", "route", "replace", "default", "via", ROUTER)
    try:
        assert answers(ROUTER)
        there = listing()
        provider.host(unknown="drop")
        provider.domu("vm01", 1, vifs=[{**vif("vm01", 1), "mac": mac(78)}])
        provider.commit()

        done = provider.domgit("apply", "--yes", *short)

        assert done.code == 5, done.out + done.err
        # It was unplugged for the guard that did not come.
        assert "ok     domu.vm01.vif.0\n" in done.out
        assert mac(1) in run("xl", "network-list", "vm01").stdout
        assert listing() == there
        assert '"by hand"' in there
        assert answers(ROUTER)
    finally:
        run("ip", "-4", "route", "replace", *before)


def killed_once_changed(provider: Provider, before: str, *argv: str) -> None:
    """Run domgit, and kill it with its whole process group as soon as it has changed the table."""
    with subprocess.Popen(
        provider.argv("run", "--once", *argv),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        wait_until(lambda: listing() != before, "the table is changed", 60.0)
        os.killpg(process.pid, signal.SIGKILL)


def test_killed_right_after_the_change_its_watchdog_takes_it_back(routed: Provider, short: list[str]) -> None:
    before = listing()
    bind(routed)
    killed_once_changed(routed, before, *short)
    changed = time.monotonic()
    assert not answers(ROUTER)
    assert left()[0].endswith(".armed")

    wait_until(lambda: listing() == before, "the old guard is back", 30.0)

    assert time.monotonic() - changed < 30.0
    assert answers(ROUTER)
    wait_until(lambda: left()[0].endswith(".reverted"), "the watchdog has ended")
    # The next pass tells, and tries it once more: nobody knows yet that it was the change.
    assert routed.domgit("run", "--once", *short).code == 5
    told = [(each["outcome"], each.get("why")) for each in records()]
    assert ("reverted", "domgit ended before it was confirmed: its watchdog did it") in told
    assert told[-1] == ("reverted", f"{ROUTER} on xenbr0 did not answer afterwards")
    assert listing() == before


def test_killed_and_started_again_at_once_it_takes_the_change_back_first(routed: Provider) -> None:
    before = listing()
    bind(routed)
    killed_once_changed(routed, before)
    routed.domu("vm01", 1, vifs=[vif("vm01", 1, guard="audit")])
    routed.commit()

    assert routed.domgit("run", "--once").code == 0

    assert (records()[-1]["outcome"], records()[-1]["why"]) == (
        "reverted",
        "domgit ended before it was confirmed",
    )
    assert listing() == before
    assert answers(ROUTER)
    assert left() == ["reverted.json"]  # once killed is no verdict: the second time would be


@pytest.mark.parametrize("kind", ["elements", "rules"])
def test_a_watchdog_whose_change_was_never_made_leaves_everything_as_it_is(
    provider: Provider, kind: str
) -> None:
    provider.domu("vm01", 1, vifs=[vif("vm01", 1, ips=["172.16.39.101", "172.16.39.64/29"])])
    provider.domu("vm02", 2)
    provider.settled()
    guest = booted("vm01")
    booted("vm02")
    before = listing()
    inverse: tuple[Step, ...] = (Step(nftables.LOAD, nftables.restored(read_listing(HostRunner()))),)
    if kind == "elements":
        wanted = [vif("vm01", 1, ips=["172.16.39.150", "172.16.39.64/28"])]
        provider.domu("vm01", 1, vifs=wanted)
        provider.commit()
        inverse = undo_of(provider)
    file = PendingFile(PENDING / "never")
    file.write(Pending(apply="", boot="", time="", needs=(), undo=inverse, attempt=""))
    HostWatchdog(HostRunner()).start(file, 1.0)

    pinged = guest.run(["ping", "-q", "-i", "0.01", "-c", "200", "172.16.39.102"]).stdout

    wait_until(file.at("reverted").exists, "the watchdog has acted")
    assert listing() == before
    assert "200 packets transmitted, 200 received" in pinged


def undo_of(provider: Provider) -> tuple[Step, ...]:
    """What would take back the change of the guard that is due."""
    from reconciler.reconcile import current_plan
    from reconciler.step import Run

    machine = dom0(Config())
    reading = read_repository(HostRunner(), repository=str(provider.root), revision="main", host="dom0-a")
    plan = current_plan(machine, reading, Policy())
    steps = next(change.inverse for change in plan.changes if change.address == "guard")
    return tuple(Step(step.argv, step.stdin) for step in steps if isinstance(step, Run))


def test_a_change_that_cuts_off_the_git_server_alone_is_taken_back(
    provider: Provider, tmp_path: Path
) -> None:
    """The gateway answers, but what comes from behind it by a guest's port has an address that is not the guest's."""
    provider.domu("vm01", 1, vifs=[vif("vm01", 1, guard="audit")])
    provider.settled()
    router = booted("vm01")
    for key in ("ip_forward=1", "conf.all.send_redirects=0", "conf.eth0.send_redirects=0"):
        assert router.run(["sysctl", "-qw", f"net.ipv4.{key}"]).returncode == 0
    server = "203.0.113.9"
    run("ip", "route", "add", f"{server}/32", "via", "172.16.39.101")
    GATEWAY.run(["ip", "address", "add", f"{server}/32", "dev", "lo"])
    GATEWAY.run(["ip", "route", "add", "172.16.39.2/32", "via", "172.16.39.101"])
    with kernel.network_namespace(GATEWAY.netns):
        listening = socket.create_server((server, 2222))
    try:
        wait_until(lambda: reaches(server), "the git server can be reached")
        before = listing()
        bind(provider)
        config = Config(paths=Paths(secrets=tmp_path / "secrets"), guard_revert_s=float(SHORT))
        machine = dom0(config, f"ssh://git@{server}:2222/fleet.git")
        reading = read_repository(HostRunner(), repository=str(provider.root), revision="main", host="dom0-a")

        result = apply(machine, reading, Policy(), since=applied_revision(machine.last()), by="test")

        assert result.exit_code == 5
        error = next(each.error for each in result.outcome.done if each.change.address == "guard")
        assert error == f"taken back: {server} port 2222 did not answer afterwards"
        assert listing() == before
        assert reaches(server)
    finally:
        listening.close()
        run("ip", "route", "del", f"{server}/32")
        GATEWAY.run(["ip", "address", "del", f"{server}/32", "dev", "lo"])
        GATEWAY.run(["ip", "route", "del", "172.16.39.2/32"])


def reaches(server: str) -> bool:
    try:
        socket.create_connection((server, 2222), 1.0).close()
    except OSError:
        return False
    return True
