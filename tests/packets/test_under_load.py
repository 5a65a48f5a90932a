"""The guard changes while two guests send flat out: a short version of `python -m tests.packets.under_load`."""

from __future__ import annotations

import pytest

from reconciler.guard import nftables
from state.nft import probe_features
from tests.packets.lab import Lab
from tests.packets.under_load import REPLACING, Campaign

pytestmark = [pytest.mark.netns, pytest.mark.long]
_FRAMES = 200_000


def test_nothing_forged_passes_and_nothing_legal_is_lost_while_the_guard_changes(lab: Lab) -> None:
    campaign = Campaign(lab, seed=2026)

    outcome = campaign.run(reconciles=2 * len(campaign.kinds), frames=_FRAMES)

    assert outcome.sent.frames >= _FRAMES
    assert (outcome.heard.forged, outcome.lost, outcome.astray) == (0, 0, frozenset()), str(outcome)


def test_nothing_forged_passes_while_the_whole_table_is_replaced(lab: Lab) -> None:
    outcome = Campaign(lab, seed=2026, kinds=REPLACING).run(reconciles=12, frames=_FRAMES)

    assert (outcome.heard.forged, outcome.astray) == (0, frozenset()), str(outcome)


class TwoSteps(Campaign):
    """Who takes the old rules away before the new ones are there."""

    def reconcile(self) -> None:
        self._lab.load(nftables.UNLOADED)
        self._lab.load(nftables.full(self.wanted(), probe_features(self._lab.dom0)))


def test_a_reload_in_two_steps_is_noticed(lab: Lab) -> None:
    outcome = TwoSteps(lab, seed=2026, kinds=["no change"]).run(reconciles=6, frames=_FRAMES)

    assert outcome.heard.forged > 0
