"""What is fuzzed: a reader, what it is fed, and what it may say to that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


class InconsistentError(AssertionError):
    """What a reader gave contradicts itself, or is of another kind than it says."""


@dataclass(frozen=True, slots=True)
class Target:
    """One reader.

    `seeds` are made when they are first asked for: to name the targets costs nothing.
    `read` gives a value or raises one of `refusals`; whatever else it raises is a finding, an InconsistentError of its
    own too. `sealed` puts right the checksums of an input, so that what lies behind them is reached: half of all inputs
    pass through it. `weight` is how much of a run it gets, for what is slow.
    """

    name: str
    seeds: Callable[[], Sequence[bytes]]
    read: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    structured: bool = False
    sealed: Callable[[bytes], bytes] | None = None
    weight: float = 1.0


def fixed(*seeds: bytes) -> Callable[[], Sequence[bytes]]:
    """These seeds."""
    return lambda: seeds


def demand(holds: object, what: str) -> None:
    """See that something holds of what was read.

    Raises:
        InconsistentError: it does not.
    """
    if not holds:
        raise InconsistentError(what)
