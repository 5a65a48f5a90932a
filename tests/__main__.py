"""Runs the tests in stages, fastest first, and closes with one count: `python -m tests [--fast]`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "build" / "results"


@dataclass(frozen=True, slots=True)
class Stage:
    """One run of pytest. `inside`: in a fresh simulated dom0. `covered`: fails below the coverage that pyproject.toml asks for."""

    name: str
    marks: str
    inside: bool = False
    needs_root: bool = True
    covered: bool = False


STAGES = (
    Stage(
        "check",
        "not git and not netns and not dom0 and not machine and not campaign",
        needs_root=False,
        covered=True,
    ),
    Stage("git", "git", needs_root=False),
    Stage("campaign", "campaign and not netns and not dom0 and not machine", needs_root=False),
    Stage("packets", "netns"),
    Stage("dom0", "dom0", inside=True),
    Stage("machine", "machine"),
)


def main() -> int:
    """Exit status 0 when every test passed, 1 otherwise; stops behind the first stage with a failure."""
    parser = argparse.ArgumentParser(prog="python -m tests", description=__doc__)
    parser.add_argument("--fast", action="store_true", help="the first stage only: lint, types, unit tests")
    parser.add_argument("--stage", choices=[stage.name for stage in STAGES], help="this stage alone")
    options = parser.parse_args()
    stages = [stage for stage in STAGES if options.stage in {None, stage.name}][: 1 if options.fast else None]
    RESULTS.mkdir(parents=True, exist_ok=True)
    passed = failed = skipped = 0
    for stage in stages:
        counts = run(stage)
        passed, failed, skipped = passed + counts[0], failed + counts[1], skipped + counts[2]
        if counts[1]:
            break
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 1 if failed or not passed else 0


def run(stage: Stage) -> tuple[int, int, int]:
    """(passed, failed, skipped) of a stage; a stage that ends without results counts as one failure."""
    report = RESULTS / f"{stage.name}.xml"
    report.unlink(missing_ok=True)
    pytest = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        stage.marks,
        f"--junitxml={report}",
        "-p",
        "no:cacheprovider",
        "tests",
        *(["--cov"] if stage.covered else []),
    ]
    argv = [sys.executable, "-m", "tests.dom0", "--", *pytest] if stage.inside else pytest
    print(f"== {stage.name}", flush=True)
    started = time.monotonic()
    code = subprocess.run(argv, cwd=ROOT, check=False).returncode
    counts = _counts(report)
    print(f"== {stage.name}: {counts[0]} passed in {time.monotonic() - started:.0f} s", flush=True)
    if code not in {0, 5} and counts[1] == 0:  # 5: no test was collected
        return counts[0], 1, counts[2]
    return counts


def _counts(report: Path) -> tuple[int, int, int]:
    if not report.exists():
        return 0, 0, 0
    suite = ET.parse(report).getroot().find("testsuite")  # noqa: S314  # pytest wrote it a moment ago
    if suite is None:
        return 0, 0, 0
    total, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
    failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    return total - failed - skipped, failed, skipped


if __name__ == "__main__":
    sys.exit(main())
