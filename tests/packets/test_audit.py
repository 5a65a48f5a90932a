"""Audit: what enforce would drop is counted under the same reason and logged, and passes; no honest frame is counted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import pytest

from reconciler.guard import nftables
from reconciler.guard.binding import Guard
from reconciler.guard.nftables_rules import REASONS
from state.nft import Features
from tests.packets.cases import CASES, udp4
from tests.packets.kernel_log import heard
from tests.packets.lab import Lab, Seen
from tests.packets.parties import B_BINDING, GATEWAY, GUARD, LOG, UNKNOWN, UPLINK, A, B, binding, guard

pytestmark = pytest.mark.netns
FORGED = udp4(B.v4, GATEWAY)
AUDITED = replace(GUARD, bindings=tuple(replace(each, mode="audit") for each in GUARD.bindings))
SPANNING_TREE = bytes.fromhex("0180c2000000")
_COUNTED = re.compile(r'"(?P<port>[^"]+)" counter packets (?P<packets>\d+)')
_SET = re.compile(r"\tset count_(?P<reason>\w+) \{\n(?P<text>.*?)\n\t\}", re.DOTALL)


def counts(lab: Lab) -> dict[tuple[str, str], int]:
    """What was counted so far, by port and reason."""
    listing = lab.dom0.must("nft", "list", "table", "bridge", "domgit")
    return {
        (each["port"], block["reason"]): int(each["packets"])
        for block in _SET.finditer(listing)
        for each in _COUNTED.finditer(block["text"])
    }


def outcomes(lab: Lab, of: Guard, features: Features) -> tuple[Mapping[str, str], Mapping[str, Seen]]:
    """For each case what it was counted as ("" for nothing), and what became of it."""
    lab.load(nftables.full(of, features))
    counted: dict[str, str] = {}
    seen: dict[str, Seen] = {}
    before = counts(lab)
    for case in CASES:
        seen[str(case)] = lab.send(case.frame, case.sender)
        after = counts(lab)
        more = {
            key: number - before.get(key, 0) for key, number in after.items() if number != before.get(key, 0)
        }
        counted[str(case)] = ", ".join(f"{port} {reason} {number}" for (port, reason), number in more.items())
        before = after
    return counted, seen


def test_audit_counts_each_forged_frame_as_enforce_does_and_lets_every_frame_pass(
    lab: Lab, features: Features
) -> None:
    bare = {str(case): lab.send(case.frame, case.sender) for case in CASES}
    enforced, _ = outcomes(lab, GUARD, features)
    lab.clear()
    audited, passed = outcomes(lab, AUDITED, features)

    # Without spanning tree the bridge hands frames to its group both on and to dom0: let pass, they meet both chains.
    twice = {str(case) for case in CASES if case.frame[:6] == SPANNING_TREE and case.verdict == "drop"}
    assert {
        name: each.replace(" 2", " 1") if name in twice else each for name, each in audited.items()
    } == enforced
    assert [str(case) for case in CASES if bool(enforced[str(case)]) != (case.verdict == "drop")] == []
    assert [name for name in passed if passed[name].where != bare[name].where] == []
    assert {each.split(" ")[1] for each in audited.values() if each} == {*REASONS} - {"unknown"}


def test_both_ports_of_an_audited_hvm_guest_pass_and_are_counted_apart(lab: Lab, features: Features) -> None:
    twin = f"{A.port}-emu"
    lab.load(nftables.full(guard(binding(A, mode="audit", emulated=True)), features))
    lab.plug(twin, A.mac)
    try:
        through = [lab.send(FORGED, replace(A, port=port)).where for port in (A.port, twin)]
    finally:
        lab.unplug(twin)

    assert all(UPLINK in where for where in through)
    assert counts(lab) == {(A.port, "v4"): 1, (twin, "v4"): 1}


def test_an_unmanaged_domu_keeps_working_beside_audited_and_enforced_ones(
    lab: Lab, features: Features
) -> None:
    """Where the kernel cannot tell a frame's bridge it is looked for by name, and is not counted."""
    wanted = guard(binding(A, mode="audit"), B_BINDING, unknown_vifs="report")
    lab.load(nftables.full(wanted, features))

    whatever = [
        lab.send(udp4(source, GATEWAY, hardware=UNKNOWN.mac), UNKNOWN).where for source in (UNKNOWN.v4, B.v4)
    ]

    assert all(UPLINK in where for where in whatever)
    assert counts(lab) == ({(UNKNOWN.port, "unknown"): 2} if features.ibrname else {})


def test_an_unmanaged_domu_with_a_name_of_xens_is_counted_and_keeps_working(
    lab: Lab, features: Features
) -> None:
    stranger = replace(UNKNOWN, port="vif7.0")
    lab.load(nftables.full(guard(binding(A, mode="audit"), unknown_vifs="report", alone=True), features))
    lab.plug(stranger.port, stranger.mac)
    try:
        where = lab.send(udp4(B.v4, GATEWAY, hardware=stranger.mac), stranger).where
    finally:
        lab.unplug(stranger.port)

    assert UPLINK in where
    assert counts(lab) == {(stranger.port, "unknown"): 1}


def test_what_audit_lets_pass_is_logged_as_what_is_dropped(lab: Lab, features: Features) -> None:
    prefix = "Would be dropped by the packet tests: "
    lab.load(nftables.full(replace(AUDITED, log=replace(LOG, prefix=prefix)), features))
    try:
        with heard(prefix) as ring:
            assert UPLINK in lab.send(FORGED).where
            (line,) = ring.lines()
    except OSError as exc:
        pytest.skip(f"the kernel's log cannot be read for a namespace: {exc}")

    assert line.text.startswith(f"{prefix}IN={A.port} ")
