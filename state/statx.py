"""What the kernel knows of an open file by itself, without asking whoever serves it. Reads only.

stat(2) asks an NFS server, or a user's own file system, and waits for as long as that does not answer.

Source: statx(2), Linux 6.1; linux/stat.h.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from functools import cache

_AT_FDCWD, _AT_STATX_DONT_SYNC = -100, 0x4000
_TYPE_AND_INODE = 0x001 | 0x100
# stx_mode behind 28 bytes, stx_ino behind 32; the device that it is, and the one it lies on, behind 128.
_BYTES, _MODE, _INODE, _DEVICES = (
    256,
    struct.Struct("=28xH"),
    struct.Struct("=32xQ"),
    struct.Struct("=128x4I"),
)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def identity(path: str) -> str | None:
    """`device:inode` of a regular file, `device:0` of a block device that it is, None for all else, links followed.

    Raises:
        OSError: there is nothing.
    """
    answer = ctypes.create_string_buffer(_BYTES)
    flags, wanted = ctypes.c_int(_AT_STATX_DONT_SYNC), ctypes.c_uint(_TYPE_AND_INODE)
    if _libc().statx(ctypes.c_int(_AT_FDCWD), os.fsencode(path), flags, wanted, answer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    (mode,), (inode,) = _MODE.unpack_from(answer), _INODE.unpack_from(answer)
    itself_major, itself_minor, major, minor = _DEVICES.unpack_from(answer)
    if stat.S_ISREG(mode):
        return f"{os.makedev(major, minor)}:{inode}"
    return f"{os.makedev(itself_major, itself_minor)}:0" if stat.S_ISBLK(mode) else None
