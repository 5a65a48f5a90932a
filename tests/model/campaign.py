"""Many walks on all processors, each told by its seed alone, and what to print when one fails."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.model.cuts import check_faults
from tests.model.walk import Walk, draw_walk, shrunk, walker_in

# Every record is forced to disk, which on a real disk takes longer than all the rest.
_MEMORY = Path("/dev/shm")
_CHUNK = 10


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the walk of a seed ended: `problem` is "" when it came to rest wherever it should."""

    seed: int
    problem: str = ""
    faults: int = 0
    judged: int = 0
    left: int = 0


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for one world's records."""
    folder = Path(tempfile.mkdtemp(prefix="domgit-model-", dir=_MEMORY if _MEMORY.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def walked(walk: Walk) -> Outcome:
    """One walk."""
    with scratch() as folder:
        walker = walker_in(folder)
        try:
            walker.walk(walk)
        except Exception as problem:  # noqa: BLE001  # whatever it is, the seed is what helps
            return Outcome(walk.seed, f"{type(problem).__name__}: {problem}")
        return Outcome(walk.seed, judged=walker.judged, left=walker.left)


def walked_with_faults(walk: Walk, *, most: int | None = None) -> Outcome:
    """One walk, whose last pass is done once for each of its faults."""
    with scratch() as folder:
        walker = walker_in(folder)
        try:
            faults = check_faults(walker, walk, folder, most=most)
        except Exception as problem:  # noqa: BLE001  # whatever it is, the seed is what helps
            return Outcome(walk.seed, f"{type(problem).__name__}: {problem}")
        return Outcome(walk.seed, faults=faults, judged=walker.judged, left=walker.left)


def walk_seed(seed: int) -> Outcome:
    return walked(draw_walk(seed))


def fault_seed(seed: int, *, most: int | None = None) -> Outcome:
    return walked_with_faults(draw_walk(seed, rounds=2), most=most)


def everywhere(work: Callable[[int], Outcome], seeds: Iterable[int]) -> list[Outcome]:
    """The outcomes of many seeds, in their order."""
    with ProcessPoolExecutor(os.cpu_count(), initializer=_quiet) as pool:
        return list(pool.map(work, seeds, chunksize=_CHUNK))


def faults_everywhere(seeds: Iterable[int], *, most: int) -> list[Outcome]:
    """The outcomes of walks with at most so many faults each."""
    return everywhere(partial(fault_seed, most=most), seeds)


def _quiet() -> None:
    # A failure that was asked for is no news; what counts is in the outcome.
    logging.disable(logging.ERROR)


def told(outcomes: list[Outcome]) -> str:
    """The first failure with its smallest walk, and the seeds of all; "" when there was none."""
    failed = [each for each in outcomes if each.problem]
    if not failed:
        return ""
    first = failed[0]
    walk = draw_walk(first.seed)
    if walked(walk).problem:
        walk = shrunk(walk, lambda candidate: bool(walked(candidate).problem))
    return f"seeds {[each.seed for each in failed]}; {first.problem}\n{walk}"
