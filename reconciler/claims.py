"""Claims over what is still alive: nobody gets an address, a MAC or a disk that somebody else still has. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from reconciler.granted import standing
from reconciler.leaving import cleared_of
from reconciler.life import refusal
from reconciler.plan import Change, Phase
from reconciler.scope import Scope, Situation
from schemas.address import address_text
from state.desired import Address, DomU, Vif
from state.observed import Domain

PORT_MAC = "fe:ff:ff:ff:ff:ff"  # that of every guest's port in dom0
REFUSALS = frozenset({"claim_conflict", "name_taken"})


def blocked_claims(changes: Iterable[Change], situation: Situation, found: Scope) -> list[Change]:
    """The changes, with those blocked whose domU claims what a retained, a foreign or a living vif still has.

    A domU that is refused keeps what it had, which may be what the next one claims: this goes on until nothing more
    is found. One without a change of its own gets one that says so, for its guard is refused all the same.
    """
    changes = [*changes]
    while True:
        left = without_refused(found, changes, situation)
        living = cleared_of(situation, changes).domains
        conflicts = {
            domu.uuid: (domu, why)
            for domu in left.wanted
            if (why := _conflict(domu, situation, left) or _kept(domu, situation, living)) is not None
        }
        if not conflicts:
            return changes
        changes = [
            _blocked(change, {uuid: why for uuid, (_, why) in conflicts.items()}) for change in changes
        ]
        said = {change.uuid for change in changes if change.reason in REFUSALS}
        changes += [
            refusal(domu, ("update",), "claim_conflict", why)
            for uuid, (domu, why) in conflicts.items()
            if uuid not in said
        ]


def _kept(domu: DomU, situation: Situation, living: Iterable[Domain]) -> str | None:
    """What a living vif keeps because taking it away is withheld: its port and MAC, and what it alone may send from."""
    specified = {
        (each.uuid, vif.index, vif.mac, vif.bridge) for each in situation.desired.domus for vif in each.vifs
    }
    for domain in sorted(living, key=_domid):
        for vif in domain.vifs if not domain.dying else ():
            wanted = [each for each in domu.vifs if (domain.uuid, vif.index) != (domu.uuid, each.index)]
            if any(vif.interface == each.name or vif.mac == each.mac for each in wanted):
                return f"{vif.mac} ({vif.interface}) is still {domain.name}'s: taking it away is withheld"
            # Where git still has the vif, its addresses follow git at once.
            follows = (domain.uuid, vif.index, vif.mac, vif.bridge) in specified
            theirs = None if follows else standing(situation, domain, vif)
            contested = (_contested(each, theirs) for each in wanted if theirs is not None)
            if (address := next((each for each in contested if each is not None), None)) is not None:
                return f"address {address_text(address)} is still {domain.name}'s: taking its vif away is withheld"
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
    specified = {each.uuid for each in situation.desired.domus}
    # A domU whose file has errors is brought back to what was applied, so that counts like what is merely left alone.
    held = (each for each in found.wanted if each.uuid not in specified)
    if domu.uuid not in specified:
        return None
    for other in (*found.retained, *held):
        if other.uuid != domu.uuid and (what := _shared_claim(domu, other)) is not None:
            return f"{what} is still {other.name}'s, which is alive though git no longer gives it that"
    if (taken := _of_the_segment(domu, situation)) is not None:
        return taken
    mine = {vif.mac for vif in domu.vifs}
    names = {vif.name for vif in domu.vifs}
    managed = {each.uuid for each in (*found.wanted, *found.tombstones, *found.retained)}
    for domain in sorted(situation.observed.domains, key=_domid):
        if domain.uuid in managed or domain.dying:
            continue
        for vif in domain.vifs:
            if vif.mac in mine or vif.interface in names:
                return f"{vif.mac} ({vif.interface}) is in use by {domain.name}, which is not managed here"
    return None


def _of_the_segment(domu: DomU, situation: Situation) -> str | None:
    """What belongs to dom0 itself, or is seen behind an uplink: given to a guest, nobody would reach its owner."""
    observed = situation.observed
    domain = observed.by_uuid.get(domu.uuid)
    has = {vif.mac for vif in domain.vifs} if domain is not None else set()
    uplinks = {uplink for _, ports in situation.desired.host.bridges for uplink in ports}
    owners = {link.mac: link.name for link in observed.links.values() if link.mac != PORT_MAC}
    behind = {entry.mac: entry.port for entry in observed.fdb if entry.port in uplinks and not entry.static}
    for vif in domu.vifs:
        if vif.mac in owners:
            return f"MAC {vif.mac} is dom0's own ({owners[vif.mac]})"
        if vif.mac in behind and vif.mac not in has:
            return f"MAC {vif.mac} is in use behind {behind[vif.mac]}"
        for interface, own in observed.addresses:
            if any(_overlap(address, own) for address in vif.addresses):
                return f"address {address_text(own)} is dom0's own ({interface})"
    return None


def _domid(domain: Domain) -> int:
    return domain.domid


def _shared_claim(domu: DomU, other: DomU) -> str | None:
    for vif in domu.vifs:
        for theirs in other.vifs:
            if vif.mac == theirs.mac:
                return f"MAC {vif.mac}"
            if vif.name is not None and vif.name == theirs.name:
                return f"vif name {vif.name}"
            if (address := _contested(vif, theirs)) is not None:
                return f"address {address_text(address)}"
    paths = {disk.path for disk in other.disks if disk.writable}
    return next((f"disk {disk.path}" for disk in domu.disks if disk.writable and disk.path in paths), None)


def _contested(vif: Vif, theirs: Vif) -> Address | None:
    """The first address that only one of the two may have."""
    alone = (each for each in vif.addresses if not (each in vif.shared and each in theirs.shared))
    return next((each for each in alone if any(_overlap(each, other) for other in theirs.addresses)), None)


def _overlap(one: Address, other: Address) -> bool:
    return one.version == other.version and one.overlaps(other)
