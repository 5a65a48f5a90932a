"""The daemon while somebody else flushes rules: the guard comes back by itself, and the daemon comes to rest."""

from __future__ import annotations

import queue
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.dom0.toolstack import domids, run, wait_until
from tests.end_to_end.provider import STATE, Provider, booted

pytestmark = pytest.mark.dom0
PASSES_WITHIN_S = 60.0
# Longer than the longest pace at which a change of others wakes it.
QUIET_S = 12.0
MOST_LINES = 200


class Log:
    """What the daemon says, line by line, as it says it."""

    def __init__(self, daemon: subprocess.Popen[str]) -> None:
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._daemon = daemon
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._daemon.stderr or ():
            self._lines.put(line)

    def until(self, *, says: str) -> str:
        """The next line with that in it."""
        while says not in (line := self._lines.get(timeout=PASSES_WITHIN_S)):
            pass
        return line

    def rests(self) -> None:
        """Waits until nothing was said for a while: every pass ends, and none begins."""
        with suppress(queue.Empty):
            for _ in range(MOST_LINES):
                self._lines.get(timeout=QUIET_S)
            pytest.fail("it never comes to rest")


@contextmanager
def running(provider: Provider) -> Iterator[Log]:
    daemon = subprocess.Popen(
        provider.argv("run"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    try:
        yield Log(daemon)
    finally:
        daemon.terminate()
        daemon.wait(timeout=60)


def table() -> str:
    return run("nft", "-s", "list", "table", "bridge", "domgit").stdout


def test_a_flushed_guard_is_back_by_itself_and_the_daemon_comes_to_rest(provider: Provider) -> None:
    provider.domu("vm01", 1)
    provider.commit()
    with running(provider) as log:
        wait_until(lambda: "vm01" in domids(), "the first commit")
        booted("vm01")
        log.rests()  # also from what its own changes have woken it for
        before = table()

        run("nft", "flush", "ruleset")

        took = re.search(r"lost=table ms=([0-9]+)", log.until(says="guard brought back"))
        assert took is not None
        assert log.until(says="pass starting").endswith("because=guard changed\n")
        assert re.search(r"done=0 failed=0 converged=True", log.until(says="pass finished"))
        assert table() == before
        log.rests()
    assert "restored" in (STATE / "journal").read_text(encoding="utf-8")


def test_a_port_that_somebody_renames_wakes_the_daemon_which_puts_it_right(provider: Provider) -> None:
    provider.domu("vm01", 1)
    provider.commit()
    with running(provider) as log:
        wait_until(lambda: "vm01" in domids(), "the first commit")
        guest = booted("vm01")
        log.rests()

        run("ip", "link", "set", "vm01", "name", "renamed")

        assert "port changed" in log.until(says="pass starting")
        assert "failed=0 converged=True" in log.until(says="pass finished")
        log.rests()
    assert guest.ping("172.16.39.1")


def test_a_flushed_guard_is_back_while_a_pass_waits_for_a_guest_to_shut_down(provider: Provider) -> None:
    host = provider.root / "hosts/dom0-a/host.yaml"
    text = host.read_text(encoding="utf-8").replace("disruption: link", "disruption: reboot")
    host.write_text(text, encoding="utf-8")
    provider.domu("vm01", 1)
    provider.domu("vm02", 2)
    provider.commit()
    with running(provider) as log:
        wait_until(lambda: {"vm01", "vm02"} <= {*domids()}, "the first commit")
        booted("vm01")
        guest = booted("vm02")
        log.rests()
        before = table()
        guest.ignore_shutdown()
        provider.domu("vm02", 2, state="halted")
        provider.commit()
        assert "address=domu.vm02" in log.until(says="acting")

        run("nft", "flush", "ruleset")

        assert "lost=table" in log.until(says="guard brought back")
        assert table() == before
        assert "vm02" in domids()  # for whose end the pass still waits
        guest.crash()
        assert "failed=0" in log.until(says="pass finished")
