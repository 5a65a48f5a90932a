"""Accepted documents to Desired: every default filled in, every value ready to compare. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from schemas.address import address_text, numbers_of
from schemas.claims import uuid_of
from schemas.diagnostic import Diagnostic
from schemas.domu import DomU as DomUDocument
from schemas.domu import Vif as VifDocument
from schemas.host import Host as HostDocument
from schemas.network import Network
from schemas.scalars import parse_rate
from schemas.segments import segments
from state.desired import Address, Boot, Desired, Disk, DiskUse, DomU, Host, Limits, Vif, Vnc

# What a spec names by its function, and where Debian's grub-xen-host keeps it.
PVGRUB = {"pv": "/usr/lib/grub-xen/grub-x86_64-xen.bin", "pvh": "/usr/lib/grub-xen/grub-i386-xen_pvh.bin"}


def resolve(
    host: HostDocument,
    domus: Iterable[tuple[DomUDocument, str]],
    *,
    networks: Iterable[Network] = (),
    held: tuple[str, ...] = (),
    elsewhere: Mapping[str, str] | None = None,
    diagnostics: tuple[Diagnostic, ...] = (),
) -> Desired:
    """What the documents want of their host; `domus` are (document, file) pairs."""
    resolved = [resolve_domu(document, file, host) for document, file in domus]
    return Desired(
        host=resolve_host(host),
        domus=tuple(sorted(resolved, key=lambda domu: domu.name)),
        held=held,
        elsewhere=dict(elsewhere or {}),
        diagnostics=diagnostics,
        gateways=_gateways(resolved, networks),
    )


def _gateways(domus: Iterable[DomU], networks: Iterable[Network]) -> tuple[tuple[str, Address], ...]:
    by_bridge = segments(networks)
    found = {
        (vif.bridge, subnet.network.spec.gateway)
        for domu in domus
        for vif in domu.vifs
        for address in vif.addresses
        for subnet in by_bridge.on(vif.bridge).around(address.prefixlen, numbers_of(address))
        if subnet.network.spec.gateway is not None
    }
    return tuple(sorted(found, key=lambda each: (each[0], each[1].version, each[1])))


def resolve_host(host: HostDocument) -> Host:
    """The host as a value."""
    spec = host.spec
    count, _, per = spec.guard.log.limit.partition("/")
    return Host(
        name=host.metadata.name,
        machine_id=spec.machine_id,
        mode=spec.mode,
        bridges=tuple(sorted((bridge.name, tuple(sorted(bridge.uplinks))) for bridge in spec.bridges)),
        guard_backend=spec.guard.backend,
        unknown_vifs=spec.guard.unknown_vifs,
        log_prefix=spec.guard.log.prefix,
        log_level=spec.guard.log.level,
        log_count=int(count),
        log_per=per,  # type: ignore[arg-type]  # the scalar's pattern allows these four words only
        disruption=spec.disruption,
        limits=Limits(absent=spec.limits.absent, detach_percent=spec.limits.detach),
        disks=DiskUse(warn_percent=spec.disks.warn_at, interval_s=spec.disks.interval),
    )


def resolve_domu(document: DomUDocument, file: str, host: HostDocument) -> DomU:
    """One domU as a value. What `check_domu` asked for is there, except in a tombstone."""
    spec, metadata = document.spec, document.metadata
    kind = spec.type or "pv"
    memory = spec.memory or 0
    vnc, boot = spec.console.vnc, _boot(document)
    installs = boot is not None and boot.phase == "install"
    return DomU(
        name=metadata.name,
        uuid=uuid_of(document),
        state=spec.state,
        protect=spec.protect,
        mode=spec.mode or host.spec.mode,
        disruption=spec.disruption or host.spec.disruption,
        after_poweroff=spec.after_poweroff,
        order=spec.order,
        type=kind,
        memory_mib=memory,
        max_memory_mib=spec.max_memory or memory,
        vcpus=spec.vcpus,
        max_vcpus=spec.max_vcpus or spec.vcpus,
        boot=boot,
        disks=tuple(
            Disk(
                vdev=disk.vdev,
                path=disk.path,
                size_bytes=disk.size,
                format=disk.format,
                writable=disk.access == "rw",
                sparse=disk.sparse,
                adopt=disk.adopt,
            )
            for disk in spec.disks
        ),
        vifs=tuple(_vif(index, vif, host) for index, vif in enumerate(spec.vifs)),
        console_device=spec.console.device or ("ttyS0" if kind == "hvm" else "hvc0"),
        console_login=spec.console.login,
        vnc=None if vnc is None else Vnc(address_text(vnc.listen), vnc.display, vnc.password_secret),
        on_crash=spec.on_crash,
        file=file,
        moved_from=document.metadata.placement.from_,
        epoch=document.metadata.placement.epoch,
        installed=_run(document) if installs else None,
        advances=installs and spec.boot is not None and spec.boot.then == "run",
        console_baud=spec.console.baud,
    )


def _vif(index: int, vif: VifDocument, host: HostDocument) -> Vif:
    return Vif(
        index=index,
        name=vif.name,
        mac=vif.mac,
        bridge=vif.bridge,
        addresses=vif.addresses(),
        rate=None if vif.rate is None else parse_rate(vif.rate),
        rate_text=vif.rate,
        guard=vif.guard or host.spec.guard.mode,
        shared=tuple(address for address in vif.addresses() if address in vif.shared()),
    )


def _boot(document: DomUDocument) -> Boot | None:
    boot = document.spec.boot
    if boot is None or document.spec.state == "absent":
        return None
    if boot.phase == "run" or boot.install is None:
        return _run(document)
    install = boot.install
    return Boot(
        phase="install",
        kernel=install.kernel,
        ramdisk=install.ramdisk or "",
        cmdline=install.cmdline,
        bootloader="",
        firmware="",
        cdrom=install.cdrom or "",
    )


def _run(document: DomUDocument) -> Boot | None:
    """How the installed system starts, whatever the phase is."""
    run = None if document.spec.boot is None else document.spec.boot.run
    if run is None:
        return None
    kernel = PVGRUB.get(document.spec.type or "pv", "") if run.firmware == "pvgrub" else run.kernel
    return Boot(
        phase="run",
        kernel=kernel or "",
        ramdisk=run.ramdisk or "",
        cmdline=run.cmdline,
        bootloader=run.bootloader or "",
        firmware="",
        cdrom="",
    )
