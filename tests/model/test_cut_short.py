"""A change of the guard that cuts off the gateway, and domgit killed each time before it can say so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from reconciler.guard.nftables import LOAD
from tests.model.campaign import scratch
from tests.model.faults import Killed
from tests.model.test_trial import CUTTING, answers, desired, listing, pending, prepared, wait
from tests.model.world import Argv, Seam, World


class Killing(Seam):
    """Kills domgit right after it has loaded a change of the guard that a watchdog watches."""

    def __init__(self) -> None:
        self.watched = False

    def after(self, argv: Argv) -> Literal["tell", "refuse"]:
        self.watched = self.watched or argv[0] == "domgit:watchdog"
        if tuple(argv) == LOAD and self.watched:
            raise Killed
        return "tell"


@pytest.fixture
def world() -> Iterator[World]:
    with scratch() as folder:
        yield prepared(Path(folder), CUTTING["elements that cut off a router"])


@pytest.mark.parametrize("watched", [True, False])
def test_what_cut_off_the_gateway_is_not_tried_for_ever_though_domgit_is_killed_each_time(
    world: World, *, watched: bool
) -> None:
    before, after = listing(world), desired(**CUTTING["elements that cut off a router"].after)
    plain = world.seam
    for _ in range(2):
        world.seam = Killing()
        with pytest.raises(Killed):
            world.apply(after)
        world.seam = plain
        assert not answers(world)
        if watched:
            wait(world)

    done = world.apply(after)

    assert done.exit_code == 4
    blocked = [each.blocked for each in done.plan.changes if each.address == "guard"]
    why = "taken back at 2030-01-01T00:00:00Z: domgit ended before it was confirmed"
    assert blocked == [f"{why} (change it in git, or `domgit apply` to try again)"]
    assert (listing(world), answers(world), pending(world)) == (before, True, [])
