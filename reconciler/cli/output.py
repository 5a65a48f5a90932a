"""What goes to the terminal: text of people and repositories, without what a terminal would act on."""

from __future__ import annotations

import click


class Failed(Exception):  # noqa: N818  # read as a sentence: raise Failed("...")
    """What the user is told, and the exit status."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


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
