"""The daemon: a pass now, then one for every commit, every change of files, rules and ports, and every interval.

What woke it goes to the log and nowhere else: every pass reads everything anew.
"""

from __future__ import annotations

import json
import logging
import queue
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from reconciler.disk_watch import DiskWatch
from reconciler.durable import write_whole
from reconciler.follow import applied_revision, followed
from reconciler.only_writer import BusyError
from reconciler.plan_document import plan_document
from reconciler.plan_text import last_line
from reconciler.policy import Policy
from reconciler.reconcile import Dom0, Result, apply
from reconciler.refusals import publish
from reconciler.review import StaleError
from reconciler.status import host_facts
from reconciler.watch import Nudge, folders, git_folder
from reconciler.watch_kernel import KernelWatch
from schemas.diagnostic import SpecError
from state.run import ReadError
from state.source import Reading

log = logging.getLogger(__name__)
# A push writes several files within milliseconds: one pass for all of them.
DEBOUNCE_S = 0.2


class Watched(NamedTuple):
    """Whose changes wake the daemon."""

    repository: Path
    revision: str
    host: str


class Daemon:
    """Keeps one host as one repository wants it.

    `read` gets the commit that was last applied, if any, so that Reading.descends answers.
    """

    def __init__(
        self, dom0: Dom0, read: Callable[[str | None], Reading], interval_s: float, watched: Watched
    ) -> None:
        self._dom0, self._read, self._interval_s, self._watched = dom0, read, interval_s, watched
        self._reasons: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._ending = False

    def once(self) -> Result:
        """One pass.

        Raises:
            ReadError: the host cannot be read, or the repository where nothing was ever applied; nothing was changed.
            SpecError: the commit is refused and nothing was ever applied here.
            BusyError: somebody else is changing the host.
            StaleError: somebody else has applied another commit meanwhile.
        """
        started = self._dom0.monotonic()
        last = self._dom0.last()
        reading = followed(self._read, last)
        since = applied_revision(last)
        result = apply(self._dom0, reading, Policy(by_hand=False), since=since, by="domgit run")
        for problem in result.after.diagnostics:
            if problem.severity == "error":
                log.error("held back by an error in git", extra={"problem": str(problem)})
        self._publish(result)
        publish(self._dom0)
        log.info(
            "pass finished",
            extra={
                "revision": result.plan.source.revision[:12],
                "done": len(result.outcome.done) - len(result.outcome.failed),
                "failed": len(result.outcome.failed),
                "converged": result.exit_code == 0,
                "ms": round((self._dom0.monotonic() - started) * 1000),
                "next_in_s": self._interval_s,
            },
        )
        return result

    def forever(self) -> None:
        """Pass after pass until SIGTERM or SIGINT; whatever goes wrong is logged, and the next pass tries again."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        observer = self._observer()
        reason = "start"
        with ExitStack() as stack:
            if observer is not None:
                stack.callback(observer.join)
                stack.callback(observer.stop)
            try:
                watch = KernelWatch(self._reasons, self._dom0.restorer())
                stack.enter_context(watch.listening())
            except OSError as exc:
                log.warning(
                    "changes of rules and ports wake nobody, the interval does", extra={"error": str(exc)}
                )
            disks = DiskWatch(self._dom0)
            stack.callback(disks.end)
            while not self._ending:
                log.info("pass starting", extra={"because": reason})
                self._guarded_pass()
                if not self._ending:
                    disks.begin()
                reason = self._wait()

    def _observer(self) -> BaseObserver | None:
        """What tells of commits; None where the kernel has no more watches, of which root's programs share a few."""
        nudge = Nudge(self._reasons, git_folder(self._watched.repository))
        try:
            observer = Observer()
            for folder in folders(*self._watched):
                observer.schedule(nudge, str(folder), recursive=False)
            observer.start()
        except OSError as exc:
            log.warning("commits wake nobody, the interval does", extra={"error": str(exc)})
            return None
        return observer

    def _guarded_pass(self) -> None:
        try:
            self.once()
        except (ReadError, BusyError, StaleError) as exc:
            log.warning("pass put off", extra={"error": str(exc)})
        except SpecError as exc:
            log.error("commit refused", extra={"error": str(exc)})  # noqa: TRY400  # the diagnostics say it all
        except Exception:
            # The loop outlives a defect of ours: guests stay guarded either way, and the next pass may get further.
            log.exception("pass failed")

    def _wait(self) -> str:
        """Why the next pass starts."""
        try:
            reason = self._reasons.get(timeout=self._interval_s)
        except queue.Empty:
            return "interval"
        time.sleep(DEBOUNCE_S)
        while not self._reasons.empty():
            self._reasons.get()
        return reason

    def _end(self, number: int, _frame: FrameType | None) -> None:
        self._ending = True
        self._reasons.put(f"signal {number}")

    def _publish(self, result: Result) -> None:
        timestamp = self._dom0.timestamp()
        status = {
            "format_version": "1.0",
            "host": result.plan.host,
            "time": timestamp,
            "revision": result.plan.source.revision,
            "converged": result.exit_code == 0,
            "last_line": last_line(plan_document(result.after, timestamp=timestamp)),
            "failed": [
                {"address": each.change.address, "error": each.error} for each in result.outcome.failed
            ],
            **host_facts(result.after),
        }
        write_whole(self._dom0.paths.status, json.dumps(status, indent=1) + "\n")
