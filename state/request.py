"""What is asked of a repository. A module of its own, since the child wants nothing else of what its parent needs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted of a repository. `applied`: a commit that was read before; the answer says whether this one descends from it.

    `learn`: the answer is to say what the next reading need not look at again.
    """

    repository: str
    revision: str | None
    host: str | None = None
    applied: str | None = None
    learn: bool = False
