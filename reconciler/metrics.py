"""What monitoring wants of the guard and of guests' disks, as text for the textfile collector of node_exporter. Pure.

Source: the text-based exposition format of Prometheus, version 0.0.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from reconciler.disk_record import Filled, Looked
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


def disk_metrics_text(looked: Looked, *, warn_percent: int) -> str:
    """All metrics of guests' file systems, as the last look found them."""
    labels = [{"domu": each.domu, "volume": each.volume, "kind": each.kind} for each in looked.filled]
    told = [*zip(labels, looked.filled, strict=True)]
    gauges: tuple[tuple[str, str, Callable[[Filled], int | None]], ...] = (
        ("domgit_disk_size_bytes", "How large a guest's file system is.", lambda each: each.size_bytes),
        ("domgit_disk_used_bytes", "How much of it is used.", lambda each: each.used_bytes),
        (
            "domgit_disk_available_bytes",
            "How much of it somebody who is not root can still use.",
            lambda each: each.available_bytes,
        ),
        ("domgit_disk_inodes", "How many inodes it has, where that has an end.", lambda each: each.inodes),
        ("domgit_disk_inodes_free", "How many of them are free.", lambda each: each.inodes_free),
        (
            "domgit_disk_full_in_days",
            "In how many days nothing is left if it goes on as in the last two weeks.",
            lambda each: each.full_in_days,
        ),
        (
            "domgit_disk_over_warn_at",
            "Whether disks.warnAt is reached, by room or by inodes.",
            lambda each: int(each.over(warn_percent)),
        ),
    )
    metrics = [
        *(
            _metric(
                name,
                "gauge",
                words,
                [(label, value) for label, each in told if (value := of(each)) is not None],
            )
            for name, words, of in gauges
        ),
        _metric(
            "domgit_disks_unread", "gauge", "Disks that could not be looked into.", [({}, looked.unread)]
        ),
        _metric(
            "domgit_disks_look_milliseconds", "gauge", "How long the last look took.", [({}, looked.took_ms)]
        ),
        _metric("domgit_disks_read_timestamp_seconds", "gauge", "When this was read.", [({}, looked.time_s)]),
    ]
    return "".join(line for metric in metrics for line in metric)


def _metric(name: str, kind: str, words: str, samples: Iterable[tuple[Labels, int]]) -> Iterator[str]:
    yield f"# HELP {name} {words}\n# TYPE {name} {kind}\n"
    for labels, value in samples:
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        yield f"{name}{{{inside}}} {value}\n" if inside else f"{name} {value}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
