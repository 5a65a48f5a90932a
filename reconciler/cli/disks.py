"""The verb that shows how full guests' file systems are."""

from __future__ import annotations

import json
from pathlib import Path

import click

from reconciler import FORMAT_VERSION
from reconciler.cli.machine import dom0, told
from reconciler.cli.options import target
from reconciler.cli.output import Failed, say
from reconciler.disk_look import guests, readable
from reconciler.disk_use import use_facts, use_lines
from state.insides import look_into


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
        known = guests(machine)
        if missing := [name for name in names if name not in {guest.name for guest in known}]:
            raise Failed(f"no domU {missing[0]!r}, neither last applied here nor alive")
        chosen = [guest for guest in known if not names or guest.name in names]
        found = look_into(machine.runner, readable(chosen))
        now = machine.now()
    facts = {
        "format_version": FORMAT_VERSION,
        "time": machine.timestamp(),
        "domus": use_facts(chosen, found, {}, now_s=int(now.timestamp())),
    }
    if as_json:
        say(json.dumps(facts, indent=2))
        return
    for each in use_lines(facts):
        say(each)
