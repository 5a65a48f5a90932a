"""The kernel's own ring of messages, as /dev/kmsg gives it: what a rule's `log` really wrote."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

KMSG = "/dev/kmsg"
# Rules of a namespace are silent without it; only the first namespace has the switch.
SWITCH = Path("/proc/sys/net/netfilter/nf_log_all_netns")
_TURN = Path(tempfile.gettempdir(), "domgit-tests-kernel-log")
_RECORD_BYTES = 8192


class Line(NamedTuple):
    """One message of the kernel's: its level by number, and its text."""

    level: int
    text: str


class Ring:
    """What the kernel says from now on, of lines that begin with a prefix of this test's own."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._fd = os.open(KMSG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self._fd, 0, os.SEEK_END)

    def close(self) -> None:
        os.close(self._fd)

    def raw(self) -> list[bytes]:
        """All records since the last look, whoever they are from."""
        found = []
        while True:
            try:
                found.append(os.read(self._fd, _RECORD_BYTES))
            except BlockingIOError:
                return found
            except BrokenPipeError as exc:  # others flooded it: then nothing is known
                raise AssertionError("the kernel's ring was overrun") from exc

    def lines(self) -> list[Line]:
        """The lines since the last look."""
        found = []
        for record in self.raw():
            head, _, text = record.decode("ascii").partition(";")
            priority = int(head.split(",")[0])
            if text.startswith(self.prefix) and priority < 8:  # the kernel's facility is 0
                found.append(Line(priority, text.split("\n")[0]))
        return found


@contextmanager
def heard(prefix: str) -> Iterator[Ring]:
    """The ring, with the rules of all namespaces allowed to write to it. One run of tests at a time: the switch is the machine's.

    Raises:
        OSError: this kernel has no such ring or no such switch, or they are not for us.
    """
    with _TURN.open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        before = SWITCH.read_text(encoding="ascii")
        SWITCH.write_text("1\n", encoding="ascii")
        ring = Ring(prefix)
        try:
            yield ring
        finally:
            ring.close()
            with suppress(OSError):
                SWITCH.write_text(before, encoding="ascii")
