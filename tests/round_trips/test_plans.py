"""Plans: every word of every command is one value in its place, and every record of a plan comes back as it was written."""

from __future__ import annotations

import logging
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pytest

from reconciler.step import Run
from tests.round_trips.accepted import SEED, SHARE, SPECS
from tests.round_trips.commands import FORMS, wrong_with
from tests.round_trips.plans import Outcome, outcome_of

pytestmark = pytest.mark.shared  # what is drawn once
SIZE = 50  # the cost of a plan grows with the square of what changed hands


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    seeds = range(SEED * 10**6, SEED * 10**6 + -(-SPECS // int(SIZE * SHARE)))
    with ProcessPoolExecutor(os.cpu_count(), initializer=partial(logging.disable, logging.ERROR)) as pool:
        return [*pool.map(partial(outcome_of, size=SIZE), seeds)]


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_every_word_of_every_command_is_one_value_in_its_place(outcomes: list[Outcome]) -> None:
    wrong = [(each.seed, *each.wrong_commands) for each in outcomes if each.wrong_commands]
    count = sum((each.commands for each in outcomes), Counter[str]())

    print(
        f"{sum(count.values())} commands for {sum(each.specs for each in outcomes)} specifications: {count}"
    )
    assert not wrong, f"DOMGIT_SEED={SEED}, draw {wrong[0]}"
    assert sum(each.specs for each in outcomes) >= SPECS
    forms = {form[0] if form[0] not in {"xl", "ip", "bridge"} else f"{form[0]} {form[1]}" for form in FORMS}
    assert SPECS < 3000 or {*count} >= forms


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_every_record_comes_back_as_it_was_written(outcomes: list[Outcome]) -> None:
    wrong = [(each.seed, *each.wrong_records) for each in outcomes if each.wrong_records]

    assert not wrong, f"DOMGIT_SEED={SEED}, draw {wrong[0]}"


@pytest.mark.parametrize(
    "argv",
    [
        ("xl", "rename", "7", "-x"),
        ("xl", "rename", "7", ""),
        ("xl", "rename", "7", "77"),
        ("xl", "rename", "-7", "vm01"),
        ("xl", "rename", "7", "vm01", "vm02"),
        ("xl", "destroy", "vm01"),
        ("xl", "create", "-q", "-f", "/etc/xen/a=b.cfg"),
        ("xl", "create", "-q", "-f", "-f", "/etc/xen/a.cfg"),
        ("xl", "network-attach", "7", "devid=0", "mac=02:00:00:00:00:01", "bridge=b", "script=x"),
        (
            "xl",
            "network-attach",
            "7",
            "devid=0",
            "mac=02:00:00:00:00:01",
            "bridge=b,ip=x",
            "script=vif-domgit",
        ),
        ("ip", "link", "set", "dev", "-x", "up"),
        ("xenstore-rm", "/local/domain/0/backend/vif/7/0"),
        ("sh", "-c", "true"),
    ],
    ids=" ".join,
)
def test_the_oracle_refuses_what_no_command_of_ours_may_be(argv: tuple[str, ...]) -> None:
    assert wrong_with(Run(argv))


@pytest.mark.parametrize(
    "statement",
    [
        'add element bridge domgit audited { "a" } ; flush ruleset',
        'add element bridge domgit audited { "a"b" }',
        'add element bridge domgit audited { "a", "-x" }',
        'add element bridge other audited { "a" }',
        'add element bridge domgit own_v4 { "a" . 02:00:00:00:00:01 . 192.0.2.1/0 }',
        'add element bridge domgit ports { "a" : accept, "b" : drop }',
    ],
)
def test_the_oracle_refuses_statements_that_no_script_of_ours_may_hold(statement: str) -> None:
    assert wrong_with(Run(("nft", "-f", "-"), stdin=f"{statement}\n"))
