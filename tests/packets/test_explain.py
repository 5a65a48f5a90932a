"""`domgit explain` against the kernel: the same verdict and the same reason for every frame, those of the table and broken ones."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from reconciler.explain.judge import Judge
from reconciler.guard import nftables
from reconciler.guard.binding import Guard
from state.nft import Features
from tests.packets.cases import CASES, LLDP_GROUP, RESERVED
from tests.packets.explained import Witness, disagreements
from tests.packets.lab import Lab
from tests.packets.mutated import mutated
from tests.packets.parties import (
    A4_SECOND,
    A_NET4,
    A_NET6,
    B_BINDING,
    GATEWAY,
    GUARD,
    UNKNOWN,
    A,
    Party,
    binding,
    guard,
)
from tests.packets.probed import differing

pytestmark = pytest.mark.netns
ALL = tuple(dict.fromkeys((*CASES, *RESERVED, *LLDP_GROUP)))
BY_A = tuple(case.frame for case in ALL if case.sender == A)
MUTATED, PROBED, SEED = 20_000, 6_000, 4
AUDITED = guard(binding(A, A4_SECOND, A_NET4, A_NET6, mode="audit"), B_BINDING)


def compared(
    lab: Lab, wanted: Guard, features: Features, sender: Party, frames: Sequence[bytes]
) -> list[str]:
    """Where kernel and explainer differ."""
    lab.load(nftables.full(wanted, features))
    if wanted is GUARD:
        lab.lock(A)
    found = disagreements(Judge.of(wanted, features), Witness(lab, sender), sender, frames)
    return [str(each) for each in found]


@pytest.mark.parametrize("sender", [A, GATEWAY], ids=["guest", "uplink"])
def test_every_frame_of_the_table_ends_as_explained(lab: Lab, features: Features, sender: Party) -> None:
    frames = [case.frame for case in ALL if case.sender == sender]

    assert compared(lab, GUARD, features, sender, frames) == []


def test_what_is_explained_is_also_what_the_table_says(features: Features) -> None:
    judge = Judge.of(GUARD, features)

    wrong = [
        str(case)
        for case in ALL
        if judge.way(case.frame, port=case.sender.port, bridge="xenbr0").verdict != case.verdict
    ]

    assert wrong == []


def test_an_audited_vif_is_explained_as_counted_and_let_through(lab: Lab, features: Features) -> None:
    assert compared(lab, AUDITED, features, A, BY_A) == []


@pytest.mark.parametrize("answer", ["report", "drop"])
def test_a_port_that_nobody_bound_is_explained_as_it_is_treated(
    lab: Lab, features: Features, answer: str
) -> None:
    wanted = guard(B_BINDING, unknown_vifs="drop" if answer == "drop" else "report", closed=(UNKNOWN.port,))

    assert compared(lab, wanted, features, UNKNOWN, BY_A) == []


@pytest.mark.long
def test_frames_that_nobody_would_write_end_as_explained(lab: Lab, features: Features) -> None:
    frames = list(mutated(BY_A, MUTATED, SEED))

    assert compared(lab, GUARD, features, A, frames) == []


@pytest.mark.long
def test_every_match_that_is_understood_holds_for_the_frames_that_the_kernel_says(lab: Lab) -> None:
    frames = [*BY_A, *mutated(BY_A, PROBED, SEED + 1)]

    wrong = [
        each for at in range(0, len(frames), 1_000) for each in differing(lab, A, frames[at : at + 1_000])
    ]

    assert wrong == []
