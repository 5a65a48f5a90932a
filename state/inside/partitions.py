"""How a disk is divided: MBR with logical partitions, and GPT, in sectors of 512 or 4,096 bytes. Pure.

Source: the UEFI specification 2.10, chapter 5; block/partitions/{msdos,efi}.c (Linux 6.1).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from state.inside.image import SpoiltError, Window

SECTORS = (512, 4096)
_BOOT_MAGIC_AT, _BOOT_MAGIC = 510, b"\x55\xaa"
_TABLE_AT, _ENTRY = 446, struct.Struct("<B3xB3xII")  # status, type, first sector, sectors
_ENTRIES = 4
_EXTENDED = frozenset({0x05, 0x0F, 0x85})
_PROTECTIVE = 0xEE
_FIRST_LOGICAL, _MOST_LOGICAL = 5, 50
_GPT = struct.Struct("<8sIII4xQQQQ16xQIII")  # ..., table at, entries, bytes of each, checksum of all
_GPT_MAGIC = b"EFI PART"
_GPT_ENTRY_BYTES, _MOST_GPT_ENTRY_BYTES, _MOST_GPT_ENTRIES = 128, 1024, 1024
_GPT_ENTRY = struct.Struct("<16s16xQQ")


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition by its number: where it begins and how large it is, in bytes."""

    number: int
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Table:
    """A partition table; `why` says what of it could not be read, "" when all of it was."""

    kind: str
    partitions: tuple[Partition, ...]
    why: str = ""


def read_tables(disk: Window) -> tuple[Table, ...]:
    """The tables that the disk may have: none, or one for each size of sectors in which one makes sense, 512 first.

    Raises:
        SpoiltError: there is a table, and it is damaged.
    """
    if not disk.has(_BOOT_MAGIC_AT, _BOOT_MAGIC):
        return ()
    entries = _entries(disk, 0)
    if any(kind == _PROTECTIVE for _, kind, _, _ in entries):
        for sector in SECTORS:
            if disk.has(sector, _GPT_MAGIC):
                return (_read_gpt(disk, sector),)
        for sector in SECTORS:
            if disk.size >= sector and disk.has(disk.size - sector, _GPT_MAGIC):
                return (_read_gpt(disk, sector, primary=False),)
        raise SpoiltError("it says that it has a GPT, and has none")
    if any(status & 0x7F for status, _, _, _ in entries):
        return ()  # a boot sector with a program where a table would be
    return tuple(
        _read_mbr(disk, entries, sector)
        for sector in SECTORS
        if _fits([entry for entry in entries if entry[1]], disk.size // sector)
    )


def _entries(disk: Window, at: int) -> list[tuple[int, int, int, int]]:
    return [*_ENTRY.iter_unpack(disk.read(at + _TABLE_AT, _ENTRIES * _ENTRY.size))]


def _fits(entries: list[tuple[int, int, int, int]], sectors: int) -> bool:
    """Whether these can be partitions of such a disk: there are some, and each begins behind the table and before the end."""
    return bool(entries) and all(0 < first < sectors and count > 0 for _, _, first, count in entries)


def _read_mbr(disk: Window, entries: list[tuple[int, int, int, int]], sector: int) -> Table:
    found = []
    why = ""
    for number, (_, kind, first, count) in enumerate(entries, 1):
        if kind in _EXTENDED:
            logical, why = _logical(disk, first * sector, count * sector, sector)
            found += logical
        elif kind:
            found.append(Partition(number, first * sector, count * sector))
    return Table("mbr", tuple(sorted(found, key=lambda each: each.number)), why)


def _logical(disk: Window, start: int, size: int, sector: int) -> tuple[list[Partition], str]:
    """The partitions in an extended one: each has a table of its own that names it and the next table."""
    found: list[Partition] = []
    seen: set[int] = set()
    at: int | None = start
    while at is not None:
        if at in seen:
            return found, "its logical partitions go in a circle"
        if len(found) == _MOST_LOGICAL:
            return found, f"it has more than {_MOST_LOGICAL} logical partitions"
        if not start <= at < start + size or not disk.has(at + _BOOT_MAGIC_AT, _BOOT_MAGIC):
            return found, "its logical partitions lead to no table"
        seen.add(at)
        here, at = at, None
        for _, kind, first, count in _entries(disk, here)[:2]:
            if kind in _EXTENDED:
                at = start + first * sector
            elif kind and count:
                begins = here + first * sector
                if begins + count * sector > start + size:
                    return found, "a logical partition is larger than where it lies"
                found.append(Partition(_FIRST_LOGICAL + len(found), begins, count * sector))
    return found, ""


def _read_gpt(disk: Window, sector: int, *, primary: bool = True) -> Table:
    """The table that its header at the beginning, or else its copy at the end, leads to."""
    at = sector if primary else disk.size - sector
    try:
        return Table("gpt", _gpt_entries(disk, at, sector), "" if primary else "its first GPT is damaged")
    except SpoiltError:
        if not primary or not disk.has(disk.size - sector, _GPT_MAGIC):
            raise
        return _read_gpt(disk, sector, primary=False)


def _gpt_entries(disk: Window, at: int, sector: int) -> tuple[Partition, ...]:
    raw = disk.read(at, sector)
    _, _, length, checksum, own, _, _, _, table, count, each, entries_checksum = _GPT.unpack_from(raw)
    if not _GPT.size <= length <= sector or own * sector != at:
        raise SpoiltError("its GPT is damaged")
    if zlib.crc32(raw[:16] + bytes(4) + raw[20:length]) != checksum:
        raise SpoiltError("its GPT has another checksum than it says")
    if each % _GPT_ENTRY_BYTES or not each <= _MOST_GPT_ENTRY_BYTES or not 0 < count <= _MOST_GPT_ENTRIES:
        raise SpoiltError("its GPT has entries of no possible size or number")
    data = disk.read(table * sector, count * each)
    if not each or zlib.crc32(data) != entries_checksum:
        raise SpoiltError("the entries of its GPT have another checksum than it says")
    found = []
    for number in range(1, count + 1):
        kind, first, last = _GPT_ENTRY.unpack_from(data, (number - 1) * each)
        if kind == bytes(16):
            continue
        if not 0 < first <= last or (last + 1) * sector > disk.size:
            raise SpoiltError(f"partition {number} is not on the disk")
        found.append(Partition(number, first * sector, (last + 1 - first) * sector))
    return tuple(found)
