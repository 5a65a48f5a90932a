"""`python -m benchmarks.disks [--images N] [--size 5G]`: as root; prints one JSON document. See docs/performance.md.

Images of ext4 whole and in partitions (in thirds: whole, MBR, GPT) are made once and copied as files with holes. Measured, `--rounds` times each, best and median: all of them by our child; with how a
system lets people in, as the daemon looks; the same with nothing of them in the page cache, so that the storage is asked; and `dumpe2fs -h` once for each, as one does by hand (of the
whole ones it answers, of the others it says `Bad magic number`, which takes it less). Memory is the largest of any process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.load.stopwatch import machine
from state.insides import Inside, look_into
from state.run import HostRunner

# Where partitions lie by hand: no tool is needed to tell dumpe2fs, and none is needed here.
_TABLES = {"whole": None, "mbr": "label: dos\n,,\n", "gpt": "label: gpt\n,,\n"}


def made(folder: Path, images: int, size: str) -> list[Path]:
    """The images: a few are made, the others are copies with holes."""
    templates = []
    for name, script in _TABLES.items():
        path = folder / f"template-{name}"
        subprocess.run(["truncate", "-s", size, path], check=True)
        options = ["-q", "-F", "-t", "ext4"]
        if script is not None:
            subprocess.run(["sfdisk", "--quiet", path], input=script, text=True, check=True)
            length = path.stat().st_size // 1024 - 4096
            subprocess.run(["mke2fs", *options, "-E", "offset=1048576", path, str(length)], check=True)
        else:
            subprocess.run(["mke2fs", *options, path], check=True)
        templates.append(path)
    found = []
    for number in range(images):
        path = folder / f"vm{number:04}.img"
        subprocess.run(["cp", "--sparse=always", templates[number % len(templates)], path], check=True)
        found.append(path)
    return found


def lap(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of a processor with all that was started."""
    started, spent = time.perf_counter(), _processor_s()
    work()
    return time.perf_counter() - started, _processor_s() - spent


def told(laps: Sequence[tuple[float, float]]) -> Mapping[str, float]:
    """Best and median of some laps."""
    return {
        "best_s": round(min(wall for wall, _ in laps), 3),
        "median_s": round(statistics.median(wall for wall, _ in laps), 3),
        "processor_s": round(statistics.median(spent for _, spent in laps), 3),
    }


def _processor_s() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.disks", description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", default="5G")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("benchmarks.disks: needs root, as the daemon has it")
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(path) for path in made(Path(folder), options.images, options.size)]
        print(json.dumps(measured(paths, options.rounds) | {"size": options.size}, indent=1))


def measured(paths: list[str], rounds: int) -> dict[str, Any]:
    """All figures. One way after the other in each round, so that a slow phase of the machine meets all of them."""
    runner = HostRunner()

    def by_hand() -> None:
        for path in paths:
            subprocess.run(["dumpe2fs", "-h", path], capture_output=True, check=False)

    ours, logins, cold, theirs = [], [], [], []
    for _ in range(rounds):
        ours.append(lap(lambda: look_into(runner, paths)))
        logins.append(lap(lambda: look_into(runner, paths, logins=set(paths))))
        _forget(paths)
        cold.append(lap(lambda: look_into(runner, paths)))
        theirs.append(lap(by_hand))
    memory_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    found = look_into(runner, paths)
    return {
        "images": len(paths),
        "read": sum(
            isinstance(each, Inside) and any(volume.use for volume in each.disk.volumes)
            for each in found.values()
        ),
        "rounds": rounds,
        "domgit": told(ours),
        "domgit_with_logins": told(logins),
        "domgit_cold": told(cold),
        "dumpe2fs_h": told(theirs),
        "ratio": round(told(ours)["median_s"] / told(theirs)["median_s"], 2),
        "ratio_of_processor": round(told(ours)["processor_s"] / told(theirs)["processor_s"], 2),
        "memory_mib": round(memory_kib / 1024, 1),
        "machine": machine(),
    }


def _forget(paths: list[str]) -> None:
    """Takes the images, and nobody else's files, out of the page cache."""
    os.sync()
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


if __name__ == "__main__":
    main()
