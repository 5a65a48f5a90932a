"""How full ext2, ext3 and ext4 are, beside what e2fsprogs says of the same image."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from state.inside.volume import FileSystem, Volume
from tests.disks.tools import looked


def only(path: Path) -> Volume:
    """The one volume of a disk without partitions."""
    (found,) = looked(path).volumes
    return found


def use_of(path: Path) -> FileSystem:
    found = only(path)
    assert found.use is not None, found.why
    return found.use


def tool(*argv: object) -> str:
    done = subprocess.run([*map(str, argv)], capture_output=True, text=True, check=True)
    return done.stdout


def groups_free(path: Path) -> tuple[int, int]:
    """Free blocks and inodes as dumpe2fs lists them group by group, summed."""
    text = tool("dumpe2fs", path)
    found = re.findall(r"^ +(\d+) free (?:blocks|clusters), (\d+) free inodes", text, re.MULTILINE)
    assert found
    return sum(int(blocks) for blocks, _ in found), sum(int(inodes) for _, inodes in found)


LAYOUTS = {
    "ext2": ("-t", "ext2"),
    "ext3": ("-t", "ext3"),
    "ext4": ("-t", "ext4"),
    "ext4 of 2009": ("-t", "ext4", "-O", "^metadata_csum,^64bit,uninit_bg"),
    "1k blocks": ("-t", "ext4", "-b", "1024"),
    "without sparse_super": ("-t", "ext3", "-O", "^sparse_super,^resize_inode"),
    "sparse_super2": ("-t", "ext4", "-O", "sparse_super2,^resize_inode"),
    "meta_bg": ("-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode"),
    "meta_bg, 32 bit": ("-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode,^64bit"),
    "without flex_bg": ("-t", "ext4", "-O", "^flex_bg"),
    "bigalloc": ("-t", "ext4", "-O", "bigalloc", "-C", "65536"),
    "small groups": ("-t", "ext4", "-b", "1024", "-g", "1024"),
    "many inodes": ("-t", "ext4", "-i", "4096", "-I", "128"),
    "revision 0": ("-t", "ext2", "-r", "0", "-O", "none"),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_has_what_its_groups_say(layout: str, tmp_path: Path) -> None:
    path, inside = tmp_path / "disk.img", tmp_path / "inside"
    (inside / "folder").mkdir(parents=True)
    for number in range(20):
        (inside / "folder" / f"file{number}").write_bytes(os.urandom(70_000))
    tool("truncate", "-s", "128M", path)
    tool("mke2fs", "-q", "-F", "-d", inside, *LAYOUTS[layout], path)

    found = use_of(path)

    free, inodes = groups_free(path)
    head = dict(re.findall(r"^([A-Z][\w ]+?): +(\d+)$", tool("dumpe2fs", "-h", path), re.MULTILINE))
    block = int(head["Block size"])
    unit = int(head.get("Cluster size", block))
    assert (found.free_bytes, found.inodes_free) == (free * unit, inodes)
    assert found.size_bytes == int(head["Block count"]) * block
    assert found.inodes == int(head["Inode count"])
    assert found.superblock_free_bytes == int(head["Free blocks"]) * block
    assert found.available_bytes == found.free_bytes - int(head["Reserved block count"]) * block
    assert not found.mounted
    assert found.size_bytes - found.free_bytes > 20 * 70_000


@pytest.mark.parametrize("kind", ["ext2", "ext3", "ext4"])
def test_the_kind_is_told_by_its_features(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    tool("mke2fs", "-q", "-t", kind, path, "16M")

    assert only(path).kind == kind
