"""The same host with its guard in iptables, and back: real netback behind br_netfilter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dom0.toolstack import domids, run
from tests.xen.end_to_end.provider import NAMES, Provider, all_up, table
from tests.xen.end_to_end.test_20_attacks import CASES, ME, attack, last_frame
from tests.xen.inside import Guest

HOST = "hosts/dom0-a/host.yaml"


@pytest.fixture(scope="module")
def over(guests: Provider) -> Iterator[Provider]:
    """The host, gone over to iptables, and back behind the tests."""
    all_up(NAMES)
    guests.edit(HOST, "    unknownVifs: drop\n", "    unknownVifs: drop\n    backend: iptables\n")
    guests.applied()
    yield guests
    guests.edit(HOST, "    unknownVifs: drop\n    backend: iptables\n", "    unknownVifs: drop\n")
    guests.applied()
    assert "own_v4" in table()
    assert ":domgit" not in run("ebtables-nft-save").stdout


@pytest.mark.usefixtures("over")
def test_the_guard_is_in_iptables_alone() -> None:
    assert table() == ""
    assert ":domgit" in run("ebtables-nft-save").stdout
    assert "domgit" in run("iptables-nft-save", "-t", "raw").stdout


@pytest.mark.usefixtures("over")
def test_guests_reach_what_they_may() -> None:
    assert all(Guest(name).ping("172.16.39.1", 5.0) for name in NAMES)


@pytest.mark.usefixtures("over")
def test_forged_frames_are_heard_by_nobody_and_honest_ones_are() -> None:
    heard = attack(Guest("vm02"), Guest("vm01"), {case.name: case.frame for case in CASES}, last_frame(ME))

    assert set().union(*heard.values()) == {case.name for case in CASES if not case.forged}


def test_a_guest_that_reboots_is_bound_again(over: Provider) -> None:
    guest, before = Guest("vm02"), domids()["vm02"]

    guest.reboot()
    guest.wait_booted()

    assert domids()["vm02"] != before
    assert guest.ping("172.16.39.1", 5.0)
    assert over.domgit("plan", "--detailed-exitcode").code == 0
