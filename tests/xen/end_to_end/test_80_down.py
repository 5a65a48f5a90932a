"""The host is taken down as docs/operations.md says; what is marked after_boot looks when it is up again."""

from __future__ import annotations

from tests.dom0.toolstack import domids, run
from tests.xen.end_to_end.provider import NAMES, Provider, all_up, wait_until


def test_the_host_can_be_taken_down(guests: Provider) -> None:
    all_up(NAMES)
    assert guests.domgit("plan", "--detailed-exitcode").code == 0
    assert run("systemctl", "enable", "domgit", "domgit-guard").returncode == 0
    run("systemctl", "stop", "domgit")

    assert run("xl", "shutdown", "-a").returncode == 0
    wait_until(lambda: run("xl", "list").stdout.count("---s--") == len(NAMES), "the end of all guests")
    for domid in domids().values():
        assert run("xl", "destroy", str(domid)).returncode == 0

    assert domids() == {}
