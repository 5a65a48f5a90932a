"""What a pass is made of: which specification counts, what a reviewed plan allows, how it ended, and that there is one at a time."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.converge import Done, Outcome
from reconciler.diff import make_plan
from reconciler.follow import applied_commit, forward_only, goes_back, last_applied, see_not_overtaken, wanted
from reconciler.last_good import LastGood
from reconciler.only_writer import BusyError, only_writer
from reconciler.plan import Change, Phase, Plan, Source
from reconciler.plan_document import Document, plan_document
from reconciler.policy import Policy
from reconciler.reconcile import Result
from reconciler.review import StaleError, restricted
from reconciler.step import Run
from schemas.diagnostic import Diagnostic, SpecError
from tests.unit.deviations import situation
from tests.unit.worlds import BEFORE, REVISION, desired, reading

MEMORY = {"applied": {"vm01": {}}, "git": {"vm01": {"memory": "384MiB"}}}


def plan(words: Mapping[str, Any]) -> Plan:
    return make_plan(situation(words), Policy())


def document(words: Mapping[str, Any]) -> Document:
    loaded: Document = json.loads(json.dumps(plan_document(plan(words), timestamp="2026-01-01T00:00:00Z")))
    return loaded


# ---------------------------------------------------------------- which specification counts


def test_a_good_commit_counts_itself() -> None:
    found = reading({"vm01": {}}, subject="two")

    want, source = wanted(found, LastGood(Source(BEFORE), desired({})))

    assert want == found.desired
    assert (source.revision, source.subject) == (REVISION, "two")


def test_an_orphan_that_somebody_has_ended_is_not_brought_back_while_git_cannot_be_followed() -> None:
    both: dict[str, Any] = {
        "applied": {"vm01": {}, "vm02": {}},
        "git": {"vm02": {}},
        "live": {"vm01": {"gone": "yes"}},
    }
    found = situation(both)
    vm01 = next(uuid for uuid, owned in found.ledger.items() if owned.name == "vm01")
    last = LastGood(Source(BEFORE), desired(both["applied"]), (vm01,))

    want, source = wanted(last_applied(last, "the line is down"), last)
    outage = make_plan(replace(found, desired=want, source=source), Policy())

    assert [change.address for change in outage.changes] == []
    assert {(note.address, note.reason) for note in outage.notes} == {
        ("domu.vm01", "orphan"),
        ("host.dom0-a", "held_back"),
    }


def test_a_commit_that_is_refused_leaves_what_was_applied_with_its_errors_said() -> None:
    found = reading({"files": {"hosts/dom0-a/host.yaml": "kind: Host\n"}})
    last = LastGood(Source(BEFORE), desired({"vm01": {}}))

    want, _ = wanted(found, last)

    assert want.domus == last.desired.domus
    assert want.diagnostics == found.diagnostics != ()


def test_a_commit_that_is_refused_where_nothing_was_applied_stops_everything() -> None:
    found = reading({"files": {"hosts/dom0-a/host.yaml": "kind: Host\n"}})

    with pytest.raises(SpecError, match="DG1102"):
        wanted(found, None)


@pytest.mark.parametrize(
    ("applied", "descends", "revision", "back"),
    [
        (None, None, REVISION, False),
        (BEFORE, True, REVISION, False),
        (BEFORE, False, REVISION, True),
        (BEFORE, None, REVISION, True),
        (BEFORE, None, "worktree:" + "0" * 64, False),
    ],
)
def test_history_never_goes_back_by_itself(
    applied: str | None, descends: bool | None, revision: str, back: bool
) -> None:
    found = replace(reading({"vm01": {}}), descends=descends, revision=revision)

    forward = forward_only(found, applied)

    assert goes_back(found, applied) is back
    assert forward.refused is back
    assert (forward.desired is None) is back
    assert [each.code for each in forward.diagnostics] == (["DG1601"] if back else [])


def test_a_worktree_that_was_applied_is_no_commit_to_descend_from() -> None:
    assert applied_commit(None) is None
    assert applied_commit(LastGood(Source("worktree:" + "0" * 64), desired({}))) is None
    assert applied_commit(LastGood(Source(BEFORE), desired({}))) == BEFORE


@pytest.mark.parametrize(
    ("since", "now", "overtaken"),
    [
        (None, None, False),
        (BEFORE, BEFORE, False),
        (BEFORE, REVISION, False),  # somebody else has applied the same commit
        (None, BEFORE, True),
        (REVISION, BEFORE, True),
        (BEFORE, None, True),
    ],
)
def test_a_commit_is_not_applied_over_another_one_that_came_since_it_was_read(
    since: str | None, now: str | None, overtaken: bool
) -> None:
    last = None if now is None else LastGood(Source(now), desired({}))
    expected = (
        pytest.raises(StaleError, match="was applied since, not") if overtaken else contextlib.nullcontext()
    )

    with expected:
        see_not_overtaken(last, reading({}), since)


# ---------------------------------------------------------------- what could not be taken away


def bound(found: Plan) -> str:
    """What the plan loads into the guard; nothing: the guard stays as it is."""
    return "".join(
        step.stdin
        for change in found.changes
        if change.address == "guard"
        for step in change.steps
        if isinstance(step, Run)
    )


@pytest.mark.parametrize(
    "words",
    [
        {"applied": {"vm01": {}}, "git": {"vm01": {"state": "absent"}}},
        {"applied": {"vm01": {"vifs": [{}, {}]}}, "git": {"vm01": {"vifs": [{}]}}},
    ],
    ids=["a domU", "a vif"],
)
def test_what_could_not_be_taken_away_keeps_its_binding(words: Mapping[str, Any]) -> None:
    found = situation(words)

    going = make_plan(found, Policy())
    stuck = make_plan(replace(found, stuck=frozenset(found.ledger)), Policy())

    assert "delete element bridge domgit own_mac" in bound(going)
    assert bound(stuck) == ""


def test_nobody_gets_the_address_of_one_that_could_not_be_stopped() -> None:
    both = {"ips": ["172.16.39.102", "172.16.39.101"]}
    found = situation(
        {"applied": {"vm01": {}, "vm02": {}}, "git": {"vm01": {"state": "absent"}, "vm02": {"vifs": [both]}}}
    )
    vm01 = next(uuid for uuid, owned in found.ledger.items() if owned.name == "vm01")

    stuck = make_plan(replace(found, stuck=frozenset({vm01})), Policy())

    assert [each.blocked for each in stuck.changes if each.address == "domu.vm02"] == [
        "address 172.16.39.101 is still vm01's, which could not be stopped"
    ]
    assert bound(stuck) == ""


def test_one_that_moved_away_and_came_back_in_the_middle_of_a_pass_keeps_its_binding() -> None:
    found = situation(
        {
            "applied": {"vm01": {}},
            "git": {"elsewhere": {"vm01": {"placement": {"epoch": "2", "from": "dom0-a"}}}},
            "live": {"vm01": {"gone": "yes"}},
        }
    )

    stuck = make_plan(replace(found, stuck=frozenset(found.ledger)), Policy())

    assert "delete element bridge domgit own_mac" in bound(make_plan(found, Policy()))
    assert bound(stuck) == ""


# ---------------------------------------------------------------- reviewed plans


def test_a_plan_that_still_fits_is_allowed_as_it_is() -> None:
    assert restricted(plan(MEMORY), document(MEMORY)) == plan(MEMORY)


def test_what_the_review_did_not_list_is_left_out() -> None:
    more = {**MEMORY, "live": {"guard": {"without": ["vm01"]}}}

    allowed = restricted(plan(more), document(MEMORY))

    assert [change.address for change in allowed.changes] == ["domu.vm01", "file./etc/xen/vm01.cfg"]
    assert "guard" in {change.address for change in plan(more).changes}


def test_what_the_review_saw_blocked_is_not_done_when_nothing_is_in_its_way_any_more() -> None:
    gone: dict[str, Any] = {"state": "absent"}
    two = {"applied": {"vm01": {}, "vm02": {}}, "git": {"vm01": gone, "vm02": gone}}
    one = {**two, "live": {"vm02": {"gone": "yes", "owned": "no"}}}

    assert [change.blocked for change in plan(two).changes if change.reason == "guard_exceeded"]
    assert restricted(plan(two), document(two)) == plan(two)
    assert "domu.vm01" in {change.address for change in plan(one).due}
    assert restricted(plan(one), document(two)).due == ()


def test_what_is_done_already_does_not_make_a_plan_stale() -> None:
    done = {"applied": MEMORY["git"], "git": MEMORY["git"]}

    assert restricted(plan(done), document(MEMORY)).changes == ()


def test_a_change_that_would_now_do_something_else_is_named_with_what_moved() -> None:
    moved = {**MEMORY, "live": {"vm01": {"memory": "128"}}}

    with pytest.raises(StaleError) as stale:
        restricted(plan(moved), document(MEMORY))

    assert str(stale.value) == "domu.vm01: before.memory was 256MiB, is 128MiB"


def test_another_domid_of_the_same_guest_is_named_as_such() -> None:
    listed = json.loads(json.dumps(document(MEMORY)))
    for change in listed["resource_changes"]:
        if change["domid"] is not None:
            change |= {"domid": 7, "commands": [["xl", "mem-set", "7", "384"]], "digest": "other"}

    with pytest.raises(StaleError, match=r"domu\.vm01: domid was 7, is 1; domu\.vm01: commands was "):
        restricted(plan(MEMORY), listed)


def test_a_value_that_is_long_is_shown_by_its_beginning() -> None:
    listed = json.loads(json.dumps(document(MEMORY)))
    for change in listed["resource_changes"]:
        change["change"]["after"]["note"] = "x" * 300
        change["digest"] = "other"

    with pytest.raises(StaleError, match=r"after.note was x{97}\.\.\., is absent"):
        restricted(plan(MEMORY), listed)


@pytest.mark.parametrize(
    ("part", "value", "why"),
    [
        ("host", {"name": "dom0-b"}, "host: the plan is for dom0-b, this is dom0-a"),
        ("source", {"revision": BEFORE}, f"revision: the plan is for {BEFORE}, this would be {REVISION}"),
    ],
)
def test_a_plan_of_another_host_or_commit_is_refused(part: str, value: dict[str, str], why: str) -> None:
    with pytest.raises(StaleError, match=why):
        restricted(plan(MEMORY), {**document(MEMORY), part: value})


def test_an_object_that_is_changed_twice_is_compared_change_by_change() -> None:
    restart = {"git": {"vm01": {}}, "live": {"vm01": {"shutdown": "crash", "monitor": "dead"}}}

    assert restricted(plan(restart), document(restart)) == plan(restart)


# ---------------------------------------------------------------- how a pass ended


def change(address: str = "domu.vm01", **more: Any) -> Change:
    made = Change(
        address=address,
        actions=("update",),
        cause="intentional",
        impact="none",
        phase=Phase.CHANGE,
        steps=plan(MEMORY).changes[0].steps,
        fingerprint=(),
        before={},
        after={},
        counts=(address,),
    )
    return replace(made, **more)


def result(
    *after: Change,
    planned: tuple[Change, ...] = (),
    failed: bool = False,
    reviewed: bool = False,
    severity: Any = None,
) -> Result:
    source = Source(REVISION)
    diagnostics = () if severity is None else (Diagnostic(None, None, None, "DG1", "no", severity=severity),)
    outcome = Outcome([Done(change(), "it says no")] if failed else [Done(change())])
    return Result(
        "id",
        Plan("dom0-a", source, "", planned),
        outcome,
        Plan("dom0-a", source, "", after, (), diagnostics),
        reviewed,
    )


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (result(), 0),
        (result(change(when="next_guest_reboot")), 0),
        (result(severity="warning"), 0),
        (result(failed=True), 1),
        (result(change()), 1),
        (result(change("guard"), planned=(change(),)), 1),
        (result(change("guard"), planned=(change(),), reviewed=True), 0),
        (result(change(), planned=(change(),), reviewed=True), 1),
        (result(change(blocked="no")), 4),
        (result(change(when="approval")), 4),
        (result(change(when="window")), 4),
        (result(severity="error"), 4),
        (result(change(blocked="no"), failed=True), 1),
    ],
)
def test_the_exit_code_is_the_first_that_applies(ended: Result, code: int) -> None:
    assert ended.exit_code == code
    assert ended.converged is (code != 1)


# ---------------------------------------------------------------- one writer


def test_a_second_writer_is_told_at_once_who_is_at_it(tmp_path: Path) -> None:
    lock = tmp_path / "run" / "lock"
    waits = "import sys; from pathlib import Path; from reconciler.reconcile import only_writer\n"
    waits += "with only_writer(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    with subprocess.Popen(
        [sys.executable, "-c", waits, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"

        with pytest.raises(BusyError, match=f"is held by process {holder.pid}"), only_writer(lock):
            pass
        holder.communicate("")

    with only_writer(lock):
        assert lock.read_text()


def test_a_pass_that_ended_badly_leaves_the_lock_free(tmp_path: Path) -> None:
    with pytest.raises(KeyError), only_writer(tmp_path / "lock"):
        raise KeyError

    with only_writer(tmp_path / "lock"):
        pass
