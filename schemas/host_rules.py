"""What a host.yaml may not say although each of its values is fine. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from schemas.host import Host, HostSpec, RestartLimit, Start
from schemas.rule import Broken, idle
from schemas.tree import Path

# Where nothing that a commit names may lie: dom0's own settings, devices and programs. Kernels of guests may well
# come from /boot and /usr/lib.
_SYSTEM = ("/etc", "/dev", "/proc", "/sys", "/run", "/root", "/var/lib/domgit", "/var/lib/xen")
_PROGRAMS = ("/usr", "/boot", "/bin", "/sbin", "/lib", "/lib64", "/opt")
# What the kernel and udev call their own folders below /dev; LVM makes no group of such a name. Under /dev/disk and
# /dev/mapper lie all disks of dom0.
_DEVICE_FOLDERS = frozenset(
    {
        "block",
        "bsg",
        "bus",
        "char",
        "cpu",
        "disk",
        "dma_heap",
        "dri",
        "fd",
        "hugepages",
        "input",
        "mapper",
        "md",
    }
    | {"mqueue", "net", "nvme", "pts", "shm", "snd", "vfio", "xen"}
)
_GUESTS_PORT = re.compile(r"(vif|tap)[0-9]+\.[0-9]+(-emu)?", re.ASCII)


def host_rules(host: Host) -> Iterator[Broken]:
    """Contradictions between bridges and uplinks, folders that are dom0's own, and words without work."""
    yield from _bridges(host.spec)
    yield from _folders(host.spec)
    yield from _idle_words(host.spec)


def _bridges(spec: HostSpec) -> Iterator[Broken]:
    bridges: dict[str, int] = {}
    for index, bridge in enumerate(spec.bridges):
        if bridge.name in bridges:
            message = f'bridge "{bridge.name}" is named twice (first as bridges[{bridges[bridge.name]}])'
            yield Broken("DG1205", ("spec", "bridges", index, "name"), message)
        bridges.setdefault(bridge.name, index)
    owners: dict[str, str] = {}
    for index, bridge in enumerate(spec.bridges):
        for place, uplink in enumerate(bridge.uplinks):
            path: Path = ("spec", "bridges", index, "uplinks", place)
            if uplink in owners:
                message = f'"{uplink}" is an uplink of {owners[uplink]} too (expected a port of one bridge)'
                yield Broken("DG1205", path, message)
            if uplink in bridges:
                yield Broken("DG1205", path, f'"{uplink}" is a bridge itself (expected one of its ports)')
            if _GUESTS_PORT.fullmatch(uplink):
                # An uplink is not guarded.
                yield Broken(
                    "DG1205",
                    path,
                    f'"{uplink}" is what the kernel calls a guest\'s port (expected a way out)',
                )
            owners.setdefault(uplink, bridge.name)


def _folders(spec: HostSpec) -> Iterator[Broken]:
    images = spec.images
    for name, folders, closed in (
        ("roots", images.roots, (*_SYSTEM, *_PROGRAMS)),
        ("kernels", images.kernels, _SYSTEM),
    ):
        for index, folder in enumerate(folders):
            if any(_meet(folder, each) for each in closed):
                message = f"{folder} is dom0's own, or holds what is (expected a folder for guests)"
                yield Broken("DG1204", ("spec", "images", name, index), message)
    for index, group in enumerate(images.volume_groups):
        if group in _DEVICE_FOLDERS:
            message = f"/dev/{group} is dom0's own (expected an LVM volume group)"
            yield Broken("DG1204", ("spec", "images", "volumeGroups", index), message)


def _meet(one: str, other: str) -> bool:
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def _idle_words(spec: HostSpec) -> Iterator[Broken]:
    if spec.windows:
        yield idle(("spec", "windows"))
    if spec.limits.restart != RestartLimit():
        yield idle(("spec", "limits", "restart"))
    if spec.start != Start():
        yield idle(("spec", "start"))
