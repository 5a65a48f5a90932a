"""Random rules of others: what is said of them against what they do to frames.

`DOMGIT_FOREIGN_ROUNDS=1000 pytest tests/packets/test_foreign.py` takes more of them.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.packets.foreign_bench import clear
from tests.packets.foreign_rules import Tool
from tests.packets.foreign_trial import tried
from tests.packets.wire import Wire

pytestmark = pytest.mark.netns
TOOLS: tuple[Tool, ...] = ("iptables-nft", "iptables-legacy", "nft", "nft bridge", "ebtables")
ROUNDS = int(os.environ.get("DOMGIT_FOREIGN_ROUNDS", "40"))


@pytest.mark.parametrize("tool", TOOLS)
def test_what_is_said_of_random_rules_is_what_they_do_to_frames(wire: Wire, tool: Tool) -> None:
    said: Counter[bool | None] = Counter()
    for seed in range(ROUNDS):
        trial = tried(wire, tool, seed)
        assert trial.wrong == (), "\n".join([f"seed {seed}", *trial.wrong[:5], *trial.texts])
        said.update(trial.said)
        clear(wire.lab)

    print(
        f"{tool}: {ROUNDS} rule sets, {said[True]} frames said to arrive, {said[False]} to be dropped, {said[None]} open"
    )
    assert said[True] > ROUNDS
    assert said[False] > ROUNDS
