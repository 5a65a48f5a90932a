"""Drawn frames against the guard, each held against an oracle that knows no rules: a small part of what `python -m tests.packets.fuzz` does."""

from __future__ import annotations

import pytest

from reconciler.guard import nftables
from state.nft import Features
from tests.packets.cases import CASES
from tests.packets.fuzz import BLOCK, Fuzzer, Setting, Tally, settings
from tests.packets.lab import Lab
from tests.packets.oracle import Oracle
from tests.packets.parties import A_BINDING, GUARD, A

pytestmark = pytest.mark.netns
_BLOCKS = 3  # of each setting
# The rules refuse these, as docs/guard.md says; nobody is harmed by them, so the oracle has no opinion.
HARMLESS = {
    "drop: neighbor: advertises with a source option",
    "drop: neighbor: solicits with a target option",
    "drop: dhcp discover without a hardware address",
}


@pytest.mark.parametrize("setting", settings(), ids=str)
def test_no_drawn_frame_gets_where_it_must_not_and_every_legal_one_arrives(
    lab: Lab, features: Features, setting: Setting
) -> None:
    tally = Tally()
    fuzzer = Fuzzer(lab, nftables.full(GUARD, features), seed=2026, tally=tally)

    for number in range(_BLOCKS):
        fuzzer.block(settings().index(setting) * _BLOCKS + number, setting)

    assert tally.violations == [], "\n".join(str(each) for each in tally.violations)
    assert tally.frames == _BLOCKS * BLOCK
    assert tally.verdicts["pass"] > tally.frames / 5
    assert tally.verdicts["drop"] > tally.frames / 3
    assert tally.verdicts["free"] < tally.frames / 8


def test_the_oracle_and_the_table_of_frames_agree() -> None:
    oracle = Oracle(A_BINDING)

    judged = {str(case): (case.verdict, oracle.judge(case.frame)) for case in CASES if case.sender == A}

    assert [
        (name, judgement)
        for name, (_, judgement) in judged.items()
        if judgement.verdict == "free" and name not in HARMLESS
    ] == []
    assert [
        (name, found) for name, (verdict, found) in judged.items() if found.verdict not in {verdict, "free"}
    ] == []
