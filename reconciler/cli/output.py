"""What goes to the terminal: text of people and repositories, without what a terminal would act on."""

from __future__ import annotations

import click


def say(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print the result (stdout), or with `err` the talk."""
    click.echo(printable(text), err=err, nl=nl)


def printable(text: str) -> str:
    """The text with every control and formatting character made visible, line ends and tabs left as they are.

    A commit's author, a YAML tag or a plan file may hold escape sequences that rewrite what a reviewer sees.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in "\n\t" else "\N{REPLACEMENT CHARACTER}" for each in text
    )
