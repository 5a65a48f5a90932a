"""Claims over what is still alive: nobody gets an address, a MAC or a disk that somebody else still has. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from reconciler.leaving import cleared_of
from reconciler.plan import Change, Phase
from reconciler.scope import Scope, Situation
from schemas.address import address_text
from state.desired import Address, DomU
from state.observed import Domain

REFUSALS = frozenset({"claim_conflict", "name_taken"})


def blocked_claims(changes: Iterable[Change], situation: Situation, found: Scope) -> list[Change]:
    """The changes, with those blocked whose domU claims what a retained or a foreign domain still has."""
    conflicts = {
        domu.uuid: why for domu in found.wanted if (why := _conflict(domu, situation, found)) is not None
    }
    return [_blocked(change, conflicts) for change in changes]


def blocked_by_the_living(changes: Iterable[Change], situation: Situation) -> list[Change]:
    """The changes, with those blocked whose domU wants a port or a MAC that another living vif keeps.

    A vif keeps both until it is detached; where that is withheld, the newcomer waits. Blocking one domU may keep
    its own vifs where they are, so this goes on until nothing more is found.
    """
    changes = [*changes]
    domus = {domu.uuid: domu for domu in situation.desired.domus}
    while True:
        living = cleared_of(situation, changes).domains
        coming = {change.uuid for change in changes if change.due and change.phase is Phase.ADD}
        conflicts = {
            uuid: why
            for uuid in sorted(domus.keys() & coming)
            if (why := _kept(domus[uuid], living)) is not None
        }
        blocked = [_blocked(change, conflicts) for change in changes]
        if blocked == changes:
            return changes
        changes = blocked


def _kept(domu: DomU, living: Iterable[Domain]) -> str | None:
    for domain in living:
        for vif in domain.vifs:
            if domain.uuid == domu.uuid or domain.dying:
                continue
            if vif.mac in {each.mac for each in domu.vifs} or vif.interface in {
                each.name for each in domu.vifs
            }:
                return f"{vif.mac} ({vif.interface}) is still {domain.name}'s: taking it away waits"
    return None


def without_refused(found: Scope, changes: Iterable[Change], situation: Situation) -> Scope:
    """The scope in which a domU whose claim is refused has what it had before, or nothing."""
    refused = {change.uuid for change in changes if change.reason in REFUSALS and change.uuid is not None}
    kept = tuple(situation.applied[uuid] for uuid in sorted(refused) if uuid in situation.applied)
    wanted = tuple(domu for domu in found.wanted if domu.uuid not in refused)
    return replace(found, wanted=wanted, retained=(*found.retained, *kept))


def _blocked(change: Change, conflicts: dict[str, str]) -> Change:
    why = conflicts.get(change.uuid or "")
    if why is None or change.blocked is not None or change.phase in {Phase.PREPARE, Phase.REMOVE}:
        return change
    return replace(change, blocked=why, reason="claim_conflict")


def _conflict(domu: DomU, situation: Situation, found: Scope) -> str | None:
    for other in found.retained:
        if other.uuid != domu.uuid and (what := _shared_claim(domu, other)) is not None:
            return f"{what} is still {other.name}'s, which is alive though git no longer gives it that"
    mine = {vif.mac for vif in domu.vifs}
    names = {vif.name for vif in domu.vifs}
    managed = {each.uuid for each in (*found.wanted, *found.tombstones, *found.retained)}
    for domain in situation.observed.domains:
        if domain.uuid in managed or domain.dying:
            continue
        for vif in domain.vifs:
            if vif.mac in mine or vif.interface in names:
                return f"{vif.mac} ({vif.interface}) is in use by {domain.name}, which is not managed here"
    return None


def _shared_claim(domu: DomU, other: DomU) -> str | None:
    for vif in domu.vifs:
        for theirs in other.vifs:
            if vif.mac == theirs.mac:
                return f"MAC {vif.mac}"
            if vif.name is not None and vif.name == theirs.name:
                return f"vif name {vif.name}"
            for address in vif.addresses:
                if any(_overlap(address, each) for each in theirs.addresses):
                    return f"address {address_text(address)}"
    paths = {disk.path for disk in other.disks if disk.writable}
    return next((f"disk {disk.path}" for disk in domu.disks if disk.writable and disk.path in paths), None)


def _overlap(one: Address, other: Address) -> bool:
    return one.version == other.version and one.overlaps(other)
