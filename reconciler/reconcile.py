"""One pass over a host: observe, plan, converge, observe again. What remains is the result."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reconciler import disk_record, last_good, ledger, reverted, tally
from reconciler.claims import without_refused
from reconciler.config import Paths
from reconciler.converge import Converger, Outcome
from reconciler.diff import make_plan
from reconciler.execute import Disk, Hands
from reconciler.follow import see_not_overtaken, wanted
from reconciler.guard.backend import programs
from reconciler.guard_record import Record, Recorded
from reconciler.guard_restore import Restorer
from reconciler.guard_trial import BOOT_ID, GuardTrial, Safety, recover
from reconciler.guard_trial import Host as TrialHost
from reconciler.hotplug import PATH as HOTPLUG_PATH
from reconciler.hotplug import TEMPLATES, template_path
from reconciler.journal import Journal
from reconciler.last_good import LastGood, advanced
from reconciler.lint import lint
from reconciler.only_writer import only_writer
from reconciler.plan import Change, Plan, Source
from reconciler.plan_document import Document, plan_document
from reconciler.policy import Policy
from reconciler.port_owner import port_owners
from reconciler.render_xl import config_path
from reconciler.review import restricted
from reconciler.scope import Situation, scope
from reconciler.secret import known, masked, recognised
from reconciler.step import SHUTDOWN_GRACE_S
from reconciler.switches import switches
from reconciler.violations import packets
from state.desired import Desired
from state.drops import read_drops
from state.files import Files
from state.observed import Interest, Observed, observe, observe_for
from state.run import ReadError, Runner
from state.source import Reading

log = logging.getLogger(__name__)
MACHINE_ID = "/etc/machine-id"


class DefectError(Exception):
    """Our own plan breaks a rule that no plan may break."""


@dataclass(slots=True)
class Dom0:
    """This host: how to read it, how to change it, and where its records lie."""

    runner: Runner
    files: Files
    disk: Disk
    paths: Paths
    sleep: Callable[[float], None]
    monotonic: Callable[[], float]
    safety: Safety
    grace_s: float = SHUTDOWN_GRACE_S
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def timestamp(self) -> str:
        """Now, RFC 3339, in UTC."""
        return self.now().strftime("%Y-%m-%dT%H:%M:%SZ")

    def last(self) -> LastGood | None:
        """What was last applied here."""
        return last_good.load(self.paths.last_good)

    def journal(self) -> Journal:
        """The record of what was done here."""
        return Journal(self.paths.journal)

    def record(self) -> Record:
        """Where the guard that was last applied is kept."""
        boot = (self.files.read_text(BOOT_ID) or "").strip()
        return Record(self.paths.guard, self.paths.run, boot, self.sleep, self.files)

    def restorer(self) -> Restorer:
        """What brings the guard back that somebody else has flushed."""
        return Restorer(self.runner, self.record(), self.timestamp, self.sleep)

    def for_trials(self) -> TrialHost:
        """What changes of the guard are tried with."""
        return TrialHost(
            runner=self.runner,
            files=self.files,
            safety=self.safety,
            folder=self.paths.guard,
            reverted=self.paths.reverted,
            timestamp=self.timestamp,
            sleep=self.sleep,
        )


def interest(desired: Desired, last: LastGood | None, owned: ledger.Ledger) -> Interest:
    """What of the file system matters to a plan from these."""
    domus = [*desired.domus, *(() if last is None else last.desired.domus)]
    names = {domu.name for domu in domus} | {each.name for each in owned.values()}
    templates = {template_path(domu, vif) for domu in domus for vif in domu.vifs if vif.name is None}
    return Interest(
        files=(
            HOTPLUG_PATH,
            MACHINE_ID,
            *switches(desired.host),
            *sorted(templates),
            *(config_path(name) for name in sorted(names)),
        ),
        images=tuple(sorted({disk.path for domu in domus for disk in domu.disks})),
        programs=programs(desired.host.guard_backend) if desired.host.bridges else {},
    )


def look(
    dom0: Dom0,
    desired: Desired,
    source: Source,
    last: LastGood | None,
    anew: frozenset[str] = frozenset(),
) -> Situation:
    """The situation of this host right now; `anew` as in Situation.

    Raises:
        ReadError: it cannot be read.
    """
    owned = ledger.load(dom0.paths.ledger)
    matters = interest(desired, last, owned)
    old = {f"{TEMPLATES}/{name}" for name in dom0.files.names(TEMPLATES)}
    matters = replace(matters, files=(*matters.files, *sorted(old - {*matters.files})))
    observed = observe(dom0.runner, dom0.files, matters, dom0.sleep)
    machine = (observed.files[MACHINE_ID] or "").strip()
    if desired.host.machine_id not in {None, machine}:
        raise ReadError(
            f"{MACHINE_ID} is {machine or 'missing'}, host {desired.host.name} is {desired.host.machine_id}: this is another machine"
        )
    return Situation(
        desired=desired,
        source=source,
        observed=_masked(observed, dom0.paths.secrets, desired),
        ledger=owned,
        last=None if last is None else last.desired,
        grace_s=dom0.grace_s,
        reverted=reverted.load(dom0.paths.reverted),
        counted=_counted(dom0, observed),
        tally=tally.load(dom0.paths.tally, dom0.monotonic()),
        looked=disk_record.load(dom0.paths.disks, now_s=dom0.now().timestamp()),
        anew=anew,
    )


def _counted(dom0: Dom0, observed: Observed) -> tally.Counts | None:
    """What was counted, where a plan may say what enforce would have dropped."""
    if observed.guard is None or not observed.guard.elements.get("audited"):
        return None
    drops = read_drops(dom0.runner, dom0.files)
    return None if drops is None else packets(drops)


def _masked(observed: Observed, secrets: Path, desired: Desired) -> Observed:
    """Texts with their secrets replaced by placeholders: what plans and comparisons may see."""
    names = known(secrets)
    own = {domu.uuid: domu.vnc.secret for domu in desired.domus if domu.vnc is not None}
    own |= {config_path(domu.name): own[domu.uuid] for domu in desired.domus if domu.uuid in own}
    files = {
        path: None if text is None else masked(text, names, own.get(path))
        for path, text in observed.files.items()
    }
    domains = tuple(
        replace(
            each,
            staged=None if each.staged is None else masked(each.staged, names, own.get(each.uuid)),
            saved=None if each.saved is None else recognised(each.saved, names, own.get(each.uuid)),
        )
        for each in observed.domains
    )
    return replace(observed, files=files, domains=domains)


def present(dom0: Dom0, reading: Reading, anew: frozenset[str] = frozenset()) -> Situation:
    """The situation as things are now. Changes nothing. `anew` as in Situation.

    Raises:
        ReadError: the host cannot be read.
        SpecError: the commit is refused and there is nothing to fall back to.
    """
    last = dom0.last()
    desired, source = wanted(reading, last)
    return look(dom0, desired, source, last, anew)


def current_plan(dom0: Dom0, reading: Reading, policy: Policy) -> Plan:
    """The plan as things are now. Changes nothing.

    Raises:
        ReadError: the host cannot be read.
        SpecError: the commit is refused and there is nothing to fall back to.
    """
    return make_plan(present(dom0, reading, policy.anew), policy)


def drift_plan(dom0: Dom0) -> Plan | None:
    """What it would take to bring the host back to what was last applied; None when nothing ever was."""
    last = dom0.last()
    if last is None:
        return None
    return make_plan(look(dom0, last.specified, last.source, last), Policy(disruption="reboot"))


@dataclass(frozen=True, slots=True)
class Result:
    """How a pass ended: what was planned, what became of it, and what remains."""

    apply_id: str
    plan: Plan
    outcome: Outcome
    after: Plan
    reviewed: bool = False

    @property
    def converged(self) -> bool:
        """Nothing failed, and nothing of what was to be done is left. What a review left out does not count."""
        planned = {(change.address, change.when) for change in self.plan.changes}
        left = any(
            change.when == "now" and ((change.address, change.when) in planned or not self.reviewed)
            for change in self.after.due
        )
        return not self.outcome.failed and not left

    @property
    def exit_code(self) -> int:
        """0 converged, 1 an action failed, 5 the guard was changed and had to be taken back, 4 something is blocked, waits for a human, or is held back by an error in git."""
        if self.outcome.reverted and all(
            each.skipped or each.change.address == "guard" for each in self.outcome.failed
        ):
            return 5
        if not self.converged:
            return 1
        waiting = any(
            change.blocked is not None or change.when in {"approval", "window"}
            for change in self.after.changes
        )
        return 4 if waiting or self.after.errored else 0


def apply(
    dom0: Dom0,
    reading: Reading,
    policy: Policy,
    *,
    since: str | None,
    by: str,
    reviewed: Document | None = None,
) -> Result:
    """Bring the host to what the reading wants, as far as the policy and the reviewed plan allow.

    `since` is what had been applied, see reconciler.follow, when it was decided that the reading is to be followed.
    `policy.anew` is meant for the first plan alone, which notes it before anything else.

    Raises:
        BusyError: somebody else is at it.
        StaleError: the reviewed plan no longer fits, or somebody else has applied another commit since.
        DefectError: the plan breaks a rule that no plan may break.
        ReadError: the host cannot be read; then nothing was changed.
        SpecError: the commit is refused and there is nothing to fall back to.
    """
    with only_writer(dom0.paths.lock):
        _recovered(dom0)
        last = dom0.last()
        see_not_overtaken(last, reading, since)
        desired, source = wanted(reading, last)
        situation = look(dom0, desired, source, last, policy.anew)
        plan = make_plan(situation, policy)
        if reviewed is not None:
            plan = restricted(plan, reviewed)
        defects = lint(plan)
        if defects:
            raise DefectError(f"nothing was done; please report: {'; '.join(defects)}")
        apply_id, announce = _announcer(dom0)
        if plan.due:
            announce({"type": "plan", "by": by, "document": plan_document(plan, timestamp=dom0.timestamp())})
        record = dom0.record()
        owners = port_owners(situation)
        record.settle(dom0.runner, situation.observed.guard, owners, settled=_guarded(plan))
        outcome = Outcome()
        hands = Hands(dom0.runner, dom0.disk, dom0.paths.ledger, situation.ledger, dom0.sleep, dom0.monotonic)
        converger = Converger(
            hands,
            lambda keys: _masked(
                observe_for(dom0.runner, dom0.files, keys, dom0.sleep), dom0.paths.secrets, desired
            ),
            announce,
            Recorded(
                GuardTrial(dom0.for_trials(), situation, announce, apply_id), record, dom0.runner, owners
            ),
        )
        stuck = converger.remove(plan, outcome)
        if stuck:
            # What could not be stopped still has its addresses: plan again with that known.
            fresh = make_plan(replace(look(dom0, desired, source, last), stuck=stuck), policy)
            plan = replace(fresh, changes=tuple(change for change in fresh.changes if _goes_on(change, plan)))
        converger.complete(plan, outcome)
        if outcome.reverted:
            # What was taken away for the guard comes back with it, also where the next pass would try that guard again.
            fresh = make_plan(look(dom0, desired, source, last), replace(policy, retry=False))
            plugs = tuple(change for change in fresh.due if change.reason == "plugged_back")
            plugged = Outcome()
            converger.complete(replace(fresh, changes=plugs), plugged)
            outcome.done += plugged.done
        reached = look(dom0, desired, source, last)
        after = make_plan(reached, policy)
        record.settle(dom0.runner, reached.observed.guard, owners, settled=_guarded(after))
        if reading.desired is not None:
            fresh_last = _fresh_last(last, reached, after, outcome)
            if last != fresh_last:
                last_good.save(dom0.paths.last_good, fresh_last)
                # What the next pass would do, it would plan against this.
                after = make_plan(replace(reached, last=fresh_last.desired), policy)
        if plan.due:
            announce(
                {
                    "type": "end",
                    "failed": [each.change.address for each in outcome.failed],
                    "empty": after.empty,
                }
            )
        return Result(apply_id, plan, outcome, after, reviewed is not None)


def _guarded(plan: Plan) -> bool:
    """Whether the guard is as it should be."""
    return not any(change.address == "guard" for change in plan.changes)


def _recovered(dom0: Dom0) -> None:
    """Take back, or confirm, what an earlier process left of a change of the guard; write down what was brought back since."""
    for record in dom0.record().take_restored():
        dom0.journal().append(record)
    for record in recover(dom0.for_trials()):
        log.warning("guard change left behind", extra={key: record[key] for key in ("outcome", "why")})
        dom0.journal().append({"time": dom0.timestamp(), **record})


def _fresh_last(last: LastGood | None, reached: Situation, after: Plan, outcome: Outcome) -> LastGood:
    """What is last good now: what failed, and what waits, stays as it was."""
    waiting = (name for change in after.changes if change.waits for name in change.counts)
    unsettled = {name.removeprefix("domu.") for name in (*outcome.failed_objects(), *waiting)}
    return advanced(
        last,
        reached.desired,
        reached.source,
        without_refused(scope(reached), after.changes, reached),
        unsettled,
        addressed=_guarded(after),
    )


def _goes_on(change: Change, begun: Plan) -> bool:
    """Whether the plan that was begun does that too, and what had to be taken away for it is gone."""
    return not change.early and any(each.address == change.address and each.due for each in begun.changes)


def _announcer(dom0: Dom0) -> tuple[str, Callable[[Mapping[str, Any]], None]]:
    journal = dom0.journal()
    apply_id = f"{dom0.now():%Y%m%dT%H%M%S}-{os.urandom(3).hex()}"

    def announce(record: Mapping[str, Any]) -> None:
        journal.append({"apply": apply_id, "time": dom0.timestamp(), **record})

    return apply_id, announce
