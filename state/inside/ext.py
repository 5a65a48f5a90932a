"""ext2, ext3 and ext4: how full they are, by their group descriptors. Pure.

The counters of the superblock are those of the last mount or unmount. Each group's own are written back with everything
else, some seconds to a minute after the fact: they are what is summed. Their checksums are not verified: whoever would
write a wrong number can write a right checksum over it, and a number that no group can have is refused either way.

Source: the kernel's Documentation/filesystems/ext4, fs/ext4/super.c (6.1), lib/ext2fs/openfs.c (e2fsprogs 1.47.0).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from state.inside.image import SpoiltError, Window
from state.inside.volume import FileSystem

_AT, _BYTES = 1024, 1024
MAGIC_AT, MAGIC = _AT + 56, b"\x53\xef"
_HAS_JOURNAL, _SPARSE_SUPER2 = 0x4, 0x200  # compatible features
_RECOVER, _JOURNAL_DEVICE, _META_BG, _64BIT = 0x4, 0x8, 0x10, 0x80  # incompatible ones
_SPARSE_SUPER, _BIGALLOC = 0x1, 0x200  # those that stop writers alone
# What ext3 may have; whatever has more is ext4.
_EXT3_INCOMPATIBLE, _EXT3_READ_ONLY = 0x2 | _RECOVER | _META_BG, 0x1 | 0x2 | 0x4
_VALID = 0x1
_LEAST_BLOCK_LOG, _MOST_BLOCK_LOG, _MOST_CLUSTER_LOG = 10, 16, 30
_OLD_DESCRIPTOR_BYTES, _MOST_DESCRIPTOR_BYTES = 32, 1024
# 16 TiB in blocks of 4 KiB, and 8 TiB in blocks of 1 KiB have no more.
_MOST_GROUPS = 1 << 20
_PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Layout:
    """What the superblock says of where things are. Sizes in bytes, numbers of blocks, clusters and groups."""

    kind: str
    block: int
    blocks: int
    reserved_blocks: int
    first_block: int
    blocks_per_group: int
    cluster_blocks: int
    inodes: int
    inodes_per_group: int
    inode_bytes: int
    descriptor: int
    groups: int
    meta_group: int | None  # the first block of descriptors that is no longer at the beginning
    backups: tuple[int, int] | None  # the groups that have a copy of the superblock; None: see _has_copy
    sparse: bool
    incompatible: int
    mounted: bool
    free_blocks: int
    free_inodes: int
    written_s: int

    @property
    def wide(self) -> bool:
        """Whether descriptors have the upper halves of their numbers."""
        return self.descriptor > _OLD_DESCRIPTOR_BYTES

    def descriptor_blocks(self) -> Iterator[tuple[int, int]]:
        """Where blocks of descriptors are, and how many descriptors to read there, in order."""
        each = self.block // self.descriptor
        for index in range(-(-self.groups // each)):
            yield self.descriptor_block(index), min(each, self.groups - index * each)

    def descriptor_block(self, index: int) -> int:
        """Where one block of descriptors is."""
        # Blocks of 1 KiB with clusters: block 0 is the boot block and in group 0 all the same.
        zero = int(self.block == _AT and self.first_block == 0)
        if self.meta_group is None or index < self.meta_group:
            return self.first_block + zero + 1 + index
        group = index * (self.block // self.descriptor)
        start = self.first_block + group * self.blocks_per_group
        return start + int(self._has_copy(group)) + (zero if group == 0 else 0)

    def _has_copy(self, group: int) -> bool:
        if group == 0:
            return True
        if self.backups is not None:
            return group in self.backups
        return not self.sparse or group == 1 or any(_is_power(group, base) for base in (3, 5, 7))


def _is_power(number: int, base: int) -> bool:
    while number > 1 and number % base == 0:
        number //= base
    return number == 1


def read_layout(window: Window) -> Layout:
    """The layout of the file system in a window that has its magic number.

    Raises:
        SpoiltError: no such file system can be.
    """
    raw = window.read(_AT, _BYTES)
    (
        inodes, blocks, reserved, free_blocks, free_inodes, first_block, block_log, cluster_log,
        blocks_per_group, _, inodes_per_group,
    ) = struct.unpack_from("<11I", raw)  # fmt: skip
    written, state, revision = _at(raw, 48, "<I"), _at(raw, 58, "<H"), _at(raw, 76, "<I")
    inode_bytes = _at(raw, 88, "<H") if revision else 128
    compatible, incompatible, read_only = struct.unpack_from("<3I", raw, 92)
    if incompatible & _JOURNAL_DEVICE:
        raise SpoiltError("it is the journal of another file system")
    descriptor = _OLD_DESCRIPTOR_BYTES
    if incompatible & _64BIT:
        descriptor = _at(raw, 254, "<H")
        blocks, reserved, free_blocks = (
            low + (_at(raw, at, "<I") << 32)
            for low, at in ((blocks, 0x150), (reserved, 0x154), (free_blocks, 0x158))
        )
    block_log += _LEAST_BLOCK_LOG
    cluster_log = cluster_log + _LEAST_BLOCK_LOG if read_only & _BIGALLOC else block_log
    _check(
        _LEAST_BLOCK_LOG <= block_log <= _MOST_BLOCK_LOG and block_log <= cluster_log <= _MOST_CLUSTER_LOG,
        "blocks of no possible size",
    )
    block = 1 << block_log
    _check(
        _OLD_DESCRIPTOR_BYTES <= descriptor <= _MOST_DESCRIPTOR_BYTES
        and descriptor & (descriptor - 1) == 0
        and (descriptor > _OLD_DESCRIPTOR_BYTES or not incompatible & _64BIT),
        "group descriptors of no possible size",
    )
    _check(128 <= inode_bytes <= block and inode_bytes & (inode_bytes - 1) == 0, "inodes of no possible size")  # noqa: PLR2004
    cluster_blocks = 1 << (cluster_log - block_log)
    _check(
        0 < blocks_per_group <= 8 * block * cluster_blocks and 0 < inodes_per_group <= 8 * block,
        "groups of no possible size",
    )
    _check(first_block < blocks and first_block <= 1, "its first block is not there")
    _check(blocks * block <= window.size, f"it is larger ({blocks * block} bytes) than its volume")
    _check(
        free_blocks <= blocks and reserved <= blocks and free_inodes <= inodes, "it counts more than it has"
    )
    groups = -(-(blocks - first_block) // blocks_per_group)
    _check(groups <= _MOST_GROUPS, f"{groups} groups are more than are looked through")
    _check(inodes == groups * inodes_per_group, "its number of inodes is not that of its groups")
    ext4 = incompatible & ~_EXT3_INCOMPATIBLE or read_only & ~_EXT3_READ_ONLY
    return Layout(
        kind="ext4" if ext4 else "ext3" if compatible & _HAS_JOURNAL else "ext2",
        block=block,
        blocks=blocks,
        reserved_blocks=reserved,
        first_block=first_block,
        blocks_per_group=blocks_per_group,
        cluster_blocks=cluster_blocks,
        inodes=inodes,
        inodes_per_group=inodes_per_group,
        inode_bytes=inode_bytes,
        descriptor=descriptor,
        groups=groups,
        meta_group=_at(raw, 260, "<I") if incompatible & _META_BG else None,
        backups=(_at(raw, 0x24C, "<I"), _at(raw, 0x250, "<I")) if compatible & _SPARSE_SUPER2 else None,
        sparse=bool(read_only & _SPARSE_SUPER),
        incompatible=incompatible,
        mounted=bool(incompatible & _RECOVER) or not state & _VALID,
        free_blocks=free_blocks,
        free_inodes=free_inodes,
        written_s=written + (raw[0x274] << 32),
    )


def read_use(window: Window, layout: Layout) -> FileSystem:
    """How full it is, by its groups.

    Raises:
        SpoiltError: a group has more free than it has, or what is to be read is not there.
    """
    clusters, inodes = 0, 0
    most = -(-layout.blocks_per_group // layout.cluster_blocks)
    for data in _descriptors(window, layout):
        for free, unused in _counters(data, layout.descriptor):
            if free > most or unused > layout.inodes_per_group:
                raise SpoiltError("a group has more free than it has")
            clusters += free
            inodes += unused
    free_blocks = clusters * layout.cluster_blocks
    if free_blocks > layout.blocks:
        raise SpoiltError("its groups have more free than there is")
    return FileSystem(
        size_bytes=layout.blocks * layout.block,
        free_bytes=free_blocks * layout.block,
        available_bytes=max(0, free_blocks - layout.reserved_blocks) * layout.block,
        inodes=layout.inodes,
        inodes_free=inodes,
        mounted=layout.mounted,
        superblock_free_bytes=layout.free_blocks * layout.block,
        superblock_inodes_free=layout.free_inodes,
        written_s=layout.written_s,
    )


def _descriptors(window: Window, layout: Layout) -> Iterator[bytes]:
    """The descriptors in order, those that lie one behind the other in large pieces."""
    start, length = 0, 0
    for block, count in layout.descriptor_blocks():
        at, bytes_ = block * layout.block, count * layout.descriptor
        if at != start + length or length + bytes_ > _PIECE_BYTES:
            if length:
                yield window.read(start, length)
            start, length = at, 0
        length += bytes_
    yield window.read(start, length)


def _counters(data: bytes, descriptor: int) -> Iterator[tuple[int, int]]:
    if descriptor == _OLD_DESCRIPTOR_BYTES:
        yield from struct.iter_unpack("<12xHH16x", data)
        return
    for free, unused, free_high, unused_high in struct.iter_unpack(f"<12xHH28xHH{descriptor - 48}x", data):
        yield free | free_high << 16, unused | unused_high << 16


def _at(raw: bytes, offset: int, form: str) -> int:
    value: int = struct.unpack_from(form, raw, offset)[0]
    return value


def _check(holds: object, what: str) -> None:
    if not holds:
        raise SpoiltError(what)
