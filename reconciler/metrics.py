"""What monitoring wants of the guard, as text for the textfile collector of node_exporter. Pure.

Source: the text-based exposition format of Prometheus, version 0.0.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from reconciler.guard.loaded import bound
from reconciler.violations import Owner, mode_of
from state.drops import Drops

Labels = Mapping[str, str]


def metrics_text(drops: Drops | None, owners: Mapping[str, Owner], *, taken_s: float) -> str:
    """All metrics of the guard; `taken_s` is when, in seconds since 1970. None: our table is not loaded."""
    held = {} if drops is None else bound(drops.table)
    samples: dict[str, list[tuple[Labels, int]]] = {"packets": [], "bytes": []}
    for port, reasons in sorted(({} if drops is None else drops.counts).items()):
        owner = owners.get(port, owners.get(port.removesuffix("-emu")))
        for reason, count in sorted(reasons.items()):
            labels = {
                "vif": port,
                "domu": "" if owner is None else owner.domu,
                "reason": reason,
                "mode": mode_of(held.get(port)),
            }
            samples["packets"].append((labels, count.packets))
            samples["bytes"].append((labels, count.bytes))
    modes = [mode_of(each) for each in held.values()]
    vifs = [({"mode": mode}, modes.count(mode)) for mode in ("audit", "bypassed", "enforce")]
    return "".join(
        (
            *_metric(
                "domgit_guard_loaded", "gauge", "Whether the guard is loaded.", [({}, int(drops is not None))]
            ),
            *_metric("domgit_guard_vifs", "gauge", "Ports that the guard binds.", vifs),
            *_metric(
                "domgit_guard_drops_total",
                "counter",
                "Packets refused: dropped, or let pass where the mode is audit, bypassed or unknown.",
                samples["packets"],
            ),
            *_metric(
                "domgit_guard_drop_bytes_total", "counter", "Bytes of the same packets.", samples["bytes"]
            ),
            *_metric(
                "domgit_guard_read_timestamp_seconds", "gauge", "When this was read.", [({}, int(taken_s))]
            ),
        )
    )


def _metric(name: str, kind: str, words: str, samples: Iterable[tuple[Labels, int]]) -> Iterator[str]:
    yield f"# HELP {name} {words}\n# TYPE {name} {kind}\n"
    for labels, value in samples:
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        yield f"{name}{{{inside}}} {value}\n" if inside else f"{name} {value}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
