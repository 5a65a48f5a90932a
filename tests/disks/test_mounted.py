"""Disks in use: what is read of a mounted file system beside what df says in it, and dom0's page cache."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from state.files import HostFiles
from state.inside import MODULE
from state.inside.volume import FileSystem
from state.insides import Inside, look_into
from state.run import HostRunner
from tests.disks import tools
from tests.disks.tools import MIB, looked, tool

pytestmark = pytest.mark.machine
FILE_BYTES = 60 * MIB


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[tuple[Path, str]]:
    """The image mounted where nobody else on this machine sees it: by the path of a process with mounts of its own; and its device."""
    folder.mkdir()
    with tools.loop(image) as device:
        holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", f"mount {device} {folder} && echo there && exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == "there\n"
            yield Path(f"/proc/{holder.pid}/root{folder}"), device
        finally:
            holder.communicate(timeout=30)


def free_of(folder: Path) -> tuple[int, int]:
    """Free bytes and free inodes as statfs(2) has them."""
    found = os.statvfs(folder)
    return found.f_bfree * found.f_frsize, found.f_ffree


def use_of(path: Path) -> FileSystem:
    (volume,) = looked(path).volumes
    assert volume.use is not None, volume
    return volume.use


def near(one: int, other: int, whole: int) -> bool:
    """Within one in a hundred of all there is."""
    return abs(one - other) * 100 <= whole


def fill(folder: Path, device: str) -> None:
    (folder / "file").write_bytes(os.urandom(FILE_BYTES))
    for number in range(500):
        (folder / f"small{number}").touch()
    os.sync()
    tool("blockdev", "--flushbufs", device)  # what the kernel's write-back does within a minute


@pytest.mark.parametrize("kind", ["ext2", "ext3", "ext4"])
def test_of_a_mounted_ext_the_groups_are_right_and_the_superblock_is_not(kind: str, tmp_path: Path) -> None:
    path = tools.sized(tmp_path / "disk", 256 * MIB)
    tool("mke2fs", "-q", "-t", kind, path)
    before = use_of(path)
    with mounted(path, tmp_path / "there") as (folder, device):
        fill(folder, device)
        free, inodes = free_of(folder)
        found = use_of(path)
        assert near(found.free_bytes, free, found.size_bytes), (found, free)
        assert found.inodes_free == inodes
        assert found.mounted
        if kind != "ext2":  # whose superblock sync(2) writes
            assert found.superblock_free_bytes == before.superblock_free_bytes
    after = use_of(path)
    assert not after.mounted
    assert after.superblock_free_bytes == after.free_bytes


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_of_a_mounted_xfs_or_btrfs_what_is_read_is_near_what_df_says(kind: str, tmp_path: Path) -> None:
    path = tools.sized(tmp_path / "disk", 1024 * MIB)
    tools.xfs(path) if kind == "xfs" else tools.btrfs(path)
    with mounted(path, tmp_path / "there") as (folder, device):
        fill(folder, device)
        # As a snapshot of storage does it: everything that was committed is on the disk.
        tool("fsfreeze", "--freeze", folder)
        try:
            found, (free, _) = use_of(path), free_of(folder)
        finally:
            tool("fsfreeze", "--unfreeze", folder)
        assert near(found.free_bytes, free, found.size_bytes), (found, free)
        assert found.size_bytes - found.free_bytes > FILE_BYTES


def test_a_block_device_is_read_past_the_page_cache_that_lies(tmp_path: Path) -> None:
    path = tools.sized(tmp_path / "disk", 64 * MIB)
    tool("mke2fs", "-q", "-t", "ext2", path)
    with tools.loop(path, "--direct-io=on") as device:
        # blkback keeps it open for as long as the guest runs, and what was once read stays in memory.
        held = os.open(device, os.O_RDONLY)
        stale = os.pread(held, MIB, 0)
        before = use_of(path)
        inside = tmp_path / "file"
        inside.write_bytes(os.urandom(20 * MIB))
        tool("debugfs", "-w", "-R", f"write {inside} file", path)
        os.sync()

        found = look_into(HostRunner(), [device])[device]

        assert os.pread(held, MIB, 0) == stale  # otherwise this shows nothing
        os.close(held)
    assert isinstance(found, Inside)
    assert found.block
    (volume,) = found.disk.volumes
    assert volume.use is not None
    assert volume.use.free_bytes < before.free_bytes - 20 * MIB


def test_who_looks_into_disks_is_nobody_and_no_holder_of_them(tmp_path: Path) -> None:
    program = "import sys; from state.insides import look_into; from state.run import HostRunner; look_into(HostRunner(), sys.argv[1:])"
    paths = [str(tools.sized(tmp_path / f"disk{number}", MIB)) for number in range(1000)]
    looking = subprocess.Popen([sys.executable, "-c", program, *paths])
    seen: set[tuple[str, str]] = set()
    held: dict[str, str] = {}
    while looking.poll() is None:
        seen |= {*readers()}
        held |= HostFiles().holders(paths[::100])

    assert looking.returncode == 0
    assert held == {}
    # The one that forks may read everything, and nothing else; what it forks, nothing.
    assert seen <= {("65534", f"{1 << 2:016x}"), ("65534", f"{0:016x}")}
    assert len(seen) == 2


def readers() -> Iterator[tuple[str, str]]:
    """Effective user and capabilities of each process that looks into disks just now."""
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().split(b"\0")
            status = (entry / "status").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # no process, or one that has ended
        if line[-4:] == [b"-P", b"-m", MODULE.encode(), b""] and not line[0].endswith(b"setpriv"):
            found = dict(re.findall(r"^(Uid|CapEff):\t(?:\d+\t)?([0-9a-f]+)", status, re.MULTILINE))
            yield found["Uid"], found["CapEff"]
