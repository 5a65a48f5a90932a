"""Whose specifications count on this host now: git's, or the last applied one of a domU that git has lost or spoilt. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from reconciler.hotplug import templates_by_uuid
from reconciler.ledger import Ledger
from reconciler.plan import Note, Source
from reconciler.step import SHUTDOWN_GRACE_S
from state.desired import Desired, DomU
from state.observed import Observed


@dataclass(frozen=True)
class Situation:
    """All that one plan is made from.

    `last` is what was last applied here. `stuck` are the uuids whose removal failed in this very pass:
    they count as alive, with all that they claim. `grace_s` is how long a guest may take to shut down.
    """

    desired: Desired
    source: Source
    observed: Observed
    ledger: Ledger
    last: Desired | None = None
    stuck: frozenset[str] = frozenset()
    grace_s: float = SHUTDOWN_GRACE_S

    @cached_property
    def applied(self) -> Mapping[str, DomU]:
        """The last applied specifications by uuid."""
        return {} if self.last is None else {domu.uuid: domu for domu in self.last.domus}

    @cached_property
    def specified_names(self) -> frozenset[str]:
        """The names that git gives to domUs of this host."""
        return frozenset(domu.name for domu in self.desired.domus)

    @cached_property
    def templates(self) -> Mapping[str, Mapping[int, str]]:
        """See templates_by_uuid."""
        return templates_by_uuid(self.observed)

    @cached_property
    def running_names(self) -> Mapping[str, frozenset[str]]:
        """The names of every running domain, now and earlier, by uuid."""
        found: dict[str, frozenset[str]] = {}
        for domain in self.observed.domains:
            if domain.running:
                owned, before = self.ledger.get(domain.uuid), self.applied.get(domain.uuid)
                earlier = (each.name for each in (owned, before) if each is not None)
                found[domain.uuid] = frozenset((domain.name, *earlier))
        return found


@dataclass(frozen=True, slots=True)
class Scope:
    """The domUs of a pass.

    `wanted` are converged. `retained` are guarded as they were and otherwise left alone: orphans, domUs that
    moved away, held-back ones that are alive, and tombstones that could not be stopped.
    """

    wanted: tuple[DomU, ...]
    tombstones: tuple[DomU, ...]
    retained: tuple[DomU, ...]
    notes: tuple[Note, ...]


def scope(situation: Situation) -> Scope:
    """Which specification counts for whom."""
    domus = situation.desired.domus
    tombstones = tuple(domu for domu in domus if domu.state == "absent")
    wanted = [domu for domu in domus if domu.state != "absent"]
    retained: list[DomU] = []
    notes = list(_never_applied(situation))
    specified = {domu.uuid for domu in domus}
    for uuid, owned in sorted(situation.ledger.items(), key=lambda item: item[1].name):
        if uuid not in specified:
            before = situation.applied.get(uuid)
            # The ledger knows the name it was last started under, which a rename does not change.
            note, keeps_converging = _without_file(
                situation, uuid, owned.name if before is None else before.name
            )
            notes.append(note)
            if before is not None:
                (wanted if keeps_converging else retained).append(before)
    retained += [
        situation.applied[domu.uuid]
        for domu in tombstones
        if domu.uuid in situation.stuck & situation.applied.keys()
    ]
    return Scope(tuple(sorted(wanted, key=_name)), tombstones, tuple(retained), tuple(notes))


def _without_file(situation: Situation, uuid: str, name: str) -> tuple[Note, bool]:
    """What to say of a domU of ours that git does not specify, and whether it is still brought back to what was applied."""
    desired, address = situation.desired, f"domu.{name}"
    if name.casefold() in {held.casefold() for held in desired.held}:
        return Note(address, "held_back", "its file has errors: kept as last applied"), True
    if uuid in desired.elsewhere:
        where = desired.elsewhere[uuid]
        return Note(address, "moved", f"now placed on {where}: left running until a human releases it"), False
    return Note(
        address, "orphan", "no longer in git: keeps running, guarded; `state: absent` would remove it"
    ), False


def _never_applied(situation: Situation) -> Iterator[Note]:
    ours = {owned.name.casefold() for owned in situation.ledger.values()}
    for name in situation.desired.held:
        if name.casefold() not in ours:
            yield Note(f"domu.{name}", "held_back", "its file has errors: never applied, nothing is done")


def _name(domu: DomU) -> str:
    return domu.name
