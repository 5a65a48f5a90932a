"""A change of the guard on trial: who answered before must answer afterwards, or the change is taken back.

What takes it back is on disk, and a watchdog has it, before the change is made: also when this process is killed, the
old guard is back in time. Exactly one of confirming and reverting wins; see reconciler/guard_pending.py.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler import reverted
from reconciler.converge import Tried
from reconciler.diff_guard import LOAD_TIMEOUT_S
from reconciler.execute import ApplyError
from reconciler.guard import nftables
from reconciler.guard.binding import Step
from reconciler.guard_limits import attempt
from reconciler.guard_pending import Pending, PendingFile, State, left_behind, parse_pending
from reconciler.guard_watchdog import Watchdog
from reconciler.plan import Change
from reconciler.reverted import Reverted
from reconciler.scope import Situation
from reconciler.step import Run
from reconciler.way_out import below, members_of, neighbours
from state.files import Files
from state.links import Link, read_network
from state.nft import PROBE, read_listing
from state.reach import Prober, Server, Target, resolve_name
from state.routes import read_defaults, read_way
from state.run import ReadError, Runner

log = logging.getLogger(__name__)
BOOT_ID = "/proc/sys/kernel/random/boot_id"
ASK_S = 1.0
# The watchdog tries five times, a second apart, to load what takes a change back.
WATCHDOG_S, POLL_S = 10.0, 0.1
Announce = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Safety:
    """How a host finds out whether it is still reached, and what takes a change back.

    A change that is not confirmed is taken back after `revert_after_s`. `server` is the git server as (name, port),
    where the repository is fetched from one.
    """

    prober: Prober
    watchdog: Watchdog
    revert_after_s: float
    server: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """What of this host a trial needs."""

    runner: Runner
    files: Files
    safety: Safety
    folder: Path  # of what is pending
    reverted: Path
    timestamp: Callable[[], str]
    sleep: Callable[[float], None]

    def boot(self) -> str:
        """What tells one boot of this host from all others."""
        return (self.files.read_text(BOOT_ID) or "").strip()


class GuardTrial:
    """Tries the changes of the guard of one apply. Called as reconciler.converge.Trial."""

    def __init__(self, host: Host, situation: Situation, announce: Announce, apply_id: str) -> None:
        self._host, self._situation, self._announce, self._apply = host, situation, announce, apply_id

    def __call__(self, change: Change, act: Callable[[], str | None]) -> Tried:
        """See Trial."""
        try:
            needs = self._who_answers()
            pending = self._arm(change, needs) if needs else None
        except (ApplyError, ReadError, OSError) as exc:
            return Tried(f"nothing was changed: {exc}")
        error = act()
        if pending is None:
            return Tried(error)
        if error is not None:
            # Whatever has become of it: the old guard is whole.
            return Tried(f"{error}{self._take_back(*pending)}")
        return self._judge(pending, change, needs)

    def _judge(self, pending: tuple[PendingFile, Pending], change: Change, needs: frozenset[Target]) -> Tried:
        safety = self._host.safety
        silent = needs - safety.prober.answering(needs, safety.revert_after_s / 3)
        if silent:
            why = f"{_listed(silent)} did not answer afterwards"
        elif pending[0].disarm():
            reverted.save(self._host.reverted, ())
            self._tell("confirmed", answered=_names(needs))
            return Tried(None)
        else:
            why = "it was not confirmed in time"
        error = f"taken back: {why}{self._take_back(*pending)}"
        if silent:
            # Slowness says nothing of the change itself, and is no reason not to try it again.
            again = Reverted(attempt(self._situation, change), self._host.timestamp(), why)
            reverted.add(self._host.reverted, again)
        self._tell("reverted", why=why)
        log.error("guard change taken back", extra={"why": why})
        return Tried(error, reverted=True)

    def _who_answers(self) -> frozenset[Target]:
        """Who must answer afterwards: whoever of the way out does now."""
        targets = self._targets()
        answering = self._host.safety.prober.answering(targets, ASK_S) if targets else frozenset()
        if not answering:
            # A host that is just booting is reached by nobody yet, and its guests wait for the guard.
            silent = _listed(targets)
            why = f"{silent} did not answer before" if silent else "no gateway is behind a managed bridge"
            self._tell("unconfirmed", why=why)
            log.warning("guard change cannot be confirmed", extra={"why": why})
        return answering

    def _targets(self) -> tuple[Target, ...]:
        runner, desired = self._host.runner, self._situation.desired
        network = read_network(runner, self._host.files)
        links = network.links
        gateways = neighbours(desired, links, network.addresses, read_defaults(runner))
        bridges = {name for name, _ in desired.host.bridges}
        return (*gateways, *_server(runner, self._host.safety.server, links, bridges))

    def _arm(self, change: Change, needs: frozenset[Target]) -> tuple[PendingFile, Pending]:
        """What takes the change back, on disk and watched."""
        safety = self._host.safety
        pending = Pending(
            apply=self._apply,
            boot=self._host.boot(),
            time=self._host.timestamp(),
            needs=_names(needs),
            undo=self._undo(change),
            attempt=attempt(self._situation, change),
        )
        file = PendingFile(self._host.folder / f"{self._apply}-{os.urandom(3).hex()}")
        file.write(pending)
        try:
            safety.watchdog.start(file, safety.revert_after_s)
        except ApplyError:
            file.discard()  # one that starts late finds nothing to do
            raise
        self._tell("armed", needs=pending.needs, revert_after_s=safety.revert_after_s)
        return file, pending

    def _undo(self, change: Change) -> tuple[Step, ...]:
        """What takes the change back.

        Raises:
            ReadError: nft cannot read what it lists of the table as it is.
        """
        steps = tuple(
            Step(step.argv, step.stdin, step.optional) for step in change.inverse if isinstance(step, Run)
        )
        if steps:
            return steps
        runner = self._host.runner
        undo = nftables.restored(read_listing(runner))
        checked = runner.run(PROBE, stdin=undo)
        if checked.rc != 0:
            raise ReadError(f"the table as it is could not be put back: {checked}")
        return (Step(nftables.LOAD, undo),)

    def _take_back(self, file: PendingFile, pending: Pending) -> str:
        """Take the change back now; "" or, for the message, why that did not work: the watchdog then still has it."""
        problem = taken_back(self._host, file, pending)
        return "" if problem is None else f" (which failed: {problem}; the watchdog tries again)"

    def _tell(self, outcome: str, **facts: object) -> None:
        self._announce({"type": "guard", "outcome": outcome, **facts})


def taken_back(host: Host, file: PendingFile, pending: Pending) -> str | None:
    """Load the old guard; why that failed. The watchdog keeps the file until that is done, and may do it as well.

    When this returns None, it has ended: what is loaded from now on is not undone by it.
    """
    problem = _run_all(host.runner, pending.undo)
    if problem is not None and file.at("armed").exists():
        return problem
    if not file.disarm():
        for _ in range(round(WATCHDOG_S / POLL_S)):
            if not file.at("reverting").exists():
                break
            host.sleep(POLL_S)
        if file.at("reverted").exists():
            problem = None
    if problem is None:
        file.discard()
    return problem


def _run_all(runner: Runner, steps: Iterable[Step]) -> str | None:
    """Run the steps in order; why the first that failed did."""
    for step in steps:
        try:
            done = runner.run(step.argv, stdin=step.stdin, timeout_s=LOAD_TIMEOUT_S)
        except ReadError as exc:
            return str(exc)
        if done.rc != 0 and not step.optional:
            return str(done)
    return None


def recover(host: Host) -> Iterator[Mapping[str, Any]]:
    """Deal with what a killed pass, or its watchdog, has left behind; a record of each for the journal.

    To be called under the host's lock and before anything is looked at: nobody is about to confirm any of it.
    """
    for file, state in left_behind(host.folder):
        if state == "new":
            file.discard()  # nobody had it yet, so nothing was changed
            continue
        try:
            pending = parse_pending(file.read())
        except ValueError as exc:
            why = f"{file.set_aside()}: {exc}"
            yield {"apply": file.base.name, "type": "guard", "outcome": "damaged", "why": why}
        else:
            yield {"apply": pending.apply, "type": "guard", **_recovered(host, file, state, pending)}


def _recovered(host: Host, file: PendingFile, state: State, pending: Pending) -> Mapping[str, Any]:
    if state != "reverted":
        if pending.boot != host.boot():
            file.discard()
            return {"outcome": "forgotten", "why": "the host was restarted: the change is gone anyway"}
        problem = taken_back(host, file, pending)
        if problem is not None:
            return {"outcome": "damaged", "why": f"{file.set_aside()}: {problem}"}
    why = "domgit ended before it was confirmed"
    reverted.add(host.reverted, Reverted(pending.attempt, host.timestamp(), why, unjudged=True))
    file.discard()
    return {"outcome": "reverted", "why": why + (": its watchdog did it" if state == "reverted" else "")}


def _server(
    runner: Runner, server: tuple[str, int] | None, links: Mapping[str, Link], bridges: set[str]
) -> tuple[Server, ...]:
    """The git server, where the way to it goes through a managed bridge."""
    if server is None:
        return ()
    name, port = server
    members = members_of(links)
    behind = tuple(
        address
        for address in resolve_name(runner, name)
        if (device := read_way(runner, address)) is not None and bridges & below(device, links, members)
    )
    return (Server(name, port, behind),) if behind else ()


def _names(targets: Iterable[Target]) -> tuple[str, ...]:
    return tuple(sorted(map(str, targets)))


def _listed(targets: Iterable[Target]) -> str:
    return ", ".join(_names(targets))
