"""Guests send what they may not, through real netfront and netback; who hears it: neighbour, gateway and dom0."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack

import pytest

from tests.demo.frames import BROADCAST, Case, Party, cases, ether, udp4
from tests.dom0.namespace import GATEWAY
from tests.dom0.network import GATEWAY_MAC, UPLINK_MAC
from tests.dom0.toolstack import run
from tests.packets.lab import variants
from tests.xen.end_to_end.provider import VM01, VM02, Provider
from tests.xen.inside import Guest

ME, NEIGHBOUR = Party(VM02, "172.16.39.106"), Party(VM01, "172.16.39.105")
OUTSIDE = Party(GATEWAY_MAC, "172.16.39.1", "2001:db8:39::1")
DOM0 = Party(UPLINK_MAC, "172.16.39.2", "2001:db8:39::2")
CASES = cases(ME, NEIGHBOUR, OUTSIDE, DOM0)
LAST = b"the last of all frames"
SETTLED_S = 60.0
Heard = Mapping[str, frozenset[str]]  # the names of cases by who heard them


def dom0_socket() -> socket.socket:
    """What gets to dom0 itself."""
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    raw.bind(("xenbr0", 0))
    return raw


def waiting(ear: socket.socket) -> list[bytes]:
    """All that has arrived."""
    found = []
    ear.setblocking(False)
    try:
        while True:
            found.append(ear.recv(2048))
    except BlockingIOError:
        return found


def attack(sender: Guest, victim: Guest, frames: Mapping[str, bytes], last: bytes) -> Heard:
    """Send all frames, and behind them one that may pass: once it is heard, whatever else comes has come."""
    with ExitStack() as stack:
        ears = {
            "gateway": stack.enter_context(GATEWAY.packet_socket()),
            "dom0": stack.enter_context(dom0_socket()),
        }
        victim.packet_socket()
        for frame in frames.values():
            sender.send(frame)
        sender.send(last)
        heard: dict[str, list[bytes]] = {"neighbour": [], "gateway": [], "dom0": []}
        deadline = time.monotonic() + SETTLED_S
        while not all(any(LAST in frame for frame in got) for got in heard.values()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the last frame was not heard by all: {[*map(len, heard.values())]}")
            heard["neighbour"] += victim.heard()
            for name, ear in ears.items():
                heard[name] += waiting(ear)
    return {
        who: frozenset(name for name, frame in frames.items() if _among(frame, got))
        for who, got in heard.items()
    }


def _among(frame: bytes, heard: list[bytes]) -> bool:
    return any(each[: len(wanted)] == wanted for wanted in variants(frame) for each in heard)


def last_frame(party: Party) -> bytes:
    """A frame that this guest may send to all."""
    return ether(BROADCAST, party.mac, 0x0800, udp4(party.ip, "255.255.255.255", LAST))


@pytest.fixture(scope="module")
def heard(guests: Provider) -> Heard:
    assert guests.root.exists()
    return attack(Guest("vm02"), Guest("vm01"), {case.name: case.frame for case in CASES}, last_frame(ME))


def everybody(heard: Heard, case: Case) -> set[str]:
    return {who for who, names in heard.items() if case.name in names}


@pytest.mark.parametrize("case", [case for case in CASES if case.forged], ids=lambda case: case.name)
def test_a_forged_frame_is_heard_by_nobody(heard: Heard, case: Case) -> None:
    assert everybody(heard, case) == set()


@pytest.mark.parametrize("case", [case for case in CASES if not case.forged], ids=lambda case: case.name)
def test_an_honest_frame_is_heard(heard: Heard, case: Case) -> None:
    assert everybody(heard, case) != set()


@pytest.mark.usefixtures("guests")
def test_an_address_that_a_guest_gives_itself_gets_it_no_answer() -> None:
    guest = Guest("vm02")
    guest.run(["ip", "address", "add", "172.16.39.105/24", "dev", "eth0"])
    try:
        said = guest.run(["ping", "-c", "2", "-W", "1", "-I", "172.16.39.105", "172.16.39.1"]).stdout
    finally:
        guest.run(["ip", "address", "del", "172.16.39.105/24", "dev", "eth0"])

    assert "2 packets transmitted, 0 packets received" in said
    assert Guest("vm01").ping("172.16.39.1")


def set_mac(guest: Guest, mac: str) -> None:
    """A frontend takes another MAC only while it is down."""
    command = f"ip link set eth0 down && ip link set eth0 address {mac} && network eth0"
    done = guest.run(["sh", "-c", command])
    assert done.returncode == 0, done.stdout
    assert mac in guest.run(["ip", "link", "show", "eth0"]).stdout


@pytest.mark.usefixtures("guests")
def test_a_guest_that_changes_its_mac_is_heard_by_nobody() -> None:
    guest = Guest("vm02")
    set_mac(guest, "00:16:3e:7c:1f:99")
    try:
        assert not guest.ping("172.16.39.1", 3.0)
    finally:
        set_mac(guest, VM02)

    assert guest.ping("172.16.39.1", 5.0)


@pytest.mark.usefixtures("heard")
def test_who_spoofed_is_told(guests: Provider) -> None:
    found = guests.domgit("violations", "--json").json["violations"]

    # Linux answers for all its addresses on every interface, so one with two vifs on a bridge is told of as well, without harm:
    # who asks for the address of the one hears the one.
    assert [each["vif"] for each in found if each["vif"] != "mail-b"] == ["vm02"]
    others = [each for each in found if each["vif"] == "mail-b"]
    assert {reason["reason"] for each in others for reason in each["reasons"]} <= {"arp"}


@pytest.mark.usefixtures("guests", "heard")
def test_dom0_still_knows_its_neighbours_as_they_are() -> None:
    known = run("ip", "neighbour", "show", "172.16.39.1", "dev", "xenbr0").stdout

    assert VM02 not in known
