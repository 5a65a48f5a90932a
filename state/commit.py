"""A commit of a repository as values, and what it is called when there is none. Runs in the unprivileged child only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.diagnostic import Diagnostic


class GitError(Exception):
    """The repository cannot be read, or the revision does not exist."""


class ChangedError(Exception):
    """A file is another than it was a moment ago."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Where a reading comes from."""

    revision: str
    parents: tuple[str, ...] = ()
    author: str = ""
    committer: str = ""
    committed_at: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """A commit, the ids of its specification files by path, their sizes by id, and what cannot be one."""

    commit: Commit
    blobs: Mapping[str, str]
    sizes: Mapping[str, int]
    problems: tuple[Diagnostic, ...]
