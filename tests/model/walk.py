"""A walk: commits, mishaps and guests' acts in some order, and that the dom0 comes to rest after each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from reconciler.plan import Plan
from reconciler.plan_document import plan_document
from reconciler.reconcile import Result
from reconciler.render_xl import HOTPLUG_SCRIPT
from reconciler.review import restricted
from state.desired import Desired, DomU
from tests.model.oracle import Oracle
from tests.model.people import ACTS, GUESTS, bring_a_stranger, let_all_reboot, run_by_hand
from tests.model.rest import judged, unsettled
from tests.model.strategies import Files, FleetDice, desired_of
from tests.model.world import BY_HAND, DAEMON, Seam, World, make_world

# By hand, with everything allowed. A name that goes from one living domU to the next takes one pass more for each.
PASSES = 3


@dataclass(frozen=True, slots=True)
class Round:
    """What happens before domgit has its turn. `files`: what was committed meanwhile, None for nothing."""

    acts: tuple[tuple[str, int], ...]
    files: Files | None


@dataclass(frozen=True, slots=True)
class Walk:
    """A reproducible sequence of rounds on a fresh host.

    `by_hand`: what somebody ran there before domgit came. `daemon`: who passes is the daemon, which leaves more to
    a human. `reboots`: at the end every guest reboots, and nothing must be left staged.
    """

    seed: int
    rounds: tuple[Round, ...]
    by_hand: Files | None = None
    daemon: bool = False
    reboots: bool = False

    def __str__(self) -> str:
        """What happens in it, for a person."""
        lines = [f"DOMGIT_SEED={self.seed}{' by the daemon' if self.daemon else ''}"]
        lines += [
            f"  ran by hand: {path}: {text}"
            for path, text in sorted((self.by_hand or {}).items())
            if "/domus/" in path
        ]
        for number, each in enumerate(self.rounds):
            lines += [f"round {number}:", *(f"  somebody {name} ({luck})" for name, luck in each.acts)]
            lines += [
                f"  {path}: {text}"
                for path, text in sorted((each.files or {}).items())
                if "networks/" not in path
            ]
        return "\n".join(lines)


def draw_walk(seed: int, *, rounds: int = 3) -> Walk:
    """The walk of a seed."""
    dice = Random(seed)  # noqa: S311  # reproducible, not secret
    fleets = FleetDice(dice)
    files, drawn = fleets.draw(), []
    for number in range(rounds):
        acts = [
            (dice.choice(list(ACTS)), dice.randrange(1000)) for _ in range(dice.choice((0, 0, 1, 1, 2, 3)))
        ]
        acts += [(dice.choice(list(GUESTS)), dice.randrange(1000)) for _ in range(dice.choice((0, 0, 0, 1)))]
        committed = number == 0 or dice.random() < 0.7
        if number and committed:
            files = fleets.draw() if dice.random() < 0.3 else fleets.change(files)
        content = fleets.spoilt(files) if number and dice.random() < 0.1 else files
        drawn.append(Round(tuple(acts), content if committed else None))
    by_hand = fleets.draw() if dice.random() < 0.2 else None
    return Walk(seed, tuple(drawn), by_hand, daemon=dice.random() < 0.2, reboots=dice.random() < 0.3)


class Walker:
    """Walks on one world. `judged` and `left` count how much of it could be compared with git at rest, and how much not."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.oracle = Oracle(world.host, ledger=world.ledger)
        world.seam = self.oracle
        self.desired: Desired | None = None
        self.judged = self.left = 0
        # What a domU was given, and may still have a part of until all of its newest specification got there.
        self.given: dict[str, tuple[DomU, ...]] = {}

    def walk(self, walk: Walk) -> None:
        """All rounds, with rest after each.

        Raises:
            AssertionError: it does not come to rest, or rests where it should not, or did what must never be.
        """
        self.world.policy = DAEMON if walk.daemon else BY_HAND
        if walk.by_hand is not None:
            run_by_hand(self.world.host, desired_of(walk.by_hand))
        for each in walk.rounds:
            self.prepare(each)
            if self.desired is not None:
                self.come_to_rest(self.desired)
        if walk.reboots and self.desired is not None:
            # Once, since what a limit withholds until a reboot is staged only then; and once more.
            let_all_reboot(self.world.host)
            self.come_to_rest(self.desired)
            let_all_reboot(self.world.host)
            plan = self.come_to_rest(self.desired)
            uuids = {domu.uuid for domu in judged(self.desired, plan)}
            staged = [
                each.address
                for each in plan.changes
                if each.when == "next_guest_reboot" and each.uuid in uuids
            ]
            assert not staged, f"still staged although every guest has rebooted: {staged}"

    def prepare(self, each: Round) -> None:
        """What happens before domgit has its turn."""
        for name, luck in each.acts:
            ACTS[name](self.world.host, Random(luck))  # noqa: S311  # reproducible, not secret
        # A known limit: in the two seconds in which a guest reboots, what it has looks free. One with our script is
        # refused when it comes back and finds it taken; one of the days before domgit would come up all the same.
        toolstack = self.world.host.toolstack
        if any(
            nic.script != HOTPLUG_SCRIPT for gone in toolstack.coming for nic in gone.config.nics.values()
        ):
            toolstack.settle()
        if each.files is not None:
            self.desired = desired_of(each.files)

    def come_to_rest(self, desired: Desired) -> Plan:
        """Passes until nothing is left to do now, at most as many as allowed; what remains listed.

        Raises:
            AssertionError: one more would still do something.
        """
        plan = self.world.plan(desired)
        assert restricted(plan, plan_document(plan, timestamp="")) == plan, "stale before anything has moved"
        turned = self.world.plan_of_disorder(desired)
        assert (turned.changes, turned.notes) == (plan.changes, plan.notes), "the order of listing decides"
        allowed, failed = PASSES + self._renames(desired), ""
        for _ in range(allowed):
            result = self.one_pass(desired)
            left, failed = result.after, failures(result)
            if self.world.host.toolstack.settle():
                left = self.world.plan(desired)
            if left.empty and not left.due:
                break
        assert left.empty, f"not at rest after {allowed} passes: {described(left)}; {failed}"
        return self.check_rest(desired)

    def one_pass(self, desired: Desired, inner: Seam | None = None) -> Result:
        """One pass, every act of which is watched. `inner` decides what becomes of each."""
        last = self.world.last()
        for domu in (*(() if last is None else last.desired.domus), *desired.domus):
            given = self.given.get(domu.uuid, ())
            self.given[domu.uuid] = given if domu in given else (*given, domu)
        self.oracle.inner = inner or Seam()
        self.oracle.specs, self.oracle.desired = self.given, {domu.uuid: domu for domu in desired.domus}
        self.oracle.owned = frozenset(self.world.ledger())
        return self.world.apply(desired)

    def check_rest(self, desired: Desired) -> Plan:
        """At rest, a pass does nothing at all, and what git says is so."""
        before = self.oracle.acts
        result = self.one_pass(desired)
        assert self.oracle.acts == before, f"a pass at rest did {self.oracle.last}: {described(result.plan)}"
        problems = [*unsettled(self.world, desired, result.after)]
        assert not problems, f"at rest, but {'; '.join(problems)}"
        settled = judged(desired, result.after)
        self.given |= {domu.uuid: (domu,) for domu in settled}
        self.judged += len(settled)
        self.left += len(desired.domus) - len(settled)
        return result.after

    def _renames(self, desired: Desired) -> int:
        names = {domu.name: domu.uuid for domu in desired.domus}
        domains = self.world.host.toolstack.domains.values()
        return sum(1 for each in domains if names.get(each.name, each.uuid) != each.uuid)


def walker_in(folder: Path) -> Walker:
    """A walker on a fresh dom0, on which a stranger's domain runs already."""
    world = make_world(folder)
    bring_a_stranger(world.host)
    return Walker(world)


def described(plan: Plan) -> str:
    """The changes of a plan that are to be done now."""
    return ", ".join(
        f"{change.symbol} {change.address} ({change.reason})"
        for change in plan.changes
        if change.when == "now" and change.blocked is None
    )


def failures(result: Result) -> str:
    """What failed in a pass."""
    return "; ".join(f"{each.change.address}: {each.error}" for each in result.outcome.failed)


def shrunk(walk: Walk, fails: Callable[[Walk], bool]) -> Walk:
    """A failing walk without the rounds and acts that it fails without, too."""
    smaller = True
    while smaller:
        smaller = False
        for candidate in _smaller(walk):
            if fails(candidate):
                walk, smaller = candidate, True
                break
    return walk


def _smaller(walk: Walk) -> Iterable[Walk]:
    rounds = walk.rounds
    for number, each in enumerate(rounds):
        yield replace(walk, rounds=(*rounds[:number], *rounds[number + 1 :]))
        for skip in range(len(each.acts)):
            fewer = replace(each, acts=(*each.acts[:skip], *each.acts[skip + 1 :]))
            yield replace(walk, rounds=(*rounds[:number], fewer, *rounds[number + 1 :]))
        for path in each.files or {}:
            if "/domus/" in path and each.files is not None:
                files = {key: text for key, text in each.files.items() if key != path}
                without = replace(each, files=files)
                yield replace(walk, rounds=(*rounds[:number], without, *rounds[number + 1 :]))
