"""Runs the tests in stages, fastest first, and closes with one count: `python -m tests [--fast | --stage NAME]`.

Once the fast stage is green, the simulated dom0, where tests mostly wait for guests, runs beside all others.
"""

from __future__ import annotations

import argparse
import compileall
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "build" / "results"
COVERAGE = ROOT / "build" / ".coverage"
NO_TEST_COLLECTED = 5  # pytest's exit status
FAILURES = 10  # of one run; what is so broken would wait a minute for each guest that does not come


@dataclass(frozen=True, slots=True)
class Stage:
    """Some of the tests. `runs`: of pytest at once, which share them; `inside`: each in a fresh simulated dom0.

    `beside`: while the other stages run, so it says everything at its end. `apart`: by its own name alone.
    """

    name: str
    marks: str
    inside: bool = False
    covered: bool = False
    runs: int = 2
    beside: bool = False
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Count:
    """How tests ended; `seconds` of processor time they took, of all that they started too."""

    passed: int = 0
    failed: int = 0
    skipped: tuple[str, ...] = ()
    seconds: float = 0.0

    def __add__(self, other: Count) -> Count:
        return Count(
            self.passed + other.passed,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.seconds + other.seconds,
        )

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {len(self.skipped)} skipped"


STAGES = (
    Stage("check", "not git and not netns and not dom0 and not machine and not campaign", covered=True),
    Stage("git", "git"),
    Stage("campaign", "campaign and not netns and not dom0 and not machine", apart=True),
    Stage("packets", "netns"),
    Stage("dom0", "dom0", inside=True, beside=True),
    Stage("machine", "machine", runs=1),  # looks at the whole machine
)


def main() -> int:
    """Exit status 0 when every test passed, 1 otherwise; nothing begins behind a stage with a failure."""
    parser = argparse.ArgumentParser(prog="python -m tests", description=__doc__)
    parser.add_argument(
        "--fast", action="store_true", help="the first stage only, without coverage: lint, types, unit tests"
    )
    parser.add_argument("--stage", choices=[stage.name for stage in STAGES], help="this stage alone")
    options = parser.parse_args()
    stages = [stage for stage in STAGES if options.stage == stage.name or not (options.stage or stage.apart)]
    if options.fast:
        stages = [replace(stages[0], covered=False)]  # measured, it takes twice as long
    try:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / "writable").touch()
    except PermissionError:
        print(
            f"tests: {RESULTS} belongs to somebody else (expected a checkout of your own, or root)",
            file=sys.stderr,
        )
        return 1
    for package in ("schemas", "state", "reconciler"):
        # As it is installed. Commands that tests start would compile it each time where Python may write no bytecode.
        compileall.compile_dir(ROOT / package, quiet=1)
    ended: dict[str, Count] = {}
    one_after_the_other(stages[:1], ended)
    lanes = [[each for each in stages[1:] if each.beside is beside] for beside in (False, True)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda lane: one_after_the_other(lane, ended), lanes))
    return verdict(stages, ended)


def one_after_the_other(stages: Iterable[Stage], ended: dict[str, Count]) -> None:
    """Runs them as long as no stage, of these or of others, has ended with a failure; adds to what has ended."""
    for stage in stages:
        if not any(count.failed for count in ended.values()):
            ended[stage.name] = run(stage)


def verdict(stages: Iterable[Stage], ended: dict[str, Count]) -> int:
    """The exit status; says what failed, what was not begun, what nothing was shown for, and last the count."""
    total = sum(ended.values(), Count())
    if failed := [name for name, count in ended.items() if count.failed]:
        print(f"== failed: {' '.join(failed)} (what pytest says stands above and in {RESULTS})")
    if waiting := [stage.name for stage in stages if stage.name not in ended]:
        print(f"== not begun: {' '.join(waiting)}")
    for each in total.skipped:
        print(f"== NOT SHOWN: {each}")
    print(total, flush=True)
    return 1 if total.failed or not total.passed else 0


def run(stage: Stage) -> Count:
    """How a stage ended. The first run talks on the terminal, what the others said follows when they end."""
    print(f"== {stage.name}", flush=True)
    started = time.monotonic()
    _shares(stage).unlink(missing_ok=True)
    talking = 0 if stage.beside else 1
    logs = [RESULTS / f"{stage.name}-{number}.log" for number in range(talking, stage.runs)]
    running = [_start(stage, number, None) for number in range(talking)]
    for number, log in enumerate(logs, talking):
        with log.open("w", encoding="utf-8") as file:
            running.append(_start(stage, number, file))
    ends = [_end(process) for process in running]
    for number in range(stage.runs):
        shutil.rmtree(_temporary(stage, number), ignore_errors=True)
    for log in logs:
        print(log.read_text(encoding="utf-8"), flush=True)
    count = sum((_ended(stage, number, *end) for number, end in enumerate(ends)), Count())
    if not count.failed and (lost := _found(stage) - count.passed - len(count.skipped)):
        print(f"== {stage.name}: {lost} tests were collected and never ended")
        count += Count(failed=lost)
    if stage.covered and not count.failed:
        count += _covered(stage)
    print(
        f"== {stage.name}: {count} in {time.monotonic() - started:.0f} s ({count.seconds:.0f} s of a processor)",
        flush=True,
    )
    return count


def _start(stage: Stage, number: int, log: IO[str] | None) -> subprocess.Popen[str]:
    report = _report(stage, number)
    report.unlink(missing_ok=True)
    options: Iterable[str] = (
        f"--junitxml={report}",
        "-p",
        "no:cacheprovider",
        "-p",
        "tests.shares",
        f"--shares={_shares(stage)}",
        f"--maxfail={FAILURES}",
    )
    environment = dict(os.environ)
    if stage.covered:
        options = (*options, "--cov", "--cov-report=", "--cov-fail-under=0")  # all runs together are judged
        environment["COVERAGE_FILE"] = f"{COVERAGE}.{number}"
    if not stage.inside:
        # Every pytest that begins closes the folder that all others of its user have in /tmp to other users.
        _temporary(stage, number).mkdir()
        environment["PYTEST_DEBUG_TEMPROOT"] = str(_temporary(stage, number))
    pytest = [sys.executable, "-m", "pytest", "-q", "-m", stage.marks, *options, "tests"]
    argv = [sys.executable, "-m", "tests.dom0", "--", *pytest] if stage.inside else pytest
    return subprocess.Popen(
        argv, cwd=ROOT, stdout=log, stderr=log and subprocess.STDOUT, text=True, env=environment
    )


def _temporary(stage: Stage, number: int) -> Path:
    return Path(f"/tmp/domgit-tests-{os.getpid()}-{stage.name}-{number}")  # mkdir takes nobody else's


def _end(process: subprocess.Popen[str]) -> tuple[int, float]:
    """Exit status and processor time of a process and of all that it has waited for."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime


def _covered(stage: Stage) -> Count:
    """Whether the runs together have covered what is to be covered: a test of its own."""
    environment = {**os.environ, "COVERAGE_FILE": str(COVERAGE)}
    coverage = [sys.executable, "-m", "coverage"]
    files = [f"{COVERAGE}.{number}" for number in range(stage.runs)]
    codes = [
        subprocess.run([*coverage, *verb], cwd=ROOT, check=False, env=environment).returncode
        for verb in (["combine", "-q", *files], ["report"])
    ]
    return Count(failed=1) if any(codes) else Count(passed=1)


def _shares(stage: Stage) -> Path:
    return RESULTS / f"{stage.name}.shares"


def _found(stage: Stage) -> int:
    """How many tests its runs were to share, as tests.shares wrote it down."""
    file = _shares(stage)
    return int(file.read_text(encoding="ascii").split()[0]) if file.exists() else 0


def _report(stage: Stage, number: int) -> Path:
    return RESULTS / f"{stage.name}-{number}.xml"


def _ended(stage: Stage, number: int, code: int, seconds: float) -> Count:
    """What pytest counted; a run that ends badly without a failed test counts as one failure."""
    report = _report(stage, number)
    suite = ET.parse(report).getroot().find("testsuite") if report.exists() else None  # noqa: S314  # pytest's own
    count = Count(seconds=seconds)
    if suite is not None:
        failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped = tuple(
            f"{case.get('classname')}::{case.get('name')}: {reason.get('message')}"
            for case in suite.iter("testcase")
            for reason in case.iter("skipped")
        )
        count += Count(int(suite.get("tests", 0)) - failed - len(skipped), failed, skipped)
    if code not in {0, NO_TEST_COLLECTED} and not count.failed:
        count += Count(failed=1)
    return count


if __name__ == "__main__":
    sys.exit(main())
