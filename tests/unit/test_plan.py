"""What a plan is: what of it is due, when it is empty, and which two plans mean the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from reconciler.diff import make_plan
from reconciler.plan import Change, Plan, digest_of
from reconciler.policy import Policy
from reconciler.scope import scope
from tests.unit.deviations import situation
from tests.unit.worlds import backwards

KERNEL = {"boot": {"run": {"kernel": "/srv/xen/vmlinuz-2"}}}
STAGED = {"applied": {"vm01": {}}, "git": {"vm01": KERNEL}, "live": {"vm01": {"staged": "rendered"}}}
BLOCKED = {"git": {"vm01": {"memory": "64GiB", "maxMemory": "64GiB"}}, "live": {"vm01": {"gone": "yes"}}}
WITHHELD = {
    "applied": {"vm01": {"disruption": "none"}},
    "git": {"vm01": {"disruption": "none"}},
    "live": {"vm01": {"vifs": {"0": {"mac": "00:16:3e:00:53:77"}}}, "guard": {}},
}


def plan(words: Mapping[str, Any]) -> Plan:
    return make_plan(situation(words), Policy())


def of_vm01(found: Plan) -> Change:
    return next(each for each in found.changes if each.address.startswith("domu.vm01"))


def test_what_is_to_be_staged_is_done_now_and_what_is_staged_already_is_not() -> None:
    to_be, already = plan({**STAGED, "live": {}}), plan(STAGED)

    assert of_vm01(to_be).due
    assert not of_vm01(already).due
    assert of_vm01(to_be).symbol == of_vm01(already).symbol == "^"


@pytest.mark.parametrize(
    ("words", "empty"),
    [
        ({"git": {"vm01": {}}}, True),
        ({"git": {"vm01": {}}, "live": {"vm01": {"memory": "128"}}}, False),
        (BLOCKED, True),
        (WITHHELD, False),  # the guard follows the port that it finds; the port itself waits
    ],
    ids=["settled", "drifted", "blocked", "withheld"],
)
def test_a_plan_is_empty_when_nothing_is_to_be_done_now(words: Mapping[str, Any], empty: bool) -> None:
    assert plan(words).empty is empty


def test_what_is_only_staged_already_or_waits_leaves_a_plan_empty() -> None:
    for words in (STAGED, WITHHELD):
        found = plan(words)
        alone = replace(found, changes=(of_vm01(found),))
        assert alone.changes
        assert alone.empty


def test_a_change_that_first_takes_something_away_is_another_one() -> None:
    replugged = of_vm01(plan({"git": {"vm01": {}}, "live": {"vm01": {"vifs": {"0": {"port": "odd"}}}}}))

    assert replugged.early
    assert replugged.digest() != replace(replugged, early=()).digest()


def test_a_digest_does_not_depend_on_the_order_of_names_and_takes_any_value() -> None:
    content = {"one": 1, "two": {"three": 3, "four": situation}}

    assert digest_of([content]) == digest_of([backwards(content)])
    assert digest_of([content]) != digest_of([{**content, "one": 2}])


def test_whose_specifications_count_is_listed_by_name_whatever_the_ledger_lists_first() -> None:
    names = ["vm05", "vm03", "vm04", "vm01", "vm02"]
    broken = {f"hosts/dom0-a/domus/{name}.yaml": "kind: DomU\n" for name in names[:2]}
    found = situation({"applied": {name: {} for name in names}, "git": {"files": broken, "vm06": {}}})

    for ledger in (found.ledger, backwards(found.ledger)):
        seen = scope(replace(found, ledger=ledger))
        assert [domu.name for domu in seen.wanted] == ["vm03", "vm05", "vm06"]
        assert [domu.name for domu in seen.retained] == ["vm01", "vm02", "vm04"]


def test_the_file_of_the_former_name_goes_also_when_a_pass_was_cut_short_that_knew_the_new_one() -> None:
    uuid = "e608ed38-c1b9-532e-a769-0156b41e19e1"
    found = situation({"applied": {"vm01": {}}, "git": {"web01": {"uuid": uuid, "vifs": [{"name": "vm01"}]}}})
    ledger = {uuid: replace(found.ledger[uuid], name="web01")}

    made = make_plan(replace(found, ledger=ledger), Policy())

    assert [each.actions for each in made.changes if each.address == "file./etc/xen/vm01.cfg"] == [
        ("delete",)
    ]
