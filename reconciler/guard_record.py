"""Where the guard that was last applied is kept, and who may change it when.

Whoever changes the guard holds its lock meanwhile, and leaves a mark until the file says what is loaded: without the mark,
a process that is killed in between would leave a file that is older than the kernel. The lock is one of its own: the
host's is held for as long as a guest takes to shut down, and a guard that somebody flushed cannot wait for that.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from reconciler.converge import Trial, Tried
from reconciler.durable import remove, write_whole
from reconciler.guard_kept import Kept, made_from, made_of_commands, parse_kept, table_digest
from reconciler.only_writer import BusyError, only_writer
from reconciler.plan import Change
from state.files import Files, HostFiles
from state.guard import read_guards
from state.nft import PROBE, LoadedTable, read_listing
from state.run import ReadError, Runner

log = logging.getLogger(__name__)
LOADER = "boot.sh"
# Bringing the guard back takes some tenths of a second at 10,000 vifs, and nobody else holds the lock for longer who
# does not hold the host's as well.
PATIENCE_S, POLL_S = 5.0, 0.01


@cache
def loader() -> str:
    """The program that loads the file at boot, as it was installed with this one."""
    return files("reconciler.guard").joinpath(LOADER).read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Record:
    """The file and its mark. `folder` is on disk, `run` is emptied by a reboot, `boot` tells one boot from all others."""

    folder: Path
    run: Path
    boot: str
    sleep: Callable[[float], None] = time.sleep
    files: Files = field(default_factory=HostFiles)

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / "boot.nft"

    @property
    def _mark(self) -> Path:
        return self.run / "guard-changing"

    @property
    def _restored(self) -> Path:
        return self.folder / "restored"

    @contextmanager
    def held(self, patience_s: float = PATIENCE_S) -> Iterator[None]:
        """Nobody else changes the guard meanwhile, but for who adds a binding.

        Raises:
            BusyError: somebody did for longer than that.
        """
        with ExitStack() as stack:
            for left in range(round(patience_s / POLL_S), -1, -1):
                try:
                    stack.enter_context(only_writer(self.run / "guard-lock"))
                    break
                except BusyError:
                    if left == 0:
                        raise
                    self.sleep(POLL_S)
            yield

    def read(self) -> Kept | None:
        """What is kept; None where nothing is.

        Raises:
            ValueError: the file is damaged.
        """
        try:
            return parse_kept(self.path.read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            return None

    def current(self) -> Kept | None:
        """What is kept, if that is what was last loaded in this boot: nobody was killed while the guard changed."""
        try:
            kept = self.read()
        except ValueError:
            return None
        return None if kept is None or kept.boot != self.boot or self._mark.exists() else kept

    def mark(self) -> None:
        """The file is not to be used: the guard is about to change."""
        self.run.mkdir(parents=True, exist_ok=True)
        self._mark.touch()

    def save(self, runner: Runner, owners: frozenset[str], table: str | None = None) -> None:
        """Keep what is loaded, and whose it is. To be called by who holds the guard, when that is as it should be.

        `table` is the digest of the table that was found to be so.

        Raises:
            ReadError: it cannot be listed, or the tool cannot read what it lists, or it is another one by now.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = self._made(runner, owners)
        if table not in {None, kept.table}:
            raise ReadError("somebody has changed the guard since it was read")
        try:
            before = self.read()
        except ValueError:
            before = None
        if kept.by == "nftables" and (before is None or before.rules != kept.rules):
            checked = runner.run(PROBE, stdin=kept.script)
            if checked.rc != 0:
                raise ReadError(f"the guard as it is could not be brought back: {checked}")
        path = self.folder / LOADER
        if not path.exists() or path.read_text(encoding="utf-8", errors="replace") != loader():
            write_whole(path, loader(), mode=0o700)
        write_whole(self.path, kept.text(), mode=0o600)
        self._mark.unlink(missing_ok=True)

    def _made(self, runner: Runner, owners: frozenset[str]) -> Kept:
        guards = read_guards(runner, self.files)
        if len(guards) != 1:
            raise ReadError("there is not one guard: none is loaded, or two are")
        if guards[0].by == "nftables":
            return made_from(read_listing(runner), self.boot, owners)
        return made_of_commands(guards[0], self.boot, owners)

    def settle(
        self, runner: Runner, loaded: LoadedTable | None, owners: frozenset[str], *, settled: bool
    ) -> None:
        """See that the file is what is loaded; `settled`: that is what should be.

        A file that cannot be kept is no reason to end a pass: without it the guard comes back by the next one alone.
        """
        try:
            with self.held():
                try:
                    kept = self.read()
                except ValueError:
                    kept = None
                same = kept is not None and (kept.table, kept.boot) == (table_digest(loaded), self.boot)
                if same and kept is not None and (kept.owners() == owners or not settled):
                    # Whatever was begun has not come about, or was taken back.
                    self._mark.unlink(missing_ok=True)
                elif settled and loaded is None:
                    remove(self.path)
                    self._mark.unlink(missing_ok=True)
                elif settled:
                    self.save(runner, owners, table_digest(loaded))
        except (BusyError, ReadError, OSError) as exc:
            log.warning("guard not kept for the boot", extra={"error": str(exc)})

    def note_restored(self, record: Mapping[str, Any]) -> None:
        """Have the journal told, by who holds the host next: whoever brings the guard back does not."""
        with self._restored.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(record)}\n")

    def take_restored(self) -> Iterator[Mapping[str, Any]]:
        """What was noted, each once; a line that was cut short is left out."""
        taken = self._restored.with_suffix(".taken")
        if not taken.exists():
            try:
                self._restored.rename(taken)
            except FileNotFoundError:
                return
        for line in taken.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if isinstance(record, dict):
                yield record
            else:
                log.warning("a note of a guard that was brought back is damaged", extra={"line": line[:200]})
        taken.unlink()


@dataclass(frozen=True, slots=True)
class Recorded:
    """A trial whose outcome is kept as soon as it is known: what comes behind it in the plan is held against that."""

    trial: Trial
    record: Record
    runner: Runner
    owners: frozenset[str]

    def __call__(self, change: Change, act: Callable[[], str | None]) -> Tried:
        """See reconciler.converge.Trial."""
        try:
            with self.record.held():
                self.record.mark()
                tried = self.trial(change, act)
                if tried.error is None:
                    self._save()
                return tried
        except (BusyError, OSError) as exc:
            return Tried(f"nothing was changed: {exc}")

    def _save(self) -> None:
        try:
            self.record.save(self.runner, self.owners)
        except (ReadError, OSError) as exc:
            log.warning("guard not kept for the boot", extra={"error": str(exc)})
