"""What status and get say, from the plans of all situations under tests/cases/plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reconciler.diff import make_plan
from reconciler.policy import Policy
from reconciler.status import NAMES_IN_A_LINE, domu_facts, domu_lines, host_facts, host_lines
from tests.unit.deviations import situation
from tests.unit.test_plan_cases import CASES, cases, met

DAEMON = Policy(by_hand=False)


def of_domu(name: str, words: dict[str, Any]) -> tuple[Any, str]:
    found = situation(words)
    facts = domu_facts(name, found, make_plan(found, DAEMON))
    assert facts is not None
    return facts, "\n".join(domu_lines(facts))


@pytest.mark.parametrize("case", cases(), ids=lambda path: path.name)
def test_status_names_every_object_that_is_not_as_it_should_be(case: Path) -> None:
    plan = make_plan(met(case), DAEMON)
    facts = host_facts(plan)

    text = "\n".join(host_lines(facts))

    held = [each for each in plan.changes if each.blocked or each.when != "now"]
    removed = {each.address for each in plan.changes if each.reason == "tombstone"}
    for change in held:
        # Where its domU is named, nobody needs to be told of its file as well.
        assert change.address in text or (change.layer == ("file",) and change.counts[0] in text)
    for address in (*removed, *(note.address for note in plan.notes)):
        assert address in text
    for problem in plan.diagnostics:
        assert problem.message in text
    left = [each for each in plan.changes if each.when != "next_guest_reboot"]
    assert facts["up_to_date"] == (not left and not plan.errored)


def test_one_reason_is_said_once_and_the_names_are_not_endless() -> None:
    words = {
        "host": {"mode": "report"},
        **{f"vm{number:02}": {"memory": "128MiB"} for number in range(1, 21)},
    }
    found = situation({"applied": {f"vm{number:02}": {} for number in range(1, 21)}, "git": words})

    (waits,) = [each for each in host_lines(host_facts(make_plan(found, DAEMON))) if each.startswith("waits")]

    assert waits.endswith("only watched (mode: report): `domgit apply` does it")
    assert waits.count("vm") == NAMES_IN_A_LINE
    assert f" and {40 - NAMES_IN_A_LINE} more: " in waits


def test_what_waits_says_how_to_let_it_through() -> None:
    moved = host_facts(make_plan(met(CASES / "moved_here_by_itself"), DAEMON))
    replug = host_facts(make_plan(met(CASES / "mac_intentional"), Policy(by_hand=False, disruption="none")))

    assert {each["why"] for each in moved["waits"]} == {
        "comes from another host: see that it has ended there, then `domgit apply`"
    }
    assert {each["why"] for each in replug["waits"]} == {
        "disturbs the guest more than `disruption` allows: `domgit apply --disruption link`"
    }


@pytest.mark.parametrize("only_watched", ["neither", "host", "vm01"])
def test_what_is_staged_does_not_count_also_where_domgit_only_watches(only_watched: str) -> None:
    words: dict[str, Any] = {"host": {}, "vm01": {"boot": {"run": {"kernel": "/srv/xen/vmlinuz-2"}}}}
    words.setdefault(only_watched, {})["mode"] = "report"
    words.pop("neither", None)
    live = {"vm01": {"kernel": "/srv/xen/vmlinuz", "staged": "rendered"}}

    plan = make_plan(situation({"git": words, "live": live}), DAEMON)

    facts = host_facts(plan)
    assert (facts["up_to_date"], facts["waits"], facts["staged"]) == (True, [], ["domu.vm01"])
    assert not any(change.waits for change in plan.changes)


def test_a_domu_is_found_by_every_name_that_it_has_or_had() -> None:
    words = {
        "applied": {"vm01": {}},
        "git": {"web01": {"uuid": "e608ed38-c1b9-532e-a769-0156b41e19e1", "vifs": [{"name": "vm01"}]}},
    }

    facts = [of_domu(name, words)[0] for name in ("vm01", "web01")]

    assert facts[0] == facts[1]
    assert facts[0]["name"] == "web01"
    assert domu_facts("vm99", situation(words), make_plan(situation(words), DAEMON)) is None


def test_a_tombstone_is_shown_with_what_is_to_go() -> None:
    facts, text = of_domu("vm01", {"applied": {"vm01": {}}, "git": {"vm01": {"state": "absent", "vifs": []}}})

    assert (facts["wanted"], facts["specified_by"]) == ("absent", "git")
    assert "vif           vm01  00:16:3e:00:53:01  xenbr0  172.16.39.101" in text


def test_a_domain_that_nobody_specified_is_shown_as_such() -> None:
    facts, text = of_domu(
        "hand", {"git": {}, "live": {"strangers": {"hand": {"uuid": "0" * 8 + "-1111" * 3 + "-" + "1" * 12}}}}
    )

    assert (facts["file"], facts["wanted"], facts["specified_by"]) == (None, None, None)
    assert "wanted        nothing: not managed here" in text
    assert "live          domain 77, running, no saved configuration" in text


@pytest.mark.parametrize(
    ("live", "text"),
    [
        ({"shutdown": "poweroff"}, "domain 1, shut down (poweroff), 256 MiB, 1 vcpus"),
        ({"dying": "yes"}, "domain 1, being torn down, 256 MiB, 1 vcpus"),
        ({"paused": "yes"}, "domain 1, paused, 256 MiB, 1 vcpus"),
        ({"gone": "yes"}, "not running"),
    ],
)
def test_what_lives_is_said_in_a_few_words(live: dict[str, str], text: str) -> None:
    facts, _ = of_domu("vm01", {"git": {"vm01": {}}, "live": {"vm01": live}})

    assert facts["live"] == text
