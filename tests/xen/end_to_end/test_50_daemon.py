"""The daemon under systemd on real Xen: it follows, brings back, dies at any moment, and no guest notices."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.demo.frames import TAG, ether, udp4
from tests.dom0.namespace import GATEWAY
from tests.dom0.network import GATEWAY_MAC
from tests.dom0.toolstack import domids, run
from tests.xen.end_to_end.provider import (
    NAMES,
    VM02,
    Provider,
    all_up,
    journal,
    monitors,
    status,
    table,
    wait_converged,
    wait_until,
)
from tests.xen.end_to_end.test_20_attacks import waiting
from tests.xen.inside import Guest

KILLS = 25
LONGEST_LIFE_S = 12.0  # emulated, a pass takes about twice that
SEED = int(os.environ.get("DOMGIT_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
BACK_MS = 3000  # emulated; on hardware a tenth of a second
FORGED = ether(GATEWAY_MAC, VM02, 0x0800, udp4("172.16.39.1", "172.16.39.2", TAG + b"forged all the while"))


def main_process() -> int:
    """That of domgit's unit, 0 while there is none."""
    return int(run("systemctl", "show", "-p", "MainPID", "--value", "domgit").stdout or 0)


@pytest.fixture(scope="module")
def daemon(guests: Provider) -> Iterator[Provider]:
    """The daemon as it is installed, at rest."""
    all_up(NAMES)
    assert run("systemctl", "start", "domgit").returncode == 0
    wait_converged(guests.last_commit())
    yield guests
    run("systemctl", "stop", "domgit")


@pytest.mark.usefixtures("daemon")
def test_it_converges_at_its_start() -> None:
    assert run("systemctl", "is-active", "domgit").stdout.strip() == "active"
    assert status()["failed"] == []


def test_it_follows_a_commit(daemon: Provider) -> None:
    path = daemon.path("vm02")
    text = (daemon.root / path).read_text(encoding="utf-8")
    daemon.write(path, text.replace("ips: [172.16.39.106]", "ips: [172.16.39.106, 172.16.39.126]"))

    wait_converged(daemon.commit("one more address"))

    assert "172.16.39.126" in table()
    daemon.write(path, text)
    wait_converged(daemon.commit("and without it"))
    assert "172.16.39.126" not in table()


@pytest.mark.usefixtures("daemon")
def test_a_flushed_guard_is_back_at_once() -> None:
    before = table()
    began = time.strftime("%Y-%m-%d %H:%M:%S")

    assert run("nft", "flush", "ruleset").returncode == 0

    wait_until(lambda: table() == before, "the guard")
    wait_until(lambda: "guard brought back" in journal("domgit", began), "the line in the log")
    took = re.search(r"guard brought back.* ms=([0-9]+)", journal("domgit", began))
    assert took is not None
    print("flushed guard back after ms:", took[1])
    assert int(took[1]) < BACK_MS


def test_stopping_it_stops_no_guest_no_monitor_and_no_rule(daemon: Provider) -> None:
    before = domids(), {name: monitors(name) for name in NAMES}, table()

    assert run("systemctl", "stop", "domgit").returncode == 0

    assert (domids(), {name: monitors(name) for name in NAMES}, table()) == before
    guest, domid = Guest("vm01"), domids()["vm01"]
    guest.reboot()
    guest.wait_booted()
    assert domids()["vm01"] != domid
    assert guest.ping("172.16.39.1", 5.0)
    assert daemon.root.exists()


@pytest.fixture
def transient(daemon: Provider) -> Iterator[Provider]:
    """The daemon as a unit without a file, which is back at once when it dies."""
    assert daemon.root.exists()
    run("systemctl", "stop", "domgit")
    unit = Path(run("systemctl", "show", "-p", "FragmentPath", "--value", "domgit").stdout.strip())
    aside = unit.with_suffix(".aside")
    unit.rename(aside)  # a transient unit may not have the name of one that has a file
    run("systemctl", "daemon-reload")
    properties = ["KillMode=process", "Restart=always", "RestartSec=200ms", "StartLimitIntervalSec=0"]
    words = [f"--property={each}" for each in properties]
    started = run("systemd-run", "--unit=domgit", "--setenv=PYTHONSAFEPATH=1", *words, "domgit", "run")
    try:
        assert started.returncode == 0, started.stderr
        wait_until(main_process, "the daemon")
        yield daemon
    finally:
        run("systemctl", "stop", "domgit")
        aside.rename(unit)
        run("systemctl", "daemon-reload")


def kill_it() -> int:
    """Kill the daemon, and wait for the next; how many were killed."""
    process = main_process()
    if process:
        os.kill(process, signal.SIGKILL)
    wait_until(lambda: main_process() not in {0, process}, "the next daemon")
    return 1 if process else 0


def watching() -> Mapping[str, list[int]]:
    return {name: monitors(name) for name in NAMES}


def test_killed_again_and_again_while_everything_changes_it_gets_there_and_nothing_forged_is_heard(
    transient: Provider,
) -> None:
    dice = random.Random(SEED)  # noqa: S311  # reproducible, not secret
    print("DOMGIT_SEED", SEED)
    before = domids(), watching()
    path = transient.path("vm01")
    text = (transient.root / path).read_text(encoding="utf-8")
    sender = Guest("vm02")
    killed = 0
    with GATEWAY.packet_socket() as ear, sender.repeating(FORGED, 20):
        heard: list[bytes] = []
        for kill in range(KILLS):
            changed = re.sub(r"ips: \[[^]]*\]", f"ips: [172.16.39.{120 + kill % 3}]", text)
            changed = re.sub(r"memory: [0-9]+MiB", f"memory: {130 + kill}MiB", changed)
            transient.write(path, changed)
            transient.commit(f"churn {kill}")
            time.sleep(
                dice.uniform(0.5, LONGEST_LIFE_S)
            )  # the moment of the kill is the test's own randomness
            killed += kill_it()
            heard += [frame for frame in waiting(ear) if TAG in frame]
        transient.write(path, text)
        wait_converged(transient.commit("as before"))
        heard += [frame for frame in waiting(ear) if TAG in frame]

    assert killed == KILLS
    assert sender.sent > KILLS
    print("forged frames sent meanwhile:", sender.sent)
    assert heard == []
    assert (domids(), watching()) == before
    assert transient.domgit("plan", "--detailed-exitcode").code == 0
