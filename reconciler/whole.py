"""A domU's configuration is given whole or not at all: its file, its start, and what its next own reboot gets. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from reconciler.diff_config import unstaged
from reconciler.hotplug import TEMPLATES
from reconciler.plan import Change, Phase
from reconciler.scope import Situation
from state.nft import LoadedTable


def refused_whole(changes: Sequence[Change]) -> list[Change]:
    """The changes, with all refused that would give a domU its configuration while a part of that is refused.

    The parts are its disks, the bridges of its vifs, and whether it can be started at all. Started, it would be half of
    what git says, have somebody else's disk, or not come up; and so it would by its own reboot, or by its file, from
    which people start domUs too. The other vifs of a running guest go on, and what binds them: replugged halfway, one
    would stay unplugged.
    """
    refused: dict[str, Change] = {}
    for change in changes:
        part = change.part.startswith(".disk.") or (change.part == "" and change.actions == ("create",))
        part = part or change.reason == "no_bridge"
        if part and change.blocked is not None and change.uuid is not None:
            refused.setdefault(change.uuid, change)
    return [
        replace(change, blocked=cause.blocked, reason=cause.reason)
        if (cause := refused.get(change.uuid or "")) is not None
        and change.blocked is None
        and change.phase is Phase.ADD
        and not (change.part.startswith(".vif.") or _template(change))
        else change
        for change in changes
    ]


def staged_whole(changes: Sequence[Change], situation: Situation) -> list[Change]:
    """The changes, with nothing staged for a domU of which a vif is to be plugged in, and that is withheld.

    What a guest's reboot gets is the whole file, with the vif as git wants it, and that one is not bound: its
    hotplug script would refuse it, and the domain would not come up again.
    """
    withheld = {
        change.uuid: change
        for change in changes
        if change.part.startswith(".vif.")
        and "create" in change.actions
        and (not change.due or (change.early and situation.stuck))
    }
    return [
        replace(
            change,
            when="approval" if cause.blocked is None else change.when,
            blocked=cause.blocked,
            reason=cause.reason,
        )
        if change.when == "next_guest_reboot"
        and change.blocked is None
        and (cause := withheld.get(change.uuid)) is not None
        else change
        for change in changes
    ]


def unguarded(changes: Sequence[Change], loaded: LoadedTable | None) -> list[Change]:
    """Nothing comes onto a bridge whose guard cannot be brought up to date: its hotplug script would refuse it anyway.

    Nor is anything written or staged that would come with such a vif, since the whole guest would then not come back;
    nor a binding from which the script would add to the guard what that was refused. Where the guard was taken back,
    no port is locked to a MAC that only that one would have bound it to: it would cut off the gateway behind that port
    as well.
    """
    guard = next(
        (change for change in changes if change.address == "guard" and change.blocked is not None), None
    )
    if guard is None:
        return [*changes]
    new = [
        change
        for change in changes
        if change.phase is Phase.ADD and change.blocked is None and not change.part.startswith(".disk.")
    ]
    # A start, or a vif; what is to be bound again as it was applied may be.
    without = {change.uuid for change in new if "live" in change.layer}
    refused = {
        id(change)
        for change in new
        if change.uuid in without or (_template(change) and change.cause == "intentional")
    }
    reverted = guard.reason == "guard_reverted"
    return [
        replace(change, blocked=f"the guard is blocked: {guard.blocked}", reason="guard_blocked")
        if id(change) in refused or (change.blocked is None and reverted and _locks_more(change, loaded))
        else change
        for change in changes
    ]


def taken_back(changes: Iterable[Change]) -> Iterator[Change]:
    """The changes that take back what was staged before it was refused or withheld: it may have what is refused now."""
    for change in changes:
        staging = change.phase is Phase.ADD and change.layer == ("stored",)
        withheld = change.when == "approval" and change.reason != "report_only"
        if (
            staging
            and (change.blocked is not None or withheld)
            and dict(change.fingerprint)[f"staged:{change.uuid}"]
        ):
            yield unstaged(change)


def _template(change: Change) -> bool:
    return change.address.startswith(f"file.{TEMPLATES}/")


def _locks_more(change: Change, loaded: LoadedTable | None) -> bool:
    """Whether a port is to be locked that the loaded guard does not hold to that MAC already."""
    if "locked=True" not in str(change.after.get("lock", "")):
        return False
    elements = {} if loaded is None else loaded.elements
    port = f'"{change.after["port"]}"'
    held = f"{port} . {change.after['mac']}" in elements.get("own_mac", ())
    return not held or port in elements.get("audited", ())
