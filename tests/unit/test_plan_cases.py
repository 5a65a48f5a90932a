"""Every directory under tests/cases/plan is a situation of one host, beside plan.txt with what is to be done about it.

`python -m tests.unit.test_plan_cases` writes plan.txt anew; the diff is then to be read like code.
"""

from __future__ import annotations

import re
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
from tests.unit.deviations import situation
from tests.unit.worlds import backwards, shuffled

CASES = Path(__file__).resolve().parents[1] / "cases" / "plan"


def read(case: Path) -> dict[str, Any]:
    """The words of a case; every scalar is the text that stands there."""
    words: dict[str, Any] = yaml.load((case / "case.yaml").read_text(encoding="utf-8"), yaml.BaseLoader)  # noqa: S506  # makes strings and nothing else
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
    text = plan_text(plan_document(make_plan(found, how), timestamp=""))
    return re.sub(r"sha256:[0-9a-f]{64}", "sha256:(digest)", text)


def cases() -> list[Path]:
    return sorted(path for path in CASES.iterdir() if path.is_dir())


@pytest.mark.parametrize("case", cases(), ids=lambda path: path.name)
def test_the_plan_for_a_situation_is_what_was_expected(case: Path) -> None:
    assert text_of(met(case), policy(read(case))) == (case / "plan.txt").read_text(encoding="utf-8")


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
    "case", [each for each in cases() if each.name.endswith("no_op")], ids=lambda path: path.name
)
def test_what_is_as_it_should_be_is_left_alone(case: Path) -> None:
    assert "No changes. dom0-a matches main@c0ffee00c0ff." in (case / "plan.txt").read_text(encoding="utf-8")


if __name__ == "__main__":
    for directory in cases():
        (directory / "plan.txt").write_text(
            text_of(met(directory), policy(read(directory))), encoding="utf-8"
        )
