"""Runs of pytest beside each other: every test in one of them, and the last lines tell what was not shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.__main__ import ROOT, STAGES, Count, verdict
from tests.shares import take

FILE = """
import pytest

@pytest.fixture(scope="module", params=["a", "b"])
def costly(request):
    return request.param

@pytest.mark.shared("costly")
def test_one(costly): pass

@pytest.mark.shared("costly")
def test_other(costly): pass

@pytest.mark.shared
class TestTogether:
    def test_first(self): pass
    def test_second(self): pass

@pytest.mark.parametrize("number", range(20))
def test_alone(number): pass

@pytest.mark.long
def test_slow(): pass
"""


def test_every_share_is_taken_once_and_by_none_that_has_other_tests(tmp_path: Path) -> None:
    assert [take(tmp_path / "shares", "3 these") for _ in range(3)] == [0, 1, 2]

    with pytest.raises(pytest.UsageError, match="different tests"):
        take(tmp_path / "shares", "3 those")


def test_two_runs_run_every_test_once_the_long_ones_first_and_together_what_is_set_up_once(
    tmp_path: Path,
) -> None:
    (tmp_path / "test_it.py").write_text(FILE)
    argv = [sys.executable, "-m", "pytest", "-v", "-p", "tests.shares", "-p", "no:cacheprovider"]
    argv += [f"--shares={tmp_path / 'shares'}", f"--rootdir={tmp_path}", str(tmp_path)]
    runs = [subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    lines = [run.communicate()[0].splitlines() for run in runs]
    ran = [[line.split()[0].partition("::")[2] for line in each if " PASSED" in line] for each in lines]

    assert [run.returncode for run in runs] == [0, 0], lines
    assert len({*ran[0], *ran[1]}) == len(ran[0] + ran[1]) == 4 + 2 + 20 + 1
    assert "test_slow" in {each[0] for each in ran if each}
    for together in (
        {"test_one[a]", "test_other[a]"},
        {"test_one[b]", "test_other[b]"},
        {"TestTogether::test_first", "TestTogether::test_second"},
    ):
        assert sum(together <= {*each} for each in ran) == 1, ran


def test_the_last_lines_tell_what_failed_what_was_not_begun_and_what_was_not_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = [stage.name for stage in STAGES[:3]]
    ended = {names[0]: Count(passed=3, skipped=("a::b: needs root",)), names[1]: Count(passed=1, failed=2)}

    assert verdict(STAGES[:3], ended) == 1

    last = capsys.readouterr().out.splitlines()
    assert f"== failed: {names[1]} " in last[0]
    assert last[1:] == [
        f"== not begun: {names[2]}",
        "== NOT SHOWN: a::b: needs root",
        "4 passed, 2 failed, 1 skipped",
    ]


def test_nothing_that_passed_is_no_success() -> None:
    assert verdict(STAGES[:1], {}) == 1
    assert verdict(STAGES[:1], {STAGES[0].name: Count(passed=1)}) == 0
