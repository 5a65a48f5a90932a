"""A bridge that snoops on groups: what it learns from a guarded guest's frames, and what from the same frames without a guard."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address

import pytest

from tests.packets import frames as f
from tests.packets.backends import Backend
from tests.packets.cases import FORGED, LEGAL, MLD_ROUTERS, RESERVED, igmp4
from tests.packets.lab import Lab
from tests.packets.parties import BRIDGE, GUARD, A, B

pytestmark = pytest.mark.netns

FORGERIES = tuple(case for case in (*FORGED, *RESERVED) if case.sender == A)
HONEST = tuple(case for case in LEGAL if case.sender == A)
# Some of those by which a guest would be a router. A query of MLD is left out: whether it makes one depends on who asked before.
MADE_OF_FRAGMENTS = {
    "a later fragment that is an igmp query",
    "a later fragment that is an igmp multicast router advertisement",
    "a later fragment that is a pim hello",
    "the last fragment that there can be, an igmp query",
    "a first fragment that is an igmp query",
}
# A membership is forgotten 260 s after its last report, a query has it forgotten within seconds. No test takes a minute.
FRESH_S = 200.0
GROUP4, GROUP6 = "233.252.0.5", "ff15::5"


@dataclass(frozen=True, slots=True)
class Learned:
    """Which ports the bridge takes for routers, and for how many seconds it takes which port for a member of which group."""

    routers: frozenset[str]
    members: dict[tuple[str, str], float]


def learned(lab: Lab) -> Learned:
    """What the bridge has learned so far."""
    told = json.loads(lab.dom0.must("bridge", "-j", "-d", "-s", "mdb", "show"))[0]
    return Learned(
        frozenset(each["port"] for each in told["router"].get(BRIDGE, [])),
        {
            (each["port"], each["grp"]): float(each["timer"])
            for each in told["mdb"]
            if each["dev"] == BRIDGE != each["port"]  # dom0 joins and leaves when it likes
        },
    )


def snoop(lab: Lab, *, enabled: bool) -> None:
    """Snooping on or off. What was learned goes with it."""
    lab.dom0.must("ip", "link", "set", BRIDGE, "type", "bridge", "mcast_snooping", "1" if enabled else "0")


@pytest.fixture
def snooping(lab: Lab) -> Iterator[Lab]:
    """The bench with a bridge that snoops."""
    snoop(lab, enabled=True)
    yield lab
    snoop(lab, enabled=False)


def join(lab: Lab) -> None:
    """The other guest joins two groups."""
    lab.sockets[B.port].send(igmp4(B.v4, GROUP4, f.igmp(0x16, GROUP4), hardware=B.mac))
    record = bytes((4, 0, 0, 0)) + IPv6Address(GROUP6).packed
    message = f.icmpv6(B.link_local, MLD_ROUTERS, 143, b"\0\0\0\1" + record)
    options = bytes((f.ICMPV6, 0)) + f.ROUTER_ALERT
    packet = f.ipv6(B.link_local, MLD_ROUTERS, f.HOP_BY_HOP, options + message, hops=1)
    lab.sockets[B.port].send(f.ethernet(f.group_mac(MLD_ROUTERS), B.mac, f.IPV6, packet))


def after(lab: Lab, sent: Iterable[bytes]) -> Learned:
    """What the bridge has learned when a guest has sent these, and the other one has joined before."""
    join(lab)
    lab.settle()
    assert {*learned(lab).members} == {(B.port, GROUP4), (B.port, GROUP6)}
    for frame in sent:
        lab.sockets[A.port].send(frame)
    lab.settle()
    return learned(lab)


def test_no_forged_frame_makes_a_guest_a_router_or_touches_a_membership(
    snooping: Lab, backend: Backend
) -> None:
    backend.load(snooping, GUARD)
    snooping.lock(A)

    found = after(snooping, (case.frame for case in FORGERIES))

    assert found.routers == frozenset()
    assert {each for each, seconds in found.members.items() if seconds > FRESH_S} == {
        (B.port, GROUP4),
        (B.port, GROUP6),
    }
    assert len(found.members) == 2


def test_without_a_guard_the_same_frames_make_a_router_and_take_a_membership_away(snooping: Lab) -> None:
    found = after(snooping, (case.frame for case in FORGERIES))

    assert found.routers == {A.port}
    assert all(found.members[B.port, group] < FRESH_S for group in (GROUP4, GROUP6))


def test_without_a_guard_a_router_is_made_of_fragments_too_as_far_as_linux_reads_them(lab: Lab) -> None:
    found = set()
    for case in (*FORGERIES, *HONEST):
        snoop(lab, enabled=True)
        lab.sockets[A.port].send(case.frame)
        lab.settle()
        found |= {case.name} if learned(lab).routers else set()
        snoop(lab, enabled=False)

    assert {name for name in found if "fragment" in name} >= MADE_OF_FRAGMENTS
    assert not {case.name for case in HONEST} & found  # of IPv6, Linux reads no later fragment


def test_the_reports_that_a_guest_may_send_are_learned(snooping: Lab, backend: Backend) -> None:
    backend.load(snooping, GUARD)
    for case in HONEST:
        snooping.sockets[A.port].send(case.frame)
    snooping.settle()

    assert learned(snooping).routers == frozenset()
    assert (A.port, GROUP4) in learned(snooping).members


def test_a_guest_without_address_is_a_member_by_its_report(snooping: Lab, backend: Backend) -> None:
    backend.load(snooping, GUARD)

    snooping.sockets[A.port].send(igmp4("0.0.0.0", GROUP4, f.igmp(0x16, GROUP4)))
    snooping.settle()

    assert {*learned(snooping).members} == {(A.port, GROUP4)}
