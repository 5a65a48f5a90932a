"""Every directory under tests/cases/plan is a situation of one host, beside plan.txt with what is to be done about it.

`python -m tests.unit.test_plan_cases` writes plan.txt anew, and acts.txt where there is one; the diff is then to be
read like code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.diff import make_plan
from reconciler.lint import lint
from reconciler.plan_document import plan_document
from reconciler.plan_text import plan_text
from reconciler.policy import Policy
from reconciler.scope import Situation
from reconciler.step import Run, Step, commands
from tests.unit.deviations import situation
from tests.unit.worlds import backwards, shuffled

CASES = Path(__file__).resolve().parents[1] / "cases" / "plan"


@cache
def read(case: Path) -> dict[str, Any]:
    """The words of a case; every scalar is the text that stands there."""
    words: dict[str, Any] = yaml.load((case / "case.yaml").read_text(encoding="utf-8"), yaml.CBaseLoader)  # noqa: S506  # makes strings and nothing else
    return words


@cache
def met(case: Path) -> Situation:
    """The situation of a case; both tests of it look at the same one."""
    return situation(read(case))


def policy(words: dict[str, Any]) -> Policy:
    said = words.get("policy") or {}
    return Policy(
        by_hand=said.get("by_hand", "yes") == "yes",
        disruption=said.get("disruption"),
        retry=said.get("retry") == "yes",
    )


def text_of(found: Situation, how: Policy) -> str:
    """The plan as a terminal shows it, digests of texts left out: they would tie every case to every script."""
    return _without_digests(plan_text(plan_document(make_plan(found, how), timestamp="")))


def _without_digests(text: str) -> str:
    return re.sub(r"sha256:[0-9a-f]{64}", "sha256:(digest)", text)


def acts_of(found: Situation, how: Policy) -> str:
    """What apply holds on to, and few read: facts before and after, all commands with their input, what undoes them. A uuid is shown as <name>."""
    plan = make_plan(found, how)
    lines = []
    for change, said in zip(plan.changes, plan_document(plan, timestamp="")["resource_changes"], strict=True):
        lines.append(
            f"{said['symbol']:>3} {said['address']}  ({change.phase.name.lower()}: {' '.join(change.actions)})"
        )
        who = [f"uuid {said['uuid']}"] if said["uuid"] else []
        who += [f"domid {said['domid']}"] if said["domid"] is not None else []
        who += [f"when {said['when']}"] if said["when"] != "now" else []
        what = [f"reason {said['action_reason']}"] if said["action_reason"] else []
        lines.append("    " + ", ".join([f"counts {' '.join(said['counts'])}", *said["layer"], *who, *what]))
        lines += [f"    only while {key} is {value or 'absent'}" for key, value in change.fingerprint]
        lines += (
            _acts("early", change.early) + _acts("does", change.steps) + _acts("undone by", change.inverse)
        )
        lines += [f"    then {key} is {value or 'absent'}" for key, value in change.expect]
    text = "".join(f"{line}\n" for line in lines)
    names = {uuid: owned.name for uuid, owned in found.ledger.items()}
    for uuid, name in (names | {domu.uuid: domu.name for domu in found.desired.domus}).items():
        text = text.replace(uuid, f"<{name}>")
    return _without_digests(text)


def _acts(word: str, steps: Iterable[Step]) -> list[str]:
    lines = []
    for step in steps:
        bound = f"  (at most {step.timeout_s:g} s)" if isinstance(step, Run) else ""
        lines += [f"    {word}: {' '.join(argv)}{bound}" for argv in commands(step)]
        text = step.stdin.splitlines() if isinstance(step, Run) else []
        lines += [
            f"        {line}" for line in text if line.startswith(("add element", "delete", "flush set"))
        ]
    return lines


def cases() -> list[Path]:
    return sorted(path for path in CASES.iterdir() if path.is_dir())


@pytest.mark.parametrize("case", cases(), ids=lambda path: path.name)
def test_the_plan_for_a_situation_is_what_was_expected(case: Path) -> None:
    assert text_of(met(case), policy(read(case))) == (case / "plan.txt").read_text(encoding="utf-8")


@pytest.mark.no_cover
@pytest.mark.parametrize("case", cases(), ids=lambda path: path.name)
def test_a_plan_breaks_no_rule_and_does_not_depend_on_the_order_of_what_was_read(case: Path) -> None:
    words, found = read(case), met(case)
    plan = make_plan(found, policy(words))

    others = [
        make_plan(replace(found, observed=each, ledger=backwards(found.ledger)), policy(words))
        for each in shuffled(found.observed)
    ]

    assert lint(plan) == ()
    assert [other.changes for other in others] == [plan.changes]
    assert [other.notes for other in others] == [plan.notes]


@pytest.mark.parametrize(
    "case", [each for each in cases() if (each / "acts.txt").exists()], ids=lambda path: path.name
)
def test_what_apply_holds_on_to_is_what_was_expected(case: Path) -> None:
    assert acts_of(met(case), policy(read(case))) == (case / "acts.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "case", [each for each in cases() if each.name.endswith("no_op")], ids=lambda path: path.name
)
def test_what_is_as_it_should_be_is_left_alone(case: Path) -> None:
    assert "No changes. dom0-a matches main@c0ffee00c0ff." in (case / "plan.txt").read_text(encoding="utf-8")


if __name__ == "__main__":
    for directory in cases():
        expected = {"plan.txt": text_of, "acts.txt": acts_of}
        for name, made in expected.items():
            if name == "plan.txt" or (directory / name).exists():
                (directory / name).write_text(made(met(directory), policy(read(directory))), encoding="utf-8")
