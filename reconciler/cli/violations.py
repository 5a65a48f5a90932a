"""The verb that shows who sends what he may not."""

from __future__ import annotations

import json
from pathlib import Path

import click

from reconciler import FORMAT_VERSION, tally
from reconciler.cli.machine import dom0, told
from reconciler.cli.options import Seconds, target
from reconciler.cli.output import Failed, say
from reconciler.reconcile import Dom0
from reconciler.refusals import moment, owners
from reconciler.tally import Tally
from reconciler.violations import last_frames, packets, stamp, violation_facts, violation_lines
from state.drops import read_drops
from state.kernel_log import read_kernel_log

# Of what is looked at twice on the spot: whoever wants an hour has the daemon.
_LONGEST_LOOK_S = 600


@click.command("violations")
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), help="Default: /etc/domgit/domgit.toml"
)
@click.option(
    "--over",
    type=Seconds(_LONGEST_LOOK_S),
    metavar="DURATION",
    help="Look twice, so far apart, for the rates. Default: since the last pass.",
)
@click.option("--json", "as_json", is_flag=True)
def violations_command(config_path: Path | None, over: int | None, as_json: bool) -> None:
    """Show who sends what he may not: per vif and reason packets, rate and last frame. Changes nothing."""
    machine = dom0(target(config_path, None, None, None).config)
    with told():
        before = _looked(machine, over)
        drops = read_drops(machine.runner, machine.files)
        if drops is None:
            raise Failed("the guard is not loaded: nothing is refused, and nothing counted")
        now = moment(machine)
        records = read_kernel_log()
        found = violation_facts(
            drops,
            owners(machine, drops.counts.keys()),
            {} if drops.prefix is None else last_frames(records or (), drops.prefix),
            now=now,
            before=before,
        )
    facts = {
        "format_version": FORMAT_VERSION,
        "time": stamp(now.time),
        "rates_since": None if before is None else before.time,
        "kernel_log": records is not None,
        "violations": found,
    }
    if as_json:
        say(json.dumps(facts, indent=2))
        return
    for each in violation_lines(facts):
        say(each)


def _looked(machine: Dom0, over: int | None) -> Tally | None:
    """The earlier look that rates are since: the last pass, or one of our own."""
    now = moment(machine)
    if over is None:
        return tally.load(machine.paths.tally, now.uptime_s)
    drops = read_drops(machine.runner, machine.files)
    machine.sleep(over)
    return None if drops is None else Tally(stamp(now.time), now.uptime_s, packets(drops))
