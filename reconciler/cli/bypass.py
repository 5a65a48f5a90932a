"""The verb that opens one vif for a time, without git and without the daemon."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from reconciler.bypass import LONGEST_S, BypassError, Wish, close_vif, open_vif
from reconciler.cli.machine import dom0, told, who
from reconciler.cli.options import Seconds, target
from reconciler.cli.output import Failed, say


@click.command("bypass")
@click.argument("vif")
@click.option("--for", "seconds", type=Seconds(LONGEST_S), metavar="DURATION", help="At most 24h.")
@click.option("--reason", metavar="TEXT", help="Why, for the journal.")
@click.option("--end", is_flag=True, help="Close it before its time.")
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), help="Default: /etc/domgit/domgit.toml"
)
def bypass_command(
    vif: str, seconds: int | None, reason: str | None, end: bool, config_path: Path | None
) -> None:
    """Open one vif for a time, here and now: its addresses and kinds of frames, never its MAC. Closes by itself."""
    config = target(config_path, None, None, None).config
    if end == (seconds is not None or reason is not None) or (seconds is None) != (reason is None):
        raise Failed("expected --for DURATION and --reason TEXT, or --end")
    machine = dom0(config)
    with _told():
        if seconds is None or reason is None:
            close_vif(machine, vif, who())
            say(f"closed {vif}")
        else:
            until = open_vif(machine, Wish(vif, seconds, reason, who()))
            say(f"open   {vif} until {until}: `domgit bypass {vif} --end` closes it before")


@contextmanager
def _told() -> Iterator[None]:
    try:
        with told():
            yield
    except BypassError as exc:
        raise Failed(str(exc)) from exc
