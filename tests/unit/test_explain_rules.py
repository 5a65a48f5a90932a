"""The interpreter of our own rules: it understands all of them, refuses what it does not, and agrees with the table of frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from reconciler.explain.headers import entered, headers
from reconciler.explain.judge import Judge
from reconciler.explain.selectors import raw_selectors, values
from reconciler.explain.walk import Hop, NotUnderstood, Ruleset
from reconciler.guard.binding import Guard, LogLimit
from reconciler.guard.nftables import elements
from reconciler.guard.nftables_rules import REASONS, chains
from state.nft import Features
from tests.packets import frames as f
from tests.packets.cases import CASES, LLDP_GROUP, RESERVED, udp4
from tests.packets.mutated import mutated
from tests.packets.parties import (
    A4_SECOND,
    A_NET4,
    A_NET6,
    B_BINDING,
    BRIDGE,
    GUARD,
    UNKNOWN,
    UPLINK,
    A,
    B,
    binding,
    guard,
)

FEATURES = (Features(ibrname=False), Features(ibrname=True))
SPOOFED = udp4(B.v4, B)


def variants() -> Iterator[Guard]:
    """A guard of every kind."""
    bound = (
        (),
        (binding(A), B_BINDING),
        (binding(A, A4_SECOND, A_NET4, A_NET6, mode="audit"), binding(B, emulated=True)),
    )
    for bindings in bound:
        for alone in (False, True):
            yield guard(*bindings, alone=alone)
            yield guard(*bindings, alone=alone, unknown_vifs="drop", closed=(UNKNOWN.port,))
    yield replace(GUARD, log=LogLimit(prefix="accept { drop, ", level="warn", count=1, per="second"))


def mended(chain: str, *lines: str) -> Ruleset:
    """The rules with some lines in front of a chain's own, and a chain that notes the first of many at most."""
    noted: tuple[str, ...] = (
        "limit rate 1/second log return",
        "update @noted { iifname limit rate 1/second } log",
    )
    written = [("noted", noted), ("nothing", ())]
    written += [
        (name, (*old[: name == "prerouting"], *lines, *old[name == "prerouting" :]) if name == chain else old)
        for name, old in chains(GUARD, FEATURES[0])
    ]
    return Ruleset.read(written, elements(GUARD))


def verdict(rules: Ruleset, frame: bytes) -> tuple[str, str]:
    way = rules.way("prerouting", values(headers(frame), A.port, BRIDGE, rules.raw))
    return way.verdict, way.reason


@pytest.mark.parametrize("features", FEATURES, ids=["without ibrname", "with ibrname"])
def test_every_rule_of_every_guard_is_understood(features: Features) -> None:
    for wanted in variants():
        Judge.of(wanted, features)


def test_every_frame_of_the_table_ends_as_the_table_says() -> None:
    judge = Judge.of(GUARD, FEATURES[0])
    ways = {
        str(case): judge.way(case.frame, port=case.sender.port, bridge=BRIDGE)
        for case in (*CASES, *RESERVED, *LLDP_GROUP)
    }

    assert [name for name, way in ways.items() if not name.startswith(way.verdict)] == []
    assert {way.reason for way in ways.values()} == {"", *REASONS} - {"unknown"}


def test_frames_that_nobody_would_write_are_answered_as_well() -> None:
    judge = Judge.of(GUARD, FEATURES[0])
    frames = mutated([case.frame for case in CASES], 2_000, 1)

    ways = [judge.way(frame, port=A.port, bridge=BRIDGE) for frame in frames]

    assert {way.verdict for way in ways} == {"pass", "drop"}
    assert [way for way in ways if (way.verdict == "drop") != bool(way.reason)] == []


def test_the_last_rule_of_the_way_is_the_one_that_decided() -> None:
    way = Judge.of(GUARD, FEATURES[0]).way(SPOOFED, port=A.port, bridge=BRIDGE)

    chains_met = list(dict.fromkeys(hop.chain for hop in way.hops))
    assert chains_met[:5] == ["prerouting", "from_guest", "from_v4", "source_v4", "refused_v4"]
    assert way.hops[-1] == Hop("refused", "drop", "drop")


@pytest.mark.parametrize(
    "line",
    [
        "tcp flags syn drop",
        "ct state established accept",
        "fib saddr type local drop",
        "limit rate 5/second accept",
        "limit rate 5/second return",
        "limit rate 5/second meta mark set 0x1",
        "iifname @nobody accept",
        'iifname . fib saddr type { "x" . local } drop',
        "update @count_mac { iifname limit rate 1/second } drop",
        "goto nowhere",
        "queue",
        "ether saddr set 00:00:5e:00:53:0a",
        "ct mark set meta mark",
        "notrack",
        "ip ttl 64 accept",
        "@th,4,4 0x1 accept",
        "iifname vmap { x : queue }",
        "socket wildcard 0 accept",
    ],
)
def test_what_is_not_understood_is_an_error_and_no_answer(line: str) -> None:
    with pytest.raises(NotUnderstood, match="chain from_guest: "):
        mended("from_guest", line)


@pytest.mark.parametrize(
    "lines",
    [
        ("limit rate 5/second accept",),
        ("counter", "limit rate 5/second drop"),
        ("limit rate 5/second return", "counter", "drop"),
        ("limit rate 5/second return", "drop", "counter"),
        ("limit rate 5/second return", "meta mark set 0x1"),
    ],
)
def test_a_limit_that_decides_is_an_error_wherever_it_stands(lines: tuple[str, ...]) -> None:
    with pytest.raises(NotUnderstood, match=r"chain x: `limit .*`: a limit decides"):
        Ruleset.read([("x", lines)], {})


def test_a_base_chain_whose_hook_is_not_understood_is_an_error() -> None:
    with pytest.raises(NotUnderstood, match="chain prerouting: `type filter"):
        Ruleset.read([("prerouting", ("type filter hook prerouting",))], {})


@pytest.mark.parametrize(
    "line",
    [
        'limit rate 1/second log prefix "x" level debug',
        "counter",
        "update @noted { iifname limit rate 15/minute burst 5 packets } log",
        "meta mark set 0x1",
        'log prefix "accept drop" level info group 1',
        'iifname "other" drop',
        "jump noted",
        "jump nothing",
    ],
)
def test_side_effects_decide_nothing(line: str) -> None:
    rules = mended("from_guest", line)

    assert verdict(rules, SPOOFED) == ("drop", "v4")
    assert verdict(rules, udp4(A.v4, B)) == ("pass", "")


def test_a_mark_that_was_set_is_asked_for_later() -> None:
    rules = mended("from_guest", "meta mark set meta mark | 0x10", "meta mark & 0x10 == 0x10 accept")

    assert verdict(rules, SPOOFED) == ("pass", "")
    assert verdict(mended("from_guest", "meta mark 0x10 accept"), SPOOFED)[0] == "drop"
    masked = ("meta mark set 0x3", "meta mark set meta mark & 0x9", "meta mark set meta mark ^ 0x5")
    assert verdict(mended("from_guest", *masked, "meta mark 0x4 accept"), SPOOFED)[0] == "pass"
    # Marks are of one frame.
    again = mended("from_guest", "meta mark 0x1 accept", "meta mark set 0x1")
    assert [verdict(again, SPOOFED)[0] for _ in range(2)] == ["drop", "drop"]


def test_a_jump_comes_back_and_a_chain_without_verdict_ends_with_the_policy() -> None:
    rules = mended("prerouting", "jump dhcp_client")

    assert verdict(rules, udp4(A.v4, B)) == ("drop", "dhcp")
    assert Judge.of(guard(), FEATURES[0]).way(SPOOFED, port=A.port, bridge=BRIDGE).verdict == "pass"


def test_a_port_that_no_map_knows_meets_no_rule_and_the_policy_decides() -> None:
    way = Judge.of(GUARD, FEATURES[0]).way(SPOOFED, port=UNKNOWN.port, bridge=BRIDGE)

    assert (way.verdict, way.base, [hop.led for hop in way.hops]) == ("pass", "prerouting", ["jump known_v4"])
    assert Judge.of(GUARD, FEATURES[1]).way(SPOOFED, port=UNKNOWN.port, bridge=BRIDGE).reason == "unknown"
    assert Judge.of(GUARD, FEATURES[1]).way(SPOOFED, port=UNKNOWN.port, bridge="other").hops == way.hops


def test_one_judge_answers_for_every_port_and_bridge_whatever_was_asked_before() -> None:
    judge = Judge.of(GUARD, FEATURES[1])
    asked = [
        (port, bridge) for port in (A.port, B.port, UPLINK, UNKNOWN.port) for bridge in (BRIDGE, "other")
    ]
    frames = (udp4(A.v4, B), SPOOFED, f.ethernet(A.mac, B.mac, f.IPV4, SPOOFED[14:]))

    for port, bridge in (*asked, *reversed(asked)):
        for frame in frames:
            alone = Judge.of(GUARD, FEATURES[1]).way(frame, port=port, bridge=bridge)
            assert judge.way(frame, port=port, bridge=bridge) == alone


def test_of_the_sets_only_what_is_about_the_port_and_its_bridge_is_read() -> None:
    read = Judge.of(GUARD, FEATURES[1])._elements_of(A.port, BRIDGE)
    everything = elements(GUARD)

    assert {member.split()[0] for members in read.values() for member in members} == {
        f'"{A.port}"',
        f'"{BRIDGE}"',
    }
    assert all(
        read[name] == {each for each in members if each.startswith((f'"{A.port}" ', f'"{BRIDGE}"'))}
        for name, members in everything.items()
    )


def test_only_a_locked_port_forwards_the_group_of_lldp() -> None:
    frame = f.mac("01:80:c2:00:00:0e") + SPOOFED[6:]
    bases = {
        mode: Judge.of(guard(each), FEATURES[0]).way(frame, port=A.port, bridge=BRIDGE)
        for mode, each in {
            "enforced": binding(A),
            "audited": binding(A, mode="audit"),
            "with a twin": binding(A, emulated=True),
        }.items()
    }

    assert {mode: (way.verdict, way.base) for mode, way in bases.items()} == {
        "enforced": ("drop", "prerouting"),
        "audited": ("pass", ""),
        "with a twin": ("pass", ""),
    }


def test_chains_that_lead_back_to_themselves_are_not_followed_for_ever() -> None:
    rules = mended("from_guest", "jump from_guest")

    with pytest.raises(NotUnderstood, match="deeper than the kernel follows"):
        verdict(rules, SPOOFED)


def test_bits_that_are_no_bytes_are_no_selector() -> None:
    assert raw_selectors(["@th,0,4 1", "@nh,3,8 1", "@ll,0,48 1"]) == raw_selectors(["@ll,0,48 1"])


def test_the_bridge_takes_some_frames_before_any_rule() -> None:
    frame = udp4(A.v4, B)

    def to(destination: str, source: str = A.mac) -> str:
        return entered(f.mac(destination) + f.mac(source) + frame[12:], lldp_forwarded=False)

    assert entered(frame[:12] + b"\x81\0\0\0\x08", lldp_forwarded=True) == "dropped"
    assert to(B.mac, "01:00:5e:00:00:01") == to(B.mac, "00:00:00:00:00:00") == "dropped"
    assert to("01:80:c2:00:00:01") == "dropped"
    assert to("01:80:c2:00:00:0e") == "unseen"
    assert entered(f.mac("01:80:c2:00:00:0e") + frame[6:], lldp_forwarded=True) == "prerouting"
    assert to("01:80:c2:00:00:02") == "input"
    assert to("01:80:c2:00:00:00") == to("01:80:c2:00:00:10") == "prerouting"
