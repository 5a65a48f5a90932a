"""Whose specifications count on this host now: git's, or the last applied one of a domU that git has lost or spoilt. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.ledger import Ledger
from reconciler.plan import Note, Source
from state.desired import Desired, DomU
from state.observed import Observed


@dataclass(frozen=True, slots=True)
class Situation:
    """All that one plan is made from.

    `last` is what was last applied here. `stuck` are the uuids whose removal failed in this very pass:
    they count as alive, with all that they claim.
    """

    desired: Desired
    source: Source
    observed: Observed
    ledger: Ledger
    last: Desired | None = None
    stuck: frozenset[str] = frozenset()

    @property
    def applied(self) -> Mapping[str, DomU]:
        """The last applied specifications by uuid."""
        return {} if self.last is None else {domu.uuid: domu for domu in self.last.domus}


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
    desired, applied = situation.desired, situation.applied
    wanted: list[DomU] = []
    tombstones: list[DomU] = []
    retained: list[DomU] = []
    notes: list[Note] = []
    held = {name.casefold() for name in desired.held}
    for domu in desired.domus:
        if domu.state == "absent":
            tombstones.append(domu)
        else:
            wanted.append(domu)
    known = {domu.uuid for domu in desired.domus}
    for uuid, owned in sorted(situation.ledger.items(), key=lambda item: item[1].name):
        if uuid in known:
            continue
        address = f"domu.{owned.name}"
        before = applied.get(uuid)
        if owned.name.casefold() in held:
            # Its file has an error: it is kept as it was last applied, repaired too, never stopped.
            if before is not None:
                wanted.append(before)
            notes.append(Note(address, "held_back", "its file has errors: kept as last applied"))
        elif uuid in desired.elsewhere:
            notes.append(
                Note(
                    address,
                    "moved",
                    f"now placed on {desired.elsewhere[uuid]}: left running until a human releases it",
                )
            )
            _retain(before, retained)
        else:
            notes.append(
                Note(
                    address,
                    "orphan",
                    "no longer in git: keeps running, guarded; `state: absent` would remove it",
                )
            )
            _retain(before, retained)
    for domu in tombstones:
        if domu.uuid in situation.stuck:
            _retain(applied.get(domu.uuid), retained)
    return Scope(tuple(sorted(wanted, key=_name)), tuple(tombstones), tuple(retained), tuple(notes))


def _retain(domu: DomU | None, retained: list[DomU]) -> None:
    if domu is not None:
        retained.append(domu)


def _name(domu: DomU) -> str:
    return domu.name
