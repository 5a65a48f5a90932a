"""What one accepted document may not say although each of its values is fine. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from schemas.address import Address, address_text, is_link_local, span, within
from schemas.claims import eui64_link_local, ports_of
from schemas.diagnostic import Diagnostic
from schemas.domu import Spec, Vif
from schemas.host import DiskUse, Host, RestartLimit, Start
from schemas.merged import Merged
from schemas.network import Network
from schemas.scalars import is_good_vif_name
from schemas.segments import Segment, overlapping
from schemas.tree import Path, Tree, dotted

TWIN_NAME_LIMIT = 11  # 15 characters name an interface, and "-emu" takes four
# Where nothing that a commit names may lie: dom0's own settings, devices and programs. Kernels of guests may well
# come from /boot and /usr/lib.
_SYSTEM = ("/etc", "/dev", "/proc", "/sys", "/run", "/root", "/var/lib/domgit", "/var/lib/xen")
_PROGRAMS = ("/usr", "/boot", "/bin", "/sbin", "/lib", "/lib64", "/opt")
MakeError = Callable[[str, Path, str], Diagnostic]


def check_host(host: Host, tree: Tree, about: str) -> Iterator[Diagnostic]:
    """Bridges named twice, and a port that is the uplink of two of them."""
    bridges: set[str] = set()
    uplinks: dict[str, str] = {}
    for index, bridge in enumerate(host.spec.bridges):
        path: Path = ("spec", "bridges", index)
        if bridge.name in bridges:
            yield tree.error(
                "DG1205",
                (*path, "name"),
                f'bridges[{index}].name: bridge "{bridge.name}" is named twice',
                about,
            )
        bridges.add(bridge.name)
        for place, uplink in enumerate(bridge.uplinks):
            if uplink in uplinks:
                message = (
                    f'bridges[{index}].uplinks[{place}]: "{uplink}" is an uplink of {uplinks[uplink]} too'
                )
                yield tree.error("DG1205", (*path, "uplinks", place), message, about)
            uplinks[uplink] = bridge.name
    for field, folders, closed in (
        ("roots", host.spec.images.roots, (*_SYSTEM, *_PROGRAMS)),
        ("kernels", host.spec.images.kernels, _SYSTEM),
    ):
        for index, folder in enumerate(folders):
            path = ("spec", "images", field, index)
            if any(_below(f"{folder}/", [each]) or _below(each, [folder]) for each in closed):
                message = f"images.{field}[{index}]: {folder} is dom0's own, or holds what is (expected a folder for guests)"
                yield tree.error("DG1204", path, message, about)
    yield from _idle_fields(host, tree, about)


def _idle_fields(host: Host, tree: Tree, about: str) -> Iterator[Diagnostic]:
    def error(code: str, path: Path, message: str) -> Diagnostic:
        return tree.error(code, path, f"{dotted(path[1:])}: {message}", about)

    spec = host.spec
    if spec.windows:
        yield _idle(error, ("spec", "windows"))
    if spec.limits.restart != RestartLimit():
        yield _idle(error, ("spec", "limits", "restart"))
    if spec.disks != DiskUse():
        yield _idle(error, ("spec", "disks"))
    if spec.start != Start():
        yield _idle(error, ("spec", "start"))


def _idle(error: MakeError, path: Path) -> Diagnostic:
    """A warning: the format has the word, and its work comes in a later version; nobody is to rely on it before."""
    return replace(
        error("DG1902", path, "this version reads it and does nothing with it yet"), severity="warning"
    )


def check_networks(networks: Sequence[tuple[Network, Tree]]) -> Iterator[Diagnostic]:
    """Subnets that overlap, and gateways and reserved ranges that lie outside their subnet."""
    for later, earlier in overlapping([network for network, _ in networks]):
        (network, tree), (other, _) = networks[later], networks[earlier]
        message = (
            f"subnet: {network.spec.subnet} overlaps network {other.metadata.name} ({other.spec.subnet})"
        )
        yield tree.error("DG1402", ("spec", "subnet"), message, f"network.{network.metadata.name}")
    for network, tree in networks:
        about, subnet = f"network.{network.metadata.name}", network.spec.subnet
        gateway = network.spec.gateway
        # IPv6 routers answer to a link-local address at least as often as to one of the subnet.
        beside = subnet.version == 6 and gateway is not None and is_link_local(gateway)  # noqa: PLR2004
        if gateway is not None and not beside and not within(gateway, subnet):
            message = f"gateway: {address_text(gateway)} is not in {subnet}"
            yield tree.error("DG1403", ("spec", "gateway"), message, about)
        for index, reserved in enumerate(network.spec.reserved):
            if not within(reserved, subnet):
                yield tree.error(
                    "DG1403",
                    ("spec", "reserved", index),
                    f"reserved[{index}]: {address_text(reserved)} is not in {subnet}",
                    about,
                )


def check_domu(
    merged: Merged, host: Host | None, networks: Mapping[str, Segment], about: str
) -> Iterator[Diagnostic]:
    """What is missing after the merge, what contradicts itself, and what refers to nothing."""
    spec = merged.domu.spec
    if spec.state == "absent":
        return

    def error(code: str, path: Path, message: str) -> Diagnostic:
        return merged.located(path).error(code, path, f"{dotted(path[1:])}: {message}", about)

    yield from _check_needed(spec, error)
    devices = [disk.vdev for disk in spec.disks] + ["hdc"] * _has_cdrom(spec)
    for index, disk in enumerate(spec.disks):
        if devices.count(disk.vdev) > 1:
            yield error("DG1205", ("spec", "disks", index, "vdev"), f"{disk.vdev} is used twice")
    if host is not None:
        yield from _check_paths(merged, host, error)
    if spec.boot is not None and spec.boot.then is not None:
        yield _idle(error, ("spec", "boot", "then"))
    if spec.console.login == "ensure":
        yield _idle(error, ("spec", "console", "login"))
    for index, vif in enumerate(spec.vifs):
        yield from _check_vif(merged, index, vif, host, networks.get(vif.bridge, Segment()), about)


def _check_needed(spec: Spec, error: MakeError) -> Iterator[Diagnostic]:
    """What must be there once the profile is merged in, and ceilings below what they cap."""
    for name, value in (("type", spec.type), ("memory", spec.memory)):
        if value is None:
            yield error("DG1102", ("spec", name), "missing (expected in the domU or in its profile)")
    boot = spec.boot
    installing = boot is not None and boot.phase == "install"
    if boot is None or (boot.run is None and not (installing and spec.state == "halted")):
        yield error("DG1102", ("spec", "boot", "run"), "missing (expected kernel, bootloader or firmware)")
    if installing and boot is not None and boot.install is None:
        yield error("DG1102", ("spec", "boot", "install"), "missing (expected in phase install)")
    if spec.type == "hvm" and boot is not None and boot.run is not None and boot.run.kernel is None:
        # pygrub and pvgrub start kernels of PV and PVH guests.
        yield error("DG1205", ("spec", "boot", "run"), "cannot start type hvm (expected a kernel)")
    if boot is not None and boot.then is not None and not installing:
        yield error("DG1205", ("spec", "boot", "then"), "stands beside `phase: install` only")
    if spec.memory is not None and spec.max_memory is not None and spec.max_memory < spec.memory:
        yield error(
            "DG1205", ("spec", "maxMemory"), f"{spec.max_memory}MiB is less than memory ({spec.memory}MiB)"
        )
    if spec.max_vcpus is not None and spec.max_vcpus < spec.vcpus:
        yield error("DG1205", ("spec", "maxVcpus"), f"{spec.max_vcpus} is less than vcpus ({spec.vcpus})")


def _has_cdrom(spec: Spec) -> bool:
    boot = spec.boot
    return (
        boot is not None
        and boot.phase == "install"
        and boot.install is not None
        and boot.install.cdrom is not None
    )


def _check_paths(merged: Merged, host: Host, make: MakeError) -> Iterator[Diagnostic]:
    images, spec = host.spec.images, merged.domu.spec
    volumes = [f"/dev/{group}" for group in images.volume_groups]
    for index, disk in enumerate(spec.disks):
        if not _below(disk.path, [*images.roots, *volumes]):
            have = ", ".join([*images.roots, *volumes])
            yield make(
                "DG1204",
                ("spec", "disks", index, "path"),
                f"{disk.path} is not under the host's images.roots or volumeGroups (have {have})",
            )
    boot = spec.boot
    if boot is None:
        return
    for phase, part in (("install", boot.install), ("run", boot.run)):
        for name in ("kernel", "ramdisk", "cdrom"):
            path = getattr(part, name, None)
            # What distributions ship for booting guests by themselves is dom0's own, not a customer's.
            if path is not None and not _below(path, [*images.kernels, "/usr/lib/grub-xen"]):
                yield make(
                    "DG1204",
                    ("spec", "boot", phase, name),
                    f"{path} is not under the host's images.kernels (have {', '.join(images.kernels)})",
                )
            elif path is not None and _below(path, images.roots):
                yield make(
                    "DG1204",
                    ("spec", "boot", phase, name),
                    f"{path} is under images.roots, among customers' disks (expected elsewhere under images.kernels)",
                )


def _check_vif(
    merged: Merged, index: int, vif: Vif, host: Host | None, segment: Segment, about: str
) -> Iterator[Diagnostic]:
    path: Path = ("spec", "vifs", index)
    shown = f"vifs[{index}]"

    def error(code: str, part: Path, message: str) -> Diagnostic:
        return merged.located((*path, *part)).error(
            code, (*path, *part), f"{shown}.{dotted(part)}: {message}", about
        )

    if host is not None and vif.bridge not in {bridge.name for bridge in host.spec.bridges}:
        have = ", ".join(bridge.name for bridge in host.spec.bridges) or "none"
        yield error("DG1203", ("bridge",), f'no bridge "{vif.bridge}" (have {have})')
    else:
        yield from _check_addresses(vif, segment, error)  # of a misspelt bridge nobody knows the networks
    ports = [] if vif.name is None else ports_of(vif.name, merged.domu.spec.type)
    if host is not None:
        ours = {port for bridge in host.spec.bridges for port in (bridge.name, *bridge.uplinks)}
        for name in ports:
            if name in ours:
                yield error("DG1205", ("name",), f'"{name}" is a bridge or an uplink of the host')
    if vif.name is not None and not is_good_vif_name(vif.name):
        message = f'"{vif.name}" is kept because a live vif may have it (new ones: lower case, at most 11 characters, not vif…)'
        yield replace(error("DG1901", ("name",), message), severity="warning")
    if merged.domu.spec.type == "hvm" and vif.name is not None and len(vif.name) > TWIN_NAME_LIMIT:
        message = f'"{vif.name}" is too long for hvm (expected at most {TWIN_NAME_LIMIT} characters: its emulated card is NAME-emu)'
        yield error("DG1205", ("name",), message)


def _check_addresses(vif: Vif, segment: Segment, error: MakeError) -> Iterator[Diagnostic]:
    seen: set[tuple[int, int, int]] = set()
    for place, item in enumerate(vif.ips):
        address: Address = getattr(item, "address", item)
        numbers = (address.version, *span(address))  # the library's own hash takes longer than all of this
        problem = _placed(address, segment)
        if problem is not None:
            yield error(problem[0], ("ips", place), f"{address_text(address)} {problem[1]}")
        if numbers in seen:
            yield error("DG1205", ("ips", place), f"{address_text(address)} is listed twice")
        seen.add(numbers)
    if segment.has_link_local_router:
        formed = eui64_link_local(vif.mac)
        router = segment.router(formed)
        if router is not None:
            message = f"the guest would form {address_text(formed)}, the gateway of network {router}"
            yield error("DG1404", ("mac",), message)


def _placed(address: Address, segment: Segment) -> tuple[str, str] | None:
    """What is wrong with where an address lies; link-local ones lie on every segment."""
    if is_link_local(address):
        if address.prefixlen < address.max_prefixlen:
            return (
                "DG1405",
                "is more than one link-local address (expected single ones: all guests share that range)",
            )
        router = segment.router(address)
        return None if router is None else ("DG1404", f"is the gateway of network {router}")
    around = segment.around(address)
    if len(around) > 1:
        return None  # the networks overlap: said there
    if not around:
        return "DG1401", f"lies in no network of the vif's bridge (have {segment})"
    why = around[0].refusal(address)
    return None if why is None else ("DG1404", why)


def _below(path: str, folders: Iterable[str]) -> bool:
    return path.startswith(tuple([f"{folder}/" for folder in folders]))
