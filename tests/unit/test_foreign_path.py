"""Which hooks a bridged frame meets, in which order, and what of it each of them sees."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.foreign.judge import Judge
from reconciler.foreign.path import Called
from schemas.address import Address
from tests.unit.test_foreign_judge import BOTH, BRIDGE, PLACE, V4, V6, dark, judge

SENDS, GETS, NOTHING = frozenset({"what it sends"}), frozenset({"what is sent to it"}), frozenset[str]()
OUT, IN = SENDS, GETS  # short, for the table below


def chain(
    family: str, place: str, *lines: str, priority: int = 0, kind: str = "filter", name: str = "c"
) -> str:
    devices = f" {place.partition(' ')[2]}" if " " in place else ""
    head = f"type {kind} hook {place.partition(' ')[0]}{devices} priority {priority}; policy accept;"
    body = "".join(f"\t\t{line}\n" for line in (head, *lines))
    return f"table {family} {name} {{\n\tchain c {{\n{body}\t}}\n}}\n"


def judged(*texts: str) -> Judge:
    return judge({" ".join(text.split()[:3]): text for text in texts})


def ip_dark(found: Judge, place: object = PLACE) -> set[str]:
    """Of IPv4 alone: neighbours are asked by other frames."""
    assert isinstance(place, type(PLACE))
    return {what for what in dark(found, V4, place) if "neighbours" not in what}


@pytest.mark.parametrize(
    ("family", "place", "asked", "seen"),
    [
        ("netdev", 'ingress device "vm01"', 'iifname "vm01"', OUT),
        ("netdev", 'ingress device "vm01"', 'iifname "xenbr0"', NOTHING),
        ("netdev", 'ingress device "vm01"', 'oifname "eth0"', NOTHING),
        ("inet", 'ingress device "vm01"', 'iifname "vm01"', OUT),
        ("netdev", 'egress device "vm01"', 'oifname "vm01"', IN),
        ("netdev", 'egress device "vm01"', 'iifname "eth0"', NOTHING),
        ("bridge", "prerouting", 'iifname "vm01"', OUT),
        ("bridge", "prerouting", 'iifname "eth0"', IN),
        ("bridge", "prerouting", 'meta ibrname "xenbr0"', BOTH),
        ("bridge", "prerouting", 'meta obrname "xenbr0"', NOTHING),
        ("bridge", "prerouting", 'oifname "eth0"', NOTHING),
        ("bridge", "forward", 'iifname "vm01"', OUT),
        ("bridge", "forward", 'oifname "vm01"', IN),
        ("bridge", "forward", 'meta ibrname "xenbr0" meta obrname "xenbr0"', BOTH),
        ("bridge", "forward", 'meta ibrname "xenbr1"', NOTHING),
        ("bridge", "postrouting", 'oifname "vm01"', IN),
        ("bridge", "postrouting", 'iifname "vm01"', NOTHING),
        ("bridge", "postrouting", 'meta obrname "xenbr0"', BOTH),
        ("bridge", "postrouting", 'meta ibrname "xenbr0"', NOTHING),
        ("bridge", "forward", "meta pkttype other", BOTH),
        ("bridge", "forward", "meta pkttype host", NOTHING),
        ("bridge", "input", 'iifname "vm01"', NOTHING),
        ("ip", "prerouting", 'iifname "xenbr0"', BOTH),
        ("ip", "prerouting", 'iifname "vm01"', NOTHING),
        ("ip", "prerouting", 'oifname "xenbr0"', NOTHING),
        ("ip", "forward", 'iifname "xenbr0" oifname "xenbr0"', BOTH),
        ("inet", "forward", 'iifname "xenbr0" oifname "xenbr0"', BOTH),
        ("ip", "postrouting", 'oifname "xenbr0"', BOTH),
        ("ip", "postrouting", 'iifname "xenbr0"', NOTHING),
        ("ip", "postrouting", 'oifname "vm01"', NOTHING),
        ("ip", "forward", "meta pkttype host", BOTH),
        ("ip", "forward", "meta pkttype other", NOTHING),
        ("ip", "forward", 'meta ibrname "xenbr0"', NOTHING),
        ("ip6", "forward", 'iifname "xenbr0"', NOTHING),
    ],
)  # fmt: skip
def test_a_hook_sees_the_ports_or_the_bridge_as_it_stands_before_or_behind_them(
    family: str, place: str, asked: str, seen: frozenset[str]
) -> None:
    assert ip_dark(judged(chain(family, place, f"{asked} drop"))) == seen


@pytest.mark.parametrize(
    ("place", "asked", "seen"),
    [
        ("PREROUTING", "--physdev-in vm01", OUT),
        ("PREROUTING", "--physdev-out vm01", NOTHING),
        ("FORWARD", "--physdev-in vm01", OUT),
        ("FORWARD", "--physdev-out vm01", IN),
        ("POSTROUTING", "--physdev-in vm01", OUT),
        ("POSTROUTING", "--physdev-out vm01", IN),
    ],
)
def test_iptables_sees_the_ports_in_physdev(place: str, asked: str, seen: frozenset[str]) -> None:
    text = f"*mangle\n:{place} ACCEPT\n-A {place} -m physdev {asked} -j DROP\nCOMMIT\n"

    assert dark(judge({"iptables-legacy-save": text})) == seen


MARK, MARKED = "meta mark set 0x00000001", "meta mark 0x00000001 drop"


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (chain("netdev", 'ingress devices = { "vm01", "eth0" }', MARK, priority=500), chain("bridge", "prerouting", MARKED, priority=-500)),
        (chain("bridge", "prerouting", MARK, priority=-1), chain("ip", "prerouting", MARKED, priority=-400)),
        (chain("ip", "prerouting", MARK, priority=400), chain("bridge", "prerouting", MARKED, priority=1)),
        (chain("ip", "prerouting", MARK, priority=1), chain("ip", "prerouting", MARKED, priority=2, name="d")),
        (chain("bridge", "prerouting", MARK, priority=500), chain("bridge", "forward", MARKED, priority=-500, name="d")),
        (chain("bridge", "forward", MARK, priority=-2), chain("ip", "forward", MARKED, priority=-400)),
        (chain("ip", "forward", MARK, priority=400), chain("bridge", "forward", MARKED, priority=0)),
        (chain("bridge", "forward", MARK, priority=500), chain("bridge", "postrouting", MARKED, priority=-500, name="d")),
        (chain("bridge", "postrouting", MARK, priority=500), chain("ip", "postrouting", MARKED, priority=-400)),
        (chain("ip", "postrouting", MARK, priority=500), chain("netdev", 'egress devices = { "vm01", "eth0" }', MARKED, priority=-500)),
        (chain("netdev", 'egress devices = { "vm01", "eth0" }', MARK, priority=1), chain("inet", 'egress devices = { "vm01", "eth0" }', MARKED, priority=2, name="d")),
    ],
)  # fmt: skip
def test_a_mark_is_seen_by_what_comes_later_and_by_nothing_before(first: str, then: str) -> None:
    before, after = first.replace(MARK, MARKED), then.replace(MARKED, MARK)

    assert ip_dark(judged(first, then)) == BOTH
    assert ip_dark(judged(before, after)) == NOTHING


def test_of_chains_that_come_together_only_marks_are_in_doubt() -> None:
    marks = chain("ip", "forward", MARK, name="a")

    assert dark(judged(marks, chain("ip", "forward", "meta mark 0x00000000 drop", name="b"))) == set()
    assert dark(judged(marks, chain("ip", "forward", "meta l4proto { tcp, udp } drop", name="b"))) == BOTH
    assert dark(judged(marks, chain("ip", "forward", "drop", priority=1, name="b"))) == BOTH
    quiet = chain("ip", "forward", "meta mark 0x00000000 drop", name="b")
    assert dark(judged(chain("ip", "forward", "ip saddr 192.0.2.1 drop", name="a"), quiet)) == BOTH
    connection = chain("ip", "forward", "ct mark set 0x00000001", name="a")
    assert dark(judged(connection, chain("ip", "forward", "ct mark 0x00000000 drop", name="b"))) == set()
    raw = chain("ip", "prerouting", "notrack", priority=-300, name="a")
    assert (
        dark(judged(raw, chain("ip", "prerouting", "meta mark 0x00000000 drop", priority=-300, name="b")))
        == set()
    )


def test_each_family_is_handed_over_by_its_own_switch() -> None:
    found = judged(chain("inet", "forward", "drop"))
    for called, seen in (
        (Called(ip=True, ip6=False), {V4}),
        (Called(ip=False, ip6=True), {V6}),
        (Called(ip=False, ip6=False), set[Address]()),
    ):
        fresh = Judge(found.rules, {BRIDGE: called})
        assert {address for address in (V4, V6) if dark(fresh, address) >= BOTH} == seen
        assert {address for address in (V4, V6) if dark(fresh, address)} == seen
        assert fresh.sees(BRIDGE) == bool(seen)


def test_only_the_first_frame_of_a_connection_meets_a_nat_chain() -> None:
    def at(kind: str) -> set[str]:
        return dark(judged(chain("ip", "postrouting", "ct direction reply drop", kind=kind, priority=100)))

    assert at("filter") == {"its answers", "the answers to it"}
    assert at("nat") == set()
    assert dark(judged(chain("ip", "postrouting", "drop", kind="nat", priority=100))) == BOTH


def test_a_device_that_only_some_frames_pass_takes_only_those() -> None:
    two = replace(PLACE, away=frozenset({"eth0", "eth1"}))
    one_of_them = judged(chain("netdev", 'ingress device "eth0"', "drop"))
    both = judged(chain("netdev", 'ingress devices = { "eth0", "eth1" }', "drop"))
    egress = judged(chain("netdev", 'egress device "eth0"', "drop"))

    assert ip_dark(one_of_them) == GETS
    assert ip_dark(one_of_them, two) == NOTHING
    assert ip_dark(both, two) == GETS
    assert ip_dark(egress) == SENDS
    assert ip_dark(egress, two) == NOTHING


@pytest.mark.parametrize(
    ("priority", "asked", "seen"),
    [
        (-300, "ct state invalid", BOTH),
        (-300, "ct state new", NOTHING),
        (-200, "ct state invalid", BOTH),
        (-199, "ct state new", BOTH),
        (-199, "ct state invalid", NOTHING),
        (-300, "ct direction original", NOTHING),
        (-199, "ct direction original", BOTH),
        (-300, "ct mark 0x00000000", NOTHING),
        (-199, "ct mark 0x00000000", BOTH),
    ],
)
def test_conntrack_has_looked_at_a_frame_behind_its_own_priority(
    priority: int, asked: str, seen: frozenset[str]
) -> None:
    assert dark(judged(chain("ip", "prerouting", f"{asked} drop", priority=priority))) >= seen
    assert (dark(judged(chain("ip", "prerouting", f"{asked} drop", priority=priority))) == NOTHING) == (
        not seen
    )


def test_of_frames_that_are_tracked_in_part_nothing_is_certain_of_their_connection() -> None:
    untrack = chain("ip", "prerouting", "tcp dport 1-1023 notrack", priority=-300, name="a")

    def after(asked: str) -> set[str]:
        return (
            dark(
                judged(
                    untrack,
                    chain(
                        "ip", "forward", f"meta l4proto tcp {asked} drop", "meta l4proto udp drop", name="b"
                    ),
                )
            )
            & BOTH
        )

    assert after("ct state new") == set()
    assert after("ct state untracked") == set()
    assert after("ct state { new, untracked }") == BOTH
    assert after("ct mark 0x00000000") == set()
    assert after("ct direction original") == set()
