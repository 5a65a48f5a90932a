"""One pass with one fault in it, and whether the next ones get where they would have got without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from state.run import ReadError
from tests.model.faults import CUTS, FAULTS, Count, Fault, Killed, Kind
from tests.model.picture import differences, picture
from tests.model.walk import Walk, Walker


def faults_of(walker: Walker, folder: Path, kinds: Sequence[Kind] = (*CUTS, *FAULTS)) -> Iterator[Fault]:
    """Every fault that could happen to the next pass of a walker."""
    if walker.desired is None:
        return
    count = Count()
    twin(walker, folder).one_pass(walker.desired, count)
    for kind in kinds:
        for number in range(count.readings if kind == "cannot be read" else count.acts):
            yield Fault(kind, number)


def twin(walker: Walker, folder: Path) -> Walker:
    """The same walker once more, on a world of its own."""
    other = Walker(walker.world.twin(folder))
    other.desired, other.given = walker.desired, dict(walker.given)
    return other


def survives(walker: Walker, fault: Fault, folder: Path) -> Walker:
    """A twin that had the fault in its next pass and came to rest all the same.

    Raises:
        AssertionError: it did not, or did what must never be.
    """
    other = twin(walker, folder)
    if other.desired is not None:
        try:
            other.one_pass(other.desired, fault)
        except (Killed, ReadError):
            other.world.host.toolstack.settle()
        other.come_to_rest(other.desired)
    return other


def check_faults(walker: Walker, walk: Walk, folder: Path, *, most: int | None = None) -> int:
    """Walk to the last round, and try the faults that its first pass could have, at most so many of them; how many.

    Raises:
        AssertionError: after one of them the host is not as it would have been without; says after which.
    """
    walker.walk(replace(walk, rounds=walk.rounds[:-1], reboots=False))
    walker.prepare(walk.rounds[-1])
    # A guest that is just rebooting may meet the guard before or after a change: that is its luck, not domgit's doing.
    walker.world.host.toolstack.settle()
    faults = [*faults_of(walker, folder / "count")]
    if most is not None and len(faults) > most:
        faults = Random(walk.seed).sample(faults, most)  # noqa: S311  # reproducible, not secret
    if walker.desired is None:
        return 0
    smooth = twin(walker, folder / "smooth")
    smooth.come_to_rest(walker.desired)
    for fault in faults:
        where = f"{fault.kind} at {fault.number}"
        try:
            survivor = survives(walker, fault, folder / "cut")
        except AssertionError as error:
            raise AssertionError(f"{where}: {error}") from error
        different = differences(picture(smooth.world), picture(survivor.world))
        assert not different, f"{where}: without it / with it: {different}"
    return len(faults)
