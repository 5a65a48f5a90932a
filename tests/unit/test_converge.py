"""Doing a plan: checked once more, announced before, verified after, and one domU's failure is its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from reconciler.converge import Converger, Outcome
from reconciler.execute import Hands
from reconciler.plan import Change, Phase, Plan, Source
from reconciler.step import CreateImage, Run, WriteFile
from state.files import digest
from state.nft import Features
from state.observed import Observed
from state.run import ReadError
from tests.unit.machines import Machine

VM01, VM02 = "e608ed38-c1b9-532e-a769-0156b41e19e1", "d8eac4cc-8e11-58b9-9e67-207d9472a37d"


@dataclass(slots=True)
class Store:
    """A host that is nothing but files: written, removed, read back. Paths in `lost` take what is written and forget it."""

    files: dict[str, str] = field(default_factory=dict)
    full: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    unreadable: bool = False
    journal: list[Mapping[str, Any]] = field(default_factory=list)
    seen_at: list[dict[str, str]] = field(default_factory=list)

    def write(self, path: str, text: str, mode: int) -> None:
        del mode
        if path in self.full:
            raise OSError(28, "No space left on device")
        if path not in self.lost:
            self.files[path] = text

    def remove(self, path: str) -> None:
        self.files.pop(path, None)

    def create_image(
        self, path: str, size_bytes: int, *, sparse: bool, before_linking: Callable[[str], None]
    ) -> str:
        del size_bytes, sparse
        before_linking("1:1")
        self.files[path] = ""
        return "1:1"

    def observe(self, keys: Iterable[str]) -> Observed:
        if self.unreadable:
            raise ReadError("xl list: no answer within 15 s")
        files: dict[str, str | None] = {
            key.removeprefix("file:"): self.files.get(key.removeprefix("file:")) for key in keys
        }
        return Observed((), {}, {}, (), None, Features(ibrname=True), files, {}, {}, frozenset())

    def announce(self, record: Mapping[str, Any]) -> None:
        self.journal.append(record)
        self.seen_at.append(dict(self.files))


def change(
    path: str, text: str = "new", *, was: str | None = None, phase: Phase = Phase.CHANGE, **more: Any
) -> Change:
    """A file becomes `text`; it was planned against `was`."""
    made = Change(
        address=f"file.{path}",
        actions=("update",),
        cause="intentional",
        impact="none",
        phase=phase,
        steps=(WriteFile(path, text),),
        fingerprint=((f"file:{path}", digest(was)),),
        before={},
        after={},
        counts=(f"domu.{path}",),
        expect=((f"file:{path}", digest(text)),),
    )
    return replace(made, **more)


def converge(store: Store, *changes: Change) -> tuple[Outcome, frozenset[str]]:
    machine = Machine(answers={("true",): ""}, fails={("false",)})
    hands = Hands(machine, store, None, {}, machine.sleep, machine.monotonic)
    converger = Converger(hands, store.observe, store.announce)
    plan = Plan("dom0-a", Source("0" * 40), "", changes)
    outcome = Outcome()
    stuck = converger.remove(plan, outcome)
    converger.complete(plan, outcome)
    return outcome, stuck


def errors(outcome: Outcome) -> dict[str, str | None]:
    return {each.change.address.removeprefix("file."): each.error for each in outcome.done}


def test_a_change_is_announced_before_it_is_done_and_its_outcome_after() -> None:
    store = Store()

    outcome, _ = converge(store, change("/a"))

    assert errors(outcome) == {"/a": None}
    assert [record["type"] for record in store.journal] == ["intent", "outcome"]
    assert store.seen_at == [{}, {"/a": "new"}]
    assert store.journal[0]["commands"][0][:2] == ["domgit:write", "/a"]
    assert store.journal[1]["error"] is None


def test_what_has_moved_since_it_was_planned_is_not_touched() -> None:
    store = Store({"/a": "somebody else's"})

    outcome, _ = converge(store, change("/a", was="old"))

    assert store.files == {"/a": "somebody else's"}
    assert errors(outcome) == {
        "/a": f"moved since it was planned: file:/a was {digest('old')}, is {digest(store.files['/a'])}"
    }
    assert store.journal == []


def test_what_cannot_be_checked_is_not_done() -> None:
    store = Store(unreadable=True)

    outcome, _ = converge(store, change("/a"))

    assert errors(outcome) == {"/a": "cannot be checked: xl list: no answer within 15 s"}
    assert store.files == {}


def test_a_command_that_ended_well_is_not_believed_without_a_look() -> None:
    store = Store(lost={"/a"})

    outcome, _ = converge(store, change("/a"))

    assert errors(outcome)["/a"] == f"done, but file:/a is absent (expected {digest('new')})"
    assert store.journal[-1]["error"] == errors(outcome)["/a"]


def test_anything_but_absent_is_enough_where_the_value_cannot_be_known() -> None:
    there, _ = converge(Store(), change("/a", expect=(("file:/a", "*"),)))
    lost, _ = converge(Store(lost={"/a"}), change("/a", expect=(("file:/a", "*"),)))
    absent, _ = converge(Store(), change("/a", expect=(("file:/a", ""),)))

    assert errors(there)["/a"] is None
    assert errors(lost)["/a"] == "done, but file:/a is absent (expected anything)"
    assert str(errors(absent)["/a"]).endswith("(expected absent)")


def test_what_was_done_and_cannot_be_read_back_has_failed() -> None:
    @dataclass(slots=True)
    class Deaf(Store):
        """Answers no more once something was written."""

        def write(self, path: str, text: str, mode: int) -> None:
            Store.write(self, path, text, mode)
            self.unreadable = True

    outcome, _ = converge(Deaf(), change("/a"))

    assert errors(outcome) == {"/a": "cannot be verified: xl list: no answer within 15 s"}


def test_one_failure_ends_its_own_objects_part_and_nobody_elses() -> None:
    store = Store(full={"/a"})
    mine = change("/a")
    next_one = change("/b", counts=mine.counts)

    outcome, _ = converge(store, mine, next_one, change("/c"))

    assert errors(outcome) == {
        "/a": "domgit:write /a 0644 sha256:11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437: No space left on device",
        "/b": "skipped: an earlier change of it failed",
        "/c": None,
    }
    assert store.files == {"/c": "new"}
    assert outcome.failed_objects() == {"domu./a"}


def test_steps_end_with_the_first_that_fails_and_what_they_answered_is_kept() -> None:
    store = Store()
    steps = (Run(("true",)), Run(("false",)), WriteFile("/a", "new"))

    outcome, _ = converge(store, change("/a", steps=steps))

    assert store.files == {}
    assert str(errors(outcome)["/a"]).startswith("false: exit status 1")
    assert [(run["argv"], run["rc"]) for run in store.journal[-1]["runs"]] == [(["true"], 0)]


def test_what_is_blocked_or_waits_is_not_done() -> None:
    store = Store()

    outcome, _ = converge(
        store, change("/a", blocked="no"), change("/b", when="approval"), change("/c", steps=())
    )

    assert outcome.done == []
    assert store.journal == []


# ---------------------------------------------------------------- order


def test_removals_then_the_guard_then_changes_then_what_is_new() -> None:
    store = Store()
    changes = [
        change("/prepare", phase=Phase.PREPARE),
        change("/remove", phase=Phase.REMOVE),
        change("/guard", phase=Phase.GUARD),
        change("/change"),
        change("/add", phase=Phase.ADD, early=(WriteFile("/early", "gone"),)),
    ]

    outcome, _ = converge(store, *changes)

    assert outcome.failed == ()
    assert [record["address"] for record in store.journal if record["type"] == "intent"] == [
        "file./prepare",
        "file./remove",
        "file./add",
        "file./guard",
        "file./change",
        "file./add",
    ]


def test_what_was_taken_away_early_is_checked_by_identity_alone_later() -> None:
    store = Store({"/a": "old"})
    replug = change(
        "/a",
        was="old",
        phase=Phase.ADD,
        early=(WriteFile("/a", "away"),),
        fingerprint=(("file:/a", digest("old")),),
    )

    outcome, _ = converge(store, replug)

    assert errors(outcome) == {"/a": None}
    assert store.files == {"/a": "new"}


def test_who_could_not_be_stopped_is_named_and_gets_nothing_new() -> None:
    store = Store(full={"/a"})
    removal = change("/a", phase=Phase.REMOVE, uuid=VM01)
    replug = change("/b", phase=Phase.ADD, uuid=VM02, early=(Run(("false",)),))

    outcome, stuck = converge(store, removal, replug)

    assert stuck == {VM01, VM02}
    assert store.files == {}
    assert {each.change.address for each in outcome.failed} == {"file./a", "file./b"}


def test_without_the_guard_nothing_new_comes_and_everything_else_goes_on() -> None:
    store = Store(full={"/guard"})

    outcome, _ = converge(
        store,
        change("/guard", phase=Phase.GUARD, counts=("guard",)),
        change("/change"),
        change("/add", phase=Phase.ADD),
    )

    assert store.files == {"/change": "new"}
    assert errors(outcome)["/add"] == "skipped: the guard could not be changed before"


def test_the_guard_is_changed_for_all_although_one_of_them_failed() -> None:
    store = Store(full={"/a"})
    failed = change("/a", phase=Phase.PREPARE)

    converge(store, failed, change("/guard", phase=Phase.GUARD, counts=failed.counts))

    assert store.files == {"/guard": "new"}


def test_a_change_without_facts_is_done_and_believed() -> None:
    store = Store()
    made = CreateImage(VM01, "/i", 1, sparse=True)

    outcome, _ = converge(store, change("/i", fingerprint=(), expect=(), steps=(made,)))

    assert errors(outcome) == {"/i": None}
    assert store.files == {"/i": ""}
