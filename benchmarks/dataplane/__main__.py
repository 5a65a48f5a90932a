"""`python -m benchmarks.dataplane [--rounds N] [--charts DIR]`: prints one JSON document with all figures; root, br_netfilter.

Only ratios within one run mean anything, and the document says them beside what is aimed for.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.dataplane import chart, control
from benchmarks.dataplane.bench import Bench, alternate
from benchmarks.dataplane.designs import DESIGNS, FILTERED, LEGACY, NFT, NOTHING, OURS
from benchmarks.load.stopwatch import machine

SIZES = (10, 1_000, 4_000)
_LARGE = SIZES[-1]
_BROADCAST_PORTS, _BROADCAST_VIFS = 200, 1_000


def main() -> None:
    """Measure and print; draw the charts where a folder is named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dataplane", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--charts", type=Path, help="write the charts into this folder")
    options = parser.parse_args()
    frames = per_frame(options.rounds)
    figures = {
        "machine": machine(),
        "frame_ns": {
            f"{name}, {kind}, {vifs} vifs": str(bench.cost) for (name, kind, vifs), bench in frames.items()
        },
        "frame": ratios({key: bench.cost.median for key, bench in frames.items()}),
        "broadcast": broadcast(options.rounds),
        "control": planes(max(5, options.rounds // 4), options.charts),
    }
    print(json.dumps(figures, indent=2))
    if options.charts is not None:
        series = {
            design.name: [(vifs, frames[design.name, "v4", vifs].cost.median) for vifs in SIZES]
            for design in (OURS, LEGACY, NFT)
        }
        for design in (NOTHING, FILTERED):
            level = frames[design.name, "v4", SIZES[0]].cost.median
            series[design.name] = [(SIZES[0], level), (_LARGE, level)]
        text = chart.lines("One frame through the bridge", "vifs with rules", "ns", series)
        (options.charts / "frame.svg").write_text(text, encoding="utf-8")


def per_frame(rounds: int) -> Mapping[tuple[str, str, int], Bench]:
    """One frame from the last of so many vifs to the uplink, by design, kind and number of vifs."""
    wanted = [(each, kind, SIZES[0]) for each in (NOTHING, FILTERED) for kind in ("v4", "v6", "inbound")]
    wanted += [(each, "v4", vifs) for each in DESIGNS for vifs in SIZES]
    wanted += [(OURS, kind, vifs) for kind in ("v6", "inbound") for vifs in SIZES]
    benches = {(each.name, kind, vifs): Bench(each, vifs, kind=kind) for each, kind, vifs in wanted}
    alternate([*benches.values()], rounds)
    for bench in benches.values():
        bench.close()
    return benches


def ratios(ns: Mapping[tuple[str, str, int], float]) -> Mapping[str, Any]:
    """What is aimed for, and what it is; `added` is over a bridge without rules that is set up alike."""

    def added(name: str, vifs: int, kind: str = "v4") -> float:
        base = FILTERED if name in {LEGACY.name, NFT.name} else NOTHING
        return ns[name, kind, vifs] - ns[base.name, kind, SIZES[0]]

    small, large = added(OURS.name, SIZES[0]), added(OURS.name, _LARGE)
    found = {
        "added at 4,000 / at 10 (aim: 1.25 at most)": large / small,
        "total at 4,000 / unguarded with br_netfilter (aim: 1.1 at most)": ns[OURS.name, "v4", _LARGE]
        / ns[FILTERED.name, "v4", SIZES[0]],
        "by hand, iptables-legacy, added at 4,000 / ours (aim: 150 at least)": added(LEGACY.name, _LARGE)
        / large,
        "by hand, iptables-nft, added at 4,000 / ours (aim: 300 at least)": added(NFT.name, _LARGE) / large,
        "from the uplink: total at 4,000 / unguarded with br_netfilter": ns[OURS.name, "inbound", _LARGE]
        / ns[FILTERED.name, "inbound", SIZES[0]],
        "IPv6: added at 4,000 / at 10": added(OURS.name, _LARGE, "v6") / added(OURS.name, SIZES[0], "v6"),
        "IPv6: total at 4,000 / unguarded with br_netfilter": ns[OURS.name, "v6", _LARGE]
        / ns[FILTERED.name, "v6", SIZES[0]],
    }
    return {name: round(value, 2) for name, value in found.items()}


def broadcast(rounds: int) -> Mapping[str, Any]:
    """One broadcast frame to 200 ports, with the guard of 1,000 vifs and without."""
    benches = [
        Bench(each, _BROADCAST_VIFS, kind="broadcast", ports=_BROADCAST_PORTS - 2) for each in (NOTHING, OURS)
    ]
    alternate(benches, rounds)
    plain, ours = (bench.cost for bench in benches)
    for bench in benches:
        bench.close()
    return {
        "no rules, ns": str(plain),
        "guard of 1,000 vifs, ns": str(ours),
        "guard / no rules (aim: 1.05 at most)": round(ours.median / plain.median, 3),
    }


def planes(rounds: int, charts: Path | None) -> Mapping[str, Any]:
    """What loading, changing and reading back takes."""
    installed = control.install(rounds)
    changed = control.changes(rounds)
    medians = {
        size: {kind: statistics.median(took.processor for took in each) for kind, each in kinds.items()}
        for size, kinds in changed.items()
    }
    if charts is not None:
        series = {
            name: [(float(size), kinds[kind]) for size, kinds in medians.items()]
            for name, kind in (
                ("one address changed", "address"),
                ("one prefix changed", "prefix"),
                ("read and compared", "read"),
            )
        }
        text = chart.lines("One change of the guard", "vifs with rules", "ms of a processor", series)
        (charts / "change.svg").write_text(text, encoding="utf-8")
    return {
        "4,000 vifs installed (aim: 400 ms at most)": {
            name: control.spread(each) for name, each in installed.items()
        },
        "one address changed, by vifs (aim: 50 ms at most)": {
            size: control.spread(each["address"]) for size, each in changed.items()
        },
        "one prefix changed, by vifs": {
            size: control.spread(each["prefix"]) for size, each in changed.items()
        },
        "read and compared, by vifs (aim: 150 ms at most for 1,000)": {
            size: control.spread(each["read"]) for size, each in changed.items()
        },
        "one address changed, 4,000 / 10": round(medians[4_000]["address"] / medians[10]["address"], 2),
        "one address changed as a process of its own that reads, compares, loads, reads, by vifs (aim: 400 ms at most)": {
            size: control.spread(control.one_shot(rounds, size)) for size in SIZES[1:]
        },
    }


if __name__ == "__main__":
    main()
