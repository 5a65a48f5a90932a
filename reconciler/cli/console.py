"""The verb that attaches to a domU's console."""

from __future__ import annotations

import os

import click

from reconciler.cli.look import seen
from reconciler.cli.machine import dom0, told
from reconciler.cli.options import Target, target_options
from reconciler.cli.output import Failed, say
from reconciler.console import NoConsoleError, console_argv, console_of
from state.run import CLEAN_ENVIRONMENT


@click.command("console")
@click.argument("name")
@target_options
def console_command(where: Target, name: str) -> None:
    """Attach to the console of a running VPS; ^] lets go."""
    machine = dom0(where.config)
    with told():
        situation = seen(machine, where)
    try:
        domain = console_of(name, situation)
    except NoConsoleError as exc:
        raise Failed(str(exc)) from exc
    if domain.shutdown is not None:
        say(f"domgit: {name} has shut down ({domain.shutdown}): nobody answers", err=True)
    argv = console_argv(domain)
    # The terminal is xl's from here on: nothing of us stays in between.
    os.execvpe(argv[0], argv, CLEAN_ENVIRONMENT)  # noqa: S606  # an argv list, whose only variable part is a number
