"""The system calls that Python 3.11 lacks: namespaces and mounts."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def unshare(flags: int) -> None:
    """Leaves the namespaces named by the flags for new ones.

    Raises:
        OSError: not permitted (CAP_SYS_ADMIN), or the kernel lacks such a namespace.
    """
    _checked(_libc.unshare(flags), "unshare")


def die_with_parent(signal_number: int) -> None:
    """Lets the kernel send the calling process this signal when its parent ends."""
    _checked(_libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "prctl")


def mount(source: str | Path, target: str | Path, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mounts the source on the target; flags and options are those of the system call.

    Raises:
        OSError: as the kernel says, with the target as its file name.
    """
    result = _libc.mount(
        str(source).encode(), str(target).encode(), kind.encode() or None, flags, options.encode() or None
    )
    _checked(result, str(target))


def unmount(target: str | Path) -> None:
    """Unmounts what is on top of the target.

    Raises:
        OSError: as the kernel says.
    """
    _checked(_libc.umount2(str(target).encode(), 0), str(target))


@contextmanager
def network_namespace(name: str) -> Iterator[None]:
    """The calling thread inside a named network namespace, and back.

    Raises:
        OSError: there is no such namespace.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _checked(_libc.setns(there, CLONE_NEWNET), f"setns {name}")
        finally:
            os.close(there)
        try:
            yield
        finally:
            _checked(_libc.setns(home, CLONE_NEWNET), "setns back")
    finally:
        os.close(home)
