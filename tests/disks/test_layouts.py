"""What is read of guests' disks, beside what other tools say of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from state.inside.volume import Disk
from tests.disks.kept import kept, names
from tests.disks.layouts import LAYOUTS, Made
from tests.disks.tools import looked


def agrees(disk: Disk, told: Made) -> None:
    found = {volume.name: volume for volume in disk.volumes if volume.kind != "partitions"}
    assert {name: volume.kind for name, volume in found.items()} == {
        name: each.kind for name, each in told.items() if each.kind != "partitions"
    }
    for name, each in told.items():
        if each.free_bytes is not None:
            use = found[name].use
            assert use is not None, found[name]
            assert use.free_bytes == each.free_bytes
            assert each.inodes_free in {None, use.inodes_free}
            assert use.size_bytes <= found[name].size_bytes
            assert use.superblock_free_bytes in {None, use.free_bytes}  # it is not mounted


@pytest.mark.parametrize("name", names())
def test_of_a_kept_disk_the_same_is_read_as_was_told_when_it_was_made(name: str, tmp_path: Path) -> None:
    told = kept(name, tmp_path / "disk")
    disk = looked(tmp_path / "disk")

    agrees(disk, told)
    assert disk.table == ("gpt" if "gpt" in name else "mbr" if "mbr" in name or name == "lvm" else "none")
    assert [volume.why for volume in disk.volumes if volume.why] == (
        ["its first GPT is damaged"] if name == "gpt-second" else []
    )


def test_every_layout_is_kept() -> None:
    assert names() == sorted(LAYOUTS)


@pytest.mark.machine
@pytest.mark.long
@pytest.mark.parametrize("name", sorted(LAYOUTS.keys() - {"lvm"}))  # lvm2 is not among what the tests install
def test_of_a_disk_made_now_the_same_is_read_as_other_tools_say(name: str, tmp_path: Path) -> None:
    told = LAYOUTS[name](tmp_path / "disk")

    agrees(looked(tmp_path / "disk"), told)
