"""A guest's port that somebody renames while it is up: what the guest sends then goes nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from reconciler.guard import nftables, port_lock
from reconciler.guard.binding import Guard
from state.nft import Features
from tests.packets import frames as f
from tests.packets.cases import CASES, udp4
from tests.packets.lab import Lab
from tests.packets.parties import (
    A_BINDING,
    B_BINDING,
    BRIDGE,
    DOM0,
    GATEWAY,
    GUARD,
    UPLINK,
    A,
    B,
    Party,
    binding,
    guard,
)

pytestmark = pytest.mark.netns
NEW_NAME = "renamed"
OF_A = [case for case in CASES if case.sender == A]
# No name to match a frame's bridge by: the kernel of which least can be expected.
LEAST = Features(ibrname=False)
GUARDS = {
    "unknown vifs are reported": GUARD,
    "unknown vifs are dropped": guard(A_BINDING, B_BINDING, unknown_vifs="drop"),
    "no other bridge": guard(A_BINDING, B_BINDING, unknown_vifs="drop", alone=True),
}


@contextmanager
def renamed(lab: Lab, party: Party, name: str) -> Iterator[None]:
    """The port under another name while it is up, which newer kernels allow (6.18 does); the party behind it notices nothing."""
    lab.dom0.must("ip", "link", "set", "dev", party.port, "name", name)
    try:
        yield
    finally:
        lab.dom0.must("ip", "link", "set", "dev", name, "name", party.port)


@pytest.mark.parametrize("name", [NEW_NAME, "vif7.0"])
@pytest.mark.parametrize("wanted", GUARDS.values(), ids=GUARDS)
def test_a_renamed_port_reaches_neither_others_nor_dom0_with_whatever_frame(
    bridged_lab: Lab, wanted: Guard, name: str
) -> None:
    lab = bridged_lab
    lab.load(nftables.full(wanted, LEAST))
    lab.lock(A)
    assert UPLINK in lab.send(udp4(A.v4, GATEWAY)).where

    with renamed(lab, A, name):
        passed = [str(case) for case in OF_A if not lab.send(case.frame).nothing]

    assert len(OF_A) > 50
    assert passed == []
    counted = lab.dom0.must("nft", "list", "set", "bridge", "domgit", "count_unknown")
    assert f'"{name}" counter packets' in counted
    assert UPLINK in lab.send(udp4(A.v4, GATEWAY)).where


def test_others_go_on_as_before_while_a_port_is_renamed(bridged_lab: Lab) -> None:
    lab = bridged_lab
    lab.load(nftables.full(GUARD, LEAST))
    lab.lock(A)
    lab.lock(B)

    with renamed(lab, A, NEW_NAME):
        from_b = f.ethernet(GATEWAY.mac, B.mac, f.IPV4, udp4(B.v4, GATEWAY)[14:])
        to_b = f.ethernet(B.mac, GATEWAY.mac, f.IPV4, udp4(GATEWAY.v4, B)[14:])
        to_dom0 = f.ethernet(DOM0.mac, GATEWAY.mac, f.IPV4, udp4(GATEWAY.v4, DOM0)[14:])
        b_to_dom0 = f.ethernet(DOM0.mac, B.mac, f.IPV4, udp4(B.v4, DOM0)[14:])

        assert UPLINK in lab.send(from_b, B).where
        assert B.port in lab.send(to_b, GATEWAY).where
        assert BRIDGE in lab.send(to_dom0, GATEWAY).where
        assert BRIDGE in lab.send(b_to_dom0, B).where


def test_a_port_that_got_the_name_of_another_guest_has_nothing_of_what_is_that_ones(lab: Lab) -> None:
    lab.load(nftables.full(GUARD, LEAST))
    lab.lock(A)
    lab.unplug(B.port)
    try:
        with renamed(lab, A, B.port):
            frames = [
                f.ethernet(GATEWAY.mac, mac, f.IPV4, udp4(address, GATEWAY)[14:])
                for mac in (A.mac, B.mac)
                for address in (A.v4, B.v4)
            ]
            passed = [frame for frame in frames if UPLINK in _where(lab, frame)]
    finally:
        lab.plug(B.port, B.mac)

    assert passed == []


def _where(lab: Lab, frame: bytes) -> set[str]:
    """Where a frame is heard before one of the gateway's own, which comes behind it."""
    lab.drain()
    mark = f.ethernet("ff:ff:ff:ff:ff:ff", GATEWAY.mac, 0x88B5, b"behind it".ljust(50, b"\0"))
    lab.sockets[A.port].send(frame)
    lab.sockets[GATEWAY.port].send(mark)
    while mark not in (heard := lab.heard(BRIDGE)):
        assert frame not in heard
    return {port for port in (UPLINK,) if frame in lab.heard(port)}


def test_an_emulated_twin_that_is_renamed_reaches_nobody_although_it_has_no_lock(lab: Lab) -> None:
    lab.load(nftables.full(guard(binding(A, emulated=True)), LEAST))
    lab.dom0.must(*port_lock.mark(A.port))

    with renamed(lab, A, NEW_NAME):
        passed = [str(case) for case in OF_A if not lab.send(case.frame).nothing]

    assert passed == []


def test_an_audited_port_that_is_renamed_is_let_through(lab: Lab) -> None:
    """Audit drops nothing: such a port is not marked."""
    lab.load(nftables.full(guard(binding(A, mode="audit"), B_BINDING), LEAST))

    with renamed(lab, A, NEW_NAME):
        assert UPLINK in lab.send(udp4(A.v4, GATEWAY)).where


def test_a_port_whose_binding_was_taken_away_reaches_nobody_even_where_unknown_ports_are_let_through(
    lab: Lab,
) -> None:
    lab.load(nftables.full(guard(B_BINDING), LEAST))
    lab.lock(A)

    assert [str(case) for case in OF_A if not lab.send(case.frame).nothing] == []


def test_a_mark_taken_back_makes_it_an_ordinary_port(lab: Lab) -> None:
    lab.load(nftables.full(guard(B_BINDING), LEAST))
    lab.lock(A)
    for argv in port_lock.unlock(A.port, A.mac):
        lab.dom0.must(*argv)

    assert UPLINK in lab.send(udp4(A.v4, GATEWAY)).where
