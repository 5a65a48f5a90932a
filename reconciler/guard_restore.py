"""Bringing the guard back at once when somebody else flushed it, ahead of the pass that follows.

It decides nothing: it loads, in one transaction, what was last applied by anybody and read back, and only where the kernel
has less than that. Whether it is still what should be is for the pass to say.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from reconciler.diff_guard import LOAD_TIMEOUT_S
from reconciler.guard.nftables import LOAD
from reconciler.guard_kept import table_digest
from reconciler.guard_pending import left_behind
from reconciler.guard_record import Record
from reconciler.only_writer import BusyError
from state.nft import LoadedTable, read_table
from state.run import ReadError, Runner

log = logging.getLogger(__name__)
# A pass that changes the guard, or somebody who does so by hand, is over within that, gateways that answer provided.
PATIENCE_S = 2.0
READ_ATTEMPTS, READ_AGAIN_AFTER_S = 5, 0.02
Restored = Literal["intact", "restored", "left"]


@dataclass(frozen=True, slots=True)
class Restorer:
    """Brings the guard of one host back. `timestamp` is now, RFC 3339, in UTC."""

    runner: Runner
    record: Record
    timestamp: Callable[[], str]
    sleep: Callable[[float], None] = time.sleep

    def __call__(self) -> Restored:
        """Whether the guard is all there, was brought back, or is left to a pass."""
        started = time.monotonic()
        try:
            with self.record.held(PATIENCE_S):
                return self._restore(started)
        except (BusyError, ReadError, OSError) as exc:
            log.warning("guard left to the pass", extra={"error": str(exc)})
            return "left"

    def _restore(self, started: float) -> Restored:
        kept = self.record.current()
        # A change that is on trial, or was taken back, is dealt with by a pass: what is right then is not in one file.
        if kept is None or any(left_behind(self.record.folder)):
            return "left"
        if kept.by != "nftables":
            return "left"  # what several commands load is for a pass, which sees whose rules are beside ours
        loaded = self._read()
        if kept.table == table_digest(loaded):
            return "intact"
        lost = "table" if loaded is None else kept.lost(loaded)
        if lost is None:
            return "left"
        done = self.runner.run(LOAD, stdin=kept.script_beside(loaded), timeout_s=LOAD_TIMEOUT_S)
        if done.rc != 0:
            raise ReadError(str(done))
        took_ms = round((time.monotonic() - started) * 1000)
        log.warning("guard brought back", extra={"lost": lost, "ms": took_ms, "cause": "corrective"})
        self.record.note_restored(
            {
                "apply": f"restored-{os.urandom(3).hex()}",
                "time": self.timestamp(),
                "type": "guard",
                "outcome": "restored",
                "why": f"somebody else took its {lost} away",
                "ms": took_ms,
            }
        )
        return "restored"

    def _read(self) -> LoadedTable | None:
        """Our table, also while whoever flushes it is still at it."""
        for left in range(READ_ATTEMPTS, 0, -1):
            try:
                return read_table(self.runner)
            except ReadError:
                if left == 1:
                    raise
                self.sleep(READ_AGAIN_AFTER_S)
        raise AssertionError
