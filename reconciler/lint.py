"""What no plan may be, whatever it was made from: a plan that breaks one of these is a defect of ours. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from reconciler.guard.backend import loaders
from reconciler.plan import Change, Phase, Plan
from reconciler.step import Run, Step, StopDomain, WriteFile

# These act on a domain by the number in their first argument; a name there could be anybody's number.
_BY_DOMID = frozenset(
    {
        "shutdown",
        "destroy",
        "rename",
        "mem-set",
        "vcpu-set",
        "network-attach",
        "network-detach",
        "config-update",
    }
)
_TAKES_AWAY = frozenset({"shutdown", "destroy", "network-detach"})


def lint(plan: Plan) -> tuple[str, ...]:
    """Everything wrong with a plan, as sentences; nothing for every plan that we make."""
    return (
        *_duplicates(plan),
        *_order(plan),
        *_unwritten(plan),
        *(problem for change in plan.due for problem in _change(change)),
    )


def _duplicates(plan: Plan) -> Iterator[str]:
    # By uuid as well: a domU may be called as if it were a part of another.
    counted = Counter(
        (change.address, change.phase, change.when, change.order, change.uuid or "") for change in plan.due
    )
    for (address, *_), count in sorted(counted.items()):
        if count > 1:
            yield f"{address} is changed {count} times in one phase"


def _order(plan: Plan) -> Iterator[str]:
    phases = [change.phase for change in plan.changes]
    if phases != sorted(phases):
        yield "the phases are out of order"
    guards = [change for change in plan.due if change.phase is Phase.GUARD]
    if len(guards) > 1:
        yield "the guard is changed in more than one transaction"


def _unwritten(plan: Plan) -> Iterator[str]:
    """What would give a guest a file that this plan does not write as it should be."""
    unwritten = {
        change.address.removeprefix("file.")
        for change in plan.changes
        if change.layer == ("file",) and not change.due
    }
    for change in plan.due:
        for step in change.steps:
            if isinstance(step, Run) and step.argv[0] == "xl" and step.argv[-1] in unwritten:
                yield f"{change.address}: `{' '.join(step.argv)}` reads a file that is not written"


def _change(change: Change) -> Iterator[str]:
    watched = {key.partition(":")[0] for key, _ in change.fingerprint}
    for step in (*change.early, *change.steps):
        yield from _step(change, step)
        if _takes_away(step) and not (change.uuid and "domain" in watched):
            yield f"{change.address} takes something away without holding on to who it is"
    if any(isinstance(step, Run | WriteFile) for step in change.steps) and not change.fingerprint:
        yield f"{change.address} acts without knowing what it was planned against"
    if change.early and change.phase not in {Phase.REMOVE, Phase.ADD}:
        yield f"{change.address} detaches in the wrong phase"
    if (
        change.impact != "none"
        and change.address != "guard"
        and not (change.early or any(_takes_away(step) for step in change.steps))
        and not (change.impact == "data" and "create" in change.actions)
    ):
        yield f"{change.address} claims an impact that none of its steps has"


def _step(change: Change, step: Step) -> Iterator[str]:
    if not isinstance(step, Run):
        return
    if step.argv[0] == "xl" and step.argv[1] in _BY_DOMID and _words(step)[:1] != [str(change.domid)]:
        yield f"{change.address}: `{' '.join(step.argv)}` does not name the domain by the domid it was planned against"
    if step.argv not in loaders() and any(each.startswith("-") for each in _words(step)):
        yield f"{change.address}: `{' '.join(step.argv)}` has a value that reads as an option"


def _words(step: Run) -> list[str]:
    """What stands behind the verb, but for the options that plans have."""
    return [each for each in step.argv[2:] if each not in {"-q", "-f", "-i"}]


def _takes_away(step: Step) -> bool:
    return isinstance(step, StopDomain) or (
        isinstance(step, Run) and step.argv[0] == "xl" and step.argv[1] in _TAKES_AWAY
    )
