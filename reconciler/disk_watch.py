"""Looks into guests' disks every `disks.interval`, beside the passes and never in their way."""

from __future__ import annotations

import logging
import threading

from reconciler import disk_history, disk_record
from reconciler.disk_look import look
from reconciler.disk_use import logins
from reconciler.durable import write_whole
from reconciler.metrics import disk_metrics_text
from reconciler.reconcile import Dom0
from state.desired import DiskUse
from state.run import ReadError

log = logging.getLogger(__name__)
# Of the time, at most so much is spent looking, whatever the interval.
_REST_FACTOR = 10


class DiskWatch:
    """A thread that looks. It writes what it found, and nothing but that; a pass reads what is there.

    Looking takes the lock of no one. While storage does not answer, the thread waits for it alone.
    """

    def __init__(self, dom0: Dom0) -> None:
        self._dom0 = dom0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Start looking, unless that was done: the first pass after a boot has guests to start and comes first."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._forever, name="disks", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Look no more; what is being looked at now ends with the process, whatever it waits for."""
        self._ended.set()

    def _forever(self) -> None:
        while not self._ended.is_set():
            took_s, interval_s = 0.0, DiskUse().interval_s
            try:
                last = self._dom0.last()
                wanted = DiskUse() if last is None else last.desired.host.disks
                interval_s = wanted.interval_s
                took_s = watched(self._dom0, wanted.warn_percent)
            except (ReadError, OSError) as exc:
                log.warning("disks not looked into", extra={"error": str(exc)})
            except Exception:
                # As in a pass: the next look may get further.
                log.exception("look into disks failed")
            self._ended.wait(max(interval_s, took_s * _REST_FACTOR))


def watched(dom0: Dom0, warn_percent: int) -> float:
    """Look once, and write what was found for passes, for the trend and for monitoring; how long it took, in seconds.

    Raises:
        ReadError: the host cannot be read.
        OSError: what was found could not be written.
    """
    started = dom0.monotonic()
    seen = look(dom0)
    took_s = dom0.monotonic() - started
    looked = disk_record.Looked(
        seen.time_s,
        round(took_s * 1000),
        seen.filled,
        len(seen.unread),
        logins(seen.guests, seen.found),
    )
    disk_history.save(dom0.paths.disk_history, seen.history)
    disk_record.save(dom0.paths.disks, looked)
    write_whole(dom0.paths.disk_metrics, disk_metrics_text(looked, warn_percent=warn_percent))
    log.info(
        "disks looked into",
        extra={
            "file_systems": len(seen.filled),
            "unread": len(seen.unread),
            "over": sum(each.over(warn_percent) for each in seen.filled),
            "ms": looked.took_ms,
        },
    )
    return took_s
