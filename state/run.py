"""The one place where external commands start.

Every command is an argv list with a clean environment, a deadline and a byte limit, gets a call id,
and is logged once, here. Nothing else in the project imports `subprocess`.
"""

from __future__ import annotations

import itertools
import logging
import os
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
}
# `nft list` of 10,000 vifs is 6 MB, `xl list -l` of 1,000 domUs 2 MB; more than this is not a tool talking.
OUTPUT_LIMIT_BYTES = 64 * 1024 * 1024
TERMINATION_GRACE_S = 2.0


class ReadError(Exception):
    """The host or the repository cannot be read: change nothing, try again."""


class TornError(ReadError):
    """The host changed while it was read: read again at once, it may be whole."""


class NotInstalledError(ReadError):
    """There is no such command on this host."""


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command ended. `rc` is negative for a signal, as in subprocess."""

    argv: tuple[str, ...]
    rc: int
    stdout: str
    stderr: str
    call_id: int
    duration_s: float

    def __str__(self) -> str:
        """`xl list: exit status 1: first error in stderr`, or its last line when none calls itself one.

        xl says what went wrong first, and what it could not clean up behind it last.
        """
        lines = [line.strip() for line in self.stderr.splitlines() if line.strip()]
        telling = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "")
        return f"{shlex.join(self.argv)}: exit status {self.rc}" + (f": {telling}" if telling else "")


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
    """Collects one output stream in a thread, up to a limit."""

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._stream, self._limit = stream, limit
        self._chunks: list[bytes] = []
        self.size = 0
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        while chunk := self._stream.read1(65536):  # type: ignore[attr-defined]  # Popen's pipes are BufferedReaders
            self.size += len(chunk)
            if self.size <= self._limit:
                self._chunks.append(chunk)

    @property
    def exceeded(self) -> bool:
        """Whether the stream gave more bytes than the limit."""
        return self.size > self._limit

    def text(self, wait_s: float) -> str:
        """What was collected; bytes that are no UTF-8 become escapes, so that parsers see and refuse them."""
        self._thread.join(wait_s)
        return b"".join(self._chunks).decode("utf-8", "backslashreplace")


class HostRunner:
    """Runs commands on this machine."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)

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
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
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
        if process.stdout is None or process.stderr is None:
            raise ReadError(f"{argv[0]}: no pipes")
        stdout = Bounded(process.stdout, OUTPUT_LIMIT_BYTES)
        stderr = Bounded(process.stderr, OUTPUT_LIMIT_BYTES)
        if process.stdin is not None:
            threading.Thread(target=_feed, args=(process.stdin, stdin.encode()), daemon=True).start()
        try:
            rc = process.wait(timeout_s)
        except subprocess.TimeoutExpired as exc:
            _end(process)
            raise ReadError(f"{shlex.join(argv)}: no answer within {timeout_s:g} s") from exc
        # A monitor that xl forked keeps stderr open for its whole life: wait for what is there, not for the end.
        completed = Completed(
            argv=tuple(argv),
            rc=rc,
            stdout=stdout.text(2.0),
            stderr=stderr.text(0.2),
            call_id=call_id,
            duration_s=time.monotonic() - started,
        )
        log.debug(
            "command ended",
            extra={
                "call_id": call_id,
                "argv": shlex.join(argv),
                "rc": rc,
                "duration_ms": round(completed.duration_s * 1000),
            },
        )
        if stdout.exceeded or stderr.exceeded:
            raise ReadError(f"{shlex.join(argv)}: more than {OUTPUT_LIMIT_BYTES} bytes of output")
        return completed


def _feed(pipe: IO[bytes], data: bytes) -> None:
    try:
        pipe.write(data)
        pipe.close()
    except BrokenPipeError:
        return  # the command ended without reading all; its exit status says what that meant


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
        ReadError: as Runner.run, or the exit status is not 0.
    """
    completed = runner.run(argv, stdin=stdin, timeout_s=timeout_s)
    if completed.rc != 0:
        raise ReadError(str(completed))
    return completed.stdout
