"""The rules that were there before, made by hand, beside ours on real Xen; and a kernel that was not decompressed before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dom0.toolstack import domids, run
from tests.end_to_end.others import SWITCHES, clear, dumps, load
from tests.packets.corpora import loaded_by
from tests.xen.end_to_end.provider import BOOT, NAMES, Provider, all_up
from tests.xen.inside import Guest

KNOWN = "172.16.39.120"  # of vm01, since tests/xen/end_to_end/test_30_changes.py
COMPRESSED = {"run": {**BOOT["run"], "kernel": "/srv/xen/vmlinuz-compressed"}}


@pytest.fixture
def by_hand(guests: Provider) -> Iterator[Provider]:
    """Hand-written iptables rules that know vm01 alone, asked of bridged frames too."""
    all_up(NAMES)
    run("modprobe", "br_netfilter")
    load(loaded_by("by-hand iptables-legacy", known=KNOWN))
    for switch in SWITCHES:
        switch.write_text("1\n")
    yield guests
    clear()
    guests.applied()


def test_a_new_vps_that_old_rules_would_keep_dark_is_refused_and_the_rules_stay(by_hand: Provider) -> None:
    before = dumps()["iptables-legacy"]
    by_hand.domu("vm03", 3)

    done = by_hand.apply()

    assert done.code == 4, done.out + done.err
    assert "! domu.vm03 " in done.out
    assert "`-A FORWARD -j DROP` drops what it sends" in done.out
    assert "vm03" not in domids()
    assert dumps()["iptables-legacy"] == before
    assert Guest("vm01").ping("172.16.39.1", 5.0)
    by_hand.remove(by_hand.path("vm03"))
    by_hand.commit("without it")


def test_a_guest_starts_from_debians_compressed_kernel(guests: Provider) -> None:
    guests.domu("vm04", 4, boot=COMPRESSED)

    guests.applied()

    Guest("vm04").wait_booted()
    assert Guest("vm04").ping("172.16.39.1", 5.0)
    guests.domu("vm04", 4, boot=COMPRESSED, state="absent")
    guests.applied("--disruption", "reboot")
    guests.remove(guests.path("vm04"))
    guests.applied()
