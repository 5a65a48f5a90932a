"""The command line: the only part of domgit that prints. stdout is the result, stderr the talk."""

from __future__ import annotations

import logging
import sys

import click

from reconciler import __version__
from reconciler.cli.act import apply_command, run_command
from reconciler.cli.check import init_command, new_command, schema_command, validate_command
from reconciler.cli.look import (
    doctor_command,
    drift_command,
    get_command,
    history_command,
    show_command,
    status_command,
)
from reconciler.cli.options import Failed
from reconciler.cli.output import say
from reconciler.cli.plan import plan_command, render_group


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="domgit")
def cli() -> None:
    """Makes a Xen dom0 match a git repository: VPSs, their addresses, and the packet filter that binds them."""


for command in (
    init_command,
    new_command,
    validate_command,
    render_group,
    plan_command,
    drift_command,
    apply_command,
    run_command,
    status_command,
    get_command,
    history_command,
    show_command,
    doctor_command,
    schema_command,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line; every error ends here, told once, with its cause."""
    logging.getLogger().addHandler(
        logging.NullHandler()
    )  # `run` sets up a real one; other verbs print results
    try:
        # Without standalone mode click returns the status of an Exit instead of leaving with it.
        code = cli(standalone_mode=False)
    except click.Abort:
        say("domgit: interrupted", err=True)
        sys.exit(130)
    except click.ClickException as exc:
        exc.show()
        sys.exit(1)
    except Failed as exc:
        say(f"domgit: {exc}", err=True)
        sys.exit(exc.exit_code)
    except BrokenPipeError:
        sys.exit(1)
    else:
        sys.exit(code if isinstance(code, int) else 0)
