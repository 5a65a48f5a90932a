"""Looking into guests' disks: the shell around disk_use and disk_history, for the verb and for the daemon."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from reconciler.disk_use import Guest, GuestDisk
from reconciler.reconcile import Dom0
from state.observed import observe_domains

# What is looked into: what a disk's other formats have inside stands elsewhere.
RAW = "raw"


def guests(dom0: Dom0) -> tuple[Guest, ...]:
    """Every domU that was last applied here, and every other that is alive, with its disks; no CD-ROMs.

    Raises:
        ReadError: the record or the host cannot be read.
    """
    last = dom0.last()
    domains, _ = observe_domains(dom0.runner, dom0.files, dom0.sleep)
    alive = {domain.uuid: domain for domain in domains if not domain.dying}
    found = {
        domu.uuid: Guest(
            domu.name,
            domu.uuid,
            domu.uuid in alive and alive[domu.uuid].running,
            tuple(GuestDisk(disk.vdev, disk.path, disk.format) for disk in domu.disks),
        )
        for domu in (() if last is None else last.desired.domus)
    }
    for uuid, domain in alive.items():
        if uuid not in found and domain.saved is not None:
            disks = (disk for disk in domain.saved.disks if not disk.cdrom)
            found[uuid] = Guest(
                domain.name,
                uuid,
                domain.running,
                tuple(GuestDisk(disk.vdev, disk.path, disk.format) for disk in disks),
            )
    return tuple(sorted(found.values(), key=lambda each: each.name))


def readable(found: Iterable[Guest]) -> Collection[str]:
    """The paths of the disks that can be looked into."""
    return sorted({disk.path for guest in found for disk in guest.disks if disk.format == RAW})
