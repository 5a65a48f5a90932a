"""What one accepted DomU may not say although each of its values is fine. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from schemas.address import Address, Numbers, address_text, eui64_link_local, is_link_local, numbers_of
from schemas.claims import inherited, ports_of
from schemas.diagnostic import Diagnostic
from schemas.domu import Boot, Spec, Vif
from schemas.footing import Footing, folders_shown
from schemas.merged import Merged
from schemas.rule import Broken, idle
from schemas.scalars import is_good_vif_name
from schemas.segments import Segment, Segments
from schemas.shown import listed
from schemas.tree import Path, field

TWIN_NAME_LIMIT = 11  # 15 characters name an interface, and "-emu" takes four
_STATE, _PROFILE, _TYPE, _PHASE = (
    ("spec", "state"),
    ("spec", "profile"),
    ("spec", "type"),
    ("spec", "boot", "phase"),
)
_DEVICE = ("spec", "console", "device")
_CONSOLE = re.compile(r"(?:^|\s)console=((?:hvc|xvc|ttyS)[0-9]+)(?=[,\s]|$)")
_MOVED = ("metadata", "placement", "from")


def check_domu(merged: Merged, footing: Footing | None, networks: Segments) -> Iterator[Diagnostic]:
    """What is missing after the merge, what contradicts itself, and what refers to nothing.

    Nothing is said about what only follows from a value that is wrong itself: that one is told already. `footing` None:
    nothing is known of its host.
    """
    for each in _rules(merged, footing, networks):
        if not merged.guessed.touch(each.path, *each.given):
            told = each.told(merged.located(each.path), f"domu.{merged.stem}")
            yield inherited(told, merged.file)


def _rules(merged: Merged, footing: Footing | None, networks: Segments) -> Iterator[Broken]:
    yield from _placement(merged)
    spec = merged.domu.spec
    if spec.state == "absent":
        return
    yield from _needed(spec)
    yield from _ceilings(spec)
    yield from _devices(spec)
    if footing is not None:
        yield from _paths(spec, footing)
    yield from _consoles(spec)
    if spec.console.login == "ensure":
        yield idle(("spec", "console", "login"))
    for index, vif in enumerate(spec.vifs):
        path: Path = ("spec", "vifs", index)
        yield from _vif(path, vif, spec, footing)
        if footing is None or vif.bridge in footing.bridges:  # of a misspelt bridge nobody knows the networks
            yield from _addresses(path, vif, networks.on(vif.bridge))


def _placement(merged: Merged) -> Iterator[Broken]:
    placement = merged.domu.metadata.placement
    if placement.from_ == merged.host:
        yield Broken(
            "DG1205", _MOVED, f"{placement.from_} is where it lies (expected the host that it leaves)"
        )
    elif placement.from_ is not None and placement.epoch == 1:
        epoch: Path = ("metadata", "placement", "epoch")
        yield Broken(
            "DG1205", _MOVED, "a move with epoch 1 (expected one more than before it)", given=(epoch,)
        )


def _needed(spec: Spec) -> Iterator[Broken]:
    """What must be there once the profile is merged in."""
    inherited = (_STATE, _PROFILE)
    for name, value in (("type", spec.type), ("memory", spec.memory)):
        if value is None:
            yield Broken(
                "DG1102", ("spec", name), "missing (expected in the domU or in its profile)", inherited
            )
    boot = spec.boot
    installing = boot is not None and boot.phase == "install"
    if boot is None or (boot.run is None and not (installing and spec.state == "halted")):
        words = "missing (expected kernel, bootloader or firmware)"
        yield Broken("DG1102", ("spec", "boot", "run"), words, (*inherited, _PHASE))
    if installing and boot is not None and boot.install is None:
        yield Broken("DG1102", ("spec", "boot", "install"), "missing (expected in phase install)", inherited)
    if spec.type == "hvm" and boot is not None and boot.run is not None and boot.run.kernel is None:
        # pygrub and pvgrub start kernels of PV and PVH guests.
        yield Broken("DG1205", ("spec", "boot", "run"), "cannot start type hvm (expected a kernel)", (_TYPE,))
    if boot is not None and boot.then is not None and not installing:
        words = "stands where there is no install (expected it beside `phase: install`)"
        yield Broken("DG1205", ("spec", "boot", "then"), words, (_PHASE,))


def _consoles(spec: Spec) -> Iterator[Broken]:
    """Command lines that send the kernel's console elsewhere than where the guest is said to have it.

    Only Linux' names are known here: a NetBSD kernel has others, and a kernel that is told none finds its own.
    """
    boot = spec.boot
    if boot is None:
        return
    device = spec.console.device or ("ttyS0" if spec.type == "hvm" else "hvc0")
    for name, way in (("install", boot.install), ("run", boot.run)):
        named = _CONSOLE.findall("" if way is None else way.cmdline)
        if named and device not in named:
            message = f"console={named[-1]}, and console.device is {device} (expected the same)"
            path: Path = ("spec", "boot", name, "cmdline")
            yield Broken("DG1903", path, message, (_DEVICE, _TYPE), severity="warning")


def _ceilings(spec: Spec) -> Iterator[Broken]:
    """Ceilings below what they cap."""
    if spec.memory is not None and spec.max_memory is not None and spec.max_memory < spec.memory:
        message = f"{spec.max_memory}MiB is less than memory (expected {spec.memory}MiB or more)"
        yield Broken("DG1205", ("spec", "maxMemory"), message)
    if spec.max_vcpus is not None and spec.max_vcpus < spec.vcpus:
        message = f"{spec.max_vcpus} is less than vcpus (expected {spec.vcpus} or more)"
        yield Broken("DG1205", ("spec", "maxVcpus"), message)


def _devices(spec: Spec) -> Iterator[Broken]:
    """Devices that stand twice under one name or under two; a guest has only one of them then, or does not start.

    Source: xen-vbd-interface(7); libxl gives qemu one IDE disk for xvda and hda (tools/libs/light/libxl_dm.c, 4.17).
    """
    wholes: dict[str, str] = {}
    parts: dict[str, str] = {}
    with_cdrom = _has_cdrom(spec)
    if len(spec.disks) + with_cdrom < 2:  # noqa: PLR2004  # one device alone, as most have
        return
    if with_cdrom:
        wholes["hdc"] = parts["hdc"] = "boot.install.cdrom"
    for index, disk in enumerate(spec.disks):
        letters = disk.vdev.rstrip("0123456789")
        whole = re.sub(r"^xvd(?=[a-d]\Z)", "hd", letters) if spec.type == "hvm" else letters
        name = whole + disk.vdev.removeprefix(letters)
        other = wholes.get(whole) or (parts.get(whole) if name == whole else parts.get(name))
        if other is not None:
            message = f"{disk.vdev} is taken by {other} (expected each device once, a disk or its partitions)"
            yield Broken("DG1205", ("spec", "disks", index, "vdev"), message, (_TYPE,))
        shown = f"disks[{index}] with {disk.vdev}"
        if name == whole:
            wholes.setdefault(whole, shown)
        parts.setdefault(name, shown)
        parts.setdefault(whole, shown)


def _has_cdrom(spec: Spec) -> bool:
    boot = spec.boot
    return (
        boot is not None
        and boot.phase == "install"
        and boot.install is not None
        and boot.install.cdrom is not None
    )


def _paths(spec: Spec, footing: Footing) -> Iterator[Broken]:
    for index, disk in enumerate(spec.disks):
        if not disk.path.startswith(footing.disks):
            have = listed(folders_shown(footing.disks))
            message = f"{disk.path} is not under the host's images.roots or volumeGroups (have {have})"
            yield Broken("DG1204", ("spec", "disks", index, "path"), message)
    for path, file in _boot_files(spec.boot):
        if file is None:
            continue
        if not file.startswith(footing.kernels):
            have = listed(folders_shown(footing.kernels))
            yield Broken("DG1204", path, f"{file} is not under the host's images.kernels (have {have})")
        elif file.startswith(footing.images):
            message = f"{file} is under images.roots, among customers' disks (expected elsewhere under images.kernels)"
            yield Broken("DG1204", path, message)


def _boot_files(boot: Boot | None) -> Iterator[tuple[Path, str | None]]:
    if boot is not None and boot.install is not None:
        install: Path = ("spec", "boot", "install")
        yield (*install, "kernel"), boot.install.kernel
        yield (*install, "ramdisk"), boot.install.ramdisk
        yield (*install, "cdrom"), boot.install.cdrom
    if boot is not None and boot.run is not None:
        yield ("spec", "boot", "run", "kernel"), boot.run.kernel
        yield ("spec", "boot", "run", "ramdisk"), boot.run.ramdisk


def _vif(path: Path, vif: Vif, spec: Spec, footing: Footing | None) -> Iterator[Broken]:
    """What is wrong with its bridge and its name."""
    if footing is not None and vif.bridge not in footing.bridges:
        have = listed(footing.bridges)
        yield Broken("DG1203", (*path, "bridge"), f'no bridge "{vif.bridge}" (have {have})')
    if vif.name is None:
        return
    at = (*path, "name")
    for name in ports_of(vif.name, spec.type):
        if footing is not None and name in footing.ports:
            message = f'"{name}" is a bridge or an uplink of the host (expected another name)'
            yield Broken("DG1205", at, message, (_TYPE,) if name != vif.name else ())
    if not is_good_vif_name(vif.name):
        message = f'"{vif.name}" is kept because a live vif may have it (new ones: lower case, at most 11 characters, not vif…)'
        yield Broken("DG1901", at, message, severity="warning")
    if spec.type == "hvm" and len(vif.name) > TWIN_NAME_LIMIT:
        message = f'"{vif.name}" is too long for hvm (expected at most {TWIN_NAME_LIMIT} characters: its emulated card is NAME-emu)'
        yield Broken("DG1205", at, message)


def _addresses(path: Path, vif: Vif, segment: Segment) -> Iterator[Broken]:
    bridge = (*path, "bridge")
    seen: dict[Numbers, int] = {}
    for place, item in enumerate(vif.ips):
        address: Address = getattr(item, "address", item)
        numbers = numbers_of(address)
        problem = _placed(address, numbers, segment)
        if problem is not None:
            yield Broken(
                problem[0], (*path, "ips", place), f"{address_text(address)} {problem[1]}", (bridge,)
            )
        if numbers in seen:
            first = field((*path, "ips", seen[numbers]))
            message = f"{address_text(address)} is listed twice (first as {first})"
            yield Broken("DG1205", (*path, "ips", place), message)
        seen.setdefault(numbers, place)
    if segment.has_link_local_router:
        formed = eui64_link_local(vif.mac)
        router = segment.router(formed)
        if router is not None:
            message = f"the guest would form {address_text(formed)}, the gateway of network {router} (expected another MAC)"
            yield Broken("DG1404", (*path, "mac"), message, (bridge,))


def _placed(address: Address, numbers: Numbers, segment: Segment) -> tuple[str, str] | None:
    """What is wrong with where an address lies; link-local ones lie on every segment."""
    if is_link_local(address):
        if address.prefixlen < address.max_prefixlen:
            return (
                "DG1405",
                "is more than one link-local address (expected single ones: all guests share that range)",
            )
        router = segment.router(address)
        return None if router is None else ("DG1404", f"is the gateway of network {router}")
    around = segment.around(address.prefixlen, numbers)
    if len(around) > 1:
        return None  # the networks overlap: said there
    if not around:
        missing = "DG1401", f"lies in no network of the vif's bridge (have {segment})"
        return missing if segment.whole else None
    _, first, last = numbers
    why = around[0].refusal(first, last)
    return None if why is None else ("DG1404", why)
