"""Verbs that show what would be: plan, render and explain."""

from __future__ import annotations

import json
from pathlib import Path

import click

from reconciler import FORMAT_VERSION
from reconciler.cli.machine import dom0, read, told
from reconciler.cli.options import Target, branch_of, target_options
from reconciler.cli.output import Failed, say
from reconciler.diff_guard import specified_guard
from reconciler.guard.render import Backend, steps
from reconciler.plan_document import Document, plan_document
from reconciler.plan_text import plan_html, plan_markdown, plan_text
from reconciler.policy import Policy
from reconciler.reconcile import current_plan
from reconciler.render_xl import render_xl
from state.desired import Desired
from state.source import Reading

FORMATS = {"text": plan_text, "markdown": plan_markdown, "html": plan_html}


@click.command("plan")
@target_options
@click.option("--out", type=click.Path(path_type=Path), help="Save the plan, for `apply PLAN`.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "markdown", "html"]),
    default="text",
    show_default=True,
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--detailed-exitcode", is_flag=True, help="2 when anything is to be done, staged or blocked.")
def plan_command(
    where: Target,
    out: Path | None,
    form: str,
    as_json: bool,
    detailed_exitcode: bool,
) -> None:
    """Show what apply would do. Changes nothing, ever."""
    reading = read(where)
    with told():
        machine = dom0(where.config)
        plan = current_plan(machine, reading, Policy())
    document = with_branch(plan_document(plan, timestamp=machine.timestamp()), branch_of(where))
    if out is not None:
        out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    say(
        json.dumps(document, indent=2) if as_json or form == "json" else FORMATS[form](document),
        nl=as_json or form == "json",
    )
    if detailed_exitcode and (document["resource_changes"] or document["errored"]):
        raise click.exceptions.Exit(2)


def with_branch(document: Document, branch: str) -> Document:
    """The document with the branch that the revision was asked for by."""
    return {**document, "source": {**document["source"], "branch": branch}}


@click.group("render")
def render_command() -> None:
    """Print what would be loaded or written, from git alone: no Xen, no root."""


@render_command.command("guard")
@target_options
@click.option(
    "--backend",
    type=click.Choice(["auto", "nftables", "iptables"]),
    help="Default: what the host's specification says. auto: nftables.",
)
@click.option("--json", "as_json", is_flag=True, help="The steps as JSON.")
def render_guard(where: Target, backend: str | None, as_json: bool) -> None:
    """Print the complete guard of a host, halted domUs included."""
    reading = read(where)
    desired = _desired(reading)
    for name in desired.held:
        say(f"domgit: domu.{name} is left out: {_errors_of(name, where, reading)}", err=True)
    named = backend or desired.host.guard_backend
    chosen: Backend = "iptables" if named == "iptables" else "nftables"
    found = steps(specified_guard(desired.host, desired.domus), chosen)
    if as_json:
        document = {
            "format_version": FORMAT_VERSION,
            "backend": chosen,
            "steps": [
                {"argv": list(step.argv), "stdin": step.stdin, "optional": step.optional} for step in found
            ],
        }
        say(json.dumps(document, indent=2))
    else:
        say("".join(step.stdin for step in found), nl=False)


@render_command.command("xl")
@click.argument("name")
@target_options
def render_xl_command(
    where: Target,
    name: str,
) -> None:
    """Print the xl configuration of a domU, passwords left out."""
    reading = read(where)
    domus = _desired(reading).domus
    domu = next((each for each in domus if each.name == name and each.boot is not None), None)
    if domu is None:
        if errors := _errors_of(name, where, reading):
            raise Failed(f"domu.{name} has errors: {errors}")
        raise Failed(
            f"no domU {name!r} on this host (have {', '.join(each.name for each in domus) or 'none'})"
        )
    say(render_xl(domu), nl=False)


@click.command("explain")
@click.argument("packet", nargs=-1, required=True)
@target_options
@click.option("--json", "as_json", is_flag=True, help="The answer as JSON.")
def explain_command(where: Target, packet: tuple[str, ...], as_json: bool) -> None:
    """Say whether the guard lets a packet pass, by which rule, and why, from git alone.

    PACKET is words such as `vif=vm01 src=172.16.39.105 dst=172.16.39.1 proto=udp dport=53`, or `vif=vm01 hex=...` with a
    whole frame; what is left out is as an honest guest would have it. docs/guard.md has all words.
    """
    from reconciler.explain import answer  # noqa: PLC0415  # `plan` waits for none of it
    from reconciler.explain.host import explainer  # noqa: PLC0415
    from reconciler.explain.packet import described  # noqa: PLC0415
    from reconciler.explain.words import PacketError  # noqa: PLC0415

    reading = read(where)
    desired = _desired(reading)
    for name in desired.held:
        say(f"domgit: domu.{name} is left out: {_errors_of(name, where, reading)}", err=True)
    host = explainer(desired)
    try:
        found = described(packet, host.judge.guard, host.ports)
    except PacketError as exc:
        raise Failed("\ndomgit: ".join(exc.problems)) from exc
    result = answer.answered(found, host.judge, host.people)
    if as_json:
        say(json.dumps(answer.document(result), indent=2))
    else:
        say(answer.text(result), nl=False)


def _desired(reading: Reading) -> Desired:
    """What is wanted of the host.

    Raises:
        Failed: the commit has an error that reaches all of it.
    """
    if reading.desired is None:
        raise Failed("the repository has errors: " + "; ".join(str(each) for each in reading.diagnostics))
    return reading.desired


def _errors_of(name: str, where: Target, reading: Reading) -> str:
    """What is wrong with a domU's own file, or with what it inherits; nothing where there is no such file."""
    file = f"hosts/{where.host}/domus/{name}.yaml"
    return "; ".join(
        str(each)
        for each in reading.diagnostics
        if each.severity == "error" and (each.file == file or f"(inherited by {file})" in each.message)
    )
