"""How full guests' disks are, from a dom0 in which they run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.disks.systems import SYSTEMS, unpacked
from tests.dom0.toolstack import run, wait_until
from tests.end_to_end.provider import IMAGES, Provider, booted

pytestmark = pytest.mark.dom0


def filled(image: Path, folder: Path) -> None:
    """A Debian 5 that was installed under another kernel, and is nearly full, made over an image in place."""
    unpacked(SYSTEMS["debian 5, installed with the xen kernel"], folder)
    (folder / "content").write_bytes(b"x" * 5_900_000)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-d", str(folder), str(image))


def test_disks_of_running_and_halted_guests_are_told_and_the_daemon_warns(
    provider: Provider, tmp_path: Path
) -> None:
    provider.host(extra="disks: {warnAt: 80%, interval: 1s}")
    provider.domu("vm01", 1)
    provider.domu("vm02", 2, state="halted")
    provider.settled()
    booted("vm01")
    filled(IMAGES / "vm01.img", tmp_path / "system")
    before = {path: path.read_bytes() for path in IMAGES.glob("*.img")}

    told = provider.domgit("disks", "--json")
    text = provider.domgit("disks", "vm01")

    assert told.code == text.code == 0, told.err + text.err
    by_name = {domu["domu"]: domu for domu in told.json["domus"]}
    assert (by_name["vm01"]["running"], by_name["vm02"]["running"]) == (True, False)
    (volume,) = by_name["vm01"]["disks"][0]["volumes"]
    assert (volume["name"], volume["kind"]) == ("xvda", "ext4")
    assert 80 <= volume["use"]["used_percent"] <= 100
    assert by_name["vm02"]["disks"][0]["volumes"][0]["kind"] == "empty"
    assert "% !" in text.out
    assert "vm02" not in text.out
    assert provider.domgit("disks", "vm99").code == 1
    assert {path: path.read_bytes() for path in IMAGES.glob("*.img")} == before

    daemon = subprocess.Popen(provider.argv("run"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        record = Path("/run/domgit/disks.json")
        wait_until(record.exists, "the daemon has looked into the disks")
    finally:
        daemon.terminate()
        daemon.wait(30)
    assert "domgit_disk_over_warn_at{" in Path("/run/domgit/disks.prom").read_text(encoding="utf-8")
    assert json.loads(Path("/var/lib/domgit/disk-history.json").read_text(encoding="utf-8"))
    status = provider.domgit("status")
    assert "no login" in status.out
    assert "waits on xvc0, which this kernel does not have" in provider.domgit("get", "vm01").out
    assert "disk full" in status.out
    assert "disks.warnAt is 80%" in status.out
