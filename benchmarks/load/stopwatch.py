"""How long whole processes take, and what they need."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

DOMGIT = str(Path(sys.executable).parent / "domgit")


@dataclass(frozen=True, slots=True)
class Lap:
    """One process from start to end: wall seconds, processor seconds with its children's, peak memory of the largest."""

    wall_s: float
    cpu_s: float
    peak_mib: float


def lap(argv: Sequence[str], *, ends_with: str = "") -> Lap:
    """Run a command that must end well, and whose output must contain `ends_with`.

    Raises:
        RuntimeError: it does not: a time without its result is worth nothing.
    """
    started = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = process.stdout.read() if process.stdout is not None else ""
    _, status, used = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - started
    if status != 0 or ends_with not in said:
        raise RuntimeError(f"{' '.join(argv)}: {said[-1000:]}")
    return Lap(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def alternating(rounds: int, *runs: Callable[[], Lap]) -> tuple[list[Lap], ...]:
    """Laps of each, one after the other in every round, so that a slow phase of the machine meets all of them."""
    laps: tuple[list[Lap], ...] = tuple([] for _ in runs)
    for _ in range(rounds):
        for run, mine in zip(runs, laps, strict=True):
            mine.append(run())
    return laps


def median_s(laps: Sequence[Lap]) -> float:
    """The median of the wall times."""
    return statistics.median(each.wall_s for each in laps)


def spread(laps: Sequence[Lap]) -> str:
    """`1.23 s [1.20..1.31]`."""
    walls = [each.wall_s for each in laps]
    return f"{median_s(laps):.3f} s [{min(walls):.3f}..{max(walls):.3f}]"


def machine() -> Mapping[str, Any]:
    """Where and when."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processors": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }
