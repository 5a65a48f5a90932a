"""How full guests' file systems are, for somebody who must decide: what was found in their disks, and how it has grown. Pure.

What is in a guest's disk is his own root's word: it is told, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from reconciler.disk_history import DAY_S, History, Series, days_to_full
from reconciler.disk_record import Filled, LetsIn
from state.inside.volume import FileSystem, Volume
from state.insides import Inside

Facts = dict[str, Any]
_UNITS = (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
_AGES = ((DAY_S, "d"), (3600, "h"), (60, "min"))


@dataclass(frozen=True, slots=True)
class GuestDisk:
    """A disk that a guest has: what he calls it, where it lies, and as what it is read."""

    vdev: str
    path: str
    format: str


@dataclass(frozen=True, slots=True)
class Guest:
    """A domU and its disks; `login`: how its system lets people in is looked after."""

    name: str
    uuid: str
    running: bool
    disks: tuple[GuestDisk, ...]
    login: bool = True


def volume_name(vdev: str, name: str) -> str:
    """What a volume of a disk is called: `xvda1`, `xvda2/root`, the disk itself `xvda`; `xvda1p1` in a disk that is called like a partition."""
    if not name or name.startswith("/"):
        return f"{vdev}{name}"
    return f"{vdev}{'p' if vdev[-1].isdigit() else ''}{name}"


def used_percent(use: FileSystem) -> int:
    """Of what somebody who is not root can use, rounded up, as df has it."""
    used = use.size_bytes - use.free_bytes
    return _percent(used, used + use.available_bytes)


def inodes_percent(use: FileSystem) -> int | None:
    """Of all inodes, rounded up; None where they have no end."""
    if use.inodes is None or use.inodes_free is None:
        return None
    return _percent(use.inodes - use.inodes_free, use.inodes)


def _percent(part: int, whole: int) -> int:
    return -(-part * 100 // whole) if whole else 100


def filled(
    guests: Iterable[Guest], found: Mapping[str, Inside | str], history: History
) -> tuple[Filled, ...]:
    """How full each file system is, by domU and in the order of its disks. `history` is with what was found now."""
    return tuple(
        Filled(
            uuid=guest.uuid,
            domu=guest.name,
            volume=name,
            kind=volume.kind,
            size_bytes=use.size_bytes,
            used_bytes=use.size_bytes - use.free_bytes,
            available_bytes=use.available_bytes,
            used_percent=used_percent(use),
            inodes=use.inodes,
            inodes_free=use.inodes_free,
            inodes_percent=inodes_percent(use),
            full_in_days=days_to_full(history.get((guest.uuid, name)), use.available_bytes),
        )
        for guest, name, volume, use in _uses(guests, found)
    )


def logins(guests: Iterable[Guest], found: Mapping[str, Inside | str]) -> tuple[LetsIn, ...]:
    """How each domU lets people in whose system was found: on the first of its disks that has one."""
    told = []
    for guest in sorted(guests, key=lambda each: each.name):
        insides = (found.get(disk.path) for disk in guest.disks)
        first = next((each.login for each in insides if isinstance(each, Inside) and each.login), None)
        if first is not None:
            told.append(LetsIn(guest.uuid, first))
    return tuple(told)


def samples(guests: Iterable[Guest], found: Mapping[str, Inside | str], *, now_s: int) -> tuple[Series, ...]:
    """What of it the history keeps."""
    return tuple(
        Series(guest.uuid, name, use.size_bytes, ((now_s, use.size_bytes - use.free_bytes),))
        for guest, name, _, use in _uses(guests, found)
    )


def _uses(
    guests: Iterable[Guest], found: Mapping[str, Inside | str]
) -> Iterator[tuple[Guest, str, Volume, FileSystem]]:
    for guest in sorted(guests, key=lambda each: each.name):
        for disk in guest.disks:
            inside = found.get(disk.path)
            for volume in inside.disk.volumes if isinstance(inside, Inside) else ():
                if volume.use is not None:
                    yield guest, volume_name(disk.vdev, volume.name), volume, volume.use


def use_facts(
    guests: Iterable[Guest],
    found: Mapping[str, Inside | str],
    history: History,
    *,
    now_s: int,
) -> list[Facts]:
    """One entry for each guest, by name. `history` is by uuid and volume, `now_s` in seconds since 1970."""
    return [
        {
            "domu": guest.name,
            "uuid": guest.uuid,
            "running": guest.running,
            "disks": [_disk(guest, disk, found.get(disk.path), history, now_s) for disk in guest.disks],
        }
        for guest in sorted(guests, key=lambda each: each.name)
    ]


def _disk(
    guest: Guest,
    disk: GuestDisk,
    found: Inside | str | None,
    history: History,
    now_s: int,
) -> Facts:
    facts: Facts = {"vdev": disk.vdev, "path": disk.path, "format": disk.format}
    if not isinstance(found, Inside):
        why = found or f"{disk.format} images are not looked into"
        return {**facts, "error": why, "size_bytes": None, "table": None, "changed": None, "volumes": []}
    return {
        **facts,
        "error": "more volumes than are told" if found.disk.truncated else None,
        "size_bytes": found.disk.size_bytes,
        "table": found.disk.table,
        "changed": _stamp(found.changed_s),
        "volumes": [
            _volume(name, each, found.changed_s, history.get((guest.uuid, name)), now_s)
            for each in found.disk.volumes
            for name in [volume_name(disk.vdev, each.name)]
        ],
    }


def _volume(name: str, volume: Volume, changed_s: int | None, series: Series | None, now_s: int) -> Facts:
    use = volume.use
    facts: Facts = {
        "name": name,
        "kind": volume.kind,
        "start_bytes": volume.start_bytes,
        "size_bytes": volume.size_bytes,
        "why": volume.why or None,
        "use": None,
    }
    if use is None:
        return facts
    written_s = use.written_s if changed_s is None else changed_s
    facts["use"] = {
        "size_bytes": use.size_bytes,
        "used_bytes": use.size_bytes - use.free_bytes,
        "free_bytes": use.free_bytes,
        "available_bytes": use.available_bytes,
        "used_percent": used_percent(use),
        "inodes": use.inodes,
        "inodes_free": use.inodes_free,
        "inodes_percent": inodes_percent(use),
        "mounted": use.mounted,
        "untrusted_written": _stamp(use.written_s),
        "age_s": None if written_s is None or written_s > now_s else now_s - written_s,
        "generation": use.generation,
        "superblock": None
        if use.superblock_free_bytes is None
        else {"free_bytes": use.superblock_free_bytes, "inodes_free": use.superblock_inodes_free},
        "full_in_days": days_to_full(series, use.available_bytes),
    }
    return facts


def _stamp(time_s: int | None) -> str | None:
    """RFC 3339; None for what no calendar has."""
    if time_s is None:
        return None
    try:
        return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return None


def size_text(size_bytes: int) -> str:
    """A size for people: `4.7 GiB`."""
    for unit, factor in _UNITS:
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} B"


_HEAD = ("DOMU", "VOLUME", "HOLDS", "SIZE", "USED", "USE%", "INODES%", "WRITTEN", "FULL IN")


def use_lines(facts: Facts) -> Iterator[str]:
    """The facts for a terminal: one line for each volume, and what could not be read. `!`: disks.warnAt is reached."""
    rows = [_HEAD, *_rows(facts["domus"], facts["warn_at_percent"])]
    if len(rows) == 1:
        yield "No disks: no domU has one."
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _rows(domus: Iterable[Facts], warn: int) -> Iterator[tuple[str, ...]]:
    nothing = "-"
    for domu in domus:
        for disk in domu["disks"]:
            if disk["error"] is not None:
                yield domu["domu"], disk["vdev"], disk["error"], *[nothing] * 6
            for volume in disk["volumes"]:
                kind = volume["kind"] if volume["why"] is None else f"{volume['kind']}: {volume['why']}"
                use = volume["use"]
                size = size_text(volume["size_bytes"])
                if use is None:
                    yield domu["domu"], volume["name"], kind, size, *[nothing] * 5
                    continue
                full = use["full_in_days"]
                yield (
                    domu["domu"],
                    volume["name"],
                    f"{kind}, mounted" if use["mounted"] else kind,
                    size_text(use["size_bytes"]),
                    size_text(use["used_bytes"]),
                    _share(use["used_percent"], warn),
                    _share(use["inodes_percent"], warn),
                    nothing if use["age_s"] is None else f"{_age(use['age_s'])} ago",
                    nothing if full is None else f"{full} days",
                )


def _share(percent: int | None, warn: int) -> str:
    if percent is None:
        return "-"
    return f"{percent}% !" if percent >= warn else f"{percent}%"


def _age(age_s: int) -> str:
    return next((f"{age_s // unit_s} {name}" for unit_s, name in _AGES if age_s >= 2 * unit_s), f"{age_s} s")
