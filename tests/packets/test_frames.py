"""Every frame of the table against the guard as it is rendered, and against a bridge without any."""

from __future__ import annotations

import pytest

from reconciler.guard import nftables
from state.nft import Features
from tests.packets import frames as f
from tests.packets.backends import Backend
from tests.packets.cases import CASES, FORGED, LEGAL, LLDP_GROUP, RESERVED, Case
from tests.packets.lab import Lab, Seen
from tests.packets.parties import GATEWAY, GUARD, A

pytestmark = pytest.mark.netns


def complaint(case: Case, seen: Seen) -> str | None:
    """What is wrong with what became of a frame; None when nothing is."""
    if case.verdict == "drop":
        return None if seen.nothing else f"{case}: {seen}"
    mine = {case.sender.mac}
    if not case.to <= seen.where:
        return f"{case}: not heard by {sorted(case.to - seen.where)}: {seen}"
    if set(seen.forwarding) - mine or set(seen.neighbors.values()) - mine:
        return f"{case}: altered what others are known by: {seen}"
    return None


def test_the_guard_lets_pass_what_the_bindings_allow_and_nothing_else(
    bridged_lab: Lab, features: Features
) -> None:
    bridged_lab.load(nftables.full(GUARD, features))

    wrong = [found for case in CASES if (found := complaint(case, bridged_lab.send(case.frame, case.sender)))]

    assert wrong == [], "\n".join(wrong)


def test_every_backend_lets_pass_what_the_bindings_allow_and_stops_all_but_what_it_is_known_to_leak(
    lab: Lab, backend: Backend
) -> None:
    backend.load(lab, GUARD)

    wrong = {
        case.name: found for case in CASES if (found := complaint(case, lab.send(case.frame, case.sender)))
    }

    # One that leaks no longer does not stay on the list.
    assert set(wrong) == set(backend.leaks), "\n".join(wrong.values())
    assert len(backend.leaks) <= 8  # the measure of all such designs: docs/guard.md
    assert backend.finished(lab, GUARD)


def test_a_request_for_an_address_that_comes_in_fragments_is_stopped_whoever_it_is_for(
    lab: Lab, backend: Backend
) -> None:
    """A later fragment may be written over the hardware address that was looked at."""
    whole = f.udp(A.v4, GATEWAY.v4, (68, 67), f.bootp(1, A.mac, 1))
    first = f.ipv4(A.v4, GATEWAY.v4, f.UDP, whole[:64], more=True)
    backend.load(lab, GUARD)

    assert lab.send(f.ethernet(GATEWAY.mac, A.mac, f.IPV4, first)).nothing


def test_frames_to_the_group_of_lldp_are_stopped_by_guard_and_port_lock_together(
    lab: Lab, backend: Backend
) -> None:
    backend.load(lab, GUARD)
    lab.lock(A)

    wrong = [found for case in LLDP_GROUP if (found := complaint(case, lab.send(case.frame)))]

    assert wrong == [], "\n".join(wrong)


def test_without_a_guard_every_legal_frame_passes_and_every_forged_one_leaves_a_trace(lab: Lab) -> None:
    legal = [found for case in LEGAL if (found := complaint(case, lab.send(case.frame, case.sender)))]
    harmless = [str(case) for case in (*FORGED, *RESERVED) if lab.send(case.frame, case.sender).nothing]

    assert legal == [], "\n".join(legal)
    assert harmless == [], "\n".join(harmless)


def test_names_of_frames_are_unique() -> None:
    names = [str(case) for case in CASES]

    assert sorted(set(names)) == sorted(names)
    assert len(names) == 363  # README.md says so
