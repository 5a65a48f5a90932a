"""Whatever is read is read or refused as declared: what once was not, and a short run of the fuzzer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import pytest

from tests.fuzz.conform import conforms
from tests.fuzz.engine import ROOT, Tally, made, outcome, run
from tests.fuzz.regressions import CASES
from tests.fuzz.target import InconsistentError, Target, demand, fixed
from tests.fuzz.targets import TARGETS

BY_NAME: Mapping[str, Target] = {target.name: target for target in TARGETS}
EXECUTIONS = 15_000


def broken(data: bytes) -> int:
    """A reader that says ValueError of whatever is no number, and has a defect of each kind."""
    if data.startswith(b"never"):
        while True:
            pass
    if b"7" in data:
        raise KeyError("seven")
    demand(b"8" not in data, f"an eight: {data!r}")
    return int(data)


BROKEN = Target("broken", fixed(b"123456", b"7"), broken, (ValueError,))


@pytest.mark.parametrize(("name", "data"), CASES, ids=[f"{name}-{at}" for at, (name, _) in enumerate(CASES)])
def test_what_once_was_neither_read_nor_refused_is_now(name: str, data: bytes) -> None:
    assert outcome(BY_NAME[name], data).problem is None


@pytest.mark.campaign
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_target_reads_one_of_its_seeds(target: Target) -> None:
    ends = [outcome(target, seed) for seed in target.seeds()]

    assert not [each for each in ends if each.problem is not None]
    assert any(not each.kind for each in ends)


def test_a_defect_is_found_whatever_it_is_and_made_small() -> None:
    tally = Tally()

    run(BROKEN, range(300), 1, tally)

    assert {kind: finding.data for kind, finding in tally.findings.items()} == {
        "KeyError in broken": b"7",
        "an eight": b"8",
    }
    assert tally.executions == 300
    assert tally.values > 10
    assert len(tally.kinds) >= 1


def test_a_reader_that_never_ends_is_stopped() -> None:
    assert "OvertimeError" in str(outcome(BROKEN, b"never", deadline_s=0.1).problem)


def test_an_execution_is_told_by_its_target_seed_and_number() -> None:
    target = BY_NAME["xl-list-long"]

    assert [made(target, number, 5) for number in range(20)] == [
        made(target, number, 5) for number in range(20)
    ]
    assert made(target, 1, 5) != made(target, 1, 6)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (True, int),
        (1, bool),
        ("x", int | None),
        ((1, "x"), tuple[int, ...]),
        ((1,), tuple[int, int]),
        ({1: 2}, Mapping[str, int]),
        (frozenset({b"x"}), frozenset[str]),
    ],
)
def test_a_value_of_another_type_than_it_says_is_noticed(value: object, annotation: object) -> None:
    with pytest.raises(InconsistentError):
        conforms(value, annotation)


@pytest.mark.campaign
def test_a_short_run_finds_nothing() -> None:
    argv = [sys.executable, "-m", "tests.fuzz", "--executions", str(EXECUTIONS)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    executions, targets, findings = (
        int(word) for word in done.stdout.splitlines()[-1].split() if word.isdecimal()
    )
    assert executions >= EXECUTIONS
    assert (targets, findings) == (len(TARGETS), 0)
