"""Two who apply at the same time, one of them slowly: an older commit never goes over a newer one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.follow import applied_revision
from reconciler.policy import Policy
from reconciler.reconcile import apply
from reconciler.review import StaleError
from tests.model.picture import picture
from tests.model.strategies import desired_of
from tests.model.world import make_world, reading_of
from tests.unit.fleets import domu, host, network

ONE = {
    **host(),
    **network("a", "172.16.39.0/24", "172.16.39.1"),
    **domu("vm01", "name: vm01, mac: '00:16:3e:00:53:01'"),
}
TWO = {**ONE, **domu("vm02", "name: vm02, mac: '00:16:3e:00:53:02'")}


def test_a_commit_that_was_read_before_another_was_applied_is_not_applied_over_it(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.apply(desired_of(ONE))
    older = replace(reading_of(desired_of(ONE)), revision="a" * 40)
    since = applied_revision(world.dom0.last())
    newer = replace(reading_of(desired_of(TWO)), revision="b" * 40)
    apply(world.dom0, newer, Policy(), since=since, by="the daemon, in the meantime")
    before = picture(world)

    with pytest.raises(StaleError, match=f"^{'b' * 40} was applied since, not {since} any more$"):
        apply(world.dom0, older, Policy(), since=since, by="somebody who looked at the plan first")

    assert picture(world) == before
    assert applied_revision(world.dom0.last()) == "b" * 40
