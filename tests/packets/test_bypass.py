"""A vif that a human has opened for a time: what passes meanwhile, what never does, and that the kernel closes it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.bypass import BypassError, Wish, close_vif, open_vif
from reconciler.config import Paths
from reconciler.execute import HostDisk
from reconciler.guard import nftables
from reconciler.guard_trial import Safety
from reconciler.guard_watchdog import HostWatchdog
from reconciler.reconcile import Dom0
from state.drops import read_drops
from state.files import HostFiles
from state.nft import Features, read_table
from state.reach import HostProber
from tests.packets import frames as f
from tests.packets.cases import FORGED as FORGERIES
from tests.packets.cases import LEGAL, udp4
from tests.packets.lab import Lab
from tests.packets.parties import A_BINDING, B_BINDING, GATEWAY, GUARD, UPLINK, A, B, Party, binding, guard
from tests.packets.test_frames import complaint

pytestmark = pytest.mark.netns
FORGED = udp4(B.v4, GATEWAY)
FROM_B = f.ethernet(GATEWAY.mac, B.mac, f.IPV4, udp4(A.v4, GATEWAY)[14:])


@pytest.fixture
def host(lab: Lab, tmp_path: Path) -> Dom0:
    return Dom0(
        runner=lab.dom0,
        files=HostFiles(),
        disk=HostDisk(str),
        paths=Paths(state=tmp_path / "state", run=tmp_path / "run"),
        sleep=time.sleep,
        monotonic=time.monotonic,
        safety=Safety(HostProber(), HostWatchdog(lab.dom0), 25.0, None),
    )


def wish(vif: str = A.port, seconds: int = 3600, reason: str = "ticket 4711") -> Wish:
    return Wish(vif, seconds, reason, "noc@dom0-a")


def test_a_bypassed_vif_may_send_with_any_address_but_no_other_mac_and_nobody_else_may(
    lab: Lab, features: Features, host: Dom0
) -> None:
    lab.load(nftables.full(GUARD, features))
    lab.lock(A)

    until = open_vif(host, wish())

    own = [case for case in FORGERIES if case.sender == A and case.frame[6:12] == f.mac(A.mac)]
    stopped = [str(case) for case in own if lab.send(case.frame).nothing]
    assert len(own) > 100
    assert stopped == [], stopped
    others = [case for case in FORGERIES if case.sender == A and case.frame[6:12] != f.mac(A.mac)]
    assert others
    assert [str(case) for case in others if not lab.send(case.frame).nothing] == []
    assert lab.send(FROM_B, B).nothing
    assert [found for case in LEGAL if (found := complaint(case, lab.send(case.frame, case.sender)))] == []

    close_vif(host, A.port, "noc@dom0-a")

    assert lab.send(FORGED).nothing
    opened, closed = host.journal().records()
    assert {key: opened[key] for key in ("type", "what", "vif", "until", "reason", "by")} == {
        "type": "bypass", "what": "open", "vif": A.port, "until": until, "reason": "ticket 4711", "by": "noc@dom0-a",
    }  # fmt: skip
    assert (closed["what"], closed["vif"], closed["by"]) == ("end", A.port, "noc@dom0-a")


def test_a_vif_of_another_domu_that_is_called_like_the_twin_stays_closed_and_stays_open(
    lab: Lab, features: Features, host: Dom0
) -> None:
    named_alike = Party(f"{A.port}-emu", "00:00:5e:00:53:0d", "192.0.2.41", "2001:db8::41")
    lab.plug(named_alike.port, named_alike.mac)
    try:
        lab.load(nftables.full(guard(A_BINDING, B_BINDING, binding(named_alike)), features))
        forged = f.ethernet(GATEWAY.mac, named_alike.mac, f.IPV4, FORGED[14:])

        open_vif(host, wish())

        assert lab.send(FORGED).where
        assert lab.send(forged, named_alike).nothing

        open_vif(host, wish(named_alike.port))
        close_vif(host, A.port, "noc@dom0-a")

        assert lab.send(FORGED).nothing
        assert lab.send(forged, named_alike).where
    finally:
        lab.unplug(named_alike.port)


def test_the_kernel_closes_a_bypassed_vif_when_its_time_is_over(
    lab: Lab, features: Features, host: Dom0
) -> None:
    """Nobody of ours runs meanwhile: what is killed does not matter."""
    lab.load(nftables.full(GUARD, features))
    seconds, started = 2, time.monotonic()

    open_vif(host, wish(seconds=seconds))

    assert UPLINK in lab.send(FORGED).where
    while not lab.send(FORGED).nothing:
        assert time.monotonic() < started + 5 * seconds
    assert time.monotonic() >= started + seconds
    table = read_table(lab.dom0)
    assert table is not None
    assert not table.elements.get("bypassed")


def test_a_second_bypass_counts_from_now(lab: Lab, features: Features, host: Dom0) -> None:
    lab.load(nftables.full(GUARD, features))
    open_vif(host, wish(seconds=3600))

    open_vif(host, wish(seconds=60))

    drops = read_drops(lab.dom0, HostFiles())
    assert drops is not None
    (port,) = drops.bypassed
    assert port == A.port
    assert 50 <= drops.bypassed[port].left_s <= 60


def test_changes_of_the_guard_leave_a_bypass_and_take_it_with_its_vif(
    lab: Lab, features: Features, host: Dom0
) -> None:
    lab.load(nftables.full(GUARD, features))
    open_vif(host, wish())
    narrower = guard(binding(A), B_BINDING)

    loaded = read_table(lab.dom0)
    assert loaded is not None
    lab.load(nftables.reload_rules(loaded, narrower, features))

    loaded = read_table(lab.dom0)
    assert nftables.script(loaded, narrower, features) == ("", "elements")
    assert UPLINK in lab.send(FORGED).where

    # The name goes to a vif with another MAC: that one was not opened.
    other = guard(replace(binding(A), mac="00:00:5e:00:53:77"), B_BINDING)
    loaded = read_table(lab.dom0)
    assert loaded is not None
    lab.load(nftables.delta(loaded, other))
    assert lab.send(udp4(B.v4, GATEWAY, hardware="00:00:5e:00:53:77")).nothing
    loaded = read_table(lab.dom0)
    assert loaded is not None
    assert not loaded.elements.get("bypassed")


def test_rules_that_are_put_back_open_nothing(lab: Lab, features: Features, host: Dom0) -> None:
    """What was open when they were listed may have been closed since."""
    lab.load(nftables.full(GUARD, features))
    open_vif(host, wish())
    open_vif(host, wish(B.port))
    listing = lab.dom0.must("nft", "list", "table", "bridge", "domgit")
    close_vif(host, A.port, "noc")

    lab.load(nftables.restored(listing))

    assert lab.send(FORGED).nothing
    assert nftables.script(read_table(lab.dom0), GUARD, features) == ("", "elements")


def test_both_ports_of_an_hvm_guest_are_opened_and_closed(lab: Lab, features: Features, host: Dom0) -> None:
    twin = replace(A, port=f"{A.port}-emu")
    lab.load(nftables.full(guard(binding(A, emulated=True)), features))
    lab.plug(twin.port, A.mac)
    try:
        open_vif(host, wish())
        assert UPLINK in lab.send(FORGED, twin).where
        assert UPLINK in lab.send(FORGED, A).where
        close_vif(host, A.port, "noc")
        assert lab.send(FORGED, twin).nothing
        assert lab.send(FORGED, A).nothing
    finally:
        lab.unplug(twin.port)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (wish("vm99"), "no vif 'vm99' (have vm01, vm02)"),
        (wish('vm01" . 00:00:5e:00:53:0a }; flush ruleset; #'), "no vif "),
        (wish(UPLINK), "no vif 'eth0' (have vm01, vm02)"),
        (wish("vm"), "no vif 'vm' (have vm01, vm02)"),
        (wish(seconds=0), "--for: 0s (expected 1s to 24h)"),
        (wish(seconds=24 * 3600 + 1), "--for: 86401s (expected 1s to 24h)"),
        (wish(reason=" "), "--reason: expected 1 to 200 printable characters"),
        (wish(reason="a\nb"), "--reason: expected 1 to 200 printable characters"),
        (wish(reason="a" * 201), "--reason: expected 1 to 200 printable characters"),
    ],
)
def test_what_is_no_vif_no_time_or_no_reason_is_refused_and_nothing_is_noted(
    lab: Lab, features: Features, host: Dom0, asked: Wish, why: str
) -> None:
    lab.load(nftables.full(GUARD, features))

    with pytest.raises(BypassError) as refused:
        open_vif(host, asked)

    assert str(refused.value).startswith(why)
    assert [*host.journal().records()] == []
    assert lab.send(FORGED).nothing


def test_without_a_guard_and_with_that_of_an_older_version_nothing_is_opened(
    lab: Lab, features: Features, host: Dom0
) -> None:
    with pytest.raises(BypassError, match="the guard is not loaded"):
        open_vif(host, wish())
    lab.load("table bridge domgit { map ports { type ifname : verdict; }; }\n")
    with pytest.raises(BypassError, match="older version"):
        open_vif(host, wish())
    lab.load(nftables.full(GUARD, features))
    with pytest.raises(BypassError, match="'vm01' is not bypassed"):
        close_vif(host, A.port, "noc")
