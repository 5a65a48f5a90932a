"""domgit forked from a process that has imported all of it: what `domgit` does, without a quarter of a second of imports.

Hundreds of commands are run only to see what they do. The tests that kill, trace or confine one, the daemon and the demo
start the real command. Run as a script, this is that process: `warm.py DESCRIPTOR`.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

_REQUEST_BYTES = 1 << 17


def run(argv: Sequence[str], *, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """How domgit with these arguments ended; nothing is on its standard input.

    Raises:
        subprocess.TimeoutExpired: it did not end in time, or what it has left behind holds on to its output.
    """
    deadline = time.monotonic() + timeout_s
    pipes = [os.pipe() for _ in ("output", "error", "how it ended")]
    request = json.dumps({"argv": ["domgit", *argv], "cwd": str(Path.cwd()), "environment": {**os.environ}})
    socket.send_fds(_server(), [request.encode()], [writing for _, writing in pipes])
    got = {reading: b"" for reading, _ in pipes}
    with selectors.DefaultSelector() as open_ones:
        for reading, writing in pipes:
            os.close(writing)
            open_ones.register(reading, selectors.EVENT_READ)
        while open_ones.get_map():
            ready = open_ones.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                os.kill(int(got[pipes[2][0]].split()[0]), signal.SIGKILL)
                raise subprocess.TimeoutExpired(["domgit", *argv], timeout_s)
            for key, _ in ready:
                got[key.fd] += (data := os.read(key.fd, 1 << 16))
                if not data:
                    open_ones.unregister(key.fd)
    for reading, _ in pipes:
        os.close(reading)
    out, err, end = (each.decode() for each in got.values())
    return subprocess.CompletedProcess(["domgit", *argv], int(end.split()[1]), out, err)


@cache
def _server() -> socket.socket:
    """Where requests go to; it ends with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        subprocess.Popen(
            [sys.executable, "-P", __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
    return ours


def _serve(requests: socket.socket) -> None:
    """Forks for each request, until nobody asks any more. Returns in the process that is to be that domgit."""
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, _REQUEST_BYTES, 3)
        if not request:
            sys.exit()
        if os.fork() == 0:
            break
        for each in descriptors:
            os.close(each)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
    requests.close()
    _become(json.loads(request), *descriptors)


def _become(request: dict[str, Any], out: int, err: int, end: int) -> None:
    """Returns in a child that has the request's arguments, folder, environment and output; this process waits for it."""
    child = os.fork()
    if child != 0:
        os.close(out)
        os.close(err)
        os.write(end, f"{child} ".encode())
        _, status = os.waitpid(child, 0)
        os.write(end, str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    for each in (out, err, end):
        os.close(each)
    # The ones that were there know whether they could be sought in, which was about another file.
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["argv"]


if __name__ == "__main__":
    from reconciler.cli import VERBS, main

    for module in ("machine", *(module for module, _ in VERBS.values())):
        importlib.import_module(f"reconciler.cli.{module}")
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    main()
