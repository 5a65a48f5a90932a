"""Verbs that say what is so: drift, status, get, history, show, doctor."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from reconciler import FORMAT_VERSION
from reconciler.cli.act import is_file, load_plan
from reconciler.cli.machine import dom0, read, read_target, told
from reconciler.cli.options import Target, demand, target, target_options
from reconciler.cli.output import Failed, say
from reconciler.cli.own_kernels import own_kernel_checks
from reconciler.config import DEFAULT
from reconciler.console import NoConsoleError, console_of, console_type
from reconciler.diff import make_plan
from reconciler.follow import followed
from reconciler.guard.backend import programs
from reconciler.journal import Journal
from reconciler.plan_document import plan_document
from reconciler.plan_text import plan_text
from reconciler.policy import Policy
from reconciler.reconcile import Dom0, drift_plan, present
from reconciler.scope import Situation
from reconciler.status import domu_facts, domu_lines, host_facts, host_lines, line
from state.guard import try_out
from state.nft import probe_features
from state.run import HostRunner, ReadError
from state.source import Reading
from state.xenstore import Console, read_console

SIGNATURES = "not required (this version checks none)"
# What the daemon would do by itself: what waits for a human is told as such.
DAEMON = Policy(by_hand=False)
TOOLS = ("xl", "xenstore-ls", "xenstore-write", "ip", "bridge", "nft", "git", "setpriv", "setsid")


@click.command("drift")
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), help="Default: /etc/domgit/domgit.toml"
)
@click.option("--json", "as_json", is_flag=True)
def drift_command(config_path: Path | None, as_json: bool) -> None:
    """Compare what is live with what was last applied. Cannot change anything."""
    machine = dom0(target(config_path, None, None, None).config)
    with told():
        plan = drift_plan(machine)
    if plan is None:
        raise Failed("nothing was ever applied on this host")
    # What is staged already waits for the guest, and is no drift.
    plan = replace(
        plan, changes=tuple(each for each in plan.changes if each.when != "next_guest_reboot" or each.steps)
    )
    document = plan_document(plan, timestamp=machine.timestamp())
    drifted = document["resource_changes"]
    if as_json:
        say(json.dumps({"format_version": FORMAT_VERSION, "resource_drift": drifted}, indent=2))
    elif drifted:
        say(plan_text(document), nl=False)
    else:
        say(f"No drift. {document['host']['name']} is as last applied ({plan.source.revision[:12]}).")
    if drifted:
        raise click.exceptions.Exit(2)


@click.command("status")
@target_options
@click.option("--json", "as_json", is_flag=True)
def status_command(where: Target, as_json: bool) -> None:
    """Say in a few lines whether this host is as it should be, and name each object that is not."""
    machine = dom0(where.config)
    with told():
        last = machine.last()
        configured = where.repository is not None and where.host is not None
        plan = make_plan(seen(machine, where), DAEMON) if configured or last is not None else None
    facts: dict[str, Any] = {
        # What is kept as last applied is that host, whatever the configuration calls it.
        "host": where.host if plan is None else plan.host,
        "last_applied": None if last is None else last.source.revision,
        "up_to_date": False,
        "signatures": SIGNATURES,
        **({} if plan is None else host_facts(plan)),
    }
    if as_json:
        say(json.dumps({"format_version": FORMAT_VERSION, **facts}, indent=2))
        return
    say(line("host", facts["host"]))
    say(line("last applied", facts["last_applied"] or "never"))
    say(line("up to date", "yes" if facts["up_to_date"] else "no"))
    say(line("signatures", SIGNATURES))
    if plan is not None:
        say(line("to do", ", ".join(f"{count} {name}" for name, count in facts["summary"].items())))
        for each in host_lines(facts):
            say(each)
    else:
        say(line("error", _unconfigured(where)))


def _unconfigured(where: Target) -> str:
    try:
        demand(where)
    except Failed as exc:
        return str(exc)
    return ""


def seen(machine: Dom0, where: Target) -> Situation:
    """The situation as the daemon would see it: also while git cannot be read, or must not be followed."""

    def now(applied: str | None) -> Reading:
        if missing := _unconfigured(where):
            raise ReadError(missing)
        return read_target(where, applied=applied)

    return present(machine, followed(now, machine.last()))


@click.command("get")
@click.argument("name")
@target_options
@click.option("--json", "as_json", is_flag=True)
def get_command(where: Target, name: str, as_json: bool) -> None:
    """Show one VPS on one screen: what is wanted, what is live, what differs, what there is to know."""
    machine = dom0(where.config)
    with told():
        situation = seen(machine, where)
        facts = domu_facts(name, situation, make_plan(situation, DAEMON), _console(machine, name, situation))
    if facts is None:
        raise Failed(f"no domU {name!r}, neither in git nor alive")
    if as_json:
        say(json.dumps({"format_version": FORMAT_VERSION, **facts}, indent=2))
        return
    for each in domu_lines(facts):
        say(each)


def _console(machine: Dom0, name: str, situation: Situation) -> Console | None:
    """Where its console is now."""
    try:
        domain = console_of(name, situation)
    except NoConsoleError:
        return None
    return read_console(machine.runner, domain.domid, serial=console_type(domain) == "serial")


@click.command("history")
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), help="Default: /etc/domgit/domgit.toml"
)
@click.option("--json", "as_json", is_flag=True)
def history_command(config_path: Path | None, as_json: bool) -> None:
    """List every plan that was applied, newest last."""
    journal = Journal(target(config_path, None, None, None).config.paths.journal)
    with told(), journal.understood():
        applied = _applied(journal)
        levers = [record for record in journal.records() if record["type"] == "bypass"]
    if as_json:
        shown = {"format_version": FORMAT_VERSION, "applied": list(applied.values()), "bypasses": levers}
        say(json.dumps(shown, indent=2))
        return
    for entry in sorted((*applied.values(), *levers), key=lambda each: str(each["time"])):
        if "type" in entry:
            say(_lever(entry))
            continue
        failed = (
            f"guard {entry['guard']}"
            if entry["guard"] in {"reverted", "damaged"}
            else "unfinished"
            if entry["failed"] is None
            else f"{len(entry['failed'])} failed"
            if entry["failed"]
            else "ok"
        )
        say(
            f"{entry['time']}  {entry['plan_id'][7:19]}  {entry['revision'][:12]}  {entry['by']}  {entry['changes']} changes  {failed}"
        )


def _lever(record: Mapping[str, Any]) -> str:
    """What a human opened or closed himself."""
    if record["what"] == "open":
        return f"{record['time']}  bypass  {record['vif']} until {record['until']}  {record['by']}  {record['reason']}"
    return f"{record['time']}  bypass  {record['vif']} ended  {record['by']}"


def _tried(change: Mapping[str, Any]) -> bool:
    """Whether apply was to do it; see Change.due."""
    acts = change["commands"] and change["blocked"] is None
    return bool(acts and change["when"] in {"now", "next_guest_reboot"})


def _applied(journal: Journal) -> Mapping[str, dict[str, Any]]:
    applied: dict[str, dict[str, Any]] = {}
    for record in journal.records():
        if record["type"] == "plan":
            document = record["document"]
            applied[record["apply"]] = {
                "apply": record["apply"],
                "time": record["time"],
                "by": record["by"],
                "plan_id": document["plan_id"],
                "revision": document["source"]["revision"],
                "author": document["source"]["author"],
                "changes": sum(map(_tried, document["resource_changes"])),
                "failed": None,
                "guard": None,
            }
        elif record["type"] == "guard" and record["apply"] in applied:
            applied[record["apply"]]["guard"] = record["outcome"]
        elif record["type"] == "end" and record["apply"] in applied:
            applied[record["apply"]]["failed"] = record["failed"]
    return applied


@click.command("show")
@click.argument("plan_name", metavar="PLAN")
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), help="Default: /etc/domgit/domgit.toml"
)
@click.option("--json", "as_json", is_flag=True)
def show_command(plan_name: str, config_path: Path | None, as_json: bool) -> None:
    """Reprint a plan as it was, with who approved it and how every command ended. Needs no root for a file."""
    journal = Journal(target(config_path, None, None, None).config.paths.journal)
    document = load_plan(plan_name, journal)
    with told(), journal.understood():
        records = [] if is_file(plan_name) else [*_records_of(journal, document["plan_id"])]
    if as_json:
        say(json.dumps({**document, "journal": records}, indent=2))
        return
    say(plan_text(document), nl=False)
    for record in records:
        if record["type"] == "plan":
            say(f"\napplied {record['time']} by {record['by']}")
        elif record["type"] == "guard":
            say(f"guard  {record['outcome']}" + (f": {record['why']}" if "why" in record else ""))
        elif record["type"] == "outcome":
            say(
                f"{'ok    ' if record['error'] is None else 'FAILED'} {record['address']}"
                + (f": {record['error']}" if record["error"] else "")
            )
            for run in record["runs"]:
                say(f"        rc {run['rc']}  {run['ms']} ms  {' '.join(run['argv'])}")


def _records_of(journal: Journal, plan_id: str) -> Iterator[Mapping[str, Any]]:
    applies: set[str] = set()
    for record in journal.records():
        if record["type"] == "plan" and record["document"]["plan_id"] == plan_id:
            applies.add(record["apply"])
            yield {key: value for key, value in record.items() if key != "document"}
        elif record.get("apply") in applies:
            yield record


@click.command("doctor")
@target_options
@click.option("--json", "as_json", is_flag=True)
def doctor_command(where: Target, as_json: bool) -> None:
    """Say what this host can do, and what stands in the way."""
    checks = [*_checks(where)]
    if as_json:
        rows = [{"check": name, "ok": ok, "detail": detail} for name, ok, detail in checks]
        say(json.dumps({"format_version": FORMAT_VERSION, "checks": rows}, indent=2))
    else:
        for name, ok, detail in checks:
            say(f"{'ok   ' if ok else 'MISS '} {name:<22} {detail}")
    if not all(ok for _, ok, _ in checks):
        raise click.exceptions.Exit(1)


def _checks(where: Target) -> Iterator[tuple[str, bool, str]]:
    yield "root", os.geteuid() == 0, "needed by what looks at this dom0 or changes it"
    yield "kernel", True, platform.release()
    for tool in TOOLS:
        path = shutil.which(tool, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        yield tool, path is not None, path or "not on PATH"
    yield from _guard_checks()
    yield from _repository_checks(where)
    yield "signatures", True, SIGNATURES
    xendomains = Path("/etc/xen/auto")
    entries = sorted(path.name for path in xendomains.iterdir()) if xendomains.is_dir() else []
    yield "start at boot", True, f"/etc/xen/auto: {', '.join(entries) or 'empty'}"


def _repository_checks(where: Target) -> Iterator[tuple[str, bool, str]]:
    if where.repository is None or where.host is None:
        missing = "repository (repo.url)" if where.repository is None else "host"
        yield "configuration", False, f"no {missing} in {DEFAULT} or on the command line"
        return
    try:
        reading = read(where)
    except Failed as exc:
        yield "repository", False, str(exc)
        return
    errors = sum(diagnostic.severity == "error" for diagnostic in reading.diagnostics)
    yield "repository", errors == 0, f"{reading.revision[:12]}: {errors} errors for {where.host}"
    yield from own_kernel_checks(reading.desired)
    if reading.desired is None:
        return
    for bridge, _ in reading.desired.host.bridges:
        there = Path(f"/sys/class/net/{bridge}/bridge").is_dir()
        yield f"bridge {bridge}", there, "is there" if there else "does not exist"
    wanted = (domu for domu in reading.desired.domus if domu.state != "absent")
    paths = (Path(disk.path) for domu in wanted for disk in domu.disks)
    # Of a block device its volume group would have one alone, and that is not missing before the volume is.
    for folder in sorted({path.parent for path in paths if path.parts[1] != "dev"}):
        there = folder.is_dir()
        yield f"folder {folder}", there, "is there" if there else "does not exist: no disk is made in it"


def _guard_checks() -> Iterator[tuple[str, bool, str]]:
    if os.geteuid() != 0:
        return
    runner = HostRunner()
    try:
        features = probe_features(runner)
        tried = dict(try_out(runner, programs("auto")))
    except ReadError as exc:
        yield "guard", False, str(exc)
        return
    works = None in tried.values()
    for by, why in tried.items():
        said = "its rules load, in a network namespace of their own" if why is None else f"not here: {why}"
        yield f"guard by {by}", why is None or works, said
    detail = (
        "unknown ports are closed by bridge"
        if features.ibrname
        else "missing: unknown ports are closed by name, once they were seen"
    )
    yield "meta ibrname", True, detail
