"""Whose specifications count on this host now: git's, or the last applied one of a domU that git has lost or spoilt. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from reconciler.disk_record import Looked
from reconciler.hotplug import templates_by_uuid
from reconciler.installing import as_installed, installation
from reconciler.ledger import Ledger
from reconciler.life import Life
from reconciler.plan import Note, Source
from reconciler.reverted import Reverted
from reconciler.step import SHUTDOWN_GRACE_S
from reconciler.tally import Counts, Tally
from state.desired import Desired, DomU
from state.observed import Observed


@dataclass(frozen=True)
class Situation:
    """All that one plan is made from.

    `last` is what was last applied here. `stuck` are the uuids whose removal failed in this very pass:
    they count as alive, with all that they claim. `grace_s` is how long a guest may take to shut down. `reverted` are
    the changes of the guard that had to be taken back. `counted` is what the guard has counted by now, read where a
    vif is audited, and `tally` what was known of that at the last pass. `looked` is what was last found in guests' disks. `anew`
    are the uuids of domUs whose installation a human has said to begin again.
    """

    desired: Desired
    source: Source
    observed: Observed
    ledger: Ledger
    last: Desired | None = None
    stuck: frozenset[str] = frozenset()
    grace_s: float = SHUTDOWN_GRACE_S
    reverted: tuple[Reverted, ...] = ()
    counted: Counts | None = None
    tally: Tally | None = None
    looked: Looked | None = None
    anew: frozenset[str] = frozenset()

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

    @property
    def refused(self) -> bool:
        """Whether an error reaches the whole host, so that what was last applied stands in for git's word."""
        errors = any(each.severity == "error" for each in self.desired.diagnostics)
        return errors and not self.desired.held

    def life(self, domu: DomU) -> Life:
        """The situation of one domU, which is given as git has it."""
        domain, owned = self.observed.by_uuid.get(domu.uuid), self.ledger.get(domu.uuid)
        before = self.applied.get(domu.uuid)
        found = installation(domu, domain, owned, before, anew=domu.uuid in self.anew)
        # What was applied is that of a host on which nothing has happened since.
        applied = (
            None if before is None else as_installed(before, installation(before, None, owned, None), None)
        )
        return Life(
            domu=as_installed(domu, found, before),
            domain=domain,
            owned=owned,
            before=applied,
            observed=self.observed,
            grace_s=self.grace_s,
            running=self.running_names,
            templates=self.templates.get(domu.uuid, {}),
            installation=found,
        )


@dataclass(frozen=True, slots=True)
class Scope:
    """The domUs of a pass.

    `wanted` are converged. `retained` are guarded as they were and otherwise left alone: orphans, domUs that
    moved away, held-back ones that are alive, and tombstones that could not be stopped. `ended` are the uuids of
    those that moved away and are here no more: what they had here is let go.
    """

    wanted: tuple[DomU, ...]
    tombstones: tuple[DomU, ...]
    retained: tuple[DomU, ...]
    notes: tuple[Note, ...]
    ended: tuple[str, ...] = ()


def scope(situation: Situation) -> Scope:
    """Which specification counts for whom."""
    domus = situation.desired.domus
    tombstones = tuple(domu for domu in domus if domu.state == "absent")
    wanted = [domu for domu in domus if domu.state != "absent"]
    retained: list[DomU] = []
    ended: list[str] = []
    notes = list(_never_applied(situation))
    specified = {domu.uuid for domu in domus}
    if situation.refused:
        why = "what git says is not followed: the whole host stays as last applied"
        notes.append(Note(f"host.{situation.desired.host.name}", "held_back", why))
    for uuid, owned in sorted(situation.ledger.items(), key=lambda item: item[1].name):
        if uuid in specified:
            continue
        before = situation.applied.get(uuid)
        # The ledger knows the name it was last started under, which a rename does not change.
        note = _without_file(situation, uuid, owned.name if before is None else before.name)
        notes.append(note)
        if note.reason == "moved" and _ended(situation, uuid):
            ended.append(uuid)
        elif before is not None:
            (wanted if note.reason == "held_back" else retained).append(before)
    retained += [
        situation.applied[domu.uuid]
        for domu in tombstones
        if domu.uuid in situation.stuck & situation.applied.keys()
    ]
    return Scope(
        wanted=tuple(sorted(wanted, key=_name)),
        tombstones=tombstones,
        retained=tuple(retained),
        notes=tuple(notes),
        ended=tuple(ended),
    )


def _without_file(situation: Situation, uuid: str, name: str) -> Note:
    """What to say of a domU of ours that git does not specify here."""
    desired, address = situation.desired, f"domu.{name}"
    if name.casefold() in {held.casefold() for held in desired.held}:
        return Note(address, "held_back", "its file has errors: kept as last applied")
    if uuid in desired.elsewhere:
        now = f"now placed on {desired.elsewhere[uuid]}"
        if _ended(situation, uuid):
            return Note(address, "moved", f"{now}, and ended here: let go")
        return Note(address, "moved", f"{now}: left alone here, guarded, until somebody ends it")
    domain = situation.observed.by_uuid.get(uuid)
    if _ended(situation, uuid) or (domain is not None and domain.shutdown is not None):
        return Note(address, "orphan", "no longer in git, and off: left so; `state: absent` would let it go")
    remedy = "`state: absent` would remove it"
    if any(each.name == name and each.state == "absent" for each in desired.domus):
        remedy = f"the tombstone of this name has another uuid (`uuid: {uuid}` would remove it)"
    return Note(address, "orphan", f"no longer in git: keeps running, guarded; {remedy}")


def _ended(situation: Situation, uuid: str) -> bool:
    """Whether nothing of it is left that could send: no domain, and no monitor that may bring one back.

    One that was started from a file of another name has a monitor that nobody knows: as long as there are more of
    them than running domains, one of these may be its own.
    """
    before = situation.applied.get(uuid)
    comes_back = before is not None and situation.life(before).monitored
    comes_back = comes_back or len(situation.observed.monitors) > len(situation.running_names)
    return uuid not in situation.observed.by_uuid and uuid not in situation.stuck and not comes_back


def _never_applied(situation: Situation) -> Iterator[Note]:
    ours = {owned.name.casefold() for owned in situation.ledger.values()}
    for name in situation.desired.held:
        if name.casefold() not in ours:
            yield Note(f"domu.{name}", "held_back", "its file has errors: never applied, nothing is done")


def _name(domu: DomU) -> str:
    return domu.name
