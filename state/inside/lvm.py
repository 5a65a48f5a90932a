"""Logical volumes of LVM in a guest's disk, read where they lie, and never activated. Pure.

Only those are found whose every extent lies on this disk, one behind the other or in pieces: linear ones. Whoever would
activate them would run dom0's device-mapper on what a guest wrote, and might find a volume group of dom0's own name.

Source: lvm2 2.03.16, lib/format_text/layout.h, lib/label/label.c; lvm.conf(5) for the grammar of the metadata.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from state.inside.image import SpoiltError, Window

_SECTOR = 512
_LABEL, _LABEL_SECTORS = struct.Struct("<8sQII8s"), 4
_LOCATION = struct.Struct("<QQ")
_MOST_AREAS = 16
_UUID_BYTES = 32
_AREA = struct.Struct("<4x16sIQQ")
_AREA_MAGIC, _AREA_HEAD_BYTES = b" LVM2 x[5A%r0N*>", 512
_TEXT_AT = 40  # the first raw location
_TEXT_LIMIT_BYTES = 1024 * 1024
_TOKEN = re.compile(r'\s+|#[^\n]*|"(?:[^"\\]|\\.)*"|[A-Za-z0-9_.+-]+|[{}=\[\],]')
_MOST_DEPTH, _MOST_VOLUMES, _MOST_SEGMENTS = 8, 60, 1000
_NAME = re.compile(r"[A-Za-z0-9_+.-]{1,100}", re.ASCII)

Value = "str | int | list[Value] | Section"
Section = dict[str, object]


@dataclass(frozen=True, slots=True)
class Logical:
    """A logical volume: its pieces in the window, in bytes; `why` where there are none to read."""

    name: str
    pieces: tuple[tuple[int, int], ...]
    size: int
    why: str = ""


def read_volumes(window: Window) -> tuple[Logical, ...]:
    """The logical volumes of the group that the physical volume in a window belongs to, by name; hidden ones left out.

    Raises:
        SpoiltError: its metadata is not to be read.
    """
    own, text = _metadata(window)
    section = _parse(text)
    group = next(
        (value for value in section.values() if isinstance(value, dict) and "extent_size" in value), None
    )
    if group is None:
        raise SpoiltError("its LVM metadata describes no volume group")
    extent = _number(group, "extent_size") * _SECTOR
    start, physical = _physical(_section(group, "physical_volumes"), own)
    volumes = _section(group, "logical_volumes") if "logical_volumes" in group else {}
    if len(volumes) > _MOST_VOLUMES:
        raise SpoiltError(f"it has more than {_MOST_VOLUMES} logical volumes")
    found = []
    for name, volume in sorted(volumes.items()):
        if not isinstance(volume, dict) or _NAME.fullmatch(name) is None:
            raise SpoiltError("its LVM metadata names a volume as no volume can be named")
        if "VISIBLE" in _list(volume, "status"):
            found.append(_logical(name, volume, physical=physical, start=start, extent=extent))
    return tuple(found)


def _logical(name: str, volume: Section, *, physical: str, start: int, extent: int) -> Logical:
    count = _number(volume, "segment_count")
    if not 0 < count <= _MOST_SEGMENTS:
        raise SpoiltError("a logical volume has no number of segments that can be")
    pieces: list[tuple[int, int]] = []
    why = ""
    size = 0
    for number in range(1, count + 1):
        segment = _section(volume, f"segment{number}")
        extents = _number(segment, "extent_count")
        size += extents * extent
        if segment.get("type") != "striped" or segment.get("stripe_count", 1) != 1:
            why = "it is not linear"
            continue
        where = _list(segment, "stripes")
        if len(where) != 2 or not isinstance(where[1], int):  # noqa: PLR2004
            raise SpoiltError("a segment of a logical volume lies nowhere")
        if where[0] != physical:
            why = "a part of it lies on another disk"
        else:
            pieces.append((start + where[1] * extent, extents * extent))
    return Logical(name, () if why else tuple(pieces), size, why)


def _physical(volumes: Section, own: str) -> tuple[int, str]:
    """Where the extents of this very physical volume begin, and what the group calls it."""
    for name, volume in volumes.items():
        if isinstance(volume, dict) and str(volume.get("id", "")).replace("-", "") == own:
            return _number(volume, "pe_start") * _SECTOR, name
    raise SpoiltError("its LVM metadata does not know this disk")


def _metadata(window: Window) -> tuple[str, str]:
    """The physical volume's own id, and the text that describes its group."""
    for number in range(_LABEL_SECTORS):
        magic, sector, _, offset, kind = _LABEL.unpack(window.read(number * _SECTOR, _LABEL.size))
        if (magic, sector, kind) == (b"LABELONE", number, b"LVM2 001"):
            break
    else:
        raise SpoiltError("its LVM label is damaged")
    at = number * _SECTOR + offset
    own = window.read(at, _UUID_BYTES).decode("ascii", "replace")
    at += _UUID_BYTES + 8
    _, at = _locations(window, at)  # where data is
    areas, _ = _locations(window, at)
    for start, _ in areas:
        magic, _, own_start, size = _AREA.unpack(window.read(start, _AREA.size))
        if magic != _AREA_MAGIC or own_start != start:
            continue
        at, length = _LOCATION.unpack(window.read(start + _TEXT_AT, _LOCATION.size))
        if not 0 < length <= _TEXT_LIMIT_BYTES or not _AREA_HEAD_BYTES <= at < size:
            continue
        # It is written round and round, behind the head.
        first = min(length, size - at)
        data = window.read(start + at, first) + window.read(start + _AREA_HEAD_BYTES, length - first)
        return own, data.rstrip(b"\0").decode("utf-8", "replace")
    raise SpoiltError("it has no LVM metadata on this disk")


def _locations(window: Window, at: int) -> tuple[list[tuple[int, int]], int]:
    """A list of places, and where it ends."""
    found: list[tuple[int, int]] = []
    for _ in range(_MOST_AREAS):
        start, size = _LOCATION.unpack(window.read(at, _LOCATION.size))
        at += _LOCATION.size
        if start == 0:
            return found, at
        found.append((start, size))
    raise SpoiltError("its LVM label does not end")


def _parse(text: str) -> Section:
    """The sections and values of a metadata text.

    Raises:
        SpoiltError: it is none.
    """
    tokens: list[str] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise SpoiltError("its LVM metadata is no text of LVM's")
        if not match[0][0].isspace() and match[0][0] != "#":
            tokens.append(match[0])
        at = match.end()
    top: Section = {}
    stack = [top]
    tokens.reverse()
    while tokens:
        word = tokens.pop()
        if word == "}" and len(stack) > 1:
            stack.pop()
        elif not tokens or word in "{}[]=,":
            raise SpoiltError("its LVM metadata is damaged")
        elif (then := tokens.pop()) == "{" and len(stack) < _MOST_DEPTH:
            section: Section = {}
            stack[-1][word] = section
            stack.append(section)
        elif then == "=" and tokens:
            stack[-1][word] = _value(tokens)
        else:
            raise SpoiltError("its LVM metadata is damaged")
    if len(stack) > 1:
        raise SpoiltError("its LVM metadata ends too early")
    return top


def _value(tokens: list[str]) -> object:
    """The value that the (reversed) tokens begin with, taken off them."""
    word = tokens.pop()
    if word != "[":
        return _scalar(word)
    found: list[object] = []
    while tokens:
        word = tokens.pop()
        if word == "]":
            return found
        if word != ",":
            found.append(_scalar(word))
    raise SpoiltError("its LVM metadata ends too early")


def _scalar(word: str) -> object:
    if word.startswith('"'):
        return word[1:-1]
    if re.fullmatch(r"[0-9]{1,18}", word, re.ASCII):
        return int(word)
    if word in "{}[]=,":
        raise SpoiltError("its LVM metadata is damaged")
    return word


def _section(parent: Section, name: str) -> Section:
    found = parent.get(name)
    if not isinstance(found, dict):
        raise SpoiltError(f"its LVM metadata has no {name}")
    return found


def _list(parent: Section, name: str) -> list[object]:
    found = parent.get(name)
    if not isinstance(found, list):
        raise SpoiltError(f"its LVM metadata has no {name}")
    return found


def _number(parent: Section, name: str) -> int:
    found = parent.get(name)
    if not isinstance(found, int):
        raise SpoiltError(f"its LVM metadata has no {name}")
    return found
