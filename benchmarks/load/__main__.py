"""`python -m benchmarks.load`: prints one JSON document with all figures; as root, in a checkout with `make setup` done.

Every comparison alternates in one run. `--rounds` is how often.
"""

from __future__ import annotations

import argparse
import compileall
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.load import fleet
from benchmarks.load.stopwatch import DOMGIT, Lap, alternating, lap, machine, median_s, spread
from state.run import HostRunner
from state.source import read_repository

SMALL, LARGE = 1_000, 10_000
ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(json.dumps(planning(options.rounds)))
        return
    for package in (
        "schemas",
        "state",
        "reconciler",
    ):  # as the package installs them; also under PYTHONDONTWRITEBYTECODE
        compileall.compile_dir(ROOT / package, quiet=1)
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small.git", Path(folder) / "large.git"
        fleet.make_repository(small, SMALL)
        fleet.make_repository(large, LARGE)
        figures = {
            "machine": machine(),
            "start": start(options.rounds),
            "validate": validate(large, options.rounds),
            "plan": _inside(options.rounds),
        }
    print(json.dumps(figures, indent=2))


def start(rounds: int) -> Mapping[str, Any]:
    """`domgit --help`, beside a Python that does nothing."""
    domgit, python = alternating(
        4 * rounds,
        lambda: lap([DOMGIT, "--help"], ends_with="doctor"),
        lambda: lap([sys.executable, "-c", "pass"]),
    )
    return {"domgit --help": spread(domgit), "python -c pass": spread(python)}


def validate(repository: Path, rounds: int) -> Mapping[str, Any]:
    """A cold `domgit validate` of 10,000 VPSs, beside what people would write."""
    ours, naive = alternating(
        rounds,
        lambda: lap([DOMGIT, "validate", "--repo", str(repository), "--rev", "main"], ends_with=": valid."),
        lambda: lap([sys.executable, "-m", "benchmarks.load.naive", str(repository)], ends_with=f"{LARGE}\n"),
    )
    return {
        "domgit": spread(ours),
        "naive": spread(naive),
        "ratio": round(median_s(naive) / median_s(ours), 1),
        "domgit_cpu_s": round(min(each.cpu_s for each in ours), 2),
        "domgit_peak_mib": round(max(each.peak_mib for each in ours)),
    }


def planning(rounds: int) -> Mapping[str, Any]:
    """A cold plan for 1,000 running VPSs, and what one changed VPS costs with 1,000 and with 10,000 specifications."""
    from benchmarks.load.live import settle  # noqa: PLC0415  # writes to this dom0: only ever inside a simulated one

    repositories = {}
    for count in (SMALL, LARGE):
        repositories[count] = Path(f"/srv/{count}.git")
        fleet.make_repository(repositories[count], count)
    reading = read_repository(
        HostRunner(), repository=str(repositories[SMALL]), revision="main", host=fleet.HOST
    )
    if reading.desired is None:
        raise RuntimeError(str(reading.diagnostics))
    settle(reading.desired, reading.revision)
    cold = [_plan(repositories[SMALL], "No changes.") for _ in range(rounds)]
    changed: dict[int, list[tuple[Lap, Lap]]] = {count: [] for count in repositories}
    for turn in range(rounds):
        for count, repository in repositories.items():
            changed[count].append(_one_change(repository, turn))
    laps = {count: [change for change, _ in both] for count, both in changed.items()}
    return {
        "plan of 1,000": spread(cold),
        "plan_peak_mib": round(max(each.peak_mib for each in cold)),
        "one change at 1,000": spread(laps[SMALL]),
        "one change at 10,000": spread(laps[LARGE]),
        "one change, 10,000 / 1,000": round(median_s(laps[LARGE]) / median_s(laps[SMALL]), 2),
        "the same without memory at 10,000": spread([forgetful for _, forgetful in changed[LARGE]]),
    }


def _one_change(repository: Path, turn: int) -> tuple[Lap, Lap]:
    """A commit that changes one VPS, then a plan that knows the commit before, and one that knows nothing."""
    memory = Path("/var/lib/domgit/checked-specs")
    memory.unlink(missing_ok=True)
    before = read_repository(
        HostRunner(), repository=str(repository), revision="main", host=fleet.HOST, memory=""
    )
    fleet.commit(repository, iter([fleet.domu(17, memory=f"{513 + turn}MiB")]))
    memory.write_text(str(before.memory))
    remembered = _plan(repository, "1 to change")
    memory.unlink()
    return remembered, _plan(repository, "1 to change")


def _plan(repository: Path, says: str) -> Lap:
    argv = [DOMGIT, "plan", "--config", "/dev/null", "--repo", str(repository), "--rev", "main"]
    return lap([*argv, "--host", fleet.HOST], ends_with=says)


def _inside(rounds: int) -> Any:
    argv = [sys.executable, "-m", "benchmarks.load", "--inside", "--rounds", str(rounds)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.dom0", "--", *argv], stdout=subprocess.PIPE, check=True, text=True
    )
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
