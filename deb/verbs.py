"""The command line as the parser has it: what the manual page and the completion are made of, so that neither lags."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import click

from reconciler.cli import cli


@dataclass(frozen=True, slots=True)
class Option:
    """An option: how it is written, its argument (nothing for a flag), what it does, what it may be."""

    names: tuple[str, ...]
    metavar: str
    text: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verb:
    """A command, by its words behind `domgit`; a group of commands has no options and no arguments."""

    words: tuple[str, ...]
    text: str
    options: tuple[Option, ...]
    arguments: tuple[str, ...]  # as usage shows them: NAME, [PLAN]
    under: tuple[str, ...] = ()  # the verbs of a group


def verbs() -> tuple[Verb, ...]:
    """All of them, in the order of `domgit --help`, each group before its own."""
    return tuple(_below(cli, (), None))


def _below(group: click.Group, words: tuple[str, ...], parent: click.Context | None) -> Iterator[Verb]:
    context = click.Context(group, info_name=words[-1] if words else "domgit", parent=parent)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            raise KeyError(name)
        yield from _verb(command, (*words, name), context)


def _verb(command: click.Command, words: tuple[str, ...], parent: click.Context) -> Iterator[Verb]:
    context = click.Context(command, info_name=words[-1], parent=parent)
    text = " ".join((command.help or "").split("\f")[0].split())
    if isinstance(command, click.Group):
        yield Verb(words, text, (), (), tuple(command.list_commands(context)))
        yield from _below(command, words, parent)
        return
    options = tuple(_option(each, context) for each in command.params if isinstance(each, click.Option))
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    yield Verb(words, text, options, tuple(each.make_metavar(context) for each in arguments))


def _option(option: click.Option, context: click.Context) -> Option:
    metavar = "" if option.is_flag else option.make_metavar(context)
    text = option.help or ""
    if option.show_default and option.default is not None:
        text = f"{text} Default: {option.default}.".strip()
    choices = tuple(option.type.choices) if isinstance(option.type, click.Choice) else ()
    return Option((*option.opts, *option.secondary_opts), metavar, text, choices)
