"""`python -m tests.fuzz [--executions N | --seconds N] [--target NAME] [--seed S] [--shard I/N]`: the last line is its own count."""

from __future__ import annotations

import argparse
import itertools
import resource
import sys
import time
from collections.abc import Mapping, Sequence

from tests.fuzz.engine import Tally, run
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

MEMORY_LIMIT_BYTES = 1024**3
_SLICE = 40


def main() -> int:
    """Exit status 1 when there is a finding."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--executions", type=int, default=20_000, help="in all, shared out among the targets")
    amount.add_argument("--seconds", type=float, help="until so much time has passed")
    parser.add_argument("--target", choices=[target.name for target in TARGETS], action="append")
    parser.add_argument("--seed", type=int, default=1, help="always the same inputs from the same seed")
    parser.add_argument("--shard", default="0/1", help="only part I of N of the executions, as I/N")
    options = parser.parse_args()
    # Memory has its bound as time has: a reader that takes more ends in a MemoryError, which nobody declared.
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    chosen = [target for target in TARGETS if options.target is None or target.name in options.target]
    shard, shards = (int(part) for part in options.shard.split("/"))
    tallies: dict[str, Tally] = {target.name: Tally() for target in chosen}
    if options.seconds is None:
        weights = sum(target.weight for target in chosen)
        for target in chosen:
            share = -(-options.executions * target.weight // weights)
            run(target, range(shard, int(share), shards), options.seed, tallies[target.name])
    else:
        _until(time.monotonic() + options.seconds, chosen, tallies, options.seed, shard, shards)
    return _told(tallies)


def _until(
    end_s: float, chosen: Sequence[Target], tallies: Mapping[str, Tally], seed: int, shard: int, shards: int
) -> None:
    """Slices of every target in turn, until it is time."""
    for turn in itertools.count():
        for target in chosen:
            if time.monotonic() >= end_s:
                return
            size = max(1, int(_SLICE * target.weight))
            numbers = range(turn * size * shards + shard, (turn + 1) * size * shards, shards)
            run(target, numbers, seed, tallies[target.name])


def _told(tallies: Mapping[str, Tally]) -> int:
    print(f"{'target':<18} {'executions':>10} {'read':>9} {'refusals':>9} {'CPU s':>8}  verdict")
    for name, tally in tallies.items():
        verdict = "ok" if not tally.findings else f"{len(tally.findings)} findings"
        print(
            f"{name:<18} {tally.executions:>10} {tally.values:>9} {len(tally.kinds):>9} {tally.cpu_s:>8.1f}  {verdict}"
        )
    findings = [finding for tally in tallies.values() for finding in tally.findings.values()]
    if findings:
        print("\nFor tests/fuzz/regressions.py:")
        print("\n".join(str(finding) for finding in findings))
    executions = sum(tally.executions for tally in tallies.values())
    print(f"{executions} executions, {len(tallies)} targets, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
