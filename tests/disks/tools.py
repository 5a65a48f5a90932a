"""Makes file systems and disks with the tools of Debian, and asks other tools of Debian how full they are."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from state.inside.disk import read_disk
from state.inside.image import Image
from state.inside.volume import Disk

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Told:
    """What another tool says of a volume: free bytes as its own groups or trees have it, and free inodes; None: not asked."""

    kind: str
    free_bytes: int | None = None
    inodes_free: int | None = None


def tool(*argv: object, given: str = "", environment: Mapping[str, str] | None = None) -> str:
    """The stdout of a tool that must succeed."""
    done = subprocess.run(
        [*map(str, argv)],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})},
    )
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def image_of(path: Path) -> Iterator[Image]:
    """A disk, opened as the child opens it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield Image(descriptor, os.lseek(descriptor, 0, os.SEEK_END), direct=False)
    finally:
        os.close(descriptor)


def looked(path: Path) -> Disk:
    """What we read of a disk."""
    with image_of(path) as image:
        return read_disk(image)[0]


@contextmanager
def loop(path: Path, *options: object) -> Iterator[str]:
    """A loop device over an image."""
    device = tool("losetup", "--find", "--show", *options, path).strip()
    try:
        yield device
    finally:
        tool("losetup", "-d", device)


def sized(path: Path, size: int) -> Path:
    """An empty image of so many bytes."""
    path.touch()
    os.truncate(path, size)
    return path


# ---------------------------------------------------------------- file systems, and what their own tools say


def ext(path: Path, *options: str) -> Told:
    """An ext file system over all of an image, with a few files."""
    inside = path.with_name(f"{path.name}-files")
    inside.mkdir()
    for number in range(10):
        (inside / f"file{number}").write_bytes(b"x" * 50_000)
    tool("mke2fs", "-q", "-F", "-d", inside, *options, path)
    return ext_told(path, options[1])


def ext_told(path: Path, kind: str) -> Told:
    """What dumpe2fs says, group by group, summed."""
    text = tool("dumpe2fs", path)
    rows = re.findall(r"^ +(\d+) free (?:blocks|clusters), (\d+) free inodes", text, re.MULTILINE)
    head = dict(re.findall(r"^([A-Z][\w ]+?): +(\d+)$", text, re.MULTILINE))
    unit = int(head.get("Cluster size") or head["Block size"])
    return Told(kind, sum(int(free) for free, _ in rows) * unit, sum(int(free) for _, free in rows))


def xfs(path: Path, *options: str) -> Told:
    """An XFS over all of an image."""
    tool("mkfs.xfs", "-q", *options, path)
    return xfs_told(path)


def xfs_told(path: Path) -> Told:
    """What xfs_db says of each allocation group, summed."""
    head = _pairs(tool("xfs_db", "-r", "-c", "sb 0", "-c", "p agcount blocksize", path))
    commands = [
        each
        for group in range(head["agcount"])
        for each in ("-c", f"agf {group}", "-c", "p freeblks flcount btreeblks")
    ]
    free = sum(int(each) for each in re.findall(r"= (\d+)", tool("xfs_db", "-r", *commands, path)))
    return Told("xfs", free * head["blocksize"])


def btrfs(path: Path, *options: str) -> Told:
    """A btrfs over all of an image."""
    tool("mkfs.btrfs", "-q", *options, path)
    return btrfs_told(path)


def btrfs_told(path: Path) -> Told:
    """What the superblock says."""
    text = tool("btrfs", "inspect-internal", "dump-super", path)
    found = dict(re.findall(r"^(\w+)\s+(\d+)$", text, re.MULTILINE))
    return Told("btrfs", int(found["total_bytes"]) - int(found["bytes_used"]))


def swap(path: Path) -> Told:
    """A swap area over all of an image."""
    tool("mkswap", path)
    return Told("swap")


def nothing(path: Path) -> Told:
    """An image that is left as it is."""
    del path
    return Told("empty")


def _pairs(text: str) -> Mapping[str, int]:
    return {name: int(value) for name, value in re.findall(r"^(\w+) = (\d+)$", text, re.MULTILINE)}


# ---------------------------------------------------------------- disks


def divided(path: Path, script: str, *, sector: int = 512) -> Mapping[int, tuple[int, int]]:
    """Divides an image as sfdisk's script says: start and size of each partition in bytes, by number."""
    with loop(path, "-b", sector) as device:
        tool("sfdisk", "--quiet", device, given=script)
        rows = json_of(tool("sfdisk", "--json", device))["partitiontable"]["partitions"]
    return {
        int(re.sub(r".*p", "", row["node"])): (row["start"] * sector, row["size"] * sector) for row in rows
    }


def json_of(text: str) -> Any:
    """A tool's JSON."""
    import json

    return json.loads(text)


def placed(path: Path, start: int, content: Path) -> None:
    """Copies what an image holds into another, from a place on; zeros stay holes."""
    tool("dd", f"if={content}", f"of={path}", f"seek={start}", "oflag=seek_bytes", "bs=1M", "conv=notrunc,sparse", "status=none")  # fmt: skip


def volume_group(path: Path, volumes: Sequence[tuple[str, str]]) -> None:
    """Makes an image the one physical volume of a group VolGroup00, with these lvcreate and lvextend steps.

    dom0's device-mapper has no part in it: nothing is activated.
    """
    with loop(path) as device:
        config = (
            f'devices{{use_devicesfile=0 filter=["a|^{device}$|","r|.*|"]}} '
            "activation{udev_sync=0 udev_rules=0} backup{backup=0 archive=0}"
        )
        options = ("--driverloaded", "n", "--config", config, "-q")
        environment = {"LVM_SUPPRESS_FD_WARNINGS": "1"}
        tool("lvm", "pvcreate", *options, device, environment=environment)
        tool("lvm", "vgcreate", *options, "VolGroup00", device, environment=environment)
        made = set()
        for name, size in volumes:
            verb: tuple[str, ...]
            if name in made:
                verb = ("lvextend", *options, "-L", size, f"VolGroup00/{name}")
            else:
                verb = ("lvcreate", *options, "-an", "-Zn", "-n", name, "-L", size, "VolGroup00")
            made.add(name)
            tool("lvm", *verb, environment=environment)
