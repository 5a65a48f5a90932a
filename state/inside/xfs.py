"""XFS: how full it is, by the headers of its allocation groups. Pure.

The superblock's counters are written when it is unmounted and now and then before; each group's own follow with the log,
within about half a minute.

Source: fs/xfs/libxfs/xfs_format.h and xfs_initialize_perag_data in xfs_sb.c (Linux 6.1).
"""

from __future__ import annotations

import struct

from state.inside.image import SpoiltError, Window
from state.inside.volume import FileSystem

MAGIC = b"XFSB"
_SUPERBLOCK = struct.Struct(">4xIQ68xII8xHHHH12x8BQQQ")
_SUPERBLOCK_BYTES = 512
_AGF = struct.Struct(
    ">4s4xII32xII4xI"
)  # magic, number, length, blocks in its list, free, blocks of its trees
_AGI = struct.Struct(">4s4xI4xI8xI")  # magic, number, inodes, free ones
_MOST_GROUPS = 10_000


def read_use(window: Window) -> FileSystem:
    """How full the file system in a window is that has its magic number.

    Raises:
        SpoiltError: no such file system can be.
    """
    (block, blocks, group_blocks, groups, _, sector, inode, per_block, block_log, _, _, per_block_log, _, _,
     _, most_percent, inodes, free_inodes, free_blocks) = _SUPERBLOCK.unpack_from(window.read(0, _SUPERBLOCK_BYTES))  # fmt: skip
    fits = (
        512 <= block <= 65536  # noqa: PLR2004
        and block == 1 << block_log
        and 512 <= sector <= block  # noqa: PLR2004
        and sector & (sector - 1) == 0
        and inode * per_block == block
        and per_block == 1 << per_block_log
    )
    if not fits:
        raise SpoiltError("blocks, sectors or inodes of no possible size")
    if blocks * block > window.size:
        raise SpoiltError(f"it is larger ({blocks * block} bytes) than its volume")
    if not (
        group_blocks > 0 and groups > 0 and (groups - 1) * group_blocks < blocks <= groups * group_blocks
    ):
        raise SpoiltError("its groups are not as many as fill it")
    if groups > _MOST_GROUPS:
        raise SpoiltError(f"{groups} groups are more than are looked through")
    free, used_inodes = 0, 0
    for number in range(groups):
        start = number * group_blocks * block
        magic, own, length, listed, free_here, trees = _AGF.unpack_from(
            window.read(start + sector, _AGF.size)
        )
        magic_inodes, own_inodes, inodes_here, free_inodes_here = _AGI.unpack_from(
            window.read(start + 2 * sector, _AGI.size)
        )
        if (magic, own, magic_inodes, own_inodes) != (b"XAGF", number, b"XAGI", number):
            raise SpoiltError(f"the header of group {number} is none")
        here = free_here + listed + trees
        if length > group_blocks or here > length or free_inodes_here > inodes_here:
            raise SpoiltError(f"group {number} has more free than it has")
        free += here
        used_inodes += inodes_here - free_inodes_here
    most = blocks * most_percent // 100 * per_block if most_percent else blocks * per_block
    # As df has them: inodes are made where there is room, up to a share of it.
    total = max(used_inodes, min(used_inodes + free * per_block, most))
    return FileSystem(
        size_bytes=blocks * block,
        free_bytes=free * block,
        available_bytes=free * block,
        inodes=total,
        inodes_free=total - used_inodes,
        superblock_free_bytes=min(free_blocks, blocks) * block,
        superblock_inodes_free=max(0, total - (inodes - free_inodes)),
    )
