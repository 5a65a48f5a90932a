"""What no change of the guard may do, and when one that was taken back counts as another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from reconciler.diff import make_plan
from reconciler.diff_guard import Held, make_guard
from reconciler.guard_limits import attempt, kind_of
from reconciler.plan import Change
from reconciler.policy import Policy
from reconciler.reverted import Reverted
from reconciler.scope import Situation
from tests.unit.deviations import situation
from tests.unit.worlds import backwards

BRIDGES = {"bridges": [{"name": "xenbr0", "uplinks": ["eth0"]}, {"name": "xenbr1"}]}
ON_BOTH = {"vm01": {"vifs": [{}, {"bridge": "xenbr1", "ips": ["198.51.100.7"]}]}}


def guard_change(found: Situation) -> Change:
    return next(each for each in make_plan(found, Policy()).changes if each.address == "guard")


def forgotten(live: Mapping[str, Any]) -> Situation:
    """host.yaml has lost xenbr1, while vm01 and others may be on it."""
    strangers = {
        "foreign": {"bridge": "xenbr1"},
        "going": {"bridge": "xenbr1", "owned": "yes", "dying": "yes", "domid": "79", "uuid": "g" * 36},
    }
    return situation(
        {
            "applied": {"host": BRIDGES, **ON_BOTH},
            "git": {"vm01": {}},
            "live": {"strangers": strangers, **live},
        }
    )


def test_a_bridge_that_host_yaml_has_lost_blocks_while_a_vif_of_ours_stays_on_it() -> None:
    found = forgotten({"vm01": {"vifs": {"0": {"bridge": "xenbr1"}}}})
    held = replace(found, desired=replace(found.desired, domus=()), stuck=frozenset(found.ledger))

    blocked = guard_change(held).blocked

    assert blocked is not None
    assert blocked.startswith("xenbr1 is no longer in host.yaml, and vm01, vm01b would be there unguarded")


def test_a_bridge_that_only_the_loaded_guard_knows_blocks_as_well() -> None:
    found = forgotten({"vm01": {"vifs": {"0": {"bridge": "xenbr1"}}}})
    held = replace(found, desired=replace(found.desired, domus=()), stuck=frozenset(found.ledger), last=None)

    assert "xenbr1 is no longer in host.yaml" in str(guard_change(held).blocked)
    bare = replace(held, observed=replace(held.observed, guard=None))
    assert "no longer in host.yaml" not in str(guard_change(bare).blocked)


def test_a_bridge_that_host_yaml_has_lost_may_go_with_its_last_vif_of_ours() -> None:
    """A stranger's vif there was never guarded, and what is torn down sends nothing."""
    assert guard_change(forgotten({})).blocked is None


@pytest.mark.parametrize(
    ("last", "now", "blocked"),
    [("report", "drop", True), ("drop", "drop", False)],
)
def test_unknown_vifs_are_cut_off_in_small_numbers_unless_they_were_all_along(
    last: str, now: str, blocked: bool
) -> None:
    strangers = {
        f"foreign{number}": {
            "domid": str(70 + number),
            "uuid": str(number) * 36,
            "mac": f"00:16:3e:00:53:7{number}",
        }
        for number in range(3)
    }
    found = situation(
        {
            "applied": {"host": {"guard": {"unknownVifs": last}}},
            "git": {"host": {"guard": {"unknownVifs": now}}},
            "live": {"strangers": strangers},
        }
    )

    assert ("3 vifs that stand in no file" in str(guard_change(found).blocked)) is blocked


# ---------------------------------------------------------------- taken back


@pytest.mark.parametrize(
    ("live", "kind"),
    [
        ({"guard": "none"}, "table"),
        ({"guard": {"rules": "changed"}}, "rules"),
        ({"guard": {"without": ["vm01"]}}, "elements"),
    ],
)
def test_a_change_replaces_the_table_its_rules_or_some_elements(live: Mapping[str, Any], kind: str) -> None:
    assert kind_of(guard_change(situation({"git": {"vm01": {}}, "live": live}))) == kind


GONE = {"guard": {"without": ["vm01", "vm02"]}}
BEFORE: Mapping[str, Any] = {"vm01": {}, "vm02": {}}


@pytest.mark.parametrize(
    "git",
    [
        {"vm01": {"vifs": [{"ips": ["172.16.39.131"]}]}, "vm02": {}},
        {"vm01": {"state": "halted"}, "vm02": {}},
        {"vm01": {"type": "hvm"}, "vm02": {}},
        {"vm01": {"uuid": "11111111-2222-4333-8444-555555555555"}, "vm02": {}},
        {"vm02": {}},
        {"vm01": {}, "vm02": {}, "host": {"guard": {"log": {"prefix": "no: "}}}},
        {"vm01": {}, "vm02": {}, "files": {"hosts/dom0-a/domus/vm03.yaml": "kind: DomU\n"}},
    ],
    ids=["address", "state", "type", "uuid", "file gone", "host", "file held back"],
)
def test_what_was_taken_back_is_something_else_once_git_says_something_else(git: Mapping[str, Any]) -> None:
    before = situation({"git": BEFORE, "live": GONE})
    now = situation({"applied": BEFORE, "git": git, "live": GONE})

    assert attempt(now, guard_change(before)) != attempt(before, guard_change(before))


def test_what_was_taken_back_is_the_same_whatever_the_host_does() -> None:
    before = situation({"git": BEFORE, "live": GONE})
    later = situation(
        {"git": BEFORE, "live": {**GONE, "vm01": {"memory": "128"}, "ports": {"stray": "xenbr0"}}}
    )
    files = {f"hosts/dom0-a/domus/vm1{number}.yaml": "kind: DomU\n" for number in range(8)}
    many = situation({"git": {**BEFORE, "files": files}, "live": GONE})
    turned = replace(
        many, desired=replace(many.desired, domus=many.desired.domus[::-1], held=many.desired.held[::-1])
    )

    assert attempt(later, guard_change(before)) == attempt(before, guard_change(before))
    assert attempt(turned, guard_change(many)) == attempt(many, guard_change(many))


def test_rules_and_elements_that_were_taken_back_are_not_each_other() -> None:
    found = situation({"git": BEFORE, "live": GONE})
    rules = situation({"git": BEFORE, "live": {"guard": {"rules": "changed"}}})

    assert attempt(found, guard_change(found)) != attempt(found, guard_change(rules))


def test_another_attempt_that_was_taken_back_is_in_nobodys_way() -> None:
    found = situation({"git": BEFORE, "live": GONE})
    other = replace(found, reverted=(Reverted("another attempt", "2026-11-27T14:40:49Z", "no answer"),))

    assert guard_change(other).due


# ---------------------------------------------------------------- whose port a name is


@pytest.mark.parametrize(("bridges", "alone"), [({}, True), ({"docker0": []}, False)])
def test_a_name_tells_whose_port_it_is_where_no_other_bridge_is_on_the_host(
    bridges: Mapping[str, Any], alone: bool
) -> None:
    found = situation({"git": BEFORE, "live": {"bridges": bridges, "links": {"dummy0": {"kind": "dummy"}}}})

    assert make_guard(found, found.desired.domus, Held({})).alone is alone


def test_bindings_are_listed_by_port_whatever_comes_first() -> None:
    found = situation(
        {"git": {"vm01": {"vifs": [{"name": "zz"}, {"name": "mm"}]}, "vm02": {"vifs": [{"name": "aa"}]}}}
    )
    ledger = backwards(found.ledger)

    guard = make_guard(replace(found, ledger=ledger), found.desired.domus[::-1], Held({}))

    assert [each.interface for each in guard.bindings] == ["aa", "mm", "zz"]
