"""Rules in the manner of other tools, under the guard: what is said of guests' frames, and what becomes of them."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_network
from random import Random

import pytest

from reconciler.foreign.by_hand import LogLine, lines, log_of
from reconciler.foreign.frames import frames
from reconciler.foreign.judge import ports_of
from reconciler.foreign.match import one
from reconciler.foreign.path import travel
from reconciler.foreign.weaken import rewritten, weaknesses
from reconciler.guard import nftables
from state.netfilter import Ranges
from state.nft import Features
from tests.packets import frames as f
from tests.packets.cases import udp4
from tests.packets.corpora import CORPORA, corpora, loaded_by
from tests.packets.foreign_bench import PLACE, SERIAL, clear, judge, load, parties, single
from tests.packets.foreign_rules import Script
from tests.packets.lab import Lab
from tests.packets.parties import BRIDGE, DOM0, GATEWAY, GUARD, UPLINK, A, B
from tests.packets.wire import Sent, Wire

pytestmark = pytest.mark.netns
SAMPLES = 6
# An advertisement that the guard lets pass has no room for a number to know it again by.
UNTOLD = ("answer", "out")
EVERY_WAY = frozenset({"what it sends", "what is sent to it"})
NEIGHBOURS = frozenset(
    {
        "what it asks its neighbours",
        "what it answers its neighbours",
        "what its neighbours ask it",
        "what its neighbours answer",
    }
)
ASKING = frozenset({"what it asks its neighbours", "what it answers its neighbours"})
# What is dark of vm01 under each rule set, by IP version: its hand-made lines are there, nobody else's.
DARK: Mapping[str, Mapping[int, frozenset[str]]] = {
    "docker iptables-nft": {4: EVERY_WAY},
    "docker iptables-legacy": {4: EVERY_WAY},
    "docker nft": {4: EVERY_WAY},
    "ufw iptables-nft": {4: EVERY_WAY, 6: EVERY_WAY | NEIGHBOURS},
    "ufw iptables-legacy": {4: EVERY_WAY, 6: EVERY_WAY | NEIGHBOURS},
    "firewalld nft": {4: EVERY_WAY, 6: EVERY_WAY},
    "firewalld iptables-nft": {4: EVERY_WAY},
    "firewalld iptables-legacy": {4: EVERY_WAY},
    "by-hand nft": {6: frozenset({"what it sends", *ASKING})},
    "by-hand ebtables": {6: frozenset({"what it sends", *ASKING})},
}


@pytest.mark.parametrize("name", corpora())
def test_what_is_said_to_arrive_or_to_be_dropped_does(wire: Wire, features: Features, name: str) -> None:
    wire.lab.load(nftables.full(GUARD, features))
    for script in loaded_by(name, known=A.v4):
        load(wire.lab, script)
    judged = judge(wire.lab)
    dice = Random(name)  # noqa: S311  # the same frames for the same rules
    batch, expected = [], []
    for address in (A.v4, A.v6):
        for frame in frames(A.mac, ip_network(address)):
            left, events = travel(
                judged.walker, judged.way(BRIDGE, frame.fields), ports_of(PLACE, frame), frame.fields
            )
            # An answer without its question is none; what is taken of a part only may be any of these.
            if frame.kind == "reply" or (left is not None and events) or (frame.kind, frame.way) == UNTOLD:
                continue
            for _ in range(SAMPLES):
                batch.append(Sent(*parties(frame), single(frame, dice, next(SERIAL))))
                expected.append(left is not None)

    got = wire.arrives(batch)

    wrong = [
        f"{sent.sender.port} to {sent.target.port} was said to {'arrive' if verdict else 'be dropped'}: {sent.fields}"
        for sent, verdict, found in zip(batch, expected, got, strict=True)
        if verdict != (found is not None)
    ]
    assert wrong == []
    for address in (A.v4, A.v6):
        verdict = judged.address(PLACE, ip_network(address))
        version = ip_network(address).version
        assert {what for what, _ in verdict.dark} == DARK.get(name, {}).get(version, frozenset()), (
            name,
            address,
        )


@pytest.mark.parametrize("name", [each for each in corpora() if each.startswith("by-hand")])
def test_a_guest_without_lines_is_dark_under_rules_made_by_hand(wire: Wire, name: str) -> None:
    for script in loaded_by(name, known=B.v4):
        load(wire.lab, script)

    dark = judge(wire.lab).address(PLACE, ip_network(A.v4)).dark

    told = {(what, event.rule.text) for what, event in dark}
    match name.partition(" ")[2]:
        case "nft":
            assert told == {("what it sends", "drop")}
        case "ebtables":
            assert told == {(what, ":vm01 DROP") for what in ("what it sends", *ASKING)}
        case _:
            assert told == {(what, "-A FORWARD -j DROP") for what in EVERY_WAY}


def test_frames_that_leave_at_the_ports_ingress_pass_by_the_guard_and_are_said_to(
    wire: Wire, features: Features
) -> None:
    wire.lab.load(nftables.full(GUARD, features))
    forged = udp4(GATEWAY.v4, B, hardware=B.mac)
    assert not wire.lab.send(forged).where
    for script in loaded_by("monitor nft"):
        load(wire.lab, script)
    judged = judge(wire.lab)

    found = [*weaknesses(judged, [PLACE])]

    heard = wire.seen_at(B.port, f.ethernet(B.mac, B.mac, f.IPV4, smtp(GATEWAY.v4)), A.port)
    assert heard
    assert {(each.table.address, each.sure, each.port) for each in found} == {
        ("foreign.netdev.taps", True, A.port)
    }


def smtp(source: str) -> bytes:
    """A segment to port 25 that claims to come from `source`."""
    return f.ipv4(source, B.v4, f.TCP, f.tcp(source, B.v4, (4444, 25), 2, b"forged"))


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_a_source_that_is_said_to_be_changed_is_changed(wire: Wire, features: Features, variant: str) -> None:
    wire.lab.load(nftables.full(GUARD, features))
    text = f"*nat\n:PREROUTING ACCEPT\n:POSTROUTING ACCEPT\n-A POSTROUTING -o {BRIDGE} -p udp -m udp --dport 53 -j MASQUERADE\nCOMMIT\n"
    load(wire.lab, Script((f"iptables-{variant}-restore",), text))
    judged = judge(wire.lab)
    verdict = judged.address(PLACE, ip_network(A.v4))
    fields = {**next(each for each in frames(A.mac, ip_network(A.v4)) if each.kind == "udp").fields}
    fields |= {
        "daddr4": number(GATEWAY.v4),
        "dmac": mac_number(GATEWAY.mac),
        "sport": one(next(SERIAL) + 2000),
    }

    said = [*rewritten(judged, PLACE, verdict.rewritten)]
    dns, other = wire.arrives([Sent(A, GATEWAY, {**fields, "dport": one(port)}) for port in (53, 54)])

    assert {(each.table.address, each.sure) for each in said} == {(f"foreign.iptables-{variant}.nat", True)}
    assert dns is not None
    assert other is not None
    assert [socket.inet_ntoa(frame[26:30]) for frame in (dns, other)] == [DOM0.v4, A.v4]


def number(address: str) -> Ranges:
    """An address as the value of a field."""
    return one(int(ip_network(address).network_address))


def mac_number(mac: str) -> Ranges:
    """A MAC as the value of a field."""
    return one(int(mac.replace(":", ""), 16))


def test_the_members_of_sets_are_judged_like_addresses_in_rules(wire: Wire) -> None:
    if shutil.which("ipset") is None:
        pytest.skip("ipset is not installed: no rule here can ask for a set")
    save = (CORPORA / "fail2ban.ipset.rules").read_text(encoding="utf-8")
    wire.lab.dom0.must("ipset", "restore", stdin=f"{save}create dark hash:ip\nadd dark {A.v4}\n")
    lines = [
        "-A FORWARD -m set --match-set f2b-nginx src -j DROP",
        "-A FORWARD -m set --match-set f2b-nets src -j DROP",
        "-A FORWARD -m set --match-set dark dst -j DROP",
    ]
    load(wire.lab, Script(("iptables-nft-restore",), "\n".join(["*filter", *lines, "COMMIT", ""])))
    try:
        judged = judge(wire.lab)
    finally:
        wire.lab.dom0.must("nft", "flush", "ruleset")
        wire.lab.dom0.must("ipset", "destroy")

    verdict = judged.address(PLACE, ip_network(A.v4))
    other = judged.address(replace(PLACE, port=B.port, mac=B.mac), ip_network(B.v4))

    assert [(what, event.rule.text) for what, event in verdict.dark] == [("what is sent to it", lines[2])]
    assert other.dark == ()
    assert {event.rule.text for event in other.partly if not event.flow.doubt} >= set(lines[:2])


@pytest.mark.parametrize("kind", ["nft", "legacy"])
def test_the_lines_made_by_hand_are_known_again_as_the_kernel_lists_them(lab: Lab, kind: str) -> None:
    for script in loaded_by(f"by-hand iptables-{kind}", known=A.v4):
        load(lab, script)

    found = lines(judge(lab).rules, [UPLINK])

    assert [(each.kind, each.port) for each in found] == [
        ("answers", A.port),
        ("dhcp", A.port),
        ("source", A.port),
        ("destination", A.port),
        ("log", ""),
        ("drop", ""),
    ]
    assert {each.table.where for each in found} == {f"iptables-{kind} -t filter"}
    assert log_of(found[4].rule) == LogLine("Dropped by firewall: ", "debug", 15, "minute")
    clear(lab)
