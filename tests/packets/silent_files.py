"""A file system that somebody else serves, and that stops answering: `python -m tests.packets.silent_files FOLDER IMAGE`.

Mounts it in a mount namespace of its own, has a process open a file there, falls silent, and prints who holds IMAGE, or
that there was no answer. Whoever waits for it is another process: this one ends, and with it the file system.
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
import threading

_CLONE_NEWNS, _MS_PRIVATE_AND_BELOW = 0x20000, 1 << 18 | 1 << 14
# linux/fuse.h
_LOOKUP, _GETATTR, _OPEN, _INIT = 1, 3, 14, 26
_HEADER, _ANSWER = struct.Struct("=IIQQ"), struct.Struct("=IiQ")
_NO_SUCH_REQUEST = -38
DEADLINE_S = 30.0


class Silent:
    """One folder with one file in it."""

    def __init__(self, folder: str) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if (
            libc.unshare(_CLONE_NEWNS) != 0
            or libc.mount(b"none", b"/", None, _MS_PRIVATE_AND_BELOW, None) != 0
        ):
            raise OSError(ctypes.get_errno(), "a mount namespace")
        self._device = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self._device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
        if libc.mount(b"silent", folder.encode(), b"fuse", 0, options) != 0:
            raise OSError(ctypes.get_errno(), "mount")
        self.silent = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            _, request, number, node = _HEADER.unpack_from(os.read(self._device, 1 << 17))
            answer = self._answer(request, node)
            if answer is None:
                continue
            error = _NO_SUCH_REQUEST if answer == b"" else 0
            os.write(self._device, _ANSWER.pack(_ANSWER.size + len(answer), error, number) + answer)

    def _answer(self, request: int, node: int) -> bytes | None:
        """b"" for a request that it does not know, None for none at all. What it says of a file holds for no time."""
        mode = 0o40755 if node == 1 else 0o100644
        if request == _INIT:
            return struct.pack("=IIIIHHIIHH", 7, 31, 65536, 0, 12, 9, 65536, 1, 0, 0) + bytes(32)
        if request == _LOOKUP:
            return struct.pack("=QQQQII", 2, 0, 100, 0, 0, 0) + _attributes(2, 0o100644)
        if request == _GETATTR:
            return None if self.silent.is_set() else struct.pack("=QII", 0, 0, 0) + _attributes(node, mode)
        return struct.pack("=QII", 1, 0, 0) if request == _OPEN else b""


def _attributes(node: int, mode: int) -> bytes:
    return struct.pack("=6Q10I", node, 5, 1, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


_OPENS = "import sys; held = open(sys.argv[1]); print(flush=True); sys.stdin.read()"
_ASKS = "import sys; from state.files import HostFiles; print(HostFiles().holders([sys.argv[1]]))"


def main() -> None:
    """See above."""
    folder, image = sys.argv[1:]
    served = Silent(folder)
    holder = subprocess.Popen(
        [sys.executable, "-c", _OPENS, f"{folder}/file"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    if holder.stdout is not None:
        holder.stdout.readline()
    served.silent.set()
    asks = subprocess.Popen([sys.executable, "-c", _ASKS, image], stdout=subprocess.PIPE, text=True)
    try:
        asks.wait(DEADLINE_S)
        print(asks.stdout.read() if asks.stdout is not None else "", flush=True)
    except subprocess.TimeoutExpired:
        print("no answer", flush=True)
    for each in (holder, asks):
        each.kill()
    os._exit(0)


if __name__ == "__main__":
    main()
