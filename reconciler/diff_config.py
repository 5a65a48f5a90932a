"""A domU's configuration: the file for its next cold start, and what its next own reboot gets. Pure.

What can change live is changed live; the rest is staged with `xl config-update`, so that the customer's own
reboot brings it and nobody is interrupted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from reconciler.file_change import file_removed, file_written
from reconciler.plan import Cause, Change, Phase
from reconciler.render_xl import ENDS, HOTPLUG_SCRIPT, config_path, on_crash, render_xl
from reconciler.step import RemoveFile, Run, Step, WriteFile
from schemas.scalars import is_domu_name
from state.desired import DomU
from state.facts import fact
from state.files import USERDATA
from state.observed import Domain, Observed
from state.xl import SavedDomain

# Whose first line says that a file is ours; a hand-written one is kept beside the ledger before it is replaced.
HEADER = "# Written by domgit "
KEPT = "/var/lib/domgit/kept"
SHOWN_LINES = 10
# A password in a file that somebody else wrote; one of ours is a placeholder already.
_PASSWORD = re.compile(r"""((?:vnc|spice)passwd *= *["']?)(?!@domgit-secret:)[^,"'\]]+""")
Fields = dict[str, Any]


def diff_file(domu: DomU, observed: Observed, before: DomU | None) -> Iterator[Change]:
    """The change that makes the configuration file the one git describes."""
    path, text = config_path(domu.name), render_xl(domu)
    found = observed.files[path]
    if found == text:
        return
    change = file_written(path, found, text, secret_mode(domu))
    if found is not None and not found.startswith(HEADER):
        kept = WriteFile(f"{KEPT}/{domu.name}.cfg", found, 0o600)
        change = replace(change, steps=(kept, *change.steps))
    unchanged = before is not None and before.state != "absent" and render_xl(before) == text
    yield replace(
        change,
        cause="corrective" if unchanged else "intentional",
        phase=Phase.ADD,
        before={} if found is None else {"lines": _missing(found, text)},
        after={"lines": len(text.splitlines()) if found is None else _missing(text, found)},
        counts=(f"domu.{domu.name}",),
        reason="file_differs" if unchanged else None,
        uuid=domu.uuid,
    )


def is_of(text: str | None, uuid: str) -> bool:
    """Whether a configuration file is one that we wrote for the domU of this uuid, under whatever name."""
    return text is not None and text.startswith(HEADER) and f'\nuuid = "{uuid}"\n' in text


def diff_old_file(domu: DomU, observed: Observed, former: str) -> Iterator[Change]:
    """The change that takes away the file of a domU's former name: started from it, it would be there twice."""
    path = config_path(former)
    if former == domu.name or not is_of(observed.files[path], domu.uuid):
        return
    yield replace(
        file_removed(path, observed.files[path]),
        phase=Phase.ADD,
        before={"name": former},
        counts=(f"domu.{domu.name}",),
        reason="renamed",
        uuid=domu.uuid,
        order=-1,  # before the new one: whoever starts all files in /etc/xen would start the domU twice
    )


def _missing(text: str, other: str) -> list[str]:
    """The lines of `text` that `other` does not have, at most as many as a reviewer reads, passwords hidden."""
    there = set(other.splitlines())
    lines = [line.strip() for line in text.splitlines() if line not in there][:SHOWN_LINES]
    return [_PASSWORD.sub(r"\1(hidden)", line) for line in lines]


def secret_mode(domu: DomU) -> int:
    """The file mode: a configuration with a password is root's alone."""
    return 0o600 if domu.vnc is not None and domu.vnc.secret is not None else 0o644


def diff_staged(domu: DomU, domain: Domain, observed: Observed, before: DomU | None) -> Iterator[Change]:
    """The change that waits for the guest's own reboot, and what puts it there.

    Nothing is left to do (`steps` empty) once the configuration is staged; the change is listed until the
    guest has rebooted. A staged configuration that nobody wants any more is taken away.
    """
    if domain.saved is None:
        return
    is_now, wanted = saved_fields(domain.saved), wanted_fields(domu)
    differing = sorted(name for name in wanted if is_now[name] != wanted[name])
    text = render_xl(domu)
    if not differing and domain.staged in {None, text}:
        return
    cause: Cause = "intentional"
    if before is not None and before.boot is not None and wanted_fields(before) == wanted:
        cause = "corrective"
    keys = f"domain:{domu.uuid}", f"staged:{domu.uuid}"
    steps = (Run(("xl", "config-update", str(domain.domid), config_path(domu.name))),)
    staging = Change(
        address=f"domu.{domu.name}",
        actions=("update",),
        cause=cause,
        impact="none",
        phase=Phase.ADD,
        steps=() if domain.staged == text else steps,
        fingerprint=tuple((key, fact(observed, key)) for key in keys),
        before={name: is_now[name] for name in differing},
        after={name: wanted[name] for name in differing},
        counts=(f"domu.{domu.name}",),
        layer=("stored",),
        when="next_guest_reboot",
        reason="pending_reboot",
        uuid=domu.uuid,
        domid=domain.domid,
        order=2,  # when all that it names is there, and the file has been written that it reads
    )
    yield staging if differing else unstaged(staging)


def unstaged(staging: Change) -> Change:
    """The change that takes back what is staged: the guest's own reboot then brings what it has now."""
    return replace(
        staging,
        phase=Phase.PREPARE,
        steps=(RemoveFile(f"{USERDATA}/userdata-d.{staging.domid}.{staging.uuid}.xl"),),
        before={"staged": True},
        after={"staged": False},
        when="now",
        reason="stale_staging",
        blocked=None,
    )


def wanted_fields(domu: DomU) -> Fields:
    """What only a new start of the guest can change, as wanted, under libxl's meaning of each field."""
    boot = domu.boot
    if boot is None:
        return {}
    disks = [(disk.vdev, disk.path, disk.format, disk.writable) for disk in domu.disks]
    if boot.cdrom:
        disks.append(("hdc", boot.cdrom, "raw", False))
    return {
        "type": domu.type,
        "maxMemory": domu.max_memory_mib,
        "maxVcpus": domu.max_vcpus,
        "kernel": boot.kernel,
        "ramdisk": boot.ramdisk,
        "cmdline": boot.cmdline,
        "bootloader": boot.bootloader,
        "disks": sorted(disks),
        "vnc": None if domu.vnc is None else (domu.vnc.listen, domu.vnc.display),
        "vncPassword": "" if domu.vnc is None else domu.vnc.secret or "",
        "serial": "pty" if domu.type == "hvm" else "",
        "onPoweroff": "preserve",
        "onReboot": ENDS[boot.phase],
        "onCrash": on_crash(domu),
        "vifs": [(vif.index, vif.name or "", HOTPLUG_SCRIPT, vif.rate) for vif in domu.vifs],
    }


def saved_fields(saved: SavedDomain) -> Fields:
    """The same fields as libxl has them saved."""
    return {
        "type": saved.type,
        "maxMemory": saved.max_memory_mib,
        "maxVcpus": saved.max_vcpus,
        "kernel": saved.kernel,
        "ramdisk": saved.ramdisk,
        "cmdline": saved.cmdline,
        "bootloader": saved.bootloader,
        "disks": sorted((disk.vdev, disk.path, disk.format, disk.writable) for disk in saved.disks),
        "vnc": None if saved.vnc is None else (saved.vnc.listen, saved.vnc.display),
        "vncPassword": "" if saved.vnc is None else saved.vnc.password,
        "serial": saved.serial,
        "onPoweroff": saved.on_poweroff,
        "onReboot": saved.on_reboot,
        "onCrash": saved.on_crash,
        "vifs": [
            (vif.index, vif.interface, vif.script.rsplit("/", 1)[-1] or "vif-bridge", vif.rate)
            for vif in saved.vifs
        ],
    }


class _Part(NamedTuple):
    name: str
    was: object
    becomes: object
    step: Step
    inverse: Step | None


def _live_parts(domu: DomU, domain: Domain, saved: SavedDomain, memory: int, vcpus: int) -> Iterator[_Part]:
    domid = str(domain.domid)
    if domain.name != domu.name:
        # Any other name than a domU's xl would read as an option or as a number.
        back = Run(("xl", "rename", domid, domain.name)) if is_domu_name(domain.name) else None
        yield _Part("name", domain.name, domu.name, Run(("xl", "rename", domid, domu.name)), back)
    if saved.memory_mib != memory:
        there, back = (Run(("xl", "mem-set", domid, str(mib))) for mib in (memory, saved.memory_mib))
        yield _Part("memory", f"{saved.memory_mib}MiB", f"{memory}MiB", there, back)
    if saved.vcpus != vcpus:
        # It may have more of them than the host has processors, as xl create lets it: the toolstack asks for this option then.
        there, back = (Run(("xl", "vcpu-set", "-i", domid, str(count))) for count in (vcpus, saved.vcpus))
        yield _Part("vcpus", saved.vcpus, vcpus, there, back)


def diff_live(domu: DomU, domain: Domain, observed: Observed, before: DomU | None) -> Iterator[Change]:
    """The change of what a running guest can get at once: its name, memory and virtual processors.

    What lies above the ceilings that it was started with waits for its next reboot with them.
    """
    saved = domain.saved
    if saved is None:
        return
    memory, vcpus = min(domu.memory_mib, saved.max_memory_mib), min(domu.vcpus, saved.max_vcpus)
    parts = [*_live_parts(domu, domain, saved, memory, vcpus)]
    if not parts:
        return
    unchanged = before is not None and (before.name, before.memory_mib, before.vcpus) == (
        domu.name,
        domu.memory_mib,
        domu.vcpus,
    )
    keys = [f"domain:{domu.uuid}", f"memory:{domu.uuid}", f"vcpus:{domu.uuid}"]
    expect = [
        (f"memory:{domu.uuid}", str(memory)),
        (f"vcpus:{domu.uuid}", str(vcpus)),
        (f"name:{domu.name}", domu.uuid),
    ]
    if domain.name != domu.name:
        keys.append(f"name:{domu.name}")
    yield Change(
        address=f"domu.{domu.name}",
        actions=("update",),
        cause="corrective" if unchanged else "intentional",
        impact="none",
        phase=Phase.CHANGE,
        steps=tuple(part.step for part in parts),
        fingerprint=tuple((key, fact(observed, key)) for key in keys),
        before={part.name: part.was for part in parts},
        after={part.name: part.becomes for part in parts},
        counts=(f"domu.{domu.name}",),
        inverse=tuple(part.inverse for part in parts if part.inverse is not None),
        expect=tuple(expect),
        reason="drift_corrected" if unchanged else None,
        uuid=domu.uuid,
        domid=domain.domid,
    )
