"""The disks that guests have: each layout made by Debian's tools, and what other tools say of what is in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.disks import tools
from tests.disks.tools import MIB, Told

Made = Mapping[str, Told]  # by our name of the volume
Fill = Callable[[Path], Told]


def _whole(size: int, fill: Fill) -> Callable[[Path], Made]:
    return lambda path: {"": fill(tools.sized(path, size))}


def _parted(
    size: int, script: str, fills: Mapping[int, Fill], *, sector: int = 512
) -> Callable[[Path], Made]:
    """A disk that sfdisk divides, with these file systems in its partitions."""

    def make(path: Path) -> Made:
        places = tools.divided(tools.sized(path, size), script, sector=sector)
        found = {}
        for number, fill in fills.items():
            start, length = places[number]
            content = tools.sized(path.with_name(f"{path.name}-{number}"), length)
            found[str(number)] = fill(content)
            tools.placed(path, start, content)
            content.unlink()
        return found

    return make


def _without_first_gpt(make: Callable[[Path], Made]) -> Callable[[Path], Made]:
    def made(path: Path) -> Made:
        found = make(path)
        with path.open("r+b") as disk:
            disk.seek(512)
            disk.write(b"\xff" * 1024)
        return {**found, "partitions": Told("partitions")}

    return made


def _logical(path: Path) -> Made:
    """CentOS's way: /boot in a partition, all else in logical volumes, one of which has grown behind the other."""
    places = tools.divided(tools.sized(path, 800 * MIB), "label: dos\n,64M,83\n,,8e\n")
    start, length = places[2]
    physical = tools.sized(path.with_name(f"{path.name}-pv"), length)
    tools.volume_group(
        physical, [("LogVol00", "100M"), ("LogVol01", "40M"), ("LogVol00", "+60M"), ("xfs", "320M")]
    )
    extent, first = 4 * MIB, MIB
    pieces = {"LogVol00": [(0, 25), (35, 15)], "LogVol01": [(25, 10)], "xfs": [(50, 80)]}
    fills: Mapping[str, Fill] = {
        "LogVol00": lambda image: tools.ext(image, "-t", "ext3"),
        "LogVol01": tools.swap,
        "xfs": tools.xfs,
    }
    found: dict[str, Told] = {"2": Told("LVM")}
    for name, fill in fills.items():
        content = tools.sized(path.with_name(f"{path.name}-{name}"), sum(n for _, n in pieces[name]) * extent)
        found[f"2/{name}"] = fill(content)
        data = content.read_bytes()
        with physical.open("r+b") as disk:
            for at, count in pieces[name]:
                disk.seek(first + at * extent)
                disk.write(data[: count * extent])
                data = data[count * extent :]
        content.unlink()
    tools.placed(path, start, physical)
    physical.unlink()
    boot = tools.sized(path.with_name(f"{path.name}-boot"), places[1][1])
    found["1"] = tools.ext(boot, "-t", "ext2")
    tools.placed(path, places[1][0], boot)
    return found


def _ext4(image: Path) -> Told:
    return tools.ext(image, "-t", "ext4")


_GPT = "label: gpt\n,1M,21686148-6449-6E6F-744E-656564454649\n,64M\n,,S\n"
LAYOUTS: Mapping[str, Callable[[Path], Made]] = {
    "ext4-whole": _whole(96 * MIB, _ext4),
    "ext4-many-groups": _whole(96 * MIB, lambda image: tools.ext(image, "-t", "ext4", "-b", "1024", "-g", "1024")),
    "xfs-whole": _whole(320 * MIB, tools.xfs),
    "xfs-v4": _whole(320 * MIB, lambda image: tools.xfs(image, "-m", "crc=0")),
    "xfs-many-groups": _whole(2048 * MIB, lambda image: tools.xfs(image, "-d", "agcount=16", "-i", "size=1024")),
    "btrfs-whole": _whole(192 * MIB, tools.btrfs),
    "btrfs-mixed": _whole(64 * MIB, lambda image: tools.btrfs(image, "--mixed")),
    "swap-whole": _whole(16 * MIB, tools.swap),
    "empty": _whole(16 * MIB, tools.nothing),
    "mbr": _parted(
        512 * MIB, "label: dos\n,64M\n,16M,S\n,,\n", {1: _ext4, 2: tools.swap, 3: tools.xfs}
    ),
    "mbr-logical": _parted(
        512 * MIB,
        "label: dos\n,32M\n,,E\n,64M\n,16M,S\n,160M\n,\n",
        {1: lambda image: tools.ext(image, "-t", "ext2"), 5: lambda image: tools.ext(image, "-t", "ext3"), 6: tools.swap, 7: tools.btrfs, 8: _ext4},
    ),
    "mbr-4096": _parted(
        512 * MIB,
        "label: dos\n,32M\n,,E\n,64M\n,16M,S\n",
        {1: _ext4, 5: lambda image: tools.ext(image, "-t", "ext3"), 6: tools.swap},
        sector=4096,
    ),
    "gpt": _parted(192 * MIB, _GPT, {1: tools.nothing, 2: _ext4, 3: tools.swap}),
    "gpt-4096": _parted(192 * MIB, _GPT, {1: tools.nothing, 2: _ext4, 3: tools.swap}, sector=4096),
    "gpt-second": _without_first_gpt(_parted(192 * MIB, _GPT, {1: tools.nothing, 2: _ext4, 3: tools.swap})),
    "lvm": _logical,
}  # fmt: skip
