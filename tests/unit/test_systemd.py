"""The units: systemd takes them, and stopping or removing one opens nothing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = sorted((Path(__file__).resolve().parents[2] / "systemd").glob("*.service"))


def test_there_is_one_for_the_daemon_and_one_for_the_guard_at_boot() -> None:
    assert [unit.name for unit in UNITS] == ["domgit-guard.service", "domgit.service"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_has_nothing_to_say_about_a_unit(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("this machine has no systemd-analyze")
    # The program is not installed where the unit expects it.
    text = unit.read_text(encoding="utf-8").replace("/usr/bin/domgit", "/bin/true")
    copy = tmp_path / unit.name
    copy.write_text(text, encoding="utf-8")

    done = subprocess.run(
        ["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False, timeout=60
    )

    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_nothing_runs_when_a_unit_stops(unit: Path) -> None:
    keys = {line.partition("=")[0] for line in unit.read_text(encoding="utf-8").splitlines()}

    assert not keys & {"ExecStop", "ExecStopPost", "ExecReload"}
    assert "ExecStart" in keys


def test_the_guard_is_loaded_before_there_is_a_network_or_a_guest_and_behind_what_flushes_it() -> None:
    lines = UNITS[0].read_text(encoding="utf-8").splitlines()

    before = {word for line in lines if line.startswith("Before=") for word in line[7:].split()}
    after = {word for line in lines if line.startswith("After=") for word in line[6:].split()}
    assert before >= {"network-pre.target", "xendomains.service", "domgit.service"}
    assert "nftables.service" in after
    assert "Wants=network-pre.target" in lines
    assert "DefaultDependencies=no" in lines
