"""A plan: everything that would be done to one host, why, and what it costs the guests. Pure.

A plan leaves nothing to decide at apply time. Every change names what it was planned against
(`fingerprint`), what it does (`steps`), how to undo it (`inverse`) and what must be so afterwards (`expect`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

from reconciler.step import Step, commands
from schemas.diagnostic import Diagnostic

Actions = tuple[Literal["no-op", "create", "update", "delete", "adopt", "forget"], ...]
Cause = Literal["intentional", "corrective"]
Impact = Literal["none", "link", "reboot", "restart", "data"]
When = Literal["now", "next_guest_reboot", "window", "approval"]
# How much an impact takes from a guest, least first: what `disruption` is compared with.
IMPACTS: tuple[Impact, ...] = ("none", "link", "reboot", "restart", "data")
_SYMBOLS: Mapping[Actions, str] = {
    ("create",): "+",
    ("update",): "~",
    ("delete",): "-",
    ("adopt",): "=",
    ("forget",): ".",
}
Facts = tuple[tuple[str, str], ...]
# Reasons of changes that withhold nothing: they are listed as blocked because somebody has to act.
FINDINGS = frozenset({"dark", "guard_weakened"})
# Reasons that lie in rules of others.
BY_OTHERS = FINDINGS | {"would_be_dark"}


class Phase(IntEnum):
    """The order of execution: what is taken away, then the guard, then changes, then what comes new.

    Nothing is attached before the guard binds it, and nothing loses its binding before it is detached.
    """

    PREPARE = 0
    REMOVE = 1
    GUARD = 2
    CHANGE = 3
    ADD = 4


@dataclass(frozen=True, slots=True)
class Change:
    """One change to one object.

    `early` steps take a vif away before the guard changes, `steps` run in the change's own phase: it is detached, then
    the guard lets go of the old binding and learns the new one, then the vif is attached again.
    `counts` are the objects that the summary counts for it: a new VPS is one, whatever it is made of.
    `fingerprint` and `expect` are facts as state.facts names them; an expected "*" means anything but absent.
    `blocked` says why it is not done; it is then listed and nothing more.
    """

    address: str
    actions: Actions
    cause: Cause
    impact: Impact
    phase: Phase
    steps: tuple[Step, ...]
    fingerprint: Facts
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    counts: tuple[str, ...]
    early: tuple[Step, ...] = ()
    inverse: tuple[Step, ...] = ()
    expect: Facts = ()
    layer: tuple[Literal["live", "stored", "file", "guard"], ...] = ("live",)
    when: When = "now"
    reason: str | None = None
    blocked: str | None = None
    uuid: str | None = None
    domid: int | None = None
    order: int = 0

    @property
    def part(self) -> str:
        """What of its object it changes: "" for the whole, `.disk.xvda`, `.vif.0`; the address of a file or the guard.

        A domU's name may have dots too: the address alone does not tell them.
        """
        return self.address.removeprefix(self.counts[0])

    @property
    def symbol(self) -> str:
        """The mark in plan text."""
        if self.blocked is not None:
            return "!"
        if self.when == "next_guest_reboot":
            return "^"
        return _SYMBOLS.get(self.actions, "-/+")

    @property
    def waits(self) -> bool:
        """Whether something is to be done, and is not: blocked, or left to a human or a window."""
        return self.reason not in FINDINGS and (
            self.blocked is not None or self.when in {"approval", "window"}
        )

    @property
    def acts(self) -> bool:
        """Whether there is something to do: of what is staged already, nothing is left but the guest's own reboot."""
        return bool(self.early or self.steps)

    @property
    def due(self) -> bool:
        """Whether apply does it: not blocked, and something to do."""
        return self.blocked is None and self.acts and self.when in {"now", "next_guest_reboot"}

    def digest(self) -> str:
        """A digest of what would be done to what: equal for two plans that mean the same by this change."""
        what = (self.address, self.actions, self.before, self.after, self.when, self.uuid, self.domid)
        return digest_of([*what, [argv for step in (*self.early, *self.steps) for argv in commands(step)]])


def digest_of(content: list[Any]) -> str:
    """A digest that survives being written as JSON and read back."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Source:
    """The commit that a plan is made from. `revision` is a commit id or `worktree:<digest>`."""

    revision: str
    branch: str = ""
    author: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """Something to know that is no change: an orphan, a held-back domU, a guest that is rebooting."""

    address: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Summary:
    """Objects by what happens to them; one object may be changed, staged and blocked at once."""

    add: int
    change: int
    remove: int
    staged: int
    blocked: int

    def __str__(self) -> str:
        """The last line of a plan."""
        return (
            f"Plan: {self.add} to add, {self.change} to change, {self.remove} to remove, "
            f"{self.staged} staged, {self.blocked} blocked."
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """All changes of one pass over one host, in the order they must run."""

    host: str
    source: Source
    prior_state: str  # digest of what was observed
    changes: tuple[Change, ...]
    notes: tuple[Note, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def plan_id(self) -> str:
        """`sha256:` + digest over host, revision and changes: the same for the same plan, whenever made."""
        return "sha256:" + digest_of(
            [self.host, self.source.revision, [change.digest() for change in self.changes]]
        )

    @property
    def due(self) -> tuple[Change, ...]:
        """What apply would do."""
        return tuple(change for change in self.changes if change.due)

    @property
    def errored(self) -> bool:
        """Whether an error in git holds something back."""
        return any(diagnostic.severity == "error" for diagnostic in self.diagnostics)

    @property
    def empty(self) -> bool:
        """Nothing is to be done now: staged, blocked and reported things may remain."""
        return not any(change.when == "now" and change.blocked is None for change in self.changes)

    @property
    def summary(self) -> Summary:
        """The counts of the last line."""
        kinds: Counter[str] = Counter()
        per_object: dict[str, set[str]] = {}
        for change in self.changes:
            for name in change.counts:
                per_object.setdefault(name, set()).add(_kind(change, name))
        for marks in per_object.values():
            now = marks & {"add", "change", "remove"}
            if now:
                kinds["add" if "add" in now else "remove" if "remove" in now else "change"] += 1
            kinds.update(marks & {"staged", "blocked"})
        return Summary(kinds["add"], kinds["change"], kinds["remove"], kinds["staged"], kinds["blocked"])


def _kind(change: Change, name: str) -> str:
    if change.blocked is not None:
        return "blocked"
    if change.when == "next_guest_reboot":
        return "staged"
    if change.address == name and change.actions == ("create",):
        return "add"
    if change.address == name and change.actions == ("delete",):
        return "remove"
    return "change"
