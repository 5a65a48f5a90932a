"""Waits for the kernel to tell of changed rules and ports, has the guard brought back, and wakes the daemon.

What it hears never goes further than a reason on the queue: the pass reads everything anew. Our own changes wake it like
those of others. That ends by itself: what the guard has is then what was last kept, and a pass that changed nothing makes
no events.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from reconciler.guard_restore import Restored
from state.events import Ports, listen_to_ports, listen_to_rules, parse_rule_changes

log = logging.getLogger(__name__)
# Containers come and go, and tools like fail2ban and kube-proxy change rules of their own all day. What that means for
# our guests is looked at soon, not each time.
_PORTS_EVERY_S, _OTHERS_EVERY_S = 2.0, 10.0
_CHUNK_BYTES = 1 << 20
# Nobody who floods the guests' wires waits: on a host whose processors are all taken the load would take several times as
# long. What this thread starts has its priority.
_NICE = -15


@dataclass(slots=True)
class _Paced:
    """A reason that wakes the daemon at once, and not again before some time has passed."""

    every_s: float
    reason: str = ""
    due: float | None = None
    _last: float = float("-inf")

    def happened(self, reason: str) -> None:
        if self.due is None:
            self.reason, self.due = reason, max(time.monotonic(), self._last + self.every_s)

    def told(self, reasons: queue.SimpleQueue[str]) -> None:
        if self.due is not None and time.monotonic() >= self.due:
            self.due, self._last = None, time.monotonic()
            reasons.put(self.reason)


class KernelWatch:
    """A thread of its own, so that the guard is brought back also while a pass waits for a guest to shut down."""

    def __init__(self, reasons: queue.SimpleQueue[str], restore: Callable[[], Restored]) -> None:
        self._reasons, self._restore = reasons, restore
        self._ports = Ports()
        self._of_ports, self._of_others = _Paced(_PORTS_EVERY_S), _Paced(_OTHERS_EVERY_S)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen meanwhile.

        Raises:
            OSError: the kernel does not let it.
        """
        with ExitStack() as stack:
            rules = stack.enter_context(listen_to_rules())
            ports = stack.enter_context(listen_to_ports())
            # Whatever happened before there was anybody to hear it; the first pass then finds it done.
            self._guard_changed()
            stopping, stop = os.pipe2(os.O_CLOEXEC)
            stack.callback(os.close, stopping)
            thread = threading.Thread(target=self._listen, args=(rules, ports, stopping), daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(os.close, stop)
            yield

    def _listen(self, rules: socket.socket, ports: socket.socket, stopping: int) -> None:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        waiting = select.poll()
        for each in (rules.fileno(), ports.fileno(), stopping):
            waiting.register(each, select.POLLIN)
        while True:
            due = [each.due for each in (self._of_ports, self._of_others) if each.due is not None]
            timeout_ms = None if not due else max(0.0, min(due) - time.monotonic()) * 1000
            ready = {number for number, _ in waiting.poll(timeout_ms)}
            if stopping in ready:
                return
            if rules.fileno() in ready:
                self._hear_rules(rules)
            if ports.fileno() in ready:
                self._hear_ports(ports)
            self._of_ports.told(self._reasons)
            self._of_others.told(self._reasons)

    def _hear_rules(self, rules: socket.socket) -> None:
        ours = others = False
        for data in _waiting(rules):
            if data is None:
                ours = others = True  # more than there was room for
                continue
            for change in parse_rule_changes(data):
                ours |= change.ours
                # What others put into their sets is a ban or a service: rules that would drop a guest come seldom.
                others |= not change.ours and change.what != "element"
        if ours:
            self._guard_changed()
        if others:
            self._of_others.happened("rules of others changed")

    def _hear_ports(self, ports: socket.socket) -> None:
        for data in _waiting(ports):
            names = ["?"] if data is None else sorted(set(self._ports.changed(data)))
            if names:
                self._of_ports.happened(f"port changed: {' '.join(names)}")

    def _guard_changed(self) -> None:
        try:
            intact = self._restore() == "intact"
        except Exception:
            # This thread outlives a defect of ours, and a pass looks at what is so.
            log.exception("guard left to the pass")
            intact = False
        if not intact:
            self._reasons.put("guard changed")


def _waiting(ear: socket.socket) -> list[bytes | None]:
    """All that has been told so far, taken from the socket; None for what was lost."""
    found: list[bytes | None] = []
    while True:
        try:
            found.append(ear.recv(_CHUNK_BYTES, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return found
        except OSError:  # ENOBUFS: told once, then it goes on
            found.append(None)
            if len(found) > 1 and found[-2] is None:
                return found
