"""Disks that somebody has prepared: each is told of in words, within bounds, and no other suffers."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.inside.disk import MOST_VOLUMES, read_disk
from state.inside.image import BYTES_LIMIT
from state.inside.volume import Disk
from state.insides import Inside, look_into, parse_answer
from state.run import HostRunner
from tests.disks.kept import CASES, names, pages
from tests.disks.pages import Pages

EDGES = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)  # fmt: skip
FORMS = ("<B", "<H", ">H", "<I", ">I", "<Q", ">Q")


@cache
def case(name: str) -> tuple[int, Mapping[int, bytes]]:
    shown = json.loads((CASES / f"{name}.json").read_text(encoding="utf-8"))
    return shown["size"], pages(shown)


def changed(name: str, *changes: tuple[int, bytes], size: int | None = None) -> Pages:
    """A kept disk with these bytes written to these places."""
    own_size, kept = case(name)
    content = {at: bytearray(data) for at, data in kept.items()}
    for at, data in changes:
        page = content.setdefault(at - at % 4096, bytearray(4096))
        page[at % 4096 : at % 4096 + len(data)] = data
    return Pages(own_size if size is None else size, {at: bytes(data[:4096]) for at, data in content.items()})


def checked(image: Pages) -> Disk:
    """What is read of a disk: whatever it is, of the form that the parent believes, and not dearly bought."""
    disk, windows = read_disk(image)
    answer = parse_answer(json.dumps({"disk": asdict(disk), "block": False, "changed_s": 0, "login": None}))
    assert isinstance(answer, Inside)
    assert answer.disk == disk
    assert image.read_bytes <= BYTES_LIMIT
    assert len(windows) <= len(disk.volumes) <= MOST_VOLUMES
    for volume in disk.volumes:
        assert (volume.use is None) or not volume.why
        assert volume.use is None or volume.use.size_bytes <= volume.size_bytes
    return disk


def whys(disk: Disk) -> list[str]:
    return [volume.why for volume in disk.volumes if volume.why]


number = st.tuples(st.sampled_from(FORMS), st.sampled_from(EDGES)).map(
    lambda each: struct.pack(each[0], each[1] & ((1 << 8 * struct.calcsize(each[0])) - 1))
)


@given(data=st.data())
@settings(max_examples=150)
def test_whatever_is_written_over_a_disk_it_is_told_of_within_bounds(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(names()))
    size, kept = case(name)
    starts = st.sampled_from(sorted(kept) or [0])
    place = st.tuples(starts, st.integers(0, 1400)).map(sum)
    changes = data.draw(st.lists(st.tuples(place, number | st.binary(min_size=1, max_size=16)), max_size=6))
    cut = data.draw(st.none() | st.integers(0, size) | st.sampled_from([512, 4096, size - 512, 1 << 62]))

    checked(changed(name, *changes, size=cut))


@given(st.binary(max_size=8192), st.integers(0, 1 << 40))
@settings(max_examples=50)
def test_garbage_is_told_of_as_garbage(garbage: bytes, size: int) -> None:
    checked(Pages(size, {0: garbage[:4096], 4096: garbage[4096:]}))


SUPER = 1024
HOSTILE: Mapping[str, tuple[Callable[[], Pages], str]] = {
    "ext: 4 billion groups": (
        lambda: changed("ext4-whole", (SUPER + 4, b"\xff" * 4), (SUPER + 32, b"\1\0\0\0"), size=1 << 62),
        "4294967294 groups are more than are looked through",
    ),
    "ext: blocks of no size": (lambda: changed("ext4-whole", (SUPER + 24, b"\xff" * 4)), "blocks of no possible size"),
    "ext: no blocks in a group": (lambda: changed("ext4-whole", (SUPER + 32, bytes(4))), "groups of no possible size"),
    "ext: no inodes in a group": (lambda: changed("ext4-whole", (SUPER + 40, bytes(4))), "groups of no possible size"),
    "ext: descriptors of no size": (lambda: changed("ext4-whole", (SUPER + 254, b"\0\0")), "group descriptors of no possible size"),
    "ext: inodes of no size": (lambda: changed("ext4-whole", (SUPER + 88, b"\x81\0")), "inodes of no possible size"),
    "ext: larger than its disk": (lambda: changed("ext4-whole", (SUPER + 0x150, b"\xff\xff\xff\x7f")), "it is larger (9444732961341344579584 bytes) than its volume"),
    "ext: more free than there is": (lambda: changed("ext4-whole", (SUPER + 12, b"\xff" * 4)), "it counts more than it has"),
    "ext: a group with more free than it has": (lambda: changed("ext4-whole", (2048 + 12, b"\xff\xff")), "a group has more free than it has"),
    "ext: inodes that are in no group": (lambda: changed("ext4-whole", (SUPER, b"\1\0\0\0"), (SUPER + 16, bytes(4))), "its number of inodes is not that of its groups"),
    "ext: another's journal": (lambda: changed("ext4-whole", (SUPER + 96, b"\x08")), "it is the journal of another file system"),
    "ext: truncated": (lambda: changed("ext4-whole", size=1 << 20), "it is larger (100663296 bytes) than its volume"),
    "xfs: 4 billion groups": (lambda: changed("xfs-whole", (88, b"\xff" * 4)), "its groups are not as many as fill it"),
    "xfs: no groups": (lambda: changed("xfs-whole", (84, bytes(8))), "its groups are not as many as fill it"),
    "xfs: tiny groups": (lambda: changed("xfs-whole", (84, struct.pack(">II", 1, 81920))), "81920 groups are more than are looked through"),
    "xfs: 2**63 blocks": (lambda: changed("xfs-whole", (8, struct.pack(">Q", 1 << 63))), "it is larger (37778931862957161709568 bytes) than its volume"),
    "xfs: blocks of no size": (lambda: changed("xfs-whole", (4, bytes(4))), "blocks, sectors or inodes of no possible size"),
    "xfs: no header of a group": (lambda: changed("xfs-whole", (512, bytes(4))), "the header of group 0 is none"),
    "xfs: more free than there is": (lambda: changed("xfs-whole", (512 + 52, b"\xff" * 4)), "group 0 has more free than it has"),
    "btrfs: 2**63 bytes": (lambda: changed("btrfs-whole", (65536 + 112, struct.pack("<Q", 1 << 63))), "it is larger (9223372036854775808 bytes) than its volume"),
    "btrfs: uses more than it has": (lambda: changed("btrfs-whole", (65536 + 120, b"\xff" * 8)), "it uses more than it has"),
    "btrfs: many disks": (lambda: changed("btrfs-whole", (65536 + 136, b"\2")), "it lies on 2 disks"),
    "btrfs: of another place": (lambda: changed("btrfs-whole", (65536 + 48, b"\2")), "its superblock is one of another place"),
    "gpt: neither first nor second": (lambda: changed("gpt", (512 + 16, b"\xff"), (192 * 1024 * 1024 - 512, bytes(8))), "its GPT has another checksum than it says"),
    "gpt: none where one is said to be": (lambda: changed("gpt", (512, bytes(8)), (192 * 1024 * 1024 - 512, bytes(8))), "it says that it has a GPT, and has none"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_tool_would_have_made_is_refused_in_a_clear_word(name: str) -> None:
    make, word = HOSTILE[name]
    disk = checked(make())

    assert word in whys(disk)
    assert not any(volume.use for volume in disk.volumes)


def entry(kind: int, first: int, count: int) -> bytes:
    return struct.pack("<B3xB3xII", 0, kind, first, count)


def table(*entries: bytes) -> bytes:
    return b"".join(entries).ljust(64, b"\0") + b"\x55\xaa"


def disk_of(*tables: tuple[int, bytes], size: int = 1 << 30) -> Pages:
    content: dict[int, bytes] = {}
    for at, data in tables:
        page = bytearray(content.get(at - at % 4096, bytes(4096)))
        page[at % 4096 + 446 : at % 4096 + 512] = data
        content[at - at % 4096] = bytes(page)
    return Pages(size, content)


def test_logical_partitions_that_go_in_a_circle_end() -> None:
    first = table(entry(5, 8, 1000))
    there = table(entry(0x83, 2, 10), entry(5, 16, 100))
    back = table(entry(0x83, 2, 10), entry(5, 0, 100))

    assert "its logical partitions go in a circle" in whys(
        checked(disk_of((0, first), (8 * 512, there), (24 * 512, back)))
    )


def test_a_thousand_logical_partitions_are_not_followed() -> None:
    tables = [(0, table(entry(5, 8, 100_000)))]
    tables += [
        ((8 + 8 * at) * 512, table(entry(0x83, 1, 1), entry(5, 8 * (at + 1), 8))) for at in range(1000)
    ]
    disk = checked(disk_of(*tables))

    assert whys(disk) == ["it has more than 50 logical partitions"]
    assert len(disk.volumes) == 51


@pytest.mark.parametrize(
    ("partition", "why"),
    [
        (entry(0x83, 2048, 0xFFFFFFFF), "it ends behind the end of the disk"),
        (entry(0x0F, 2048, 0xFFFFFFFF), "its logical partitions lead to no table"),
    ],
)
def test_a_partition_that_is_not_on_the_disk_is_said_to_be_that(partition: bytes, why: str) -> None:
    assert why in whys(checked(disk_of((0, table(partition)))))


def test_a_broken_sector_is_told_of_where_it_lies() -> None:
    size, kept = case("mbr")
    disk = checked(Pages(size, kept, broken=frozenset({1024 * 1024})))

    assert whys(disk) == ["it cannot be read: Input/output error"]
    assert [volume.use is not None for volume in disk.volumes] == [False, False, True]


LVM_START = 65 * 1024 * 1024


def metadata(old: bytes, new: bytes) -> Pages:
    """The LVM disk with something written over in its metadata, wherever it stands."""
    size, kept = case("lvm")
    found = {at: data.replace(old, new.ljust(len(old), b" ")) for at, data in kept.items()}
    assert found != kept
    return Pages(size, found)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b"physical_volumes {", b"physical_volumes [", "its LVM metadata is damaged"),
        (b"extent_size = 8192", b'extent_size = "x"', "its LVM metadata has no extent_size"),
        (b"LogVol01 {", b"Log/l01 {", "its LVM metadata is no text of LVM's"),
        (b"segment_count = 2", b"segment_count = 9", "its LVM metadata has no segment3"),
        (
            b'extent_count = 10\n\ntype = "striped"',
            b'extent_count=9999 type="striped"',
            "it points behind the end of its volume",
        ),
        (b'type = "striped"', b'type = "raid1"', "it is not linear"),
    ],
)
def test_metadata_that_lvm_would_not_write_is_refused(old: bytes, new: bytes, why: str) -> None:
    assert why in whys(checked(metadata(old, new)))


# ---------------------------------------------------------------- the child


def test_a_disk_is_read_by_a_child_and_what_is_none_is_said_to_be_none(tmp_path: Path) -> None:
    good, spoilt, fifo = tmp_path / "good", tmp_path / "spoilt", tmp_path / "fifo"
    for path, data in ((good, bytes(8192)), (spoilt, os.urandom(8192))):
        path.write_bytes(data)
    os.mkfifo(fifo)
    wanted = [str(path) for path in (good, spoilt, fifo, tmp_path, tmp_path / "none")]

    found = look_into(HostRunner(), wanted)

    assert [found[path] for path in wanted[2:]] == [
        "neither a file nor a block device",
        "neither a file nor a block device",
        "No such file or directory",
    ]
    kinds = []
    for each in wanted[:2]:
        inside = found[each]
        assert isinstance(inside, Inside)
        kinds += [volume.kind for volume in inside.disk.volumes]
    assert kinds == ["empty", "unknown"]
