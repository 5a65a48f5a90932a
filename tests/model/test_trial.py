"""A change of the guard on trial: wherever it is cut short, within 30 s the old guard is back or the new one is confirmed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from reconciler import reverted
from reconciler.guard_pending import left_behind
from reconciler.guard_record import LOADER
from reconciler.reconcile import Result
from schemas.fleet import view
from state.desired import Desired
from state.resolve import resolve
from tests.model.campaign import scratch
from tests.model.faults import CUTS, Count, Fault, Killed
from tests.model.people import bring_a_stranger
from tests.model.world import Argv, Seam, World, make_world
from tests.unit.fleets import documents, domu, fleet_of, host, network

WITHIN_S = 30.0
GATEWAY = "172.16.39.1 on xenbr0"
# What is loaded, what is wanted next, behind which port the gateway is, and what happens before the next pass.
Words = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the guard. `cuts`: the gateway cannot be reached any more when it is made."""

    before: Words
    after: Words
    behind: str
    cuts: bool
    flushed: bool = False
    edited: bool = False


CHANGES = {
    "an address more": Change({}, {"ips": "[172.16.39.101, 172.16.39.102]"}, "eth0", cuts=False),
    "a prefix less": Change({"ips": "[172.16.39.64/28]"}, {"ips": "[172.16.39.64/29]"}, "eth0", cuts=False),
    "the first load": Change({}, {}, "eth0", cuts=False, flushed=True),
    "rules put back": Change({}, {}, "eth0", cuts=False, edited=True),
    "elements that cut off a router": Change({"guard": "audit"}, {"guard": "enforce"}, "vm01", cuts=True),
    "a table that cuts off a router": Change({}, {}, "vm01", cuts=True, flushed=True),
    "rules that cut off a router": Change({}, {"unknown": "drop"}, "strange0", cuts=True),
}
CUTTING = {name: each for name, each in CHANGES.items() if each.cuts}
# Each is cut short at some twenty places: one of them always, all of them where there is time.
ALL = [
    name if name == "elements that cut off a router" else pytest.param(name, marks=pytest.mark.campaign)
    for name in CHANGES
]


def desired(*, guard: str = "enforce", ips: str = "[172.16.39.101]", unknown: str = "report") -> Desired:
    """A host with one domU, whose vif is called vm01."""
    files = {**host(), **network("a", "172.16.39.0/24", "172.16.39.1")}
    path = "hosts/dom0-a/host.yaml"
    files[path] = files[path].replace("]}\n", f"], guard: {{unknownVifs: {unknown}}}}}\n")
    files |= domu("vm01", f'name: vm01, mac: "00:16:3e:00:53:01", ips: {ips}, guard: {guard}')
    fleet = fleet_of(files)
    assert fleet.valid, fleet.diagnostics
    found = view(fleet, "dom0-a")
    assert found.host is not None
    return resolve(found.host, documents(found), networks=found.networks)


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory: every record is forced to disk, which on a real one takes longer than all the rest."""
    with scratch() as made:
        yield made


def with_mac(wanted: Desired, mac: str) -> Desired:
    """With another MAC for the one vif: it is replugged."""
    (domu,) = wanted.domus
    (vif,) = domu.vifs
    return replace(wanted, domus=(replace(domu, vifs=(replace(vif, mac=mac),)),))


def plugged(world: World) -> list[tuple[str, str, str | None]]:
    """MAC, bridge and port of each vif of vm01."""
    (domain,) = (each for each in world.host.toolstack.domains.values() if each.name == "vm01")
    nics = (nic.config for nic in domain.nics.values())
    return [(nic.mac, nic.bridge, nic.ifname) for nic in nics]


def listing(world: World) -> str:
    table = world.host.nftables.tables.get("domgit")
    return "" if table is None else table.listing("domgit")


def answers(world: World) -> bool:
    return bool(world.dom0.safety.prober.answering([_gateway(world)], 0.0))


def _gateway(world: World) -> Any:
    from reconciler.way_out import neighbours
    from state.links import read_network
    from state.routes import read_defaults

    network = read_network(world.host, world.host.files)
    return neighbours(desired(), network.links, network.addresses, read_defaults(world.host))[0]


def prepared(folder: Path, change: Change) -> World:
    """A world on which all was applied before the change, with the gateway where it is."""
    world = make_world(folder)
    bring_a_stranger(world.host)
    done = world.apply(desired(**change.before))
    assert done.exit_code == 0, done.outcome.failed
    if change.flushed:
        world.host.run(["nft", "flush", "ruleset"])
    if change.edited:
        world.host.run(["nft", "insert", "rule", "bridge", "domgit", "from_guest", "accept"])
    world.host.gateways["xenbr0"] = change.behind
    assert answers(world)
    return world


def wait(world: World) -> None:
    """As long as it may take at most."""
    world.host.toolstack.sleep(WITHIN_S)
    world.watchdogs.wake()


def pending(world: World) -> list[str]:
    return [state for _, state in left_behind(world.paths.guard)]


def outcomes(world: World) -> list[str]:
    return [str(each["outcome"]) for each in world.dom0.journal().records() if each["type"] == "guard"]


def taken_back(result: Result) -> list[str | None]:
    return [each.error for each in result.outcome.done if each.change.address == "guard"]


# ---------------------------------------------------------------- as it ends when nothing comes between


@pytest.mark.parametrize("name", [name for name, each in CHANGES.items() if not each.cuts])
def test_a_change_after_which_the_gateway_answers_is_confirmed(folder: Path, name: str) -> None:
    change = CHANGES[name]
    world = prepared(folder, change)
    before = listing(world)

    result = world.apply(desired(**change.after))

    assert result.exit_code == 0
    assert listing(world) != before
    assert pending(world) == []
    assert outcomes(world)[-2:] == ["armed", "confirmed"]
    wait(world)
    assert listing(world) != before


@pytest.mark.parametrize("name", CUTTING)
def test_a_change_after_which_the_gateway_is_gone_is_taken_back_and_not_tried_again(
    folder: Path, name: str
) -> None:
    change = CUTTING[name]
    world = prepared(folder, change)
    before, started = listing(world), world.host.toolstack.now_s

    result = world.apply(desired(**change.after))

    assert result.exit_code == 5
    assert taken_back(result) == [f"taken back: {GATEWAY} did not answer afterwards"]
    assert listing(world) == before
    assert answers(world)
    assert world.host.toolstack.now_s - started < WITHIN_S
    assert pending(world) == []
    assert outcomes(world)[-2:] == ["armed", "reverted"]
    for _ in range(3):
        again = world.apply(desired(**change.after))
        assert again.exit_code == 4
        assert again.outcome.done == []
        blocked = [each.blocked for each in again.plan.changes if each.address == "guard"]
        assert blocked == [
            f"taken back at 2030-01-01T00:00:00Z: {GATEWAY} did not answer afterwards (change it in git, or `domgit apply` to try again)"
        ]
    assert listing(world) == before


@pytest.mark.parametrize("retry", [False, True])
def test_a_vif_that_was_taken_away_for_it_is_plugged_in_as_it_was(folder: Path, *, retry: bool) -> None:
    change = CUTTING["rules that cut off a router"]
    world = prepared(folder, change)
    world.policy = replace(world.policy, retry=retry)
    replugged = with_mac(desired(**change.after), "00:16:3e:00:53:77")
    before, vifs = listing(world), plugged(world)

    assert world.apply(replugged).exit_code == 5

    assert plugged(world) == vifs
    world.policy = replace(world.policy, retry=False)
    again = world.apply(replugged)
    assert (again.exit_code, again.outcome.done) == (4, [])
    assert (listing(world), plugged(world)) == (before, vifs)
    world.host.gateways["xenbr0"] = "eth0"
    world.policy = replace(world.policy, retry=True)
    assert world.apply(replugged).exit_code == 0
    assert [mac for mac, *_ in plugged(world)] == ["00:16:3e:00:53:77"]


@pytest.mark.parametrize("name", CUTTING)
def test_by_hand_it_is_tried_again_and_goes_through_when_the_gateway_stays(folder: Path, name: str) -> None:
    change = CUTTING[name]
    world = prepared(folder, change)
    assert world.apply(desired(**change.after)).exit_code == 5
    world.policy = replace(world.policy, retry=True)

    assert world.apply(desired(**change.after)).exit_code == 5
    world.host.gateways["xenbr0"] = "eth0"
    assert world.apply(desired(**change.after)).exit_code == 0

    world.policy = replace(world.policy, retry=False)
    assert reverted.load(world.paths.reverted) == ()
    assert world.plan(desired(**change.after)).empty


def test_a_commit_that_mends_it_goes_through_by_itself(folder: Path) -> None:
    change = CUTTING["elements that cut off a router"]
    world = prepared(folder, change)
    assert world.apply(desired(**change.after)).exit_code == 5

    assert world.apply(desired(guard="audit", ips="[172.16.39.101, 172.16.39.102]")).exit_code == 0
    assert answers(world)


def test_a_guest_that_reboots_does_not_have_it_tried_again(folder: Path) -> None:
    change = CUTTING["rules that cut off a router"]
    world = prepared(folder, change)
    assert world.apply(desired(**change.after)).exit_code == 5
    before = listing(world)

    for domain in [*world.host.toolstack.domains.values()]:
        if domain.name == "vm01":
            world.host.toolstack.reboot(domain)
    world.host.toolstack.settle()

    assert world.apply(desired(**change.after)).exit_code == 4
    assert listing(world) == before


def test_who_did_not_answer_before_is_not_waited_for(folder: Path) -> None:
    change = CUTTING["elements that cut off a router"]
    world = prepared(folder, change)
    world.host.links.by_name["vm01"].up = False

    result = world.apply(desired(**change.after))

    assert result.exit_code == 0
    assert outcomes(world)[-1] == "unconfirmed"


@dataclass(slots=True)
class Nth(Seam):
    """What becomes of the commands and acts that begin with `words`: the first, the second and so on."""

    words: tuple[str, ...]
    fates: tuple[str, ...]
    late: Callable[[], object] | None = None
    seen: int = 0

    def before(self, argv: Argv) -> Literal["do", "refuse", "skip"]:
        if tuple(argv[: len(self.words)]) != self.words:
            return "do"
        fate, self.seen = (*self.fates, *["do"] * 99)[self.seen], self.seen + 1
        if fate == "no space":
            raise OSError(28, "No space left on device")
        if fate == "late" and self.late is not None:
            self.late()
        return "refuse" if fate == "refuse" else "do"


def test_a_change_that_nobody_would_take_back_is_not_made(folder: Path) -> None:
    world = prepared(folder, CHANGES["an address more"])
    before = listing(world)

    world.seam = Nth(("domgit:watchdog",), ("no space",))
    result = world.apply(desired(ips="[172.16.39.150]"))

    assert result.exit_code == 1
    assert taken_back(result) == ["nothing was changed: [Errno 28] No space left on device"]
    assert listing(world) == before


def test_a_table_that_could_not_be_put_back_is_not_replaced(folder: Path) -> None:
    change = CHANGES["rules put back"]
    world = prepared(folder, change)
    world.host.nftables.tables["domgit"].chains["from_guest"].append("meta ibrname x drop")  # no such kernel
    before = listing(world)

    result = world.apply(desired(**change.after))

    assert result.exit_code == 1
    (error,) = taken_back(result)
    assert (error or "").startswith("nothing was changed: the table as it is could not be put back: nft -c")
    assert listing(world) == before
    assert pending(world) == []


def test_a_change_that_nft_refuses_leaves_the_old_guard_and_is_no_lost_gateway(folder: Path) -> None:
    world = prepared(folder, CHANGES["an address more"])
    before = listing(world)
    world.seam = Nth(("nft", "-f"), ("refuse",))

    result = world.apply(desired(ips="[172.16.39.150]"))

    assert result.exit_code == 1
    assert taken_back(result) == ["nft -f -: exit status 1: refused by the test"]
    assert (listing(world), pending(world)) == (before, [])
    assert reverted.load(world.paths.reverted) == ()


def test_what_cannot_be_taken_back_at_once_is_left_to_the_watchdog(folder: Path) -> None:
    change = CUTTING["elements that cut off a router"]
    world = prepared(folder, change)
    before = listing(world)
    world.seam = Nth(("nft", "-f"), ("do", "refuse"))

    result = world.apply(desired(**change.after))

    assert result.exit_code == 5
    assert taken_back(result) == [
        f"taken back: {GATEWAY} did not answer afterwards (which failed: nft -f -: exit status 1: refused by the test; the watchdog tries again)"
    ]
    assert pending(world) == ["armed"]
    wait(world)
    assert (listing(world), pending(world)) == (before, ["reverted"])


def test_what_is_not_confirmed_in_time_is_taken_back_and_may_be_tried_again(folder: Path) -> None:
    change = CHANGES["an address more"]
    world = prepared(folder, change)
    before = listing(world)
    world.seam = Nth(("domgit:ask",), ("do", "late"), late=lambda: wait(world))

    result = world.apply(desired(**change.after))

    assert result.exit_code == 5
    assert taken_back(result) == ["taken back: it was not confirmed in time"]
    assert (listing(world), pending(world)) == (before, [])
    assert world.apply(desired(**change.after)).exit_code == 0


def test_what_a_killed_pass_left_and_nft_refuses_is_kept_for_a_human(folder: Path) -> None:
    change = CUTTING["elements that cut off a router"]
    world = prepared(folder, change)
    world.seam = Fault("killed after", 2)
    with pytest.raises(Killed):
        world.apply(desired(**change.after))
    world.seam = Nth(("nft", "-f"), ("refuse",))

    result = world.apply(desired(**change.after))

    assert result.exit_code == 0
    assert outcomes(world)[-1] == "damaged"
    kept = {world.dom0.record().path.name, LOADER}
    assert [path.suffix for path in world.paths.guard.iterdir() if path.name not in kept] == [".damaged"]


# ---------------------------------------------------------------- cut short anywhere


@dataclass(slots=True)
class First(Seam):
    """Notes what is loaded when a pass begins to look: what was left behind is dealt with by then."""

    world: World
    loaded: str | None = None

    def reading(self, argv: Argv) -> None:
        del argv
        if self.loaded is None:
            self.loaded = listing(self.world)


def cuts_of(folder: Path, change: Change) -> Iterator[Fault]:
    """Every act of the pass that makes the change, to be killed before or after it."""
    world = prepared(folder, change)
    count = world.seam = Count()
    world.apply(desired(**change.after))
    assert count.acts >= 4  # asked, armed, loaded, asked again
    for kind in CUTS:
        for number in range(count.acts):
            yield Fault(kind, number)


@pytest.mark.parametrize("name", ALL)
def test_killed_anywhere_the_old_guard_is_back_in_time_or_the_new_one_is_confirmed(
    folder: Path, name: str
) -> None:
    change = CHANGES[name]
    for number, fault in enumerate(cuts_of(folder / "count", change)):
        world = prepared(folder / str(number), change)
        before = listing(world)
        world.seam = fault
        with pytest.raises(Killed):
            world.apply(desired(**change.after))
        world.seam = Seam()

        wait(world)

        assert answers(world), fault
        if listing(world) != before:
            assert outcomes(world)[-1] == "confirmed", fault
        else:
            assert set(pending(world)) <= {"new", "reverted"}, fault


@pytest.mark.parametrize("name", ALL)
def test_started_again_at_once_it_takes_back_what_was_not_confirmed_before_anything_else(
    folder: Path, name: str
) -> None:
    change = CHANGES[name]
    for number, fault in enumerate(cuts_of(folder / "count", change)):
        world = prepared(folder / str(number), change)
        before, made = listing(world), len(outcomes(world))
        world.seam = fault
        with pytest.raises(Killed):
            world.apply(desired(**change.after))
        told = outcomes(world)
        confirmed = "armed" in told[made:] and told[-1] == "confirmed"
        there = listing(world)
        world.seam = first = First(world)

        result = world.apply(desired(**change.after))

        assert first.loaded == (there if confirmed else before), fault
        assert result.exit_code == (5 if change.cuts else 0), fault
        assert answers(world), fault
        assert (listing(world) == before) == change.cuts, fault
        wait(world)
        assert (listing(world) == before) == change.cuts, fault
        assert pending(world) == [], fault


def test_a_change_that_its_watchdog_took_back_is_told_by_the_next_pass(folder: Path) -> None:
    change = CUTTING["elements that cut off a router"]
    world = prepared(folder, change)
    world.seam = Fault("killed after", 2)
    with pytest.raises(Killed):
        world.apply(desired(**change.after))
    wait(world)
    world.seam = Seam()

    world.apply(desired(guard="audit"))

    records = [each for each in world.dom0.journal().records() if each["type"] == "guard"]
    assert (records[-1]["outcome"], records[-1]["why"]) == (
        "reverted",
        "domgit ended before it was confirmed: its watchdog did it",
    )
    assert records[-1]["apply"] == records[-2]["apply"]


@pytest.mark.parametrize(
    ("spoil", "outcome"),
    [
        (lambda text: text.replace('"boot": ""', '"boot": "another"'), "forgotten"),
        (lambda text: text[: len(text) // 2], "damaged"),
        (lambda text: text.upper(), "damaged"),
    ],
    ids=["another boot", "torn", "garbage"],
)
def test_what_does_not_belong_here_changes_nothing_and_is_told(
    folder: Path, spoil: Any, outcome: str
) -> None:
    change = CUTTING["elements that cut off a router"]
    world = prepared(folder, change)
    world.seam = Fault("killed after", 2)
    with pytest.raises(Killed):
        world.apply(desired(**change.after))
    world.seam = Seam()
    ((file, state),) = left_behind(world.paths.guard)
    text = file.at(state).read_text(encoding="utf-8")
    file.at(state).write_text(spoil(text), encoding="utf-8")
    there = listing(world)

    result = world.apply(desired(**change.after))

    assert [each for each in outcomes(world) if each not in {"armed", "confirmed"}] == [outcome]
    assert result.exit_code == 0
    assert listing(world) == there
    assert pending(world) == []
    assert file.at("damaged").exists() == (outcome == "damaged")
