"""The verb that shows how full guests' file systems are."""

from __future__ import annotations

import json
from pathlib import Path

import click

from reconciler import FORMAT_VERSION
from reconciler.cli.machine import dom0, told
from reconciler.cli.options import target
from reconciler.cli.output import say
from reconciler.disk_look import look
from reconciler.disk_use import use_facts, use_lines
from state.desired import DiskUse


@click.command("disks")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), help="Default: /etc/domgit/domgit.toml"
)
@click.option("--json", "as_json", is_flag=True)
def disks_command(names: tuple[str, ...], config_path: Path | None, as_json: bool) -> None:
    """Show how full guests' file systems are, running or not, as they were last written. Changes nothing."""
    machine = dom0(target(config_path, None, None, None).config)
    with told():
        last = machine.last()
        seen = look(machine, names)
    wanted = DiskUse() if last is None else last.desired.host.disks
    facts = {
        "format_version": FORMAT_VERSION,
        "time": machine.timestamp(),
        "warn_at_percent": wanted.warn_percent,
        "domus": use_facts(seen.guests, seen.found, seen.history, now_s=seen.time_s),
    }
    if as_json:
        say(json.dumps(facts, indent=2))
        return
    for each in use_lines(facts):
        say(each)
