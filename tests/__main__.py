"""Runs the tests in stages, fastest first, and closes with one count: `python -m tests [--fast | --stage NAME]`.

Once the fast stage is green, the simulated dom0, where tests mostly wait for guests, runs beside all others.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "build" / "results"
COVERAGE = ROOT / "build" / ".coverage"
NO_TEST_COLLECTED = 5  # pytest's exit status


@dataclass(frozen=True, slots=True)
class Stage:
    """One run of pytest. `inside`: in a fresh simulated dom0; `shards`: in so many at once, each with its part.

    `beside`: while the other stages run, so it says everything at its end.
    """

    name: str
    marks: str
    inside: bool = False
    covered: bool = False
    shards: int = 1
    beside: bool = False


@dataclass(frozen=True, slots=True)
class Count:
    """How tests ended."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


STAGES = (
    Stage(
        "check", "not git and not netns and not dom0 and not machine and not campaign", covered=True, shards=2
    ),
    Stage("git", "git", shards=2),
    Stage("campaign", "campaign and not netns and not dom0 and not machine"),
    Stage("packets", "netns"),
    # Waiting for guests takes longer than the work: two at once end in little more than half of the time.
    Stage("dom0", "dom0", inside=True, shards=2, beside=True),
    Stage("machine", "machine"),
)


def main() -> int:
    """Exit status 0 when every test passed, 1 otherwise; nothing begins behind a stage with a failure."""
    parser = argparse.ArgumentParser(prog="python -m tests", description=__doc__)
    parser.add_argument("--fast", action="store_true", help="the first stage only: lint, types, unit tests")
    parser.add_argument("--stage", choices=[stage.name for stage in STAGES], help="this stage alone")
    options = parser.parse_args()
    stages = [stage for stage in STAGES if options.stage in {None, stage.name}][: 1 if options.fast else None]
    try:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / "writable").touch()
    except PermissionError:
        print(
            f"tests: {RESULTS} belongs to somebody else (expected a checkout of your own, or root)",
            file=sys.stderr,
        )
        return 1
    total = run(stages[0])
    if not total.failed:
        lanes = [[each for each in stages[1:] if each.beside is beside] for beside in (False, True)]
        with ThreadPoolExecutor() as pool:
            total = sum(pool.map(one_after_the_other, lanes), total)
    print(total, flush=True)
    return 1 if total.failed or not total.passed else 0


def one_after_the_other(stages: Iterable[Stage]) -> Count:
    """How the stages ended, up to the first with a failure."""
    total = Count()
    for stage in stages:
        total += run(stage)
        if total.failed:
            break
    return total


def run(stage: Stage) -> Count:
    """How a stage ended. The first shard talks on the terminal, what the others said follows when they end."""
    print(f"== {stage.name}", flush=True)
    started = time.monotonic()
    talking = 0 if stage.beside else 1
    logs = [RESULTS / f"{stage.name}-{shard}.log" for shard in range(talking, stage.shards)]
    running = [_start(stage, shard, None) for shard in range(talking)]
    for shard, log in enumerate(logs, talking):
        with log.open("w", encoding="utf-8") as file:
            running.append(_start(stage, shard, file))
    codes = [process.wait() for process in running]
    for log in logs:
        print(log.read_text(encoding="utf-8"), flush=True)
    count = sum((_ended(stage, shard, code) for shard, code in enumerate(codes)), Count())
    if stage.covered and not count.failed:
        count += _covered()
    print(f"== {stage.name}: {count} in {time.monotonic() - started:.0f} s", flush=True)
    return count


def _start(stage: Stage, shard: int, log: IO[str] | None) -> subprocess.Popen[str]:
    report = _report(stage, shard)
    report.unlink(missing_ok=True)
    options: Iterable[str] = (
        f"--junitxml={report}",
        "-p",
        "no:cacheprovider",
        f"--shard={shard}/{stage.shards}",
    )
    environment = None
    if stage.covered:
        options = (*options, "--cov", "--cov-report=", "--cov-fail-under=0")  # all shards together are judged
        environment = {**os.environ, "COVERAGE_FILE": f"{COVERAGE}.{shard}"}
    pytest = [sys.executable, "-m", "pytest", "-q", "-m", stage.marks, *options, "tests"]
    argv = [sys.executable, "-m", "tests.dom0", "--", *pytest] if stage.inside else pytest
    return subprocess.Popen(
        argv, cwd=ROOT, stdout=log, stderr=log and subprocess.STDOUT, text=True, env=environment
    )


def _covered() -> Count:
    """Whether the shards together have covered what is to be covered: a test of its own."""
    environment = {**os.environ, "COVERAGE_FILE": str(COVERAGE)}
    coverage = [sys.executable, "-m", "coverage"]
    codes = [
        subprocess.run([*coverage, verb], cwd=ROOT, check=False, env=environment).returncode
        for verb in ("combine", "report")
    ]
    return Count(failed=1) if any(codes) else Count(passed=1)


def _report(stage: Stage, shard: int) -> Path:
    return RESULTS / f"{stage.name}-{shard}.xml"


def _ended(stage: Stage, shard: int, code: int) -> Count:
    """What pytest counted; a run that ends badly without a failed test counts as one failure."""
    report = _report(stage, shard)
    suite = ET.parse(report).getroot().find("testsuite") if report.exists() else None  # noqa: S314  # pytest's own
    count = Count()
    if suite is not None:
        failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped = int(suite.get("skipped", 0))
        count = Count(int(suite.get("tests", 0)) - failed - skipped, failed, skipped)
    if code not in {0, NO_TEST_COLLECTED} and not count.failed:
        count += Count(failed=1)
    return count


if __name__ == "__main__":
    sys.exit(main())
