"""A whole disk: its partitions, the logical volumes in them, and how full the file systems are that are found. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from state.inside import btrfs, ext, lvm, partitions, signatures, xfs
from state.inside.image import Image, SpoiltError, Window, whole
from state.inside.partitions import Table
from state.inside.volume import Disk, FileSystem, Volume

# Of one disk; whoever has more, has more than anybody looks at.
MOST_VOLUMES = 64
_NONE = frozenset({"unknown", "empty"})
Found = tuple[str, Window]


def read_disk(image: Image) -> tuple[Disk, tuple[Found, ...]]:
    """What is on a disk, and the windows of the volumes that were recognised, by the volumes' names.

    Whatever is wrong with a part of it is said of that part.
    """
    try:
        return _divided(whole(image))
    except SpoiltError as exc:
        spoilt = Volume("", 0, image.size, "unknown", why=str(exc))
        return Disk(image.size, "none", (spoilt,)), ()


def _divided(disk: Window) -> tuple[Disk, tuple[Found, ...]]:
    tables = partitions.read_tables(disk)
    readings = [(table, [*_volumes(disk, table)]) for table in tables]
    if not readings:
        readings = [(Table("none", ()), [*_inside("", disk)])]
    # The same table means one thing in sectors of 512 bytes and another in those of 4,096: where file systems begin is right.
    table, found = max(readings, key=lambda each: sum(volume.kind not in _NONE for volume, _ in each[1]))
    volumes = [volume for volume, _ in found]
    if table.why:
        volumes.append(Volume("", 0, disk.size, "partitions", why=table.why))
    return (
        Disk(disk.size, table.kind, tuple(volumes[:MOST_VOLUMES]), truncated=len(volumes) > MOST_VOLUMES),
        tuple((volume.name, window) for volume, window in found[:MOST_VOLUMES] if window is not None),
    )


def _volumes(disk: Window, table: Table) -> Iterator[tuple[Volume, Window | None]]:
    for each in table.partitions:
        try:
            window = disk.part(each.start, each.size)
        except SpoiltError:
            why = "it ends behind the end of the disk"
            yield Volume(str(each.number), each.start, each.size, "unknown", why=why), None
        else:
            yield from _inside(str(each.number), window)


def _inside(name: str, window: Window) -> Iterator[tuple[Volume, Window | None]]:
    """What is in a volume: itself, and behind it the logical volumes in it."""
    volume = _volume(name, window)
    if volume.kind != "LVM":
        yield volume, window if volume.use is not None else None
        return
    try:
        logical = lvm.read_volumes(window)
    except SpoiltError as exc:
        yield replace(volume, why=str(exc)), None
        return
    yield volume, None
    for each in logical:
        inner = f"{name}/{each.name}"
        why = each.why
        part = None
        try:
            part = window.parts(each.pieces)
        except SpoiltError as exc:
            why = str(exc)
        if why or part is None:
            yield Volume(inner, window.start, each.size, "unknown", why=why), None
        else:
            found = _volume(inner, part)
            yield found, part if found.use is not None else None


def _volume(name: str, window: Window) -> Volume:
    kind, use, why = "unknown", None, ""
    try:
        kind, use = _use(window)
    except _NamedError as exc:
        kind, why = exc.kind, str(exc)
    except SpoiltError as exc:
        why = str(exc)
    return Volume(name, window.start, window.size, kind, use, why)


class _NamedError(SpoiltError):
    """Something is spoilt of which it is known what it would be."""

    def __init__(self, kind: str, why: SpoiltError) -> None:
        super().__init__(str(why))
        self.kind = kind


def _use(window: Window) -> tuple[str, FileSystem | None]:
    """What a volume holds, and how full that is.

    Raises:
        SpoiltError: it is spoilt.
    """
    kind = "unknown"
    try:
        if window.has(ext.MAGIC_AT, ext.MAGIC):
            kind = "ext"
            layout = ext.read_layout(window)
            kind = layout.kind
            return kind, ext.read_use(window, layout)
        if window.has(0, xfs.MAGIC):
            kind = "xfs"
            return kind, xfs.read_use(window)
        if window.has(btrfs.MAGIC_AT, btrfs.MAGIC):
            kind = "btrfs"
            return kind, btrfs.read_use(window)
        kind = signatures.named(window)
    except SpoiltError as exc:
        raise _NamedError(kind, exc) from exc
    return kind, None
