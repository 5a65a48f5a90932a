"""One dom0 in memory with domgit on it, and a seam where every act of domgit passes by."""

from __future__ import annotations

import copy
import errno
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from reconciler import ledger
from reconciler.config import Paths
from reconciler.diff import make_plan
from reconciler.follow import applied_revision
from reconciler.last_good import LastGood
from reconciler.plan import Plan, Source
from reconciler.policy import Policy
from reconciler.reconcile import Dom0, Result, apply, current_plan, look
from reconciler.scope import Situation
from reconciler.secret import revealed
from state.desired import Desired
from state.run import Completed
from state.source import Reading
from tests.model.host import Host, changes_something, make_host
from tests.model.safety import Watchdogs, make_safety

BY_HAND = Policy(by_hand=True, disruption="reboot")
DAEMON = Policy(by_hand=False)
GRACE_S = 10.0
SECRET = "vm-vnc"  # noqa: S105  # the name of a file

Argv = Sequence[str]
Value = TypeVar("Value")


class Seam:
    """Sees every act that changes something, before and after; this one lets all of them pass.

    `before` may have an act refused without effect, or skipped as if it were done; `after` may have it reported
    as refused. Both may raise instead of returning, as a kill would. `reading` is told of every other command, and
    `said` may have it answer otherwise than it did.
    """

    def before(self, argv: Argv) -> Literal["do", "refuse", "skip"]:
        del argv
        return "do"

    def after(self, argv: Argv) -> Literal["tell", "refuse"]:
        del argv
        return "tell"

    def reading(self, argv: Argv) -> None:
        del argv

    def said(self, completed: Completed) -> Completed:
        return completed


@dataclass(slots=True)
class Tap:
    """The host as domgit has it: Runner and Disk, with the seam between."""

    host: Host
    seam: Seam

    def run(
        self,
        argv: Argv,
        *,
        stdin: str = "",
        timeout_s: float = 15.0,
        environment: Mapping[str, str] | None = None,
    ) -> Completed:
        del timeout_s, environment
        if not changes_something(argv):
            self.seam.reading(argv)
            return self.seam.said(self.host.run(argv, stdin=stdin))
        refused = Completed(tuple(argv), 1, "", "refused by the test\n", 0, 0.0)
        match self.seam.before(argv):
            case "refuse":
                return refused
            case "skip":
                return Completed(tuple(argv), 0, "", "", 0, 0.0)
        completed = self.host.run(argv, stdin=stdin)
        return completed if self.seam.after(argv) == "tell" else refused

    def write(self, path: str, text: str, mode: int) -> None:
        self._file(("domgit:write", path), partial(self.host.files.write, path, text, mode))

    def remove(self, path: str) -> None:
        self._file(("domgit:remove", path), partial(self.host.files.remove, path))

    def create_image(
        self, path: str, size_bytes: int, *, sparse: bool, before_linking: Callable[[str], None]
    ) -> str:
        def linking(identity: str) -> None:
            before_linking(identity)
            self.seam.before(("domgit:link-image", path))

        argv = ("domgit:create-image", path)
        if self.seam.before(argv) != "do":
            raise OSError(errno.ENOSPC, "No space left on device", path)
        identity = self.host.files.create_image(path, size_bytes, sparse=sparse, before_linking=linking)
        if self.seam.after(argv) != "tell":
            raise OSError(errno.EIO, "Input/output error", path)
        return identity

    def _file(self, argv: Argv, act: Callable[[], None]) -> None:
        verdict = self.seam.before(argv)
        if verdict == "skip":
            return
        if verdict == "refuse":
            raise OSError(errno.ENOSPC, "No space left on device", argv[1])
        act()
        if self.seam.after(argv) != "tell":
            raise OSError(errno.EIO, "Input/output error", argv[1])


@dataclass(slots=True)
class World:
    """A host and the records that domgit keeps of it in `folder`."""

    folder: Path
    host: Host
    seam: Seam = field(default_factory=Seam)
    policy: Policy = BY_HAND
    watchdogs: Watchdogs = field(init=False)

    def __post_init__(self) -> None:
        self.watchdogs = Watchdogs(self.host, self.seam)

    @property
    def paths(self) -> Paths:
        return Paths(state=self.folder / "state", run=self.folder / "run", secrets=self.folder / "secrets")

    @property
    def dom0(self) -> Dom0:
        tap, toolstack = Tap(self.host, self.seam), self.host.toolstack
        return Dom0(
            runner=tap,
            files=self.host.files,
            disk=tap,
            paths=self.paths,
            sleep=toolstack.sleep,
            monotonic=lambda: toolstack.now_s,
            safety=make_safety(self.host, self.seam, self.watchdogs),
            grace_s=GRACE_S,
            now=lambda: datetime(2030, 1, 1, tzinfo=UTC),
        )

    def apply(self, desired: Desired) -> Result:
        """One pass."""
        since = applied_revision(self.dom0.last())
        return apply(self.dom0, reading_of(desired), self.policy, since=since, by="campaign")

    def plan(self, desired: Desired) -> Plan:
        """What a pass would do now."""
        return current_plan(self.dom0, reading_of(desired), self.policy)

    def plan_of_disorder(self, desired: Desired) -> Plan:
        """The same plan, from the same facts listed the other way round."""
        last = self.last()
        situation = look(self.dom0, desired, Source("0" * 40, "", "campaign", "a change"), last)
        return make_plan(disordered(situation), self.policy)

    def last(self) -> LastGood | None:
        return self.dom0.last()

    def ledger(self) -> ledger.Ledger:
        return ledger.load(self.paths.ledger)

    def twin(self, folder: Path) -> World:
        """The same world once more, apart from the journal: what happens to one does not happen to the other.

        Nothing must be pending: a watchdog is not doubled.
        """
        if folder.exists():
            shutil.rmtree(folder)  # of another twin
        kept = (path for records in (self.paths.guard, self.paths.run) for path in records.glob("*"))
        for path in (self.paths.ledger, self.paths.last_good, *kept):
            target = folder / path.relative_to(self.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file():
                target.write_bytes(path.read_bytes())
        write_secret(folder)
        twin = World(folder, copy.deepcopy(self.host), policy=self.policy)
        twin.host.files.secrets = partial(revealed, secrets=twin.paths.secrets)
        return twin


def disordered(situation: Situation) -> Situation:
    """The situation with everything that has no order of its own turned round."""
    observed, desired, last = situation.observed, situation.desired, situation.last
    return replace(
        situation,
        desired=replace(desired, domus=desired.domus[::-1]),
        last=None if last is None else replace(last, domus=last.domus[::-1]),
        ledger=_turned(situation.ledger),
        observed=replace(
            observed,
            domains=observed.domains[::-1],
            links=_turned(observed.links),
            ports=_turned(observed.ports),
            fdb=observed.fdb[::-1],
            files=_turned(observed.files),
            images=_turned(observed.images),
            stale=observed.stale[::-1],
        ),
    )


def _turned(mapping: Mapping[str, Value]) -> dict[str, Value]:
    return dict([*mapping.items()][::-1])


def write_secret(folder: Path) -> None:
    """The password that some specifications name."""
    path = folder / "secrets" / SECRET
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("geheim\n", encoding="utf-8")
    os.chmod(path, 0o600)  # noqa: PTH101  # the mode is what counts, and is read back


def make_world(folder: Path) -> World:
    """A dom0 that was just installed."""
    write_secret(folder)
    world = World(folder, make_host())
    world.host.files.secrets = partial(revealed, secrets=world.paths.secrets)
    return world


def reading_of(desired: Desired) -> Reading:
    """The desired state as if it had come from a commit."""
    valid = not desired.diagnostics
    return Reading(
        "0" * 40, "campaign", "a change", "", 0, (desired.host.name,), valid, desired.diagnostics, desired
    )
