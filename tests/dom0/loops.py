"""Loop devices: the one thing of a simulated dom0 that the machine shares with it."""

import fcntl
import os
import struct
from pathlib import Path

LOOP_SET_STATUS64, LOOP_GET_STATUS64, LOOP_CLR_FD = 0x4C04, 0x4C05, 0x4C01
LO_FLAGS_AUTOCLEAR = 4
LOOP_INFO = struct.Struct("=QQQQQIIII64s64s32sQQ")  # struct loop_info64, linux/loop.h
FLAGS = 8  # index of lo_flags in it
LOOP_MAJOR = 7


def hold(device: str) -> int:
    """A descriptor that keeps the loop device, as blkback does while a guest has it.

    When it closes, by our hand or by our death, the kernel releases the device: none is ever left behind.

    Raises:
        OSError: there is no such device, or it has no file.
    """
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    info = list(LOOP_INFO.unpack(fcntl.ioctl(descriptor, LOOP_GET_STATUS64, bytes(LOOP_INFO.size))))
    info[FLAGS] |= LO_FLAGS_AUTOCLEAR
    fcntl.ioctl(descriptor, LOOP_SET_STATUS64, LOOP_INFO.pack(*info))
    return descriptor


def release_loops() -> None:
    """Releases loop devices on files that only this mount namespace has, left by a script killed midway."""
    ours = {
        Path(path).stat().st_dev
        for path in ("/run", "/srv/xen", "/var/lib/xen", "/etc/domgit", "/var/lib/domgit")
    }
    for entry in Path("/sys/block").glob("loop*/loop"):
        device = f"/dev/{entry.parent.name}"
        try:
            descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            info = LOOP_INFO.unpack(fcntl.ioctl(descriptor, LOOP_GET_STATUS64, bytes(LOOP_INFO.size)))
            if info[0] in ours:
                fcntl.ioctl(descriptor, LOOP_CLR_FD, 0)
        except OSError:
            continue  # released by itself meanwhile
        finally:
            os.close(descriptor)
