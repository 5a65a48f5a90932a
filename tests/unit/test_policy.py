"""What may be done by itself, and what waits for a human."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from reconciler.diff import make_plan
from reconciler.plan import Change, Plan
from reconciler.policy import Policy
from reconciler.scope import Situation
from reconciler.step import Remember
from tests.unit.deviations import situation

MAC = {"vm01": {"vifs": [{"mac": "00:16:3e:00:53:71"}]}}
DAEMON, HUMAN = Policy(by_hand=False), Policy()


def with_mac(disruption: str, mode: str = "enforce") -> Mapping[str, Any]:
    spec = {"disruption": disruption, "mode": mode}
    return {"applied": {"vm01": spec}, "git": {"vm01": {**spec, **MAC["vm01"]}}}


def change(found: Plan, address: str) -> Change:
    return next(each for each in found.changes if each.address == address)


@pytest.mark.parametrize("disruption", ["none", "link", "reboot"])
@pytest.mark.parametrize("asked", [None, "none", "link", "reboot"])
@pytest.mark.parametrize("by_hand", [True, False])
def test_a_vif_is_replugged_where_the_specification_or_the_human_allows_as_much(
    disruption: str, asked: Any, by_hand: bool
) -> None:
    plan = make_plan(situation(with_mac(disruption)), Policy(by_hand=by_hand, disruption=asked))

    vif = change(plan, "domu.vm01.vif.0")
    assert vif.due is ((asked or disruption) != "none")
    assert vif.reason == ("replace_because_cannot_update" if vif.due else "awaiting_approval")


@pytest.mark.parametrize("policy", [DAEMON, HUMAN])
def test_a_domu_that_is_only_watched_is_changed_by_hand_alone(policy: Policy) -> None:
    plan = make_plan(situation(with_mac("link", mode="report")), policy)

    assert change(plan, "domu.vm01.vif.0").due is policy.by_hand
    assert change(plan, "file./etc/xen/vm01.cfg").due is policy.by_hand


def test_a_host_that_is_only_watched_loads_no_guard_by_itself() -> None:
    words = {
        "git": {"host": {"mode": "report"}, "vm01": {}},
        "live": {"vm01": {"memory": "128"}, "files": {"/etc/xen/scripts/vif-domgit": "none"}},
    }

    watched, asked = (make_plan(situation(words), policy) for policy in (DAEMON, HUMAN))

    assert watched.due == ()
    assert {each.when for each in watched.changes} == {"approval"}
    assert len(asked.due) == len(watched.changes) > 0


@pytest.mark.parametrize("state", ["halted", "absent"])
def test_what_git_says_in_so_many_words_needs_no_second_word(state: str) -> None:
    words = {
        "applied": {"vm01": {"disruption": "none"}},
        "git": {"vm01": {"disruption": "none", "state": state}},
    }

    plan = make_plan(situation(words), DAEMON)

    assert change(plan, "domu.vm01").due
    assert change(plan, "domu.vm01").impact == "restart"


def many(count: int, percent: str) -> Situation:
    spec: dict[str, Any] = {f"vm{number:02}": {} for number in range(1, count + 1)}
    host = {"limits": {"detach": percent}}
    return situation({"applied": {"host": host, **spec}, "git": {"host": host, **spec}})


@pytest.mark.parametrize(
    ("vifs", "percent", "replugged", "allowed"),
    [
        (1, "0%", 1, True),
        (20, "10%", 2, True),
        (20, "10%", 3, False),
        (20, "100%", 20, True),
        (19, "10%", 2, False),
    ],
)
def test_so_many_vifs_and_no_more_are_detached_at_once(
    vifs: int, percent: str, replugged: int, allowed: bool
) -> None:
    found = many(vifs, percent)
    domus = tuple(
        replace(domu, vifs=(replace(domu.vifs[0], mac=f"00:16:3e:00:54:{number:02x}"),))
        if number < replugged
        else domu
        for number, domu in enumerate(found.desired.domus)
    )

    plan = make_plan(replace(found, desired=replace(found.desired, domus=domus)), HUMAN)

    vif_changes = [each for each in plan.changes if ".vif." in each.address]
    assert len(vif_changes) == replugged
    assert {each.due for each in vif_changes} == {allowed}
    assert allowed or f"limits.detach allows {max(1, vifs * 10 // 100)}" in str(vif_changes[0].blocked)


@pytest.mark.parametrize(
    ("limit", "removed", "allowed"), [("1", 1, True), ("1", 2, False), ("2", 2, True), ("0", 1, False)]
)
def test_so_many_domus_and_no_more_are_removed_at_once(limit: str, removed: int, allowed: bool) -> None:
    host = {"limits": {"absent": limit}}
    before: dict[str, Any] = {f"vm{number:02}": {} for number in range(1, 4)}
    after = {name: {"state": "absent"} if number < removed else {} for number, name in enumerate(before)}

    plan = make_plan(situation({"applied": {"host": host, **before}, "git": {"host": host, **after}}), HUMAN)

    removals = [each for each in plan.changes if each.reason in {"tombstone", "guard_exceeded"}]
    assert len(removals) == removed
    assert {each.due for each in removals} == {allowed}


def test_a_removal_that_cannot_be_is_not_counted_against_those_that_can() -> None:
    words = {
        "applied": {"vm01": {}},
        "git": {"vm01": {"state": "absent"}, "vm02": {"state": "absent"}},
        "live": {"strangers": {"vm02": {"uuid": "d8eac4cc-8e11-58b9-9e67-207d9472a37d"}}},
    }

    plan = make_plan(situation(words), HUMAN)

    assert change(plan, "domu.vm01").due
    assert change(plan, "domu.vm02").reason == "unmanaged"


def test_protection_is_what_was_applied_or_what_git_says_now_whichever_is_stricter() -> None:
    def removal(before: str, now: str) -> Change:
        words = {
            "applied": {"vm01": {"protect": before}},
            "git": {"vm01": {"state": "absent", "protect": now}},
        }
        return change(make_plan(situation(words), HUMAN), "domu.vm01")

    assert removal("false", "false").due
    assert [removal(*each).reason for each in (("true", "false"), ("true", "true"), ("false", "true"))] == [
        "protected"
    ] * 3


def test_a_halted_domu_is_protected_from_the_moment_in_which_its_disk_is_made_or_taken() -> None:
    protected = {"state": "halted", "protect": "true"}
    for disk in ({}, {"adopt": "true"}):
        words = {"git": {"vm01": {**protected, "disks": [disk]}}, "applied": "none"}
        live = {"live": {"images": {"/srv/xen/images/vm01.img": "file 1024"}}} if disk else {}
        found = change(make_plan(situation({**words, **live}), Policy()), "domu.vm01.disk.xvda")

        assert Remember(found.uuid or "", "protect", "yes") in found.steps
        assert found.blocked is None
