"""What of a fresh plan a reviewed one allows: apply does what somebody has seen, and nothing that came after. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from reconciler.plan import Plan
from reconciler.plan_document import Document, plan_document


class StaleError(Exception):
    """The reviewed plan no longer fits: what it touches has moved."""


def restricted(plan: Plan, reviewed: Document) -> Plan:
    """The part of a fresh plan that a reviewed one allows.

    What the review did not list, or listed as blocked, is left out; what it listed and is done already is fine.

    Raises:
        StaleError: a listed change would now do something else, with the fields that moved.
    """
    if reviewed["host"]["name"] != plan.host:
        raise StaleError(f"host: the plan is for {reviewed['host']['name']}, this is {plan.host}")
    if reviewed["source"]["revision"] != plan.source.revision:
        raise StaleError(
            f"revision: the plan is for {reviewed['source']['revision']}, this would be {plan.source.revision}"
        )
    # One object may be changed twice in a plan, such as a domU that is cleaned up and then started again.
    listed: dict[tuple[str, str], list[Document]] = {}
    for each in reviewed["resource_changes"]:
        listed.setdefault((each["address"], each["when"]), []).append(each)
    document = plan_document(plan, timestamp="")
    moved = []
    allowed = []
    for change, fresh in zip(plan.changes, document["resource_changes"], strict=True):
        candidates = listed.get((change.address, change.when), [])
        if not candidates:
            continue
        before = next((each for each in candidates if each["digest"] == fresh["digest"]), candidates[0])
        if change.due and before["blocked"] is not None:
            continue  # shown as what is not done: that it could be by now, nobody has seen
        if before["digest"] != fresh["digest"] and change.due:
            moved += [f"{change.address}: {field}" for field in _moved_fields(before, fresh)]
        allowed.append(change)
    if moved:
        raise StaleError("; ".join(moved))
    return replace(plan, changes=tuple(allowed))


def _moved_fields(before: Document, fresh: Document) -> Iterator[str]:
    for name in ("uuid", "domid", "when", "commands"):
        if before[name] != fresh[name]:
            yield f"{name} was {_short(before[name])}, is {_short(fresh[name])}"
    for side in ("before", "after"):
        old, new = before["change"][side], fresh["change"][side]
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                yield f"{side}.{key} was {_short(old.get(key))}, is {_short(new.get(key))}"


def _short(value: object) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."  # noqa: PLR2004  # one line of a terminal
