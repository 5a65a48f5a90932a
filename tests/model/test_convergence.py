"""From any state to any state: a few passes, then rest, whatever people, guests and kills did before or meanwhile.

A failure prints its seed and the smallest walk that fails; `DOMGIT_SEED=N pytest tests/model -m campaign` starts there.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.model.campaign import everywhere, fault_seed, faults_everywhere, told, walk_seed, walked
from tests.model.walk import draw_walk

# Always the same walks, so that a failure is somebody's change and not luck; others by DOMGIT_SEED, 0 for any.
SEED = int(os.environ.get("DOMGIT_SEED", "1")) or random.SystemRandom().randrange(1, 10**9)
SEQUENCES = 1000
WITH_FAULTS = 60
FAULTS_EACH = 10


@pytest.mark.no_cover
@pytest.mark.parametrize("seed", range(6))
def test_a_walk_comes_to_rest_where_git_wants_it(seed: int) -> None:
    outcome = walk_seed(seed)

    assert not outcome.problem, told([outcome])
    assert outcome.judged > outcome.left


@pytest.mark.no_cover
def test_a_pass_at_rest_does_nothing_for_a_guest_whose_disk_is_gone_while_something_else_of_it_changed() -> (
    None
):
    outcome = walk_seed(507)

    assert not outcome.problem, told([outcome])
    assert outcome.left


@pytest.mark.no_cover
@pytest.mark.parametrize("seed", range(3))
def test_a_pass_with_a_fault_is_finished_by_the_next(seed: int) -> None:
    outcome = fault_seed(seed, most=6)

    assert not outcome.problem
    assert outcome.faults == 6


@pytest.mark.no_cover
def test_a_walk_is_told_by_its_seed_alone() -> None:
    assert draw_walk(7) == draw_walk(7)
    assert walked(draw_walk(7)) == walked(draw_walk(7))


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_random_walks_always_come_to_rest() -> None:
    outcomes = everywhere(walk_seed, range(SEED, SEED + SEQUENCES))

    print(f"{len(outcomes)} sequences from DOMGIT_SEED={SEED}")
    assert not any(each.problem for each in outcomes), told(outcomes)
    assert len(outcomes) >= 1000
    # Most of what git wants got there; what is withheld for a reason is the smaller part.
    assert sum(each.judged for each in outcomes) > 4 * sum(each.left for each in outcomes)


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_a_pass_killed_failed_or_lied_to_anywhere_is_finished_by_the_next() -> None:
    outcomes = faults_everywhere(range(SEED, SEED + WITH_FAULTS), most=FAULTS_EACH)

    faults = sum(each.faults for each in outcomes)
    print(f"{faults} faults in {len(outcomes)} sequences from DOMGIT_SEED={SEED}")
    failed = [each for each in outcomes if each.problem]
    assert not failed, f"DOMGIT_SEED={failed[0].seed}: {failed[0].problem}"
    assert faults > WITH_FAULTS
