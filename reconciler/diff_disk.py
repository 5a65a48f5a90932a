"""A domU's disks: created when never seen, adopted when asked for, and otherwise never touched. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reconciler.diff_start import ours
from reconciler.ledger import MAKING, Owned
from reconciler.life import Life
from reconciler.plan import Change, Phase
from reconciler.step import CreateImage, Remember, Step
from state.desired import Disk, DomU
from state.facts import fact
from state.files import FileStat, folder_of
from state.observed import Domain, Observed


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done about one disk: nothing, `steps`, or nothing because `blocked`."""

    action: str = "no-op"
    steps: tuple[Step, ...] = ()
    blocked: str | None = None


def diff_disks(life: Life, observed: Observed) -> Iterator[Change]:
    """The changes to a domU's disk images, in the order of its specification."""
    domu, domain = life.domu, life.domain
    # What the ledger knows of the disks of one that was elsewhere meanwhile is about older ones.
    owned = None if life.arrives else life.owned
    for disk in domu.disks:
        verdict = _of_another_format(disk, life) or judge(
            domu, disk, observed.images[disk.path], domain, owned
        )
        if verdict.action == "create" and disk.path in observed.no_folder:
            # Never made: where a mount is missing, the disk would land on dom0's own.
            verdict = Verdict(
                blocked=f"there is no folder {folder_of(disk.path)}: create it, or mount what belongs there"
            )
        if verdict.action == "no-op" and verdict.blocked is None:
            continue
        key = f"image:{disk.path}"
        found = fact(observed, key)
        yield Change(
            address=f"domu.{domu.name}.disk.{disk.vdev}",
            actions=("adopt",)
            if verdict.action == "adopt"
            else ("create",)
            if verdict.action == "create"
            else ("update",),
            cause="intentional",
            impact="none",
            # What its own domain has is known for ours before that is stopped: a cut in between would lose it.
            phase=Phase.PREPARE if verdict.action == "adopt" and _has(domain, disk) else Phase.ADD,
            steps=verdict.steps,
            fingerprint=((key, found),),
            before={"identity": found} if found else {},
            after={
                "path": disk.path,
                "size_bytes": disk.size_bytes,
                "format": disk.format,
                "sparse": disk.sparse,
            },
            counts=(f"domu.{domu.name}",),
            expect=((key, "*"),) if verdict.action == "create" else (),
            blocked=verdict.blocked,
            reason="would_lose_bytes" if verdict.blocked else None,
            uuid=domu.uuid,
            domid=None if domain is None else domain.domid,
        )


def _has(domain: Domain | None, disk: Disk) -> bool:
    saved = None if domain is None else domain.saved
    return saved is not None and any(each.path == disk.path for each in saved.disks)


def _of_another_format(disk: Disk, life: Life) -> Verdict | None:
    """A disk that its domU has is never read as another format.

    What a guest writes into a raw disk may look like the head of a qcow2, which names any file of dom0 as what lies
    below it: with the guest's next start it would read that file. What was applied counts for a disk that the ledger
    knows: of one that was refused, the format was never more than a word in git.
    """
    saved = None if life.domain is None else life.domain.saved
    known = [(each.path, each.format) for each in (() if saved is None else saved.disks)]
    if life.before is not None and life.owned is not None and disk.path in life.owned.disks:
        known += [(each.path, each.format) for each in life.before.disks]
    was = next((form for path, form in known if path == disk.path), disk.format)
    if was == disk.format:
        return None
    return Verdict(
        blocked=f"{disk.path} is in use as {was}, git says {disk.format}: a disk keeps its format (convert it under another path)"
    )


def judge(
    domu: DomU, disk: Disk, found: FileStat | None, domain: Domain | None, owned: Owned | None
) -> Verdict:
    """What is right for one disk, given what lies at its path, who uses it and what the ledger knows."""
    recorded = None if owned is None else owned.disks.get(disk.path)
    if found is None:
        return _missing(domu, disk, recorded)
    if found.kind == "other":
        return Verdict(blocked=f"{disk.path} is neither a file nor a block device")
    if disk.size_bytes is not None and found.size_bytes > disk.size_bytes:
        return Verdict(
            blocked=f"{disk.path} has {found.size_bytes} bytes, git says {disk.size_bytes}: disks are never shrunk"
        )
    if disk.size_bytes is not None and found.size_bytes < disk.size_bytes:
        return Verdict(
            blocked=f"{disk.path} has {found.size_bytes} bytes, git says {disk.size_bytes}: grow it by hand, or set the size to what it is"
        )
    if recorded is not None and not recorded.startswith(MAKING):
        return Verdict()
    just_made = recorded == f"{MAKING}{found.identity}"  # linked into place just before the power went
    if just_made or disk.adopt or _has(domain, disk) or disk.size_bytes is None or not disk.writable:
        return Verdict("adopt", (*ours(domu), Remember(domu.uuid, "disk", f"{disk.path}={found.identity}")))
    return Verdict(
        blocked=f"{disk.path} exists already and was not made for this domU: set `adopt: true` if it is its disk"
    )


def _missing(domu: DomU, disk: Disk, recorded: str | None) -> Verdict:
    if recorded is not None and not recorded.startswith(MAKING):
        return Verdict(
            blocked=f"{disk.path} was made for this domU and is gone: never replaced by an empty one"
        )
    if domu.moved_from is not None:
        return Verdict(
            blocked=f"{disk.path} is not here yet: bring it from {domu.moved_from}, an empty one is never made"
        )
    if disk.size_bytes is None:
        return Verdict(blocked=f"{disk.path} does not exist and has no size to be made with")
    if disk.path.startswith("/dev/"):
        return Verdict(blocked=f"{disk.path} does not exist: logical volumes are made by hand")
    if disk.format != "raw":
        return Verdict(blocked=f"{disk.path} does not exist: only raw images are made")
    # The owner before the disk: nobody is to find one without.
    return Verdict("create", (*ours(domu), CreateImage(domu.uuid, disk.path, disk.size_bytes, disk.sparse)))
