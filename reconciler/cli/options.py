"""Options that many verbs share, and what they mean: which repository, which revision, which host."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click

from reconciler.cli.output import Failed
from reconciler.config import DEFAULT, Config, ConfigError, load
from schemas.diagnostic import SpecError
from state.run import ReadError

_DURATION = re.compile(r"([1-9][0-9]{0,5})([smh])")
_UNITS_S = {"s": 1, "m": 60, "h": 3600}
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Target:
    """What a verb works on: the configuration with the command line over it."""

    config: Config
    repository: str | None
    revision: str | None
    host: str | None


def target_options(command: Callable[..., None]) -> Callable[..., None]:
    """`--config`, `--repo`, `--rev` and `--host`, handed to the command as one Target named `where`."""

    @click.option("--config", "config_path", type=click.Path(path_type=Path), help=f"Default: {DEFAULT}")
    @click.option("--repo", metavar="PATH|URL", help="The repository. A path is read in place.")
    @click.option("--rev", metavar="REV", help="A branch, tag, commit id, or WORKTREE.")
    @click.option("--host", metavar="NAME", help="The host to work for. Never guessed.")
    @wraps(command)
    def with_target(**given: Any) -> None:
        names = ("config_path", "repo", "rev", "host")
        command(where=target(*(given.pop(name) for name in names)), **given)

    return with_target


def target(config_path: Path | None, repo: str | None, rev: str | None, host: str | None) -> Target:
    """The target that the options and the configuration file name.

    Raises:
        Failed: the configuration file cannot be used.
    """
    with told():
        config = load(config_path)
    return Target(config, repo or config.url, rev, host or config.host)


class Seconds(click.ParamType[int]):
    """A duration such as 30s, 10m or 1h."""

    name = "DURATION"

    def __init__(self, most_s: int) -> None:
        self._most_s = most_s

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The duration in seconds."""
        match = _DURATION.fullmatch(str(value))
        seconds = 0 if match is None else int(match[1]) * _UNITS_S[match[2]]
        if not 0 < seconds <= self._most_s:
            hours, minutes = self._most_s // 3600, self._most_s // 60
            most = f"{hours}h" if hours else f"{minutes}m"
            self.fail(f"{value!r} (expected such as 30s or 10m, at most {most})", param, ctx)
        return seconds


@contextmanager
def told() -> Iterator[None]:
    """Turns what can go wrong with a configuration or a repository into what the user is told."""
    try:
        yield
    except (ConfigError, ReadError, SpecError) as exc:
        raise Failed(str(exc)) from exc


def demand(where: Target, *, need_host: bool = True) -> None:
    """See that it is said what to work on.

    Raises:
        Failed: a repository, or a host where one is needed, is named nowhere.
    """
    if where.repository is None:
        raise Failed(f"no repository (expected --repo PATH, or repo.url in {where.config.file or DEFAULT})")
    if need_host and where.host is None:
        raise Failed(f"no host (expected --host NAME, or host in {where.config.file or DEFAULT})")


def branch_of(where: Target) -> str:
    """The branch to show beside a commit; none where the commit itself was asked for."""
    named = where.revision or where.config.branch
    return "" if named == "WORKTREE" or COMMIT.fullmatch(named) else named
