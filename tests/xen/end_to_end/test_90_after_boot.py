"""The host was restarted: the guard before any guest, guests by the daemon alone, everything as git says."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.dom0.toolstack import domids, run
from tests.xen.end_to_end.provider import NAMES, Provider, all_up, monitors, table, wait_converged, wait_until
from tests.xen.end_to_end.test_20_attacks import CASES, ME, attack, last_frame
from tests.xen.inside import Guest

pytestmark = pytest.mark.after_boot


def monotonic_us(unit: str, name: str) -> int:
    """When a unit got there, in microseconds since boot; 0: never."""
    return int(run("systemctl", "show", "-p", name, "--value", unit).stdout or 0)


def test_the_guard_was_loaded_before_there_was_a_network() -> None:
    loaded = monotonic_us("domgit-guard", "ActiveEnterTimestampMonotonic")
    network = monotonic_us("rig-network", "ExecMainStartTimestampMonotonic")

    assert run("systemctl", "is-active", "domgit-guard").stdout.strip() == "active"
    assert 0 < loaded < network


def test_all_guests_are_started_by_the_daemon(provider: Provider) -> None:
    all_up(NAMES)
    wait_converged(provider.last_commit())

    assert set(domids()) == set(NAMES)
    daemon = monotonic_us("domgit", "ExecMainStartTimestampMonotonic")
    assert monotonic_us("domgit-guard", "ActiveEnterTimestampMonotonic") < daemon


def test_no_guest_was_there_before_the_guard() -> None:
    ticks_s = os.sysconf("SC_CLK_TCK")
    started_s = [
        int(path.read_text().rpartition(")")[2].split()[19]) / ticks_s  # proc(5): starttime, since boot
        for name in NAMES
        for path in (Path(f"/proc/{process}/stat") for process in monitors(name))
    ]

    assert len(started_s) == len(NAMES)
    assert min(started_s) > monotonic_us("domgit-guard", "ActiveEnterTimestampMonotonic") / 1e6


def test_forged_frames_are_heard_by_nobody_after_the_boot() -> None:
    heard = attack(Guest("vm02"), Guest("vm01"), {case.name: case.frame for case in CASES}, last_frame(ME))

    assert set().union(*heard.values()) == {case.name for case in CASES if not case.forged}


def test_guests_know_their_disks_again() -> None:
    assert all(Guest(name).boots > 1 for name in NAMES)
    assert all(Guest(name).ping("172.16.39.1", 10.0) for name in NAMES)


def test_the_plan_is_empty(provider: Provider) -> None:
    assert provider.domgit("plan", "--detailed-exitcode").code == 0
    assert re.search(r'"vm01" \. 00:16:3e:7c:1f:6e \. 172\.16\.39\.120', table())


def test_an_apply_after_the_daemon_has_been_stopped_finds_nothing_to_do(provider: Provider) -> None:
    run("systemctl", "stop", "domgit")
    wait_until(lambda: run("systemctl", "is-active", "domgit").stdout.strip() != "active", "its end")

    assert provider.domgit("drift").code == 0
