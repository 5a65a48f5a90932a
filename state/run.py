"""The one place where external commands start.

Every command is an argv list with a clean environment, a deadline and a byte limit, gets a call id,
and is logged once, here. Nothing else in the project imports `subprocess`.
"""

from __future__ import annotations

import itertools
import logging
import os
import select
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Protocol

log = logging.getLogger(__name__)

# libxl hands its whole environment to root shell scripts (LD_PRELOAD, BASH_ENV ...), so commands start
# from these alone. LC_ALL, because parsers read English messages.
CLEAN_ENVIRONMENT: Mapping[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/nonexistent",
    # A guest's disk is read by pygrub, which parses whatever its owner has put there (XSA-443): never as root. The monitor
    # that an `xl create` leaves behind keeps this for the guest's own reboots.
    "LIBXL_BOOTLOADER_RESTRICT": "1",
}
# `ip -d link` of 10,000 vifs is 11 MB, `xl list -l` of 1,000 domUs 2 MB; more than this is not a tool talking. It is
# held twice, as bytes and as text of up to four bytes a character, and the host needs its memory for guests.
TOOL_LIMIT_BYTES = 24 * 1024 * 1024
# Our own children hand over whole repositories.
OUTPUT_LIMIT_BYTES = 64 * 1024 * 1024
TERMINATION_GRACE_S = 2.0
# What has ended has left all that it wrote in its pipe: to take it out is a matter of moments.
DRAIN_S = 2.0
_TOLD_CHARACTERS = 500


class ReadError(Exception):
    """The host or the repository cannot be read: change nothing, try again."""


class TornError(ReadError):
    """The host changed while it was read: read again at once, it may be whole."""


class NotInstalledError(ReadError):
    """There is no such command on this host."""


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command ended. `rc` is negative for a signal, as in subprocess.

    `whole` says whether stdout was read to its end; it is not while somebody else still holds it open.
    """

    argv: tuple[str, ...]
    rc: int
    stdout: str
    stderr: str
    call_id: int
    duration_s: float
    whole: bool = True

    def __str__(self) -> str:
        """`xl list: exit status 1: first error in stderr`, or its last line when none calls itself one.

        xl says what went wrong first, and what it could not clean up behind it last.
        """
        lines = [line.strip() for line in self.stderr.splitlines() if line.strip()]
        telling = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "")
        telling = telling if len(telling) <= _TOLD_CHARACTERS else f"{telling[:_TOLD_CHARACTERS]}..."
        return f"{shlex.join(self.argv)}: exit status {self.rc}" + (f": {telling}" if telling else "")

    def output(self) -> str:
        """The stdout of a command that must have succeeded.

        Raises:
            ReadError: the exit status is not 0, or there may be more that was not read.
        """
        if self.rc != 0:
            raise ReadError(str(self))
        if not self.whole:
            raise ReadError(f"{shlex.join(self.argv)}: its output did not end: somebody else holds it open")
        return self.stdout


class Runner(Protocol):
    """What runs commands: the real one below, or a fake host that answers as the tools would."""

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        timeout_s: float = 15.0,
        environment: Mapping[str, str] | None = None,
    ) -> Completed:
        """The command's end, whatever its exit status.

        Raises:
            NotInstalledError: there is no such command.
            ReadError: it could not be started, passed its deadline, or printed more than the limit.
        """


class Bounded:
    """Collects one output stream in a thread, up to a limit. Nothing is kept of a flood, and whoever makes it is cut off."""

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._stream, self._limit = stream, limit
        self._data = bytearray()
        self.exceeded = False
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        while chunk := self._stream.read1(65536):  # type: ignore[attr-defined]  # Popen's pipes are BufferedReaders
            self._data += chunk
            if len(self._data) > self._limit:
                self.exceeded, self._data = True, bytearray()
                self._stream.close()  # its next write ends it, as `head` ends what writes into it
                return

    def text(self, wait_s: float) -> tuple[str, bool]:
        """What was collected, and whether the stream has ended; bytes that are no UTF-8 become escapes, for parsers to refuse."""
        self._thread.join(wait_s)
        return self._data.decode("utf-8", "backslashreplace"), not self._thread.is_alive()


class HostRunner:
    """Runs commands on this machine."""

    def __init__(self, limit_bytes: int = OUTPUT_LIMIT_BYTES) -> None:
        self._ids = itertools.count(1)
        self._limit_bytes = limit_bytes

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        timeout_s: float = 15.0,
        environment: Mapping[str, str] | None = None,
    ) -> Completed:
        """See Runner. A command past its deadline gets SIGTERM, then SIGKILL, with its whole process group."""
        call_id, started = next(self._ids), time.monotonic()
        given = _given(stdin) if stdin else subprocess.DEVNULL
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(environment or CLEAN_ENVIRONMENT),
                cwd="/",
                start_new_session=True,
            )
        except FileNotFoundError as exc:
            raise NotInstalledError(f"{argv[0]}: {exc.strerror}") from exc
        except OSError as exc:
            raise ReadError(f"{argv[0]}: {exc.strerror}") from exc
        finally:
            if given != subprocess.DEVNULL:
                os.close(given)
        if process.stdout is None or process.stderr is None:
            raise ReadError(f"{argv[0]}: no pipes")
        stdout = Bounded(process.stdout, self._limit_bytes)
        stderr = Bounded(process.stderr, self._limit_bytes)
        if not _ends(process, timeout_s):
            _end(process)
            raise ReadError(f"{shlex.join(argv)}: no answer within {timeout_s:g} s")
        rc = process.wait()
        text, whole = stdout.text(DRAIN_S)
        # A monitor that xl forked keeps stderr open for its whole life: wait for what is there, not for the end.
        talk, _ = stderr.text(0.2)
        if stdout.exceeded or stderr.exceeded:
            raise ReadError(f"{shlex.join(argv)}: more than {self._limit_bytes} bytes of output")
        duration_s = time.monotonic() - started
        completed = Completed(tuple(argv), rc, text, talk, call_id, duration_s, whole)
        log.debug(
            "command ended",
            extra={
                "call_id": call_id,
                "argv": shlex.join(argv),
                "rc": rc,
                "duration_ms": round(completed.duration_s * 1000),
            },
        )
        return completed


def _given(text: str) -> int:
    """A descriptor to read the text from, which is all there before the command starts.

    Through a pipe, a command would get the first half of a script alone if we were killed meanwhile, and nft would load it.
    """
    descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC)
    data = text.encode()
    while data:
        data = data[os.write(descriptor, data) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _ends(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Whether it ends in time. Popen.wait with a timeout looks twenty times a second: a plan runs as many commands."""
    descriptor = os.pidfd_open(process.pid)
    try:
        ending = select.poll()
        ending.register(descriptor, select.POLLIN)
        return bool(ending.poll(timeout_s * 1000))
    finally:
        os.close(descriptor)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(TERMINATION_GRACE_S)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        else:
            return


def read(runner: Runner, argv: Sequence[str], *, stdin: str = "", timeout_s: float = 15.0) -> str:
    """The stdout of a command that must succeed.

    Raises:
        ReadError: as Runner.run and Completed.output.
    """
    return runner.run(argv, stdin=stdin, timeout_s=timeout_s).output()
