"""A guest's own kernel, read from its disk by the toolstack's pygrub: never as root, neither by us nor by the monitor.

pygrub is the real one, and reads a real file system; only the kernel in it is none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dom0.toolstack import domids, run, xl
from tests.end_to_end.provider import IMAGES, Provider, booted

pytestmark = pytest.mark.dom0
PYGRUB = Path("/usr/lib/xen-4.17/bin/pygrub")
ASKED = Path("/run/pygrub-asked")
UID = 64535
CONFIGURATION = "menuentry 'own' {\n linux /boot/vmlinuz root=/dev/xvda ro\n initrd /boot/initrd.img\n}\n"
# Writes down who is asked to read the disk, and is the real pygrub from then on.
WATCHED = """#!/bin/sh
printf '%s\\n' "$*" >> {asked}
exec {real} "$@"
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A file system with a boot loader's configuration."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    boot, path = tmp_path / "disk" / "boot", IMAGES / "vm01.img"
    (boot / "grub").mkdir(parents=True)
    (boot / "grub" / "grub.cfg").write_text(CONFIGURATION)
    for name in ("vmlinuz", "initrd.img"):
        (boot / name).write_text("a kernel of its own\n")
    run("truncate", "-s", "8M", str(path))
    done = run("mkfs.ext4", "-q", "-F", "-d", str(tmp_path / "disk"), str(path))
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def _watched() -> Iterator[None]:
    real = PYGRUB.with_name("pygrub-itself")
    PYGRUB.rename(real)
    PYGRUB.write_text(WATCHED.format(asked=ASKED, real=real))
    PYGRUB.chmod(0o755)
    yield
    real.rename(PYGRUB)
    ASKED.unlink(missing_ok=True)


@pytest.fixture
def _user() -> Iterator[None]:
    before = Path("/etc/passwd").read_text()
    Path("/etc/passwd").write_text(f"{before}xen-qemuuser-shared:x:{UID}:{UID}::/:/usr/sbin/nologin\n")
    yield
    Path("/etc/passwd").write_text(before)


def pygrub(provider: Provider, path: Path) -> None:
    disks = [{"vdev": "xvda", "path": str(path), "size": "8MiB", "adopt": True}]
    provider.domu("vm01", 1, boot={"run": {"bootloader": "pygrub"}}, disks=disks)
    provider.commit()


@pytest.mark.usefixtures("_watched", "_user")
def test_pygrub_reads_a_guests_disk_as_nobody_at_its_start_and_at_its_own_reboot(
    provider: Provider, image: Path
) -> None:
    pygrub(provider, image)

    done = provider.domgit("apply", "--yes")

    assert done.code == 0, done.out + done.err
    booted("vm01").reboot()
    booted("vm01")
    asked = ASKED.read_text().splitlines()
    assert len(asked) == 2
    assert all(f"--runas={UID}" in each.split() for each in asked)
    assert json.loads(xl("list", "-l", "vm01").stdout)[0]["config"]["b_info"]["bootloader"] == "pygrub"
    assert provider.domgit("plan", "--detailed-exitcode").code == 0


def test_without_a_user_for_it_nothing_reads_a_guests_disk(provider: Provider, image: Path) -> None:
    pygrub(provider, image)

    done, doctor = provider.domgit("apply", "--yes"), provider.domgit("doctor")

    assert done.code == 1
    assert domids() == {}
    assert "MISS  pygrub" in doctor.out
    assert "xen-qemuuser-shared" in doctor.out
