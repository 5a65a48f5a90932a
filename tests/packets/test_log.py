"""What is logged of dropped frames: the configured prefix, level and limit, and a share for everybody."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from reconciler.guard import nftables
from reconciler.guard.binding import Guard, LogLimit
from reconciler.guard.nftables_rules import REASONS
from reconciler.violations import Moment, last_frames, violation_facts
from state.drops import read_drops
from state.files import HostFiles
from state.kernel_log import read_kernel_log
from state.nft import Features, read_table
from tests.packets import frames as f
from tests.packets.cases import FOREIGN4, udp4, udp6
from tests.packets.kernel_log import Ring, heard
from tests.packets.lab import Lab
from tests.packets.parties import (
    A_BINDING,
    B_BINDING,
    GATEWAY,
    GUARD,
    LOG,
    UNKNOWN,
    A,
    B,
    Party,
    binding,
    guard,
)

pytestmark = pytest.mark.netns
# Of this test alone: other rules of the machine write to the same ring.
PREFIX = "Dropped by the packet tests: "
LEVELS = {"err": 3, "warn": 4, "notice": 5, "info": 6, "debug": 7}
FORGED = udp4(B.v4, GATEWAY)
BURST = 5


@pytest.fixture
def ring() -> Iterator[Ring]:
    try:
        with heard(PREFIX) as listening:
            yield listening
    except OSError as exc:
        pytest.skip(f"the kernel's log cannot be read for a namespace: {exc}")


def logging_guard(of: Guard = GUARD, **changes: object) -> Guard:
    limit = LogLimit(**{"prefix": PREFIX, "level": LOG.level, "count": LOG.count, "per": LOG.per, **changes})  # type: ignore[arg-type]  # the fields of it
    return replace(of, log=limit)


def forged_by(party: Party) -> bytes:
    """A datagram with nobody's address, from a guest's own card."""
    return udp4(FOREIGN4, GATEWAY, hardware=party.mac)


def by_port(ring: Ring) -> Counter[str]:
    return Counter(each.text.removeprefix(f"{PREFIX}IN=").split(" ")[0] for each in ring.lines())


@pytest.mark.parametrize("level", LEVELS)
def test_a_dropped_frame_is_logged_with_the_prefix_the_level_and_its_port(
    lab: Lab, features: Features, ring: Ring, level: str
) -> None:
    lab.load(nftables.full(logging_guard(level=level), features))

    assert lab.send(FORGED).nothing

    (line,) = ring.lines()
    assert line.level == LEVELS[level]
    assert line.text.startswith(f"{PREFIX}IN={A.port} OUT= MAC=")
    assert f" SRC={B.v4} DST={GATEWAY.v4} " in line.text


def test_what_passes_is_not_logged(lab: Lab, features: Features, ring: Ring) -> None:
    lab.load(nftables.full(logging_guard(), features))

    assert not lab.send(udp4(A.v4, GATEWAY)).nothing

    assert ring.lines() == []


def flood(lab: Lab, parties: tuple[Party, ...], at_least_s: float) -> float:
    """Forged frames from all of them without a break; how long it took."""
    started = time.monotonic()
    while True:
        for party in parties:
            for _ in range(20):
                lab.sockets[party.port].send(forged_by(party))
        if (elapsed := time.monotonic() - started) >= at_least_s:
            return elapsed


def test_the_limit_of_the_host_is_never_exceeded_and_is_used(
    lab: Lab, features: Features, ring: Ring
) -> None:
    per_second = 20
    lab.load(nftables.full(logging_guard(count=per_second, per="second"), features))

    elapsed = flood(lab, (A, B), 1.0)
    lab.send(FORGED)  # whose marker comes behind all that was sent

    lines = by_port(ring)
    assert lines.total() <= per_second * elapsed + BURST + 1, lines
    # Two that never stop get the common part, two thirds of it.
    assert lines.total() >= per_second * elapsed / 2, lines
    assert set(lines) == {A.port, B.port}


@pytest.mark.parametrize(("count", "per"), [(15, "minute"), (1, "minute"), (2, "hour"), (1, "day")])
def test_one_that_floods_leaves_the_others_a_line(
    lab: Lab, features: Features, ring: Ring, count: int, per: str
) -> None:
    lab.load(nftables.full(logging_guard(count=count, per=per), features))
    flood(lab, (A,), 0.2)
    lab.drain()
    first = by_port(ring)
    assert 1 <= first[A.port] <= BURST - 1

    lab.send(forged_by(B), B)
    lab.send(forged_by(B), B)

    second = by_port(ring)
    assert second[B.port] >= 1, second
    assert first.total() + second.total() <= BURST


def test_many_that_flood_leave_a_quiet_one_its_first_line(lab: Lab, features: Features, ring: Ring) -> None:
    attackers = tuple(
        Party(
            f"at{number}",
            f"00:00:5e:00:53:{0xA0 + number:x}",
            f"192.0.2.{100 + number}",
            f"2001:db8::a{number}",
        )
        for number in range(12)
    )
    for each in attackers:
        lab.plug(each.port, each.mac)
    try:
        # 200 first lines a minute come back, one in 0.3 s: the twelve have had theirs, and wait an hour for another.
        wanted = guard(A_BINDING, B_BINDING, *(binding(each) for each in attackers))
        lab.load(nftables.full(logging_guard(wanted, count=600, per="minute"), features))
        elapsed = flood(lab, attackers, 1.0)
        lab.sockets[B.port].send(forged_by(B))
        elapsed += flood(lab, attackers, 0.2)
        lab.send(FORGED)
    finally:
        for each in attackers:
            lab.unplug(each.port)

    lines = by_port(ring)
    assert lines[B.port] == 1, lines
    assert lines.total() <= 10 * elapsed + BURST + 2, lines


def test_what_an_unknown_port_sends_is_logged_where_it_is_dropped(
    lab: Lab, features: Features, ring: Ring
) -> None:
    closed = guard(A_BINDING, B_BINDING, unknown_vifs="drop", closed=(UNKNOWN.port,))
    lab.load(nftables.full(logging_guard(closed), features))

    assert lab.send(forged_by(UNKNOWN), UNKNOWN).nothing

    assert by_port(ring) == {UNKNOWN.port: 1}


def test_what_the_kernel_logs_and_counts_says_who_claimed_what_and_what_is_bound(
    lab: Lab, features: Features, ring: Ring
) -> None:
    """The whole way from a frame to what `domgit violations` shows."""
    assert ring.lines() == []
    lab.load(nftables.full(logging_guard(), features))
    asked = f.arp(1, (A.mac, GATEWAY.v4), ("00:00:00:00:00:00", B.v4))
    lab.send(f.ethernet("ff:ff:ff:ff:ff:ff", A.mac, f.ARP, asked))
    lab.send(udp6(B.v6, GATEWAY, hardware=B.mac), B)
    lab.send(udp6(A.v6, GATEWAY, hardware=B.mac), B)

    drops = read_drops(lab.dom0, HostFiles())
    records = read_kernel_log()

    assert drops is not None
    assert drops.prefix == PREFIX
    assert records is not None
    now = Moment(datetime.now(UTC), time.monotonic())
    found = violation_facts(drops, {}, last_frames(records, PREFIX), now=now, before=None)
    assert [(each["vif"], each["reasons"][0]["reason"], each["packets"]) for each in found] == [
        (A.port, "arp", 1),
        (B.port, "v6", 1),
    ]
    first, second = (each["last_frame"] for each in found)
    assert first.pop("time")
    assert first == {
        "untrusted_kind": "ARP request",
        "untrusted_mac": None,
        "untrusted_sender_mac": A.mac,
        "untrusted_source": GATEWAY.v4,
        "untrusted_target": B.v4,
    }
    assert abs((datetime.fromisoformat(second.pop("time")) - now.time).total_seconds()) < 60
    assert second == {
        "untrusted_kind": "UDP 5000 to 4321",
        "untrusted_mac": B.mac,
        "untrusted_sender_mac": None,
        "untrusted_source": A.v6,
        "untrusted_target": GATEWAY.v6,
    }


# ---------------------------------------------------------------- counters


def counted(lab: Lab, reason: str) -> str:
    return lab.dom0.must("nft", "list", "set", "bridge", "domgit", f"count_{reason}")


def test_full_counters_and_limiters_stop_nothing_honest_and_let_nothing_forged_pass(
    lab: Lab, features: Features, ring: Ring
) -> None:
    lab.load(nftables.full(logging_guard(), features))
    names = ", ".join(f'"x{number}"' for number in range(65535))
    for name in (*(f"count_{reason}" for reason in REASONS), "log_first", "log_share"):
        done = lab.dom0.run(["nft", "-f", "-"], stdin=f"add element bridge domgit {name} {{ {names} }}\n")
        assert done.rc == 0, name

    assert lab.send(FORGED).nothing
    assert lab.send(f.ethernet(GATEWAY.mac, B.mac, f.IPV4, FORGED[14:])).nothing
    assert not lab.send(udp4(A.v4, GATEWAY)).nothing
    assert f'"{A.port}"' not in counted(lab, "v4")
    assert ring.lines() == []


def test_counters_outlive_changes_of_elements_and_of_rules(lab: Lab, features: Features) -> None:
    lab.load(nftables.full(GUARD, features))
    lab.send(FORGED)
    loaded = read_table(lab.dom0)
    assert loaded is not None

    lab.load(nftables.reload_rules(loaded, guard(A_BINDING), features))

    assert f'"{A.port}" counter packets 1' in counted(lab, "v4")
    loaded = read_table(lab.dom0)
    assert nftables.script(loaded, guard(A_BINDING), features) == ("", "elements")
    # As they are put back where a change of rules is taken back.
    lab.load(nftables.restored(lab.dom0.must("nft", "list", "table", "bridge", "domgit")))
    assert f'"{A.port}" counter packets 1' in counted(lab, "v4")
