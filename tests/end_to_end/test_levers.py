"""Who spoofs, opening a vif for a time, and what enforce would have dropped: the verbs, with guests that send."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dom0.guest import Guest
from tests.dom0.namespace import GATEWAY
from tests.dom0.network import GATEWAY_MAC
from tests.end_to_end.provider import Provider, booted, mac, vif
from tests.packets.frames import IPV4, UDP, ethernet, ipv4, udp

pytestmark = pytest.mark.dom0
GATEWAY_IP, OWN, FORGED = "172.16.39.1", "172.16.39.102", "172.16.39.77"


@pytest.fixture
def ear() -> Iterator[socket.socket]:
    with GATEWAY.packet_socket() as heard:
        heard.settimeout(10)
        yield heard


def datagram(source: str, text: bytes, hardware: str = mac(2)) -> bytes:
    body = ipv4(source, GATEWAY_IP, UDP, udp(source, GATEWAY_IP, (5000, 9), text))
    return ethernet(GATEWAY_MAC, hardware, IPV4, body)


def passes(guest: Guest, ear: socket.socket, frame: bytes, text: bytes) -> bool:
    """Whether the gateway hears it before it hears an honest one that is sent behind it."""
    guest.send(frame)
    guest.send(datagram(OWN, b"end of " + text))
    found = False
    while b"end of " + text not in (got := ear.recv(2048)):
        found = found or text in got
    return found


def refused(provider: Provider) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = provider.domgit("violations", "--json").json["violations"]
    # What guests say when they boot, before anybody asks them, is theirs.
    return [each for each in found if each["vif"] == "vm02"]


def packets(provider: Provider) -> int:
    return sum(
        reason["packets"]
        for each in refused(provider)
        for reason in each["reasons"]
        if reason["reason"] == "v4"
    )


def test_a_guest_that_spoofs_is_named_can_be_let_through_for_a_time_and_is_held_back_again(
    provider: Provider, ear: socket.socket
) -> None:
    provider.domu("vm01", 1)
    provider.domu("vm02", 2)
    provider.settled()
    guest = booted("vm02")

    assert not passes(guest, ear, datagram(FORGED, b"first"), b"first")
    (named,) = refused(provider)
    assert (named["domu"], named["index"], named["mode"]) == ("vm02", 0, "enforce")
    assert named["bound"]["mac"] == mac(2)
    assert OWN in named["bound"]["addresses"]
    assert packets(provider) == 1
    text = provider.domgit("violations").out
    assert "vm02  domu.vm02.vif.0: " in text
    assert "rates since " in text  # apply has remembered what was counted

    opened = provider.domgit("bypass", "vm02", "--for", "1h", "--reason", "ticket 4711: moves in")
    assert opened.code == 0, opened.err
    assert passes(guest, ear, datagram(FORGED, b"second"), b"second")
    assert not passes(guest, ear, datagram(FORGED, b"third", mac(77)), b"third")
    until = opened.out.split(" until ")[1].split(": `")[0]
    plan = provider.domgit("plan")
    assert "No changes." in plan.last
    assert f"# domu.vm02: vif 0 (vm02) is open until {until}" in plan.out
    assert "bypassed      domu.vm02: vif 0 (vm02) is open until" in provider.domgit("status").out
    assert "bypassed      vif 0 (vm02) is open until" in provider.domgit("get", "vm02").out
    assert provider.domgit("drift").code == 0
    # Nothing of ours ends it: a pass finds nothing to do, and a domU that comes beside it changes elements alone.
    provider.domu("vm03", 3)
    provider.settled()
    assert passes(guest, ear, datagram(FORGED, b"fourth"), b"fourth")
    assert refused(provider)[0]["mode"] == "bypassed"

    closed = provider.domgit("bypass", "vm02", "--end")

    assert closed.code == 0, closed.err
    assert not passes(guest, ear, datagram(FORGED, b"fifth"), b"fifth")
    assert provider.domgit("bypass", "vm02", "--end").code == 1
    lines = [line for line in provider.domgit("history").out.splitlines() if "  bypass  vm02 " in line]
    assert lines[0].rpartition("  ")[2] == "ticket 4711: moves in"
    assert " ended  " in lines[1]
    for wrong in (
        ("vm02", "--for", "1h"),
        ("vm02", "--for", "25h", "--reason", "x"),
        ("vm02", "--end", "--for", "1h", "--reason", "x"),
        ("vm99", "--for", "1h", "--reason", "x"),
        ("vm02",),
    ):
        assert provider.domgit("bypass", *wrong).code == 1, wrong


def test_a_plan_says_what_enforce_would_have_dropped_of_an_audited_vif_and_metrics_count_it(
    provider: Provider, ear: socket.socket
) -> None:
    provider.domu("vm02", 2, vifs=[{**vif("vm02", 2), "guard": "audit"}])
    provider.settled()
    guest = booted("vm02")
    assert passes(guest, ear, datagram(FORGED, b"first"), b"first")
    assert passes(guest, ear, datagram(FORGED, b"second"), b"second")
    assert passes(guest, ear, datagram(FORGED, b"third", mac(77)), b"third")

    assert refused(provider)[0]["mode"] == "audit"
    assert provider.domgit("run", "--once").code == 0
    metrics = Path("/run/domgit/metrics.prom").read_text()
    assert 'domgit_guard_drops_total{vif="vm02",domu="vm02",reason="v4",mode="audit"} 2\n' in metrics
    assert 'domgit_guard_drops_total{vif="vm02",domu="vm02",reason="mac",mode="audit"} 1\n' in metrics
    provider.domu("vm02", 2)
    provider.commit("enforce")
    plan = provider.domgit("plan").out
    assert "  # domu.vm02: vif 0 (vm02): enforce would have dropped " in plan
    assert "mac 1" in plan
    assert "v4 2" in plan
    assert provider.apply().code == 0

    assert not passes(guest, ear, datagram(FORGED, b"fourth"), b"fourth")
