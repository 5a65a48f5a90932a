"""The whole table of frames (tests/packets/cases.py), sent through real netfront, netback and bridge.

Two more VPSs have the addresses of the table's guests, and for as long as that takes dom0 and the gateway have the table's
addresses beside their own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

import pytest

from tests.demo.frames import BROADCAST, ether, udp4
from tests.dom0.namespace import GATEWAY as OUTSIDE
from tests.dom0.network import GATEWAY_MAC, UPLINK_MAC
from tests.dom0.toolstack import run
from tests.packets.cases import CASES, Case
from tests.packets.lab import variants
from tests.packets.parties import (
    A4_SECOND,
    A_NET4,
    A_NET6,
    B_NET4,
    B_NET6,
    BRIDGE,
    DOM0,
    GATEWAY,
    UNKNOWN,
    UPLINK,
    A,
    B,
    Party,
)
from tests.xen.end_to_end.provider import Provider
from tests.xen.end_to_end.test_20_attacks import LAST, SETTLED_S, dom0_socket, waiting
from tests.xen.inside import Guest

NAMES = {A.port: "alpha", B.port: "beta"}
NETWORKS = {
    "table4": "subnet: 192.0.2.0/24, gateway: 192.0.2.1, reserved: [192.0.2.2]",
    "table4-routed": "subnet: 198.51.100.0/24",
    "table6": 'subnet: "2001:db8::/64", gateway: "2001:db8::1", reserved: ["2001:db8::2"]',
    "table6-routed": 'subnet: "2001:db8:8::/45"',
}
ADDRESSES = {A.port: [A.v4, A4_SECOND, A_NET4, A.v6, A_NET6], B.port: [B.v4, B_NET4, B.v6, B_NET6]}
MOST_AT_ONCE = 40
Where = Mapping[str, frozenset[str]]  # who heard each case, by its name


def ip(*lines: str, netns: str = "") -> None:
    """Commands of `ip` that have to succeed."""
    for line in lines:
        done = run("ip", *(["-netns", netns] if netns else []), *line.split())
        assert done.returncode == 0, f"{line}: {done.stderr}"


@pytest.fixture(scope="module")
def table(guests: Provider) -> Iterator[Provider]:
    """The table's guests run, dom0 and the gateway have its addresses."""
    for name, spec in NETWORKS.items():
        text = f"apiVersion: domgit/v1\nkind: Network\nmetadata: {{name: {name}}}\nspec: {{{spec}, bridge: xenbr0}}\n"
        guests.write(f"networks/{name}.yaml", text)
    for number, party in enumerate((A, B), 30):
        name = NAMES[party.port]
        card = {"name": name, "mac": party.mac, "bridge": "xenbr0", "ips": ADDRESSES[party.port]}
        guests.domu(name, number, vifs=[card])
    guests.applied()
    for name in NAMES.values():
        Guest(name).wait_booted()
        Guest(name).configure([])  # silent, as the table's are
    ip(
        f"link set {BRIDGE} address {DOM0.mac}",
        f"link set {BRIDGE} type bridge mcast_snooping 0",
        f"address add {DOM0.v4}/24 dev {BRIDGE}",
        f"address add {DOM0.v6}/64 dev {BRIDGE}",
    )
    # The card that plays the gateway is a real one to its kernel: it keeps away groups that nobody there has joined.
    ip("link set eth0 allmulticast on", netns=OUTSIDE.netns)
    outside = ("link set eth0 down", f"link set eth0 address {GATEWAY.mac}", "link set eth0 up")
    ip(*outside, f"address add {GATEWAY.v4}/24 dev eth0", netns=OUTSIDE.netns)
    yield guests
    ip(f"address del {GATEWAY.v4}/24 dev eth0", "link set eth0 down allmulticast off", netns=OUTSIDE.netns)
    ip(f"link set eth0 address {GATEWAY_MAC}", "link set eth0 up", netns=OUTSIDE.netns)
    ip("address replace 2001:db8:39::1/64 dev eth0", netns=OUTSIDE.netns)  # gone with the link
    ip(
        f"address del {DOM0.v4}/24 dev {BRIDGE}",
        f"address del {DOM0.v6}/64 dev {BRIDGE}",
        f"link set {BRIDGE} type bridge mcast_snooping 1",
        f"link set {BRIDGE} address {UPLINK_MAC}",
    )
    for name in NAMES.values():
        guests.domu(name, 30, state="absent")
    guests.edit(
        "hosts/dom0-a/host.yaml",
        "  disruption: link\n",
        "  disruption: link\n  limits: {absent: 2, detach: 100%}\n",
    )
    guests.applied("--disruption", "reboot")
    for name in NAMES.values():
        guests.remove(guests.path(name))
    for name in NETWORKS:
        guests.remove(f"networks/{name}.yaml")
    guests.edit(
        "hosts/dom0-a/host.yaml",
        "  disruption: link\n  limits: {absent: 2, detach: 100%}\n",
        "  disruption: link\n",
    )
    guests.applied()


def last(party: Party) -> bytes:
    """What a party may send to all."""
    return ether(BROADCAST, party.mac, 0x0800, udp4(party.v4, "255.255.255.255", LAST))


def send(sender: Party, cases: Sequence[Case]) -> Where:
    """Who heard each frame; the party may send the one behind them, so that what is not heard by then is not heard."""
    hearing = {party.port for party in (A, B, GATEWAY, DOM0)} - {sender.port}
    heard: dict[str, list[bytes]] = {port: [] for port in hearing}
    with ExitStack() as stack:
        sockets = {
            UPLINK: stack.enter_context(OUTSIDE.packet_socket()),
            BRIDGE: stack.enter_context(dom0_socket()),
        }
        for port in hearing & NAMES.keys():
            Guest(NAMES[port]).packet_socket()
        frames = [*(case.frame for case in cases), last(sender)]
        if sender.port in NAMES:
            Guest(NAMES[sender.port]).send_all(frames)
        else:
            for frame in frames:
                sockets[UPLINK].send(frame)
        deadline = time.monotonic() + SETTLED_S
        while not all(any(LAST in frame for frame in got) for got in heard.values()):
            assert time.monotonic() < deadline, {port: len(got) for port, got in heard.items()}
            for port in heard:
                heard[port] += Guest(NAMES[port]).heard() if port in NAMES else waiting(sockets[port])
    found = {port: set(got) for port, got in heard.items()}
    return {
        case.name: frozenset(port for port, got in found.items() if not got.isdisjoint(variants(case.frame)))
        for case in cases
    }


@pytest.fixture(scope="module")
def where(table: Provider) -> Where:
    assert table.root.exists()
    found: dict[str, frozenset[str]] = {}
    for sender in (A, GATEWAY):
        mine = [case for case in CASES if case.sender is sender]
        for first in range(0, len(mine), MOST_AT_ONCE):
            # Everybody is where everybody has been: what a bridge does not know it sends to all.
            for party in (B, GATEWAY):
                (Guest(NAMES[B.port]).send if party is B else OUTSIDE.send)(last(party))
            found |= send(sender, mine[first : first + MOST_AT_ONCE])
    return found


@pytest.mark.parametrize("case", [case for case in CASES if case.sender in {A, GATEWAY}], ids=str)
def test_a_frame_of_the_table(where: Where, case: Case) -> None:
    if case.verdict == "drop":
        assert where[case.name] == frozenset()
    else:
        assert case.to - {UNKNOWN.port} <= where[case.name]


@pytest.mark.usefixtures("where")
def test_nobody_has_taken_anothers_place_in_the_bridges_table() -> None:
    learnt = [
        line
        for line in run("bridge", "fdb", "show", "dev", NAMES[A.port]).stdout.splitlines()
        if "master" in line
    ]

    assert {line.split()[0] for line in learnt} <= {A.mac, "fe:ff:ff:ff:ff:ff"}
