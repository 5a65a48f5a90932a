"""What was found on a disk, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileSystem:
    """How full a file system is, as it was last written to the disk.

    `available_bytes` is what somebody who is not root can still get, `free_bytes` what root can. Inodes are None where
    the file system makes them as it goes without end. `mounted`: somebody has it mounted for writing, or had when it was
    cut off; None where the disk does not say. `superblock_` are the counters of its first block, where it has better
    ones too: ext2, ext3 and ext4 write those when they are mounted and unmounted only, XFS seldom. `written_s` is when
    it says that it was last written, in seconds since 1970 by the guest's clock.
    """

    size_bytes: int
    free_bytes: int
    available_bytes: int
    inodes: int | None = None
    inodes_free: int | None = None
    mounted: bool | None = None
    superblock_free_bytes: int | None = None
    superblock_inodes_free: int | None = None
    written_s: int | None = None
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class Volume:
    """A part of a disk, or all of it.

    `name` is "" for all of it, a partition's number, or of a logical volume the partition's and its own: `2/root`, `/root`.
    `kind` is what is there: ext2, ext3, ext4, xfs, btrfs, the name of something that is not looked into, `empty` or
    `unknown`. `use` is None where it has none; `why` says so where it should have one.
    """

    name: str
    start_bytes: int
    size_bytes: int
    kind: str
    use: FileSystem | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Disk:
    """One disk. `table` is how it is divided: mbr, gpt or none. `truncated`: there was more than is told of one disk."""

    size_bytes: int
    table: str
    volumes: tuple[Volume, ...]
    truncated: bool = False
