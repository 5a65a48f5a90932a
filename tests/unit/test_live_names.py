"""Names that a root shell gave to what is live, and that no specification could give: they reach no command and no rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.diff import make_plan
from reconciler.plan import Change, Plan
from reconciler.policy import Policy
from reconciler.step import Run, commands
from state.nft import Features
from tests.unit.deviations import situation

BY_HAND = Policy(disruption="reboot")
DROP: dict[str, Any] = {"host": {"guard": {"unknownVifs": "drop"}}, "vm01": {}}


def said(plan: Plan) -> str:
    """All that the plan would say to a tool."""
    steps = [step for change in plan.changes for step in (*change.early, *change.steps, *change.inverse)]
    inputs = [step.stdin for step in steps if isinstance(step, Run)]
    return "\n".join([*inputs, *(" ".join(argv) for step in steps for argv in commands(step))])


def change(plan: Plan, address: str) -> Change:
    return next(each for each in plan.changes if each.address == address)


@pytest.mark.parametrize("name", ["-x", "", "77", "a b", "(null)"])
def test_a_domain_is_renamed_from_any_name_but_back_to_none_that_xl_reads_as_something_else(
    name: str,
) -> None:
    found = change(
        make_plan(situation({"git": {"vm01": {}}, "live": {"vm01": {"name": name}}}), BY_HAND), "domu.vm01"
    )

    assert [step for step in found.steps if isinstance(step, Run)] == [Run(("xl", "rename", "1", "vm01"))]
    assert found.inverse == ()


@pytest.mark.parametrize("port", ['a"b', "a;b", "x}", "-x", "a,b"])
def test_a_port_that_no_rule_can_name_is_left_out_of_all_rules_and_named_to_people(port: str) -> None:
    found = situation({"git": DROP, "live": {"strangers": {"foreign": {"port": port}}}})
    by_name = replace(found, observed=replace(found.observed, features=Features(ibrname=False)))

    plan, other = make_plan(found, BY_HAND), make_plan(by_name, BY_HAND)

    assert port not in said(plan) + said(other)
    assert [note.message for note in plan.notes if note.address == f"port.{port}"] == [
        "belongs to no specification: dropped (unknownVifs: drop)"
    ]
    assert [note.message for note in other.notes if note.address == f"port.{port}"] == [
        "belongs to no specification: not dropped, because no rule can hold its name: rename it (unknownVifs: drop)"
    ]


def test_a_vif_of_ours_on_such_a_port_is_replugged_and_never_bound_by_that_name() -> None:
    plan = make_plan(situation({"git": DROP, "live": {"vm01": {"vifs": {"0": {"port": 'a"b'}}}}}), BY_HAND)

    assert change(plan, "domu.vm01.vif.0").due
    assert 'a"b' not in said(plan)


def test_a_port_that_is_called_like_the_twin_of_a_vif_without_one_is_closed_by_its_name() -> None:
    found = situation({"git": DROP, "live": {"strangers": {"foreign": {"port": "vm01-emu"}}}})

    plan = make_plan(
        replace(found, observed=replace(found.observed, features=Features(ibrname=False))), BY_HAND
    )

    assert '"vm01-emu" : goto refused_unknown' in said(plan)
    assert [note.message for note in plan.notes if note.address == "port.vm01-emu"] == [
        "belongs to no specification: passes until this is applied (unknownVifs: drop)"
    ]
