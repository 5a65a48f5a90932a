"""Looking into guests' disks: the shell around disk_use and disk_history, for the verb and for the daemon."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from reconciler import disk_history
from reconciler.disk_history import History, advanced
from reconciler.disk_record import Filled
from reconciler.disk_use import Guest, GuestDisk, filled, samples
from reconciler.reconcile import Dom0
from state.insides import Inside, look_into
from state.observed import observe_domains
from state.run import ReadError

# What other formats have inside stands elsewhere than a guest would read it.
_RAW = "raw"


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look has found, by disks' paths, and what is made of it; `history` is with it. `unread` are paths."""

    time_s: int
    guests: tuple[Guest, ...]
    found: Mapping[str, Inside | str]
    history: History
    filled: tuple[Filled, ...]
    unread: tuple[str, ...]


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
            login=domu.console_login != "ignore",
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


def look(dom0: Dom0, names: Collection[str] = ()) -> Seen:
    """What is in the disks of all domUs, or of those named. Writes nothing.

    Raises:
        ReadError: the host cannot be read, or there is no domU of such a name.
    """
    known = guests(dom0)
    if missing := sorted({*names} - {guest.name for guest in known}):
        raise ReadError(f"no domU {missing[0]!r}, neither last applied here nor alive")
    chosen = tuple(guest for guest in known if not names or guest.name in names)
    paths = {disk.path: guest.login for guest in chosen for disk in guest.disks if disk.format == _RAW}
    found = look_into(dom0.runner, paths, logins={path for path, login in paths.items() if login})
    now_s = int(dom0.now().timestamp())
    before = disk_history.load(dom0.paths.disk_history)
    history = advanced(before, samples(chosen, found, now_s=now_s), time_s=now_s)
    return Seen(
        time_s=now_s,
        guests=chosen,
        found=found,
        history=history,
        filled=filled(chosen, found, history),
        unread=tuple(sorted(path for path, each in found.items() if not isinstance(each, Inside))),
    )
