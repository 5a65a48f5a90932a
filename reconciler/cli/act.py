"""Verbs that change this host: apply and run."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import replace
from pathlib import Path

import click

from reconciler.cli.machine import dom0, local_path, read, read_target, told, who
from reconciler.cli.options import Target, branch_of, demand, target_options
from reconciler.cli.output import Failed, printable, say
from reconciler.cli.plan import with_branch
from reconciler.daemon import Daemon, Watched
from reconciler.follow import applied_commit, applied_revision, goes_back
from reconciler.journal import Journal
from reconciler.plan import BY_OTHERS, Plan
from reconciler.plan_document import Document, checked_document, parse_document, plan_document
from reconciler.plan_text import plan_text
from reconciler.policy import Disruption, Policy
from reconciler.reconcile import Dom0, Result, apply, current_plan
from reconciler.refusals import publish
from reconciler.review import restricted
from state.source import Reading

# Where the daemon is at work, what the guard counts is as fresh as that, and nobody has to wait for it here: a listing with
# 4,000 vifs takes some tenths of a second.
DAEMON_LOOKS_S = 600.0


@click.command("apply")
@click.argument("plan_name", metavar="[PLAN]", required=False)
@target_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--disruption",
    type=click.Choice(["none", "link", "reboot"]),
    help="How far to go, whatever the specs say.",
)
@click.option(
    "--reinstall",
    "names",
    metavar="NAME",
    multiple=True,
    help="Begin the installation of this domU anew, over what is on its disks.",
)
def apply_command(
    where: Target,
    plan_name: str | None,
    yes: bool,
    disruption: Disruption | None,
    names: tuple[str, ...],
) -> None:
    """Plan again, do what the reviewed PLAN allows (a file or a plan id), verify."""
    policy = Policy(by_hand=True, disruption=disruption, retry=True)
    machine = dom0(where.config, where.repository)
    reviewed = None if plan_name is None else load_plan(plan_name, machine.journal())
    if reviewed is not None:
        where = Target(where.config, where.repository, _revision(reviewed, where), where.host)
    with told():
        last = machine.last()
    applied = applied_commit(last)
    reading = read(where, fresh=True, applied=applied)
    if applied is not None and goes_back(reading, applied):
        say(f"domgit: this goes back: the commit does not descend from {applied[:12]}", err=True)
    policy = replace(policy, anew=_anew(reading, names))
    with told():
        plan = current_plan(machine, reading, policy)
        if reviewed is not None:
            plan = restricted(plan, reviewed)
        shown(plan, machine, where)
        if plan.due and not yes:
            confirm()
            reviewed = plan_document(plan, timestamp="")  # what was confirmed, and nothing that came after
        since = applied_revision(last)
        result = apply(machine, reading, policy, since=since, by=who(), reviewed=reviewed)
    told_result(result)
    publish(machine, unless_within_s=DAEMON_LOOKS_S)
    raise click.exceptions.Exit(result.exit_code)


def _anew(reading: Reading, names: tuple[str, ...]) -> frozenset[str]:
    """The uuids of those whose installation is to begin again.

    Raises:
        Failed: git does not ask for the installation of one of them.
    """
    domus = () if reading.desired is None else reading.desired.domus
    found = {
        domu.name: domu.uuid
        for domu in domus
        if domu.boot is not None and domu.boot.phase == "install" and domu.state == "running"
    }
    for name in names:
        if name not in found:
            raise Failed(
                f"--reinstall {name}: git does not say `boot.phase: install` of a running domU {name}"
            )
    return frozenset(found[name] for name in names)


def _revision(reviewed: Document, where: Target) -> str | None:
    revision = str(reviewed["source"]["revision"])
    return "WORKTREE" if revision.startswith("worktree:") else where.revision or revision


def is_file(name: str) -> bool:
    """Whether a plan's name is that of a file; one that no file can have is none."""
    return os.path.isfile(name)  # noqa: PTH113  # Path.is_file raises for a name that is too long


def load_plan(name: str, journal: Journal) -> Document:
    """A plan from a file, or from the journal by a unique prefix of its id.

    Raises:
        Failed: there is none, or several.
    """
    if is_file(name):
        try:
            return parse_document(Path(name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            raise Failed(f"{name}: {exc}") from exc
    with told(), journal.understood():
        found = {
            record["document"]["plan_id"]: record["document"]
            for record in journal.records()
            if record["type"] == "plan"
            and (
                record["document"]["plan_id"].removeprefix("sha256:").startswith(name.removeprefix("sha256:"))
                or record["apply"] == name
            )
        }
    if len(found) != 1:
        raise Failed(
            f"{name}: {'no such plan' if not found else f'{len(found)} plans start so'} (expected a file or a plan id from `domgit history`)"
        )
    try:
        return checked_document(next(iter(found.values())))
    except ValueError as exc:
        raise Failed(f"{name}: {exc}") from exc


def shown(plan: Plan, machine: Dom0, where: Target) -> None:
    """Print the plan that is about to be done."""
    say(
        plan_text(with_branch(plan_document(plan, timestamp=machine.timestamp()), branch_of(where))), nl=False
    )


def confirm() -> None:
    """Ask, on a terminal.

    Raises:
        Failed: there is no terminal, or the answer was no.
    """
    if not sys.stdin.isatty():
        raise Failed("not a terminal: --yes is needed")
    if click.prompt("Apply this plan? Only `yes` is yes", default="no", err=True) != "yes":
        raise Failed("nothing was done")


def told_result(result: Result) -> None:
    """Print how it ended."""
    for done in result.outcome.done:
        mark = "ok    " if done.error is None else "FAILED"
        say(f"{mark} {done.change.address}" + ("" if done.error is None else f": {done.error}"))
    left = f"{result.after.summary.staged} staged, {result.after.summary.blocked} blocked."
    refused = _refused(result.after)
    if refused is not None and result.converged:
        say(f"Not converged: {refused}. {left}")
    elif any(change.reason in BY_OTHERS for change in result.after.changes) and result.converged:
        say(f"Not converged: rules of others stand in the way. {left}")
    elif result.converged:
        held = ", except what errors in git hold back" if result.after.errored else ""
        held = held or (", except what is blocked or waits" if result.exit_code else "")
        say(f"Converged{held}. {left}")
    elif result.exit_code == 5:  # noqa: PLR2004  # see Result.exit_code
        say(
            "Not converged. The guard is as before: a change that cuts off the gateway is not tried again by itself."
        )
    else:
        say(f"Not converged. {len(result.outcome.failed)} failed; the next pass plans again.")


def _refused(plan: Plan) -> str | None:
    """Why nothing of what git says is followed; None when no more than single domUs are held back."""
    address = f"host.{plan.host}"
    held = (note for note in plan.notes if (note.address, note.reason) == (address, "held_back"))
    error = next((each.message for each in plan.diagnostics if each.severity == "error"), "")
    return next((f"{note.message} ({error})" for note in held), None)


@click.command("run")
@target_options
@click.option("--once", is_flag=True, help="One pass, then exit like apply.")
@click.option("--verbose", "-v", is_flag=True, help="Log every command.")
def run_command(where: Target, once: bool, verbose: bool) -> None:
    """The daemon: converge now, then on every commit and every interval."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(KeyValues())
    # force: the root logger has the handler that keeps every other verb silent.
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)
    demand(where)
    machine = dom0(where.config, where.repository)
    daemon = Daemon(
        machine,
        lambda applied: read_target(where, fresh=True, applied=applied),
        where.config.interval_s,
        Watched(Path(local_path(where)), where.revision or where.config.branch, str(where.host)),
    )
    if once:
        with told():
            result = daemon.once()
        told_result(result)
        raise click.exceptions.Exit(result.exit_code)
    daemon.forever()


class KeyValues(logging.Formatter):
    """A constant sentence, then the values as key=value."""

    _OWN = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {
        "message",
        "asctime",
        "taskName",
    }

    def format(self, record: logging.LogRecord) -> str:
        """`acting address=domu.vm01 reason=None`."""
        pairs = " ".join(f"{key}={value}" for key, value in record.__dict__.items() if key not in self._OWN)
        text = printable(
            f"{record.levelname.lower()}: {record.getMessage()}" + (f" {pairs}" if pairs else "")
        )
        return text if record.exc_info is None else f"{text}\n{self.formatException(record.exc_info)}"
