"""The unprivileged child that looks into guests' disks: `python -m state.inside.child`, started by state.insides.

It forks for each disk, so that a disk that somebody has prepared can spoil no answer but its own. The fork opens the disk
for reading, then gives up every right, and only then looks at what is on it: within seconds of processor time, some memory,
and with nothing but that one descriptor and a pipe. What forks passes on what they say, and reads none of it.

Whoever looks for who holds a disk (state.files) leaves these processes out: they hold it for reading, for a moment.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import stat
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from state.confined import confine
from state.inside.disk import read_disk
from state.inside.image import Image
from state.inside.system import find_login

# Of each disk. A file system of 16 TiB takes a tenth of a second, and so much memory is what Python itself wants with room to spare.
CPU_LIMIT_S, MEMORY_LIMIT_BYTES, WALL_LIMIT_S = 10, 256 * 1024 * 1024, 30.0
# 64 volumes and 32 gettys are less.
ANSWER_LIMIT_BYTES = 48 * 1024
# Guests are to notice nothing: a disk at a time for each of few.
PARALLEL = 4
# Storage that does not answer keeps its readers, which nothing can end: after so many no more are sent there.
_STUCK_LIMIT = 4
# Who started us waits five minutes.
_TOTAL_LIMIT_S = 240.0
_KILLED_WITHIN_S = 1.0
_NICE = 10
_MOST_DESCRIPTORS = 64


@dataclass(slots=True)
class _Reader:
    """A fork at work, and what it has said so far."""

    index: int
    process: int
    deadline_s: float
    said: bytearray = field(default_factory=bytearray)


class Scan:
    """Has each disk read by a fork, a few at a time, and says of each what its reader said.

    `answer` is what a fork does: it gets one request and gives what is said. `wall_limit_s` is how long it may take.
    """

    def __init__(
        self,
        requests: Sequence[Mapping[str, Any]],
        answer: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        wall_limit_s: float = WALL_LIMIT_S,
    ) -> None:
        self._requests, self._answer, self._wall_limit_s = requests, answer, wall_limit_s
        self._waiting = deque(range(len(requests)))
        self._running: dict[int, _Reader] = {}
        self._poll = select.poll()
        self._stuck, self._end_s = 0, time.monotonic() + _TOTAL_LIMIT_S

    def run(self) -> None:
        """Say a line of JSON of each disk, in the order in which they are done."""
        while self._waiting or self._running:
            while self._waiting and len(self._running) < PARALLEL:
                if self._stuck >= _STUCK_LIMIT or time.monotonic() > self._end_s:
                    _say(
                        self._waiting.popleft(),
                        error="not looked at: others on this host do not answer in time",
                    )
                else:
                    self._start(self._waiting.popleft())
            if not self._running:
                continue
            first = min(reader.deadline_s for reader in self._running.values())
            for descriptor, _ in self._poll.poll(max(0.0, first - time.monotonic()) * 1000):
                self._hear(descriptor)
            for descriptor, reader in [*self._running.items()]:
                if reader.deadline_s <= time.monotonic():
                    self._give_up(descriptor, reader, f"no answer within {self._wall_limit_s:g} s")

    def _start(self, index: int) -> None:
        here, there = os.pipe()
        process = os.fork()
        if process == 0:
            _live(there, lambda: self._answer(self._requests[index]))
        os.close(there)
        self._running[here] = _Reader(index, process, time.monotonic() + self._wall_limit_s)
        self._poll.register(here, select.POLLIN)

    def _hear(self, descriptor: int) -> None:
        reader = self._running[descriptor]
        data = os.read(descriptor, ANSWER_LIMIT_BYTES)
        reader.said += data
        if len(reader.said) > ANSWER_LIMIT_BYTES:
            self._give_up(descriptor, reader, "its reader says too much")
        elif not data:
            self._forget(descriptor)
            _, status = os.waitpid(reader.process, 0)
            code = os.waitstatus_to_exitcode(status)
            if code == -signal.SIGXCPU:
                _say(reader.index, error=f"it takes more than {CPU_LIMIT_S} s of processor time to read")
            elif code:
                _say(reader.index, error=f"its reader ended with exit status {code}")
            else:
                _say(reader.index, said=reader.said.decode("ascii", "replace"))

    def _give_up(self, descriptor: int, reader: _Reader, why: str) -> None:
        self._forget(descriptor)
        os.kill(reader.process, signal.SIGKILL)
        watched = os.pidfd_open(reader.process)
        ended = select.poll()
        ended.register(watched, select.POLLIN)
        if ended.poll(_KILLED_WITHIN_S * 1000):
            os.waitpid(reader.process, 0)
        else:
            self._stuck += 1
        os.close(watched)
        _say(reader.index, error=why)

    def _forget(self, descriptor: int) -> None:
        del self._running[descriptor]
        self._poll.unregister(descriptor)
        os.close(descriptor)


def main() -> None:
    """Answer one request: a line of JSON for each disk, in the order in which they are done."""
    requests = json.load(sys.stdin)
    os.nice(_NICE)
    # What a fork does not touch is not copied.
    gc.freeze()
    Scan(requests, read).run()


def _say(index: int, *, said: str | None = None, error: str | None = None) -> None:
    sys.stdout.write(json.dumps({"index": index, "said": said, "error": error}) + "\n")
    sys.stdout.flush()  # what lies in a buffer, every fork would have too


def _live(pipe: int, answer: Callable[[], Mapping[str, Any]]) -> None:
    """A fork's whole life."""
    code = 1
    try:
        # Whoever holds our output open keeps who waits for its end waiting.
        nothing = os.open("/dev/null", os.O_RDWR)
        for each in (0, 1, 2):
            os.dup2(nothing, each)
        os.closerange(3, pipe)  # what others say
        os.closerange(pipe + 1, _MOST_DESCRIPTORS)
        said = json.dumps(answer()).encode("ascii")
        while said:
            said = said[os.write(pipe, said) :]
        code = 0
    finally:
        os._exit(code)


def read(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is on a disk, or why that cannot be said. Everything but the disk is given up meanwhile, for good."""
    try:
        # A pipe would wait for who writes.
        descriptor = os.open(request["path"], os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        found = os.fstat(descriptor)
        direct = stat.S_ISBLK(found.st_mode)
        if direct:
            os.close(descriptor)
            descriptor = os.open(request["path"], os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
        elif not stat.S_ISREG(found.st_mode):
            return {"error": "neither a file nor a block device"}
        else:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)  # nothing is read ahead
        size = os.lseek(descriptor, 0, os.SEEK_END)
    except OSError as exc:
        return {"error": exc.strerror}
    confine(
        keep_capabilities=False,
        cpu_limit_s=CPU_LIMIT_S,
        memory_limit_bytes=MEMORY_LIMIT_BYTES,
        shut=True,
    )
    try:
        disk, volumes = read_disk(Image(descriptor, size, direct=direct))
        login = find_login(volumes) if request["login"] else None
    except MemoryError:
        return {"error": f"it takes more than {MEMORY_LIMIT_BYTES >> 20} MiB of memory to read"}
    return {
        "disk": asdict(disk),
        "block": direct,
        "changed_s": None if direct else int(found.st_mtime),
        "login": None if login is None else asdict(login),
    }


if __name__ == "__main__":
    main()
