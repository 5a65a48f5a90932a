"""The guard that is kept on disk: whenever it is loaded without a pass, it is what was last applied and nothing older."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pytest

from reconciler.guard_kept import parse_kept, table_digest
from reconciler.guard_record import Record, loader
from reconciler.only_writer import only_writer
from state.nft import read_table
from state.run import Completed
from tests.model.campaign import scratch
from tests.model.faults import CUTS, Count, Fault, Killed
from tests.model.test_trial import CHANGES, Change, desired, listing, outcomes, pending, prepared, wait
from tests.model.world import Argv, Seam, World, make_world

KINDS = ("an address more", "a prefix less", "rules put back", "elements that cut off a router")


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch() as made:
        yield made


def flush(world: World) -> None:
    world.host.run(["nft", "flush", "ruleset"])


def restore(world: World) -> str:
    return world.dom0.restorer()()


def is_loaded(world: World) -> bool:
    """Whether what is kept may be used, and is what the kernel has."""
    current = world.dom0.record().current()
    return current is not None and current.table == table_digest(read_table(world.host))


def test_what_was_applied_comes_back_whole_and_the_next_pass_finds_nothing_to_do(folder: Path) -> None:
    world = prepared(folder, CHANGES["an address more"])
    there = listing(world)
    assert (is_loaded(world), restore(world)) == (True, "intact")

    flush(world)
    said = restore(world)

    assert (said, listing(world)) == ("restored", there)
    assert world.plan(desired()).empty
    assert world.apply(desired()).exit_code == 0
    assert outcomes(world)[-1] == "restored"
    assert len([each for each in outcomes(world) if each == "restored"]) == 1
    assert restore(world) == "intact"


@pytest.mark.parametrize("kind", KINDS)
def test_killed_anywhere_what_comes_back_after_a_flush_is_what_was_loaded_before_it(
    folder: Path, kind: str
) -> None:
    change = CHANGES[kind]
    seen = set()
    for number, fault in enumerate(_cuts(folder / "count", change)):
        world = prepared(folder / str(number), change)
        original = parse_kept(world.dom0.record().path.read_text(encoding="utf-8"))
        world.seam = fault
        with pytest.raises(Killed):
            world.apply(desired(**change.after))
        world.seam = Seam()
        assert not any(state == "armed" for state in pending(world)) or restore(world) == "left", fault
        wait(world)
        there = listing(world)
        flush(world)

        said = restore(world)

        seen.add(said)
        if said == "left":
            assert listing(world) == "", fault
        else:
            # Rules that somebody else had edited before do not come back.
            assert change.edited or listing(world) == there, fault
            assert is_loaded(world), fault
            assert change.edited or original.boot == world.dom0.record().boot, fault
        world.seam = Seam()
        assert world.apply(desired(**change.after)).exit_code == (5 if change.cuts else 0), fault
    # One that ended well is kept before the next act at which it could be killed.
    assert seen == ({"left"} if change.cuts or change.edited else {"left", "restored"})


def _cuts(folder: Path, change: Change) -> Iterator[Fault]:
    world = prepared(folder, change)
    count = world.seam = Count()
    world.apply(desired(**change.after))
    for kind in CUTS:
        for number in range(count.acts):
            yield Fault(kind, number)


def test_a_change_that_was_taken_back_stays_so_after_a_flush(folder: Path) -> None:
    change = CHANGES["elements that cut off a router"]
    world = prepared(folder, change)
    there = listing(world)
    assert world.apply(desired(**change.after)).exit_code == 5
    assert listing(world) == there

    flush(world)

    assert (restore(world), listing(world)) == ("restored", there)


@dataclass(slots=True)
class AtAttach(Seam):
    """Looks whether the guard is kept when a vif is plugged in: the hotplug script holds it against that."""

    world: World
    kept: list[bool]

    def before(self, argv: Argv) -> str:  # type: ignore[override]  # never refuses
        if tuple(argv[:2]) in {("xl", "create"), ("xl", "network-attach")}:
            self.kept.append(is_loaded(self.world))
        return "do"


def test_the_guard_is_kept_before_the_first_vif_that_needs_it_comes(folder: Path) -> None:
    world = make_world(folder)
    world.seam = seam = AtAttach(world, [])

    world.apply(desired())

    assert seam.kept == [True]


def test_rules_that_are_not_ours_are_not_kept(folder: Path) -> None:
    world = prepared(folder, CHANGES["an address more"])
    kept = world.dom0.record().path.read_text(encoding="utf-8")
    world.host.run(["nft", "insert", "rule", "bridge", "domgit", "from_guest", "accept"])

    assert restore(world) == "restored"

    assert world.dom0.record().path.read_text(encoding="utf-8") == kept
    assert "\t\taccept\n" not in listing(world).partition("chain from_guest {\n")[2].partition("\n\t}")[0]


def test_a_file_that_is_gone_or_damaged_is_made_again_by_the_next_pass(folder: Path) -> None:
    world = prepared(folder, CHANGES["an address more"])
    path = world.dom0.record().path
    text = path.read_text(encoding="utf-8")
    for spoil in (path.unlink, lambda: path.write_text(text[: len(text) // 2], encoding="utf-8")):
        spoil()
        assert world.dom0.record().current() is None

        world.apply(desired())

        assert path.read_text(encoding="utf-8") == text
        assert is_loaded(world)
    assert path.with_name("boot.sh").read_text(encoding="utf-8") == loader()


def test_what_somebody_adds_between_reading_and_keeping_is_not_kept(folder: Path) -> None:
    world = prepared(folder, CHANGES["an address more"])
    record = world.dom0.record()
    text = record.path.read_text(encoding="utf-8")
    loaded = read_table(world.host)
    world.host.run(["nft", "insert", "rule", "bridge", "domgit", "from_guest", "accept"])

    record.settle(world.host, loaded, frozenset({'"vm09" uuid.0 xenbr0'}), settled=True)

    assert record.path.read_text(encoding="utf-8") == text


def test_a_loader_of_another_version_is_replaced(folder: Path) -> None:
    world = prepared(folder, CHANGES["an address more"])
    path = world.dom0.record().path.with_name("boot.sh")
    path.write_text("#!/bin/sh\n", encoding="utf-8")

    world.apply(desired(ips="[172.16.39.103]"))

    assert path.read_text(encoding="utf-8") == loader()


def test_after_a_reboot_it_is_used_again_when_a_pass_has_said_so(folder: Path) -> None:
    world = prepared(folder, CHANGES["an address more"])
    world.host.files.texts["/proc/sys/kernel/random/boot_id"] = "b0071d\n"
    flush(world)
    assert restore(world) == "left"

    world.apply(desired())

    assert is_loaded(world)


def test_where_nothing_is_loaded_and_nothing_should_be_nothing_is_kept(folder: Path) -> None:
    world = prepared(folder, CHANGES["an address more"])
    record = world.dom0.record()
    flush(world)

    record.settle(world.host, None, frozenset(), settled=False)
    assert record.path.exists()
    record.settle(world.host, None, frozenset(), settled=True)

    assert not record.path.exists()
    assert restore(world) == "left"


def test_a_note_that_was_cut_short_is_left_out_and_the_others_are_told_once(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = Record(folder, folder, "boot")
    record.note_restored({"type": "guard"})
    with (folder / "restored").open("a", encoding="utf-8") as file:
        file.write('{"type": "gu')

    with caplog.at_level(logging.WARNING):
        assert list(record.take_restored()) == [{"type": "guard"}]

    assert "is damaged" in caplog.text
    assert list(record.take_restored()) == []


@dataclass(slots=True)
class Busy(Seam):
    """nft cannot list the table for some times: another process changes it."""

    times: int

    def said(self, completed: Completed) -> Completed:
        if completed.argv[:3] != ("nft", "-s", "list") or self.times == 0:
            return completed
        self.times -= 1
        # Source: nftables 1.0.6 while another process loads rules.
        busy = "Error: Could not process rule: Interrupted system call\n"
        return replace(completed, rc=1, stdout="", stderr=busy)


@pytest.mark.parametrize(("times", "said"), [(2, "restored"), (99, "left")])
def test_a_listing_that_is_disturbed_is_asked_for_again_some_times(
    folder: Path, times: int, said: str
) -> None:
    world = prepared(folder, CHANGES["an address more"])
    flush(world)
    world.seam = Busy(times)

    assert restore(world) == said


@dataclass(slots=True)
class Refusing(Seam):
    """nft loads nothing."""

    def before(self, argv: Argv) -> Literal["do", "refuse", "skip"]:
        return "refuse" if tuple(argv[:2]) == ("nft", "-f") else "do"


def test_what_nft_refuses_and_what_somebody_else_holds_is_left_to_the_pass_and_told(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = prepared(folder, CHANGES["an address more"])
    flush(world)
    world.seam = Refusing()
    assert (restore(world), listing(world)) == ("left", "")
    world.seam = Seam()
    with only_writer(world.paths.run / "guard-lock"):
        assert (restore(world), listing(world)) == ("left", "")
        # Nor is the guard changed meanwhile.
        result = world.apply(desired())
    (guard,) = (each for each in result.outcome.done if each.change.address == "guard")
    assert "nothing was changed" in str(guard.error)
    assert listing(world) == ""

    assert [record.message for record in caplog.records].count("guard left to the pass") == 2
    assert restore(world) == "restored"


def test_a_guard_that_cannot_be_kept_ends_no_pass_and_is_not_used(folder: Path) -> None:
    world = make_world(folder)
    (world.paths.guard / "boot.nft").mkdir(parents=True)

    result = world.apply(desired())

    assert listing(world) != ""
    assert [each.error for each in result.outcome.done if each.change.address == "guard"] == [None]
    assert result.exit_code == 0
    flush(world)
    assert (restore(world), listing(world)) == ("left", "")
