"""Claims over what is still alive: nobody gets an address, a MAC or a disk that somebody else still has. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from reconciler.granted import standing
from reconciler.leaving import cleared_of
from reconciler.life import refusal
from reconciler.plan import Change, Phase
from reconciler.scope import Scope, Situation
from schemas.address import address_text
from schemas.claims import ports_of
from state.desired import Address, DomU, Vif
from state.facts import own_interfaces
from state.observed import Domain, Observed
from state.xenstore import BackendVif

ORPHAN = "an orphan: its file is gone"
# Whose it is comes before what lies there: nobody is to be told to adopt, or to let go of, what is somebody else's.
_LESSER = frozenset({"would_lose_bytes", "disk_in_use", "display_in_use", "capacity"})
REFUSALS = frozenset({"claim_conflict", "name_taken", "would_be_dark"})


def blocked_claims(changes: Iterable[Change], situation: Situation, found: Scope) -> list[Change]:
    """The changes, with those blocked whose domU claims what a retained, a foreign or a living vif still has.

    A domU that is refused keeps what it had, which may be what the next one claims: this goes on until nothing more
    is found. One without a change of its own gets one that says so, for its guard is refused all the same.
    """
    changes = [*changes]
    while True:
        left = without_refused(found, changes, situation)
        taken = _taken(situation, left, cleared_of(situation, changes).domains)
        conflicts = {
            domu.uuid: (domu, why)
            for domu in left.wanted
            if (why := _conflict(domu, situation, taken) or _kept(domu, taken)) is not None
        }
        if not conflicts:
            return changes
        changes = [
            _blocked(change, {uuid: why for uuid, (_, why) in conflicts.items()}) for change in changes
        ]
        said = {change.uuid for change in changes if change.reason in REFUSALS and change.layer != ("file",)}
        changes += [
            refusal(domu, ("update",), "claim_conflict", why)
            for uuid, (domu, why) in conflicts.items()
            if uuid not in said
        ]


@dataclass(frozen=True, slots=True)
class _Taken:
    """What is taken, indexed by what is asked for: a fleet has thousands of vifs, and each of them asks.

    `alive` have what git no longer gives them, each with why it still has it. `dom0s` and `behind` are MACs, with the interface that has them or
    leads to them; `interfaces` are the names of dom0's own. `strangers` are names of unmanaged domains by MAC and port of their vifs. `living` are all vifs by
    MAC and port; `withheld` those that go on with what they have, because taking it away waits.
    """

    specified: frozenset[str]
    alive: tuple[tuple[DomU, str], ...]
    dom0s: Mapping[str, str]
    interfaces: frozenset[str]
    behind: Mapping[str, str]
    strangers: Mapping[str, tuple[str, BackendVif]]
    living: Mapping[str, list[tuple[Domain, BackendVif]]]
    withheld: tuple[tuple[Domain, BackendVif, Vif], ...]


def _taken(situation: Situation, found: Scope, living: Iterable[Domain]) -> _Taken:
    observed, desired = situation.observed, situation.desired
    specified = frozenset(each.uuid for each in desired.domus)
    managed = {each.uuid for each in (*found.wanted, *found.tombstones, *found.retained)}
    uplinks = {uplink for _, ports in desired.host.bridges for uplink in ports}
    # Where git still has a vif, its addresses follow git at once.
    follows = {(each.uuid, vif.index, vif.mac, vif.bridge) for each in desired.domus for vif in each.vifs}
    strangers: dict[str, tuple[str, BackendVif]] = {}
    for domain in sorted(observed.domains, key=_domid):
        for vif in () if domain.uuid in managed or domain.dying else domain.vifs:
            for key in (vif.mac, vif.interface):
                strangers.setdefault(key, (domain.name, vif))
    alive: defaultdict[str, list[tuple[Domain, BackendVif]]] = defaultdict(list)
    withheld = []
    for domain in sorted(living, key=_domid):
        for vif in () if domain.dying else domain.vifs:
            alive[vif.mac].append((domain, vif))
            alive[vif.interface].append((domain, vif))
            if (domain.uuid, vif.index, vif.mac, vif.bridge) in follows:
                continue
            if (theirs := standing(situation, domain, vif)) is not None:
                withheld.append((domain, vif, theirs))
    # A domU whose file has errors is brought back to what was applied: that counts like what is left alone.
    alone = (*found.retained, *(each for each in found.wanted if each.uuid not in specified))
    return _Taken(
        specified=specified,
        alive=tuple((each, _why(each, situation)) for each in alone),
        dom0s={link.mac: link.name for link in observed.links.values()},
        interfaces=own_interfaces(observed),
        behind={
            entry.mac: entry.port for entry in observed.fdb if entry.port in uplinks and not entry.static
        },
        strangers=strangers,
        living=alive,
        withheld=tuple(withheld),
    )


def _kept(domu: DomU, taken: _Taken) -> str | None:
    """What a living vif keeps because taking it away is withheld: its port and MAC, and what it alone may send from."""
    for each in domu.vifs:
        for domain, vif in (*taken.living.get(each.name or "", ()), *taken.living.get(each.mac, ())):
            if (domain.uuid, vif.index) != (domu.uuid, each.index):
                return f"{vif.mac} ({vif.interface}) is still {domain.name}'s: taking it away is withheld"
    for domain, vif, theirs in taken.withheld:
        for each in domu.vifs:
            if (domain.uuid, vif.index) == (domu.uuid, each.index):
                continue
            if (address := _contested(each, theirs)) is not None:
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
    if why is None or change.phase in {Phase.PREPARE, Phase.REMOVE}:
        return change
    if change.blocked is not None and change.reason not in _LESSER:
        return change
    return replace(change, blocked=why, reason="claim_conflict")


def _conflict(domu: DomU, situation: Situation, taken: _Taken) -> str | None:
    if domu.uuid not in taken.specified:
        return None
    for other, why in taken.alive:
        if (what := _shared_claim(domu, other)) is not None:
            hint = _renamed(domu, other, situation) if why == ORPHAN else ""
            return f"{what} is still {other.name}'s, {why}{hint}"
    if (
        what := _of_the_segment(domu, situation.applied.get(domu.uuid), situation.observed, taken)
    ) is not None:
        return what
    for each in domu.vifs:
        name, vif = taken.strangers.get(each.mac) or taken.strangers.get(each.name or "") or (None, None)
        if vif is not None:
            return f"{vif.mac} ({vif.interface}) is in use by {name}, which is not managed here"
    return None


def _why(domu: DomU, situation: Situation) -> str:
    """Why a domU has what git does not give it."""
    desired = situation.desired
    if domu.uuid in situation.stuck:
        return "which could not be stopped"
    specified = next((each for each in desired.domus if each.uuid == domu.uuid), None)
    if specified is not None:
        return "whose removal waits" if specified.state == "absent" else "whose own change is refused"
    if domu.name.casefold() in {name.casefold() for name in desired.held}:
        return "whose file has errors"
    if domu.uuid in desired.elsewhere:
        return f"which moved to {desired.elsewhere[domu.uuid]} and has not ended here"
    return ORPHAN


def _renamed(domu: DomU, orphan: DomU, situation: Situation) -> str:
    """How to rename, for one that was never here and looks like an orphan: the default uuid follows from the name."""
    if domu.uuid in situation.ledger or not _looks_like(domu, orphan):
        return ""
    return f" (if {domu.name} is {orphan.name} renamed: write `uuid: {orphan.uuid}` into its metadata)"


def _looks_like(domu: DomU, other: DomU) -> bool:
    macs, paths = {vif.mac for vif in other.vifs}, {disk.path for disk in other.disks}
    return any(vif.mac in macs for vif in domu.vifs) or any(disk.path in paths for disk in domu.disks)


def _of_the_segment(domu: DomU, before: DomU | None, observed: Observed, taken: _Taken) -> str | None:
    """What belongs to dom0 itself, or is seen behind an uplink: given to a guest, nobody would reach its owner.

    `before` is what was last applied. A port that has its name from there may outlive its domain for a moment.
    """
    domain = observed.by_uuid.get(domu.uuid)
    named = {None, *(vif.name for vif in (() if before is None else before.vifs))}
    has = {vif.mac for vif in domain.vifs} if domain is not None else set()
    for vif in domu.vifs:
        if vif.mac in taken.dom0s:
            return f"MAC {vif.mac} is dom0's own ({taken.dom0s[vif.mac]})"
        if vif.mac in taken.behind and vif.mac not in has:
            return f"MAC {vif.mac} is in use behind {taken.behind[vif.mac]}{_leaving(domu)}"
        for port in () if vif.name in named else ports_of(vif.name or "", domu.type):
            if port in taken.interfaces:
                return f"vif name {port} is that of an interface of dom0's"
        for interface, own in observed.addresses:
            if any(address.overlaps(own) for address in vif.addresses):
                return f"address {address_text(own)} is dom0's own ({interface})"
    return None


def _leaving(domu: DomU) -> str:
    if domu.moved_from is None:
        return ""
    return (
        f" (it may still run on {domu.moved_from}; where it has ended, that is forgotten within five minutes)"
    )


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
    # Read-only ones too: a customer's image under another's name is a leak, not sharing.
    paths = {disk.path for disk in other.disks}
    return next((f"disk {disk.path}" for disk in domu.disks if disk.path in paths), None)


def _contested(vif: Vif, theirs: Vif) -> Address | None:
    """The first address that only one of the two may have."""
    alone = (each for each in vif.addresses if not (each in vif.shared and each in theirs.shared))
    return next((each for each in alone if any(each.overlaps(other) for other in theirs.addresses)), None)
