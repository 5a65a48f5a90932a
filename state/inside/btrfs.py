"""btrfs: how full it is, by its superblock, which is written with every commit: every half minute, and with a sync. Pure.

Source: struct btrfs_super_block in include/uapi/linux/btrfs_tree.h (Linux 6.1).
"""

from __future__ import annotations

import struct

from state.inside.image import SpoiltError, Window
from state.inside.volume import FileSystem

_AT = 64 * 1024
MAGIC_AT, MAGIC = _AT + 64, b"_BHRfS_M"
_SUPERBLOCK = struct.Struct("<48xQ16xQ32xQQ8xQ")  # where it is, generation, bytes, used bytes, disks


def read_use(window: Window) -> FileSystem:
    """How full the file system in a window is that has its magic number.

    What is kept twice counts once: with metadata on one disk, which btrfs keeps twice, `free_bytes` is a little too much.

    Raises:
        SpoiltError: no such file system can be, or it lies on several disks.
    """
    own, generation, size, used, disks = _SUPERBLOCK.unpack_from(window.read(_AT, _SUPERBLOCK.size))
    if own != _AT:
        raise SpoiltError("its superblock is one of another place")
    if disks != 1:
        raise SpoiltError(f"it lies on {disks} disks")
    if size > window.size:
        raise SpoiltError(f"it is larger ({size} bytes) than its volume")
    if used > size:
        raise SpoiltError("it uses more than it has")
    return FileSystem(
        size_bytes=size, free_bytes=size - used, available_bytes=size - used, generation=generation
    )
