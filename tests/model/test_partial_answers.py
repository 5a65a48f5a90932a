"""Missing information changes nothing: whatever is missing in what a tool says, domgit refuses, or plans what it would have planned.

Shown on the dom0 in memory, with every tool that it is asked: a commit is waiting, so that there is something to do wrong.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from reconciler.plan import Change
from reconciler.step import commands
from state.desired import Desired
from state.run import ReadError
from tests.model.answers import Answering, spoilt
from tests.model.people import bring_a_stranger
from tests.model.picture import differences, picture
from tests.model.strategies import desired_of
from tests.model.world import Argv, World, make_world
from tests.unit.fleets import domu, host, network

pytestmark = pytest.mark.campaign
MOST = 12  # places of each kind in an answer that is too large for all of them
SEED = int(os.environ.get("DOMGIT_SEED", "1"))
# What a plan may do in vain where it was told less than there is, or a value that cannot be told from a good one: all of
# it makes something what git and the guard want it to be, and it is that already. Nothing is taken from anybody.
IN_VAIN = (
    ("nft", "-f"),
    ("bridge", "link"),
    ("bridge", "fdb"),
    ("ip", "link"),
    ("xenstore-write",),
    ("xl", "config-update"),
    ("xl", "mem-set"),
)
UNNAMED = 'mac: "00:16:3e:00:54:0{0}", ips: [172.16.39.15{0}], guard: enforce'


def named(number: int, ips: str, rate: str = "10Mb/s") -> str:
    return f'name: vm0{number}, mac: "00:16:3e:00:53:0{number}", ips: [{ips}], rate: {rate}, guard: enforce'


def fleet(vifs: dict[int, str]) -> Desired:
    """DomUs by number, each with that vif and one without a name of its own."""
    files = {**host(), **network("a", "172.16.39.0/24", "172.16.39.1")}
    for number, vif in vifs.items():
        files |= domu(f"vm0{number}", vif, UNNAMED.format(number))
    return desired_of(files)


BEFORE = fleet({number: named(number, f"172.16.39.10{number}") for number in (1, 2, 3, 4)})
# vm02 gets another address, vm03 another rate, vm04 has lost its file, vm05 is new.
AFTER = fleet(
    {
        1: named(1, "172.16.39.101"),
        2: named(2, "172.16.39.102, 172.16.39.112"),
        3: named(3, "172.16.39.103", "20Mb/s"),
        5: named(5, "172.16.39.105"),
    }
)


@dataclass(slots=True)
class Waiting:
    """A host at rest on which a commit waits: what it would do, and what every tool says there."""

    world: World
    changes: tuple[Change, ...]
    said: dict[tuple[str, ...], str]

    def answering(self, argv: Argv, text: str) -> Answering:
        """From now on, this is what the command says."""
        self.world.seam = Answering(argv, text)
        return self.world.seam


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Waiting]:
    logging.disable(logging.ERROR)  # a failure that was asked for is no news
    world = make_world(tmp_path / "world")
    bring_a_stranger(world.host)
    world.apply(BEFORE)
    listening = Answering()
    world.seam = listening
    changes = world.plan(AFTER).changes
    assert {change.address for change in changes} >= {"guard", "domu.vm05", "domu.vm03.vif.0"}
    yield Waiting(world, changes, dict(listening.read))
    logging.disable(logging.NOTSET)


def ends_the_same(waiting: Waiting, argv: Argv, text: str, folder: Path) -> str:
    """What is otherwise after a pass that planned with this answer, and one that did not; "" for nothing."""
    pictures = []
    for name, seam in (("smooth", Answering()), ("told", Answering(argv, text, times=1))):
        twin = waiting.world.twin(folder / name)
        twin.seam = seam
        twin.apply(AFTER)
        twin.apply(AFTER)
        pictures.append(picture(twin))
    for each in pictures:
        # What the next reboot gets may be staged once more, as git wants it.
        each["files"] = {path: it for path, it in each["files"].items() if not path.startswith("staged for ")}
    return differences(*pictures)


def in_vain(waiting: Waiting, changes: Iterable[Change]) -> bool:
    """Whether all that a plan would do otherwise is nothing but that."""
    more = (change for change in changes if change not in waiting.changes)
    argvs = (argv for change in more for step in (*change.early, *change.steps) for argv in commands(step))
    meant = {argv for change in waiting.changes for step in change.steps for argv in commands(step)}
    return all(argv in meant or any(argv[: len(each)] == each for each in IN_VAIN) for argv in argvs)


def check(waiting: Waiting, folder: Path, *, most: int) -> Counter[str]:
    """Every tool with everything that may be missing; how many of each end.

    Raises:
        AssertionError: something was planned that would not have been.
    """
    ends: Counter[str] = Counter()
    for argv, text in sorted(waiting.said.items()):
        dice, tried = Random(f"{SEED} {argv}"), 0  # noqa: S311  # reproducible, not secret
        for what, less in spoilt(text, dice, most=most):
            if less == text:
                continue
            seam, where = waiting.answering(argv, less), f"{' '.join(argv)}: {what}"
            try:
                changes = waiting.world.plan(AFTER).changes
            except ReadError:
                ends["refused"] += 1
            else:
                ends["the same plan" if changes == waiting.changes else "in vain"] += 1
                assert in_vain(waiting, changes), f"{where}: {changes}"
                if changes != waiting.changes and tried < most:
                    tried += 1
                    different = ends_the_same(waiting, argv, less, folder)
                    assert not different, f"{where}: {different}"
            assert not seam.acts
    return ends


def test_every_tool_is_asked_by_a_plan(waiting: Waiting) -> None:
    assert {argv[:2] for argv in waiting.said} >= {
        ("xl", "list"),
        ("xl", "vm-list"),
        ("xl", "info"),
        ("xenstore-ls", "-f"),
        ("xenstore-list", "/libxl"),
        ("ip", "-j"),
        ("bridge", "-j"),
        ("nft", "-s"),
        ("nft", "list"),
    }


@pytest.mark.timeout(300)
def test_whatever_is_missing_is_refused_or_makes_no_difference(waiting: Waiting, tmp_path: Path) -> None:
    ends = check(waiting, tmp_path, most=MOST)

    print(f"{sum(ends.values())} answers from DOMGIT_SEED={SEED}: {dict(ends)}")
    assert ends["refused"] > 1500
    assert ends["in vain"] < ends["the same plan"] < ends["refused"]


def test_a_pass_that_cannot_read_its_host_does_nothing_to_it(waiting: Waiting) -> None:
    before = picture(waiting.world)

    for argv, text in sorted(waiting.said.items()):
        if text and argv[0] != "xenstore-list":  # one that says nothing is no evidence, neither way
            seam = waiting.answering(argv, text[: len(text) // 2])
            with pytest.raises(ReadError):
                waiting.world.apply(AFTER)
            assert not seam.acts
            assert picture(waiting.world) == before


def test_what_was_missing_once_is_read_again_within_the_same_pass(waiting: Waiting) -> None:
    listing = waiting.said["xl", "list"]
    shorter = "".join(line for line in listing.splitlines(keepends=True) if not line.startswith("vm03 "))
    waiting.world.seam = Answering(("xl", "list"), shorter, times=2)

    assert waiting.world.plan(AFTER).changes == waiting.changes


def test_a_dom0_that_has_rebooted_has_no_guest_and_starts_them_all(waiting: Waiting) -> None:
    host = waiting.world.host
    for domain in [*host.toolstack.domains.values()]:
        host.toolstack.destroy(domain)
    waiting.world.seam = Answering()

    plan = waiting.world.plan(BEFORE)

    assert {change.address for change in plan.changes if change.actions == ("create",) and change.due} >= {
        f"domu.vm0{number}" for number in (1, 2, 3, 4)
    }
