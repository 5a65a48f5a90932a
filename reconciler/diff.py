"""Desired and observed to a plan: every change, in order, each with what it costs. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace

from reconciler.claims import REFUSALS, blocked_claims, without_refused
from reconciler.diff_by_hand import by_hand_notes, may_be_by_hand
from reconciler.diff_config import diff_file, diff_live, diff_old_file, diff_staged
from reconciler.diff_disk import diff_disks
from reconciler.diff_domain import diff_life, diff_protection
from reconciler.diff_end import diff_tombstone, forgotten
from reconciler.diff_foreign import diff_foreign, refused_dark, see
from reconciler.diff_guard import Held, diff_guard, make_guard
from reconciler.diff_inside import inside_notes
from reconciler.diff_vif import diff_vifs, plugged_back
from reconciler.granted import standing
from reconciler.guard.backend import chosen
from reconciler.guard_limits import not_again
from reconciler.hotplug import TEMPLATES, diff_hotplug, diff_old_templates, diff_templates
from reconciler.leaving import cleared_of
from reconciler.plan import FINDINGS, Change, Note, Phase, Plan
from reconciler.policy import Policy, apply_policy
from reconciler.scope import Scope, Situation, scope
from reconciler.step import RemoveFile
from reconciler.whole import refused_whole, staged_whole, taken_back, unguarded
from state.desired import DomU


def make_plan(situation: Situation, policy: Policy) -> Plan:
    """The plan for a situation: the same for the same situation, whatever order things were listed in."""
    found = scope(situation)
    items: list[Change | Note] = [*_host_changes(situation)]
    items += [_forgotten(situation, uuid) for uuid in found.ended]
    for domu in found.wanted:
        items += _domu_changes(situation, domu)
    for domu in found.tombstones:
        items += diff_tombstone(situation.life(domu))
    domus = {domu.uuid: domu for domu in found.wanted}
    changes = [
        _bridged(item, situation, domus.get(item.uuid or "")) for item in items if isinstance(item, Change)
    ]
    sight = see(situation)
    changes = refused_dark(changes, situation, found, sight)
    changes = blocked_claims(changes, situation, found)
    changes = [*apply_policy(changes, situation, policy)]
    remaining = _remaining(found, changes, situation)
    changes = staged_whole(refused_whole(blocked_claims(changes, situation, remaining)), situation)
    guarded = without_refused(remaining, changes, situation)
    expected = _expected(guarded, changes, situation)
    guarded = replace(guarded, wanted=tuple(each for each in guarded.wanted if each.uuid not in expected))
    changes = [_unbound(change, expected) for change in changes]
    cleared = replace(situation, observed=cleared_of(situation, changes))
    held = _held(situation, changes)
    guard = [*_not_again(diff_guard(cleared, guarded, held), situation, policy)]
    judged = apply_policy([item for item in guard if isinstance(item, Change)], situation, policy)
    changes = unguarded([*changes, *judged], situation.observed.guard)
    changes = _plugged_back(changes, situation, policy)
    changes += apply_policy([*taken_back(changes)], situation, policy)
    if sight is not None or may_be_by_hand(situation):
        bound = make_guard(cleared, (*guarded.wanted, *guarded.retained), held)
        guard += by_hand_notes(situation, bound, sight)
        guard += diff_foreign(situation, bound, changes, sight)
        changes += [item for item in guard if isinstance(item, Change) and item.reason in FINDINGS]
    notes = [
        *found.notes,
        *inside_notes(situation),
        *(item for item in (*items, *guard) if isinstance(item, Note)),
    ]
    orders = {f"domu.{domu.name}": domu.order for domu in found.wanted}
    return Plan(
        host=situation.desired.host.name,
        source=situation.source,
        prior_state=situation.observed.digest(),
        changes=tuple(sorted(changes, key=lambda change: _sequence(change, orders))),
        notes=tuple(sorted(notes, key=lambda note: (note.address, note.reason))),
        diagnostics=situation.desired.diagnostics,
    )


def _sequence(change: Change, orders: dict[str, int]) -> tuple[int, int, str, int, str]:
    name = change.counts[0]
    return (change.phase, orders.get(name, 0), name, change.order, change.address)


def _host_changes(situation: Situation) -> Iterator[Change]:
    yield from diff_hotplug(situation.observed, first=situation.last is None)
    ours = [each for each in situation.observed.stale if each.uuid in situation.ledger]
    for stale in ours:
        yield Change(
            address=f"file.{stale.path}",
            actions=("delete",),
            cause="corrective",
            impact="none",
            phase=Phase.PREPARE,
            steps=(RemoveFile(stale.path),),
            fingerprint=(),
            before={"staged": True},
            after={},
            counts=(f"file.{stale.path}",),
            layer=("stored",),
            reason="stale_staging",
        )


def _forgotten(situation: Situation, uuid: str) -> Change:
    return forgotten(
        uuid,
        situation.ledger[uuid],
        host=situation.desired.elsewhere[uuid],
        observed=situation.observed,
        templates=situation.templates.get(uuid, {}).values(),
    )


def _domu_changes(situation: Situation, domu: DomU) -> Iterator[Change | Note]:
    life = situation.life(domu)
    domu, domain, before, observed = life.domu, life.domain, life.before, situation.observed
    items = [*diff_life(life)]
    yield from items
    if any(item.reason in {"name_taken", "unmanaged"} for item in items):
        return
    if domu.boot is not None:
        yield from diff_file(domu, observed, before)
        # The ledger may know the new name already, from a pass that was cut short. Where somebody else has the former
        # name now, the file is his and is written over.
        former = {each.name for each in (life.owned, before) if each is not None}
        for name in sorted(former - situation.specified_names):
            yield from diff_old_file(domu, observed, name)
        by = chosen(situation.desired.host.guard_backend, observed.features) or "nftables"
        yield from diff_templates(domu, observed, before, by)
        yield from diff_old_templates(domu, observed, life.templates)
    yield from diff_disks(life, observed)
    # Without a saved configuration it is being made, and nothing of it is known yet.
    alive = domain is not None and domain.running and not life.anew
    if domain is not None and alive and domain.saved is not None and domu.state == "running":
        yield from diff_live(domu, domain, observed, before)
        yield from diff_vifs(domu, domain, observed, before)
        yield from diff_staged(domu, domain, observed, before)
    yield from diff_protection(life)


def _bridged(change: Change, situation: Situation, domu: DomU | None) -> Change:
    """No vif is taken off its bridge for one that does not exist, and no domU is started with one: it would never get there."""
    if "create" not in change.actions or change.blocked is not None:
        return change
    started = () if domu is None or change.part else domu.vifs
    bridges = [change.after.get("bridge"), *(vif.bridge for vif in started)]
    links = situation.observed.links
    missing = next((each for each in bridges if each is not None and each not in links), None)
    if missing is None:
        return change
    return replace(change, blocked=f"there is no bridge {missing} on this host", reason="no_bridge")


def _not_again(
    items: Iterable[Change | Note], situation: Situation, policy: Policy
) -> Iterator[Change | Note]:
    """What had to be taken back is not tried again by itself: each time would cut the host off once more."""
    for item in items:
        before = not_again(item, situation) if isinstance(item, Change) and item.blocked is None else None
        if before is None or isinstance(item, Note):
            yield item
        elif policy.retry:
            yield item
            yield Note("guard", "guard_reverted", f"{before}; now it is tried again")
        else:
            why = f"{before} (change it in git, or `domgit apply` to try again)"
            yield replace(item, blocked=why, reason="guard_reverted")


def _plugged_back(changes: Sequence[Change], situation: Situation, policy: Policy) -> list[Change]:
    """The changes, with the vifs plugged in as they were that were taken away for a guard that was taken back."""
    if not any(change.address == "guard" and change.reason == "guard_reverted" for change in changes):
        return [*changes]
    result: list[Change] = []
    for change in changes:
        back = plugged_back(change, situation)
        result += [change] if back is None else apply_policy([back], situation, policy)
    return result


def _remaining(found: Scope, changes: Iterable[Change], situation: Situation) -> Scope:
    """The scope with the tombstones whose removal is withheld: they live on, and so do their bindings."""
    withheld = {change.uuid for change in changes if change.actions == ("delete",) and not change.due}
    # As it was applied: what still stands in the tombstone's file besides its name and uuid means nothing.
    kept = [
        situation.applied[domu.uuid]
        for domu in found.tombstones
        if domu.uuid in withheld & situation.applied.keys()
    ]
    # By name, as all else: of two that have what a newcomer wants, the plan names one.
    return replace(found, retained=(*found.retained, *sorted(kept, key=lambda domu: domu.name)))


def _expected(found: Scope, changes: Iterable[Change], situation: Situation) -> frozenset[str]:
    """The uuids of the domUs that come from another host and that this plan does not start.

    Where they come from they may still send: until a human has let one start here, nothing is bound for it.
    """
    started = {change.address for change in changes if change.actions == ("create",) and change.due}
    return frozenset(
        domu.uuid
        for domu in found.wanted
        if f"domu.{domu.name}" not in started and situation.life(domu).arrives
    )


def _unbound(change: Change, expected: Container[str | None]) -> Change:
    """By its template the hotplug script would bind the vif of one that is only expected."""
    template = change.uuid in expected and change.address.startswith(f"file.{TEMPLATES}/")
    return replace(change, when="approval", reason="move") if template else change


def _held(situation: Situation, changes: Sequence[Change]) -> Held:
    """The vifs that stay as they were because their change is withheld."""
    held = {}
    refused = {change.uuid for change in changes if change.reason in REFUSALS}
    for change in changes:
        # In the middle of a pass nothing more is taken away: see cleared_of.
        goes = change.due and not situation.stuck
        if not change.early or goes or change.uuid is None:
            continue
        index = int(change.address.rpartition(".")[2])
        domain = situation.observed.by_uuid.get(change.uuid)
        live = (
            next((each for each in domain.vifs if each.index == index), None) if domain is not None else None
        )
        if domain is None or live is None:
            continue
        vif = standing(situation, domain, live)
        wanted = next(
            (
                each
                for domu in situation.desired.domus
                if domu.uuid == change.uuid
                for each in domu.vifs
                if each.index == index
            ),
            None,
        )
        # Addresses follow git at once, they cost the guest nothing; MAC and port stay until the vif is replugged.
        # Not those of another bridge, and the addresses of a domU whose claims are refused are refused as well.
        if wanted is not None and change.uuid not in refused and wanted.bridge == live.bridge:
            held[change.uuid, index] = replace(wanted, mac=live.mac, name=live.interface)
        elif vif is not None:
            held[change.uuid, index] = replace(vif, name=live.interface)
    return Held(held)
