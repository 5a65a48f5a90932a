"""The watchdog of a change of the guard: a process of its own that takes the change back if nobody confirms it."""

from __future__ import annotations

import time
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Protocol

from reconciler.durable import write_whole
from reconciler.execute import ApplyError
from reconciler.guard_pending import PendingFile
from state.run import ReadError, Runner

SCRIPT = "revert.sh"
SYSTEMD_RUNS = Path("/run/systemd/system")  # as sd_booted(3) has it
# It starts within milliseconds; a host under load gets more, but no change is made without it.
START_S, POLL_S = 5.0, 0.01
_KILLED_LAST = "--property=OOMScoreAdjust=-900"


class Watchdog(Protocol):
    """What starts one: the machine below, or a fake host."""

    def start(self, file: PendingFile, after_s: float) -> None:
        """Have a file watched that is there as `new`; it is `armed` when this returns.

        Raises:
            ApplyError: nobody watches it.
        """


@cache
def script() -> str:
    """The watchdog's program, as it was installed with this one."""
    return files("reconciler.guard").joinpath(SCRIPT).read_text(encoding="utf-8")


class HostWatchdog:
    """Watches on this machine. It outlives this process, its group, its session, and under systemd its unit."""

    def __init__(self, runner: Runner, *, systemd: Path = SYSTEMD_RUNS, start_s: float = START_S) -> None:
        self._runner, self._systemd, self._start_s = runner, systemd, start_s

    def start(self, file: PendingFile, after_s: float) -> None:
        """See Watchdog."""
        program = file.base.with_name(SCRIPT)
        # Beside the file, not in our own installation: that may be replaced while the watchdog runs.
        write_whole(program, script(), mode=0o700)
        deadline = int(time.clock_gettime(time.CLOCK_BOOTTIME) + after_s)
        words = ("/bin/sh", str(program), str(file.at("new")), str(deadline))
        if not (self._systemd.is_dir() and self._runs(*as_unit(file.base.name), *words)):
            self._runs("setsid", "--fork", *words)
        until = time.monotonic() + self._start_s
        while not file.at("armed").exists():
            if time.monotonic() > until:
                raise ApplyError(f"no watchdog starts that could take the change back: {' '.join(words)}")
            time.sleep(POLL_S)

    def _runs(self, *argv: str) -> bool:
        try:
            return self._runner.run(argv).rc == 0
        except ReadError:
            return False  # without systemd-run the other way is tried; without that nothing gets armed


def as_unit(name: str) -> tuple[str, ...]:
    """The start of an argv that runs something as a unit of its own, there when this returns, gone when it ends."""
    unit = f"--unit=domgit-guard-{name}"
    return ("systemd-run", "--quiet", "--collect", "--service-type=exec", unit, _KILLED_LAST, "--")
