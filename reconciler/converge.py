"""Doing a plan: every change checked once more, announced, done, and its outcome written down.

One domU's failure ends that domU's part of the plan and nobody else's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from reconciler.execute import ApplyError, Hands
from reconciler.plan import Change, Facts, Phase, Plan
from reconciler.step import Step, commands
from state.facts import fact
from state.observed import Observed
from state.run import Completed, ReadError

log = logging.getLogger(__name__)
Announce = Callable[[Mapping[str, Any]], None]
Observe = Callable[[Iterable[str]], Observed]  # as much as the facts with these names need


@dataclass(frozen=True, slots=True)
class Tried:
    """How a change of the guard ended: why it failed, and whether that is because it had to be taken back."""

    error: str | None
    reverted: bool = False


class Trial(Protocol):
    """What stands around a change of the guard while it is made."""

    def __call__(self, change: Change, act: Callable[[], str | None]) -> Tried:
        """Have it made by `act`, which says why it failed, and judge it."""


def untried(change: Change, act: Callable[[], str | None]) -> Tried:
    """No trial: what was loaded stays."""
    del change
    return Tried(act())


@dataclass(frozen=True, slots=True)
class Done:
    """How one change ended. `error` is None when it was done and could be seen to be.

    `skipped`: it was not tried, because something before it failed.
    """

    change: Change
    error: str | None = None
    skipped: bool = False


@dataclass(slots=True)
class Outcome:
    """How a plan ended, change by change; what was skipped is there with its reason."""

    done: list[Done] = field(default_factory=list)
    reverted: bool = False  # the guard was changed, and had to be taken back

    @property
    def failed(self) -> tuple[Done, ...]:
        """The changes that were refused, failed or were skipped because of one that did."""
        return tuple(each for each in self.done if each.error is not None)

    def failed_objects(self) -> frozenset[str]:
        """The objects of which something failed."""
        return frozenset(name for each in self.failed for name in each.change.counts)


@dataclass(slots=True)
class Converger:
    """Carries out plans on one host. `announce` makes a record durable before it returns."""

    hands: Hands
    observe: Observe
    announce: Announce
    trial: Trial = untried

    def remove(self, plan: Plan, outcome: Outcome) -> frozenset[str]:
        """The first half: preparations and everything that is taken away. The uuids that could not be stopped."""
        stuck = set()
        for change in _due(plan, outcome):
            if change.phase is Phase.PREPARE:
                self._do(change, change.steps, change.fingerprint, outcome, last=True)
            elif change.phase is Phase.REMOVE or change.early:
                steps = (*change.early, *(change.steps if change.phase is Phase.REMOVE else ()))
                ok = self._do(change, steps, change.fingerprint, outcome, last=change.phase is Phase.REMOVE)
                if not ok and change.uuid is not None:
                    stuck.add(change.uuid)
        return frozenset(stuck)

    def complete(self, plan: Plan, outcome: Outcome) -> None:
        """The second half: the guard, then changes, then what comes new. Without the guard nothing comes."""
        guarded = True
        for change in _due(plan, outcome):
            if change.phase in {Phase.PREPARE, Phase.REMOVE}:
                continue
            # A guest would not come back with a vif that the guard does not know. And what had to be taken back must
            # not come about by locking a port to the same MAC, either.
            waits = change.phase is Phase.ADD or change.when == "next_guest_reboot"
            waits = waits or (outcome.reverted and "guard" in change.layer)
            if not guarded and waits:
                outcome.done.append(
                    Done(change, "skipped: the guard could not be changed before", skipped=True)
                )
                continue
            # What was taken away before the guard changed is gone as planned: only identity is checked again.
            facts = tuple(
                (key, value)
                for key, value in change.fingerprint
                if not change.early or key.startswith("domain:")
            )
            ok = self._do(change, change.steps, facts, outcome, last=True)
            guarded = guarded and (ok or change.phase is not Phase.GUARD)

    def _do(
        self, change: Change, steps: Iterable[Step], fingerprint: Facts, outcome: Outcome, *, last: bool
    ) -> bool:
        if set(change.counts) & outcome.failed_objects() and change.phase is not Phase.GUARD:
            outcome.done.append(Done(change, "skipped: an earlier change of it failed", skipped=True))
            return False
        error = self._refusal(fingerprint)
        if error is None:
            self.announce(
                {
                    "type": "intent",
                    "address": change.address,
                    "commands": [list(argv) for step in steps for argv in commands(step)],
                }
            )
            log.info(
                "acting", extra={"address": change.address, "reason": change.reason, "cause": change.cause}
            )
            runs: list[Completed] = []
            act = partial(self._act, tuple(steps), change.expect if last else _cleared(change), runs)
            if change.phase is Phase.GUARD:
                tried = self.trial(change, act)
                error, outcome.reverted = tried.error, tried.reverted
            else:
                error = act()
            self.announce(
                {
                    "type": "outcome",
                    "address": change.address,
                    "error": error,
                    "runs": [
                        {"argv": list(run.argv), "rc": run.rc, "ms": round(run.duration_s * 1000)}
                        for run in runs
                    ],
                }
            )
        if error is not None:
            log.error("failed", extra={"address": change.address, "error": error})
        if error is not None or last:
            outcome.done.append(Done(change, error))
        return error is None

    def _act(self, steps: Iterable[Step], expect: Facts, runs: list[Completed]) -> str | None:
        """Do the steps; why they failed, or what is not so afterwards. What was run goes into `runs`."""
        try:
            for step in steps:
                runs += self.hands.execute(step)
        except ApplyError as exc:
            return str(exc)
        return self._unmet(expect)

    def _refusal(self, fingerprint: Facts) -> str | None:
        """Why the change is not done after all: what it was planned against has moved."""
        if not fingerprint:
            return None
        try:
            observed = self.observe(key for key, _ in fingerprint)
            moved = [
                f"{key} was {value or 'absent'}, is {now or 'absent'}"
                for key, value in fingerprint
                if (now := fact(observed, key)) != value
            ]
        except ReadError as exc:
            return f"cannot be checked: {exc}"
        return f"moved since it was planned: {'; '.join(moved)}" if moved else None

    def _unmet(self, expect: Facts) -> str | None:
        """What is not so afterwards although every command ended well: exit statuses prove little."""
        if not expect:
            return None
        try:
            observed = self.observe(key for key, _ in expect)
            missing = [
                f"{key} is {now or 'absent'} (expected {value if value != '*' else 'anything'}{'' if value else 'absent'})"
                for key, value in expect
                if not ((now := fact(observed, key)) == value or (value == "*" and now))
            ]
        except ReadError as exc:
            return f"cannot be verified: {exc}"
        return f"done, but {'; '.join(missing)}" if missing else None


def _cleared(change: Change) -> Facts:
    """What must be so before the guard lets go of what was detached."""
    return tuple((key, "") for key, _ in change.expect if key.startswith("vif:"))


def _due(plan: Plan, outcome: Outcome) -> tuple[Change, ...]:
    finished = {id(each.change) for each in outcome.done}
    return tuple(change for change in plan.due if id(change) not in finished)
