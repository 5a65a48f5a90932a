"""The guard: what the kernel holds once it is loaded are the bindings of the specifications, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from reconciler.diff import make_plan
from reconciler.diff_guard import specified_guard
from reconciler.guard import nftables
from reconciler.guard.binding import Guard
from reconciler.plan import Source
from reconciler.policy import Policy
from reconciler.reconcile import interest
from reconciler.scope import Situation
from reconciler.step import Run
from state.desired import Desired
from state.nft import LIST_TABLE, Features, LoadedTable, parse_table, probe_features
from tests.packets.namespaces import Namespace
from tests.round_trips.accepted import SEED, SPECS, Accepted, alive, fleets_by_all
from tests.round_trips.commits import changed
from tests.round_trips.kernel_table import kernel_table, log_of, per_second, wanted_table
from tests.round_trips.scalars import Scalars
from tests.unit.worlds import settled

pytestmark = [
    pytest.mark.netns,
    pytest.mark.timeout(3600),
    pytest.mark.long,
    pytest.mark.shared("repositories"),
]
LIST_JSON = ("nft", "-j", "list", "table", "bridge", "domgit")
DELETE = ("nft", "delete", "table", "bridge", "domgit")
PARTS = 4
SIZE = 500  # domUs in one load


@pytest.fixture(scope="module", params=range(PARTS))
def repositories(request: pytest.FixtureRequest) -> list[Accepted]:
    """Both tests take the same ones."""
    return fleets_by_all(request.param, specs=SPECS // PARTS, size=SIZE)


@pytest.fixture
def dom0() -> Iterator[Namespace]:
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces, nft")
    host = Namespace()
    yield host
    host.close()


@pytest.fixture
def features(dom0: Namespace) -> Features:
    return probe_features(dom0)


def loaded_anew(dom0: Namespace, guard: Guard, features: Features) -> LoadedTable:
    """The table of a kernel that had none, as it lists it."""
    dom0.run(DELETE)
    dom0.must(*nftables.LOAD, stdin=nftables.full(guard, features))
    return parse_table(dom0.must(*LIST_TABLE))


def test_the_kernel_holds_the_bindings_of_all_specifications_and_nothing_else(
    dom0: Namespace, features: Features, repositories: list[Accepted]
) -> None:
    seen = 0
    for found in repositories:
        guard = specified_guard(found.desired.host, found.desired.domus)
        nobody = replace(guard, bindings=())
        if found is repositories[0]:
            rules = loaded_anew(dom0, nobody, features).rules
            assert rules == loaded_anew(dom0, guard, features).rules
        loaded = loaded_anew(dom0, guard, features)
        text = dom0.must(*LIST_JSON)
        words = [found.words(domu) for domu in alive(found).values()]
        host = found.host.model_dump(mode="json")["spec"]
        log = host["guard"]["log"]
        count, _, per = log["limit"].partition("/")

        assert kernel_table(text) == wanted_table(host, words), found.seed
        assert log_of(text) == ({(log["prefix"], log["level"])}, per_second(int(count), per)), found.seed
        # And a plan that is made now finds nothing to do.
        assert loaded.elements == {**nftables.elements(guard), "bypassed": frozenset()}
        assert nftables.rules_match(loaded, nobody, features)
        assert nftables.delta(loaded, guard) == ""
        seen += len(words)

    assert seen >= SPECS // PARTS


def test_a_plan_from_any_guard_to_any_other_ends_like_one_that_is_loaded_anew(
    dom0: Namespace, features: Features, repositories: list[Accepted]
) -> None:
    draw = Scalars(SEED, wild=0.0)
    for found, other in zip(repositories, repositories[1:] + repositories[:1], strict=True):
        before, after = found.desired, changed(found.desired, other.desired, draw)
        # One that comes from another host is bound when it was let in, which is another story.
        after = replace(after, domus=tuple(replace(domu, moved_from=None) for domu in after.domus))
        loaded = loaded_anew(dom0, replace(specified_guard(before.host, before.domus), alone=False), features)

        step = guard_step(after, loaded, features)
        dom0.must(*step.argv, stdin=step.stdin)
        table = parse_table(dom0.must(*LIST_TABLE))

        guard = replace(specified_guard(after.host, after.domus), alone=False)
        assert table == loaded_anew(dom0, guard, features), found.seed
        assert table.elements != loaded.elements


def guard_step(desired: Desired, loaded: LoadedTable, features: Features) -> Run:
    """What the plan does to the guard of a host on which nothing lives."""
    world = settled(None)
    world.guard = loaded
    observed = replace(world.observed(interest(desired, None, {})), features=features)
    plan = make_plan(Situation(desired, Source("c0ffee00" * 5), observed, {}), Policy())
    change = next(change for change in plan.due if change.address == "guard")
    (step,) = change.steps
    assert isinstance(step, Run)
    return step
