"""The comparison of systems runs: each system's rules load, and a few frames show that they are that system's."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from benchmarks.antispoof import by_line
from benchmarks.antispoof.__main__ import document, rows, score, table
from benchmarks.antispoof.peers import PEERS, Peer
from tests.packets.backends import forget
from tests.packets.cases import FORGED, LEGAL, RESERVED
from tests.packets.lab import Lab, has_br_netfilter
from tests.packets.parties import A, B

pytestmark = pytest.mark.netns
MAC, GUEST, FAR = (
    "own IPv4 with a random MAC",
    "udp from the gateway's address to B",
    "udp from a far address to the gateway",
)
POISON, QEMU, OPTION = (
    "arp reply: the gateway is at A",
    "qemu's mistyped announcement",
    "neighbor: solicits with B's MAC",
)
UDP, PROBE, UDP6 = "udp to B", "arp probe for the own address", "udp over IPv6 to B"
FORGED_FEW = {"few": [case for case in FORGED if case.name in {MAC, GUEST, FAR, POISON, QEMU, OPTION}]}
LEGAL_FEW = {"few": [case for case in LEGAL if case.name in {UDP, PROBE, UDP6}]}
# What leaks, and what is lost.
EXPECTED = {
    "no rules": ({MAC, GUEST, FAR, POISON, QEMU, OPTION}, set[str]()),
    "Xen antispoof": ({MAC, GUEST, POISON, QEMU, OPTION}, set[str]()),
    "Xen antispoof, NOTRACK": ({MAC, GUEST, POISON, QEMU, OPTION}, set[str]()),
    "by hand": ({MAC, GUEST, POISON, QEMU, OPTION}, set[str]()),
    "libvirt": ({QEMU}, {PROBE, UDP6}),
    "Proxmox": ({QEMU, OPTION}, {PROBE}),
    "Incus": ({MAC, OPTION}, {PROBE}),
    "domgit, nftables": (set[str](), set[str]()),
    "domgit, iptables": (set[str](), set[str]()),
}


@pytest.fixture
def empty(lab: Lab) -> Iterator[Lab]:
    if not has_br_netfilter():
        pytest.skip("this kernel has no br_netfilter: no bridged frame gets to the iptables rules of others")
    yield lab
    forget(lab)
    lab.filter_by_iptables(enabled=False)


@pytest.fixture(params=PEERS, ids=lambda peer: peer.name)
def peer(request: pytest.FixtureRequest) -> Peer:
    found = request.param
    assert isinstance(found, Peer)
    return found


@pytest.fixture
def place(empty: Lab, peer: Peer) -> Iterator[Lab]:
    """The one for all, or a system's own."""
    if peer.bench is Lab:
        yield empty
        return
    own = peer.bench()
    yield own
    own.close()


def test_the_rules_of_a_system_load_and_do_what_it_is_known_for(place: Lab, peer: Peer) -> None:
    found = score(place, peer, FORGED_FEW, LEGAL_FEW)

    assert (set(found.leaked["few"]), set(found.lost["few"])) == EXPECTED[peer.name]
    assert f"| **leaked of 6 forged** | **{len(found.leaked['few'])}** |\n" in table(
        [found], FORGED_FEW, LEGAL_FEW
    )
    told = json.loads(json.dumps(document([found], place, FORGED_FEW, LEGAL_FEW)))
    assert told["systems"][0]["leaked"] == len(told["systems"][0]["leaked_frames"]["few"])


def test_a_frame_that_leaks_is_put_down_to_the_line_that_let_it_through(empty: Lab) -> None:
    by_hand = next(each for each in PEERS if each.name == "by hand")

    found = by_line.lines(empty, by_hand, FORGED_FEW["few"])

    told = {rule: names for rule, names in found.leaked.items() if names}
    assert {rule: sorted(names) for rule, names in told.items()} == {
        f"FORWARD -s {A.v4}/32 -m physdev --physdev-in vm01 -j ACCEPT": [MAC],
        f"FORWARD -d {B.v4}/32 -m physdev --physdev-out vm02 -j ACCEPT": [GUEST],
        "FORWARD -m state --state RELATED,ESTABLISHED -m physdev --physdev-out vm02 -j ACCEPT": [
            by_line.ANSWER
        ],
        by_line.NO_LINE: sorted([POISON, QEMU, OPTION]),
    }


def test_every_forged_frame_stands_in_one_row_of_the_table() -> None:
    counted = [case for cases in rows().values() for case in cases]

    assert sorted(map(str, counted)) == sorted(map(str, (*FORGED, *RESERVED)))
