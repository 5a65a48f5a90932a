"""The command line: the only part of domgit that prints. stdout is the result, stderr the talk.

A verb's module is imported when the verb is called: `domgit --help`, and what shells and hooks ask, cost nobody the
whole reconciler.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import sys
from collections.abc import Mapping

import click

from reconciler import __version__
from reconciler.cli.output import Failed, say

# Verb: the module it lives in, and what it does. A test compares the words with the verb's own.
VERBS: Mapping[str, tuple[str, str]] = {
    "init": ("check", "Start a repository: one host, one profile, and one network when a subnet is given."),
    "new": ("check", "Add a domU from a profile, with the next free address and a MAC of its own."),
    "validate": ("check", "Check a whole repository: every kind, reference and claim, all problems at once."),
    "render": ("plan", "Print what would be loaded or written, from git alone: no Xen, no root."),
    "explain": ("plan", "Say whether the guard lets a packet pass, by which rule, and why, from git alone."),
    "plan": ("plan", "Show what apply would do."),
    "drift": ("look", "Compare what is live with what was last applied."),
    "apply": ("act", "Plan again, do what the reviewed PLAN allows (a file or a plan id), verify."),
    "run": ("act", "The daemon: converge now, then on every commit and every interval."),
    "status": (
        "look",
        "Say in a few lines whether this host is as it should be, and name each object that is not.",
    ),
    "get": (
        "look",
        "Show one VPS on one screen: what is wanted, what is live, what differs, what there is to know.",
    ),
    "console": ("console", "Attach to the console of a running VPS; ^] lets go."),
    "history": ("look", "List every plan that was applied, newest last."),
    "show": ("look", "Reprint a plan as it was, with who approved it and how every command ended."),
    "violations": (
        "violations",
        "Show who sends what he may not: per vif and reason packets, rate and last frame.",
    ),
    "disks": (
        "disks",
        "Show how full guests' file systems are, running or not, as they were last written.",
    ),
    "bypass": (
        "bypass",
        "Open one vif for a time, here and now: its addresses and kinds of frames, never its MAC.",
    ),
    "doctor": ("look", "Say what this host can do, and what stands in the way."),
    "schema": ("check", "Print the JSON Schema of the kinds, for editors."),
}


class Verbs(click.Group):
    """The verbs, in the order of a day's work, each imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names."""
        del ctx
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb itself."""
        del ctx
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"reconciler.cli.{VERBS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What `--help` says of them, from the table alone."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in VERBS.items()])


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="domgit")
def cli() -> None:
    """Makes a Xen dom0 match a git repository: VPSs, their addresses, and the packet filter that binds them."""


def main() -> None:
    """Run the command line; every error ends here, told once, with its cause."""
    # `run` sets up a real one; other verbs print results.
    logging.getLogger().addHandler(logging.NullHandler())
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that knows fewer letters than an author's name has gets their numbers.
            stream.reconfigure(errors="backslashreplace")
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
    except OSError as exc:
        # What nobody could name before: a full disk, a file that is not for this user.
        where = "" if exc.filename is None else f"{os.fsdecode(exc.filename)}: "
        say(f"domgit: {where}{exc.strerror or exc}", err=True)
        sys.exit(1)
    else:
        sys.exit(code if isinstance(code, int) else 0)
