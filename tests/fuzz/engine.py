"""Feeds targets: one execution is told by target, seed and number alone; a finding is made as small as it still fails."""

from __future__ import annotations

import re
import signal
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from types import FrameType

from tests.fuzz.mutate import mutated
from tests.fuzz.target import InconsistentError, Target

# A hundred times what the slowest input takes: only what grows without bounds gets there.
DEADLINE_CPU_S = 10.0
_REDUCTIONS = 400
_FINDINGS = 12  # of one target: more of them are to be found again when these are mended
_MOVING = re.compile(r"0x[0-9a-f]+|'[^']*'|\"[^\"]*\"|(?<![A-Z0-9])\d+")


class OvertimeError(BaseException):
    """A reader is still at it after its deadline. No reader catches this."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that a reader neither read nor refused as declared. `number` is None for one that was given."""

    target: str
    number: int | None
    data: bytes
    problem: str

    def __str__(self) -> str:
        """As tests/fuzz/regressions.py takes it."""
        return f"    ({self.target!r}, {self.data!r}),  # {self.problem}"


@dataclass(slots=True)
class Tally:
    """How the executions of one target ended. `kinds` are the different refusals, their values left out."""

    executions: int = 0
    values: int = 0
    kinds: set[str] = field(default_factory=set)
    findings: dict[str, Finding] = field(default_factory=dict)
    cpu_s: float = 0.0


def run(target: Target, numbers: Iterable[int], seed: int, tally: Tally) -> None:
    """Executions with these numbers, added to `tally`; of the findings of one kind the first is kept, reduced."""
    started = time.process_time()
    for number in numbers:
        data = made(target, number, seed)
        kind, problem = outcome(target, data)
        tally.executions += 1
        if problem is None:
            tally.values += not kind
            tally.kinds.add(kind)
        elif kind not in tally.findings and len(tally.findings) < _FINDINGS:
            smallest = reduced(target, data, kind)
            tally.findings[kind] = Finding(target.name, number, smallest, problem)
    tally.kinds.discard("")
    tally.cpu_s += time.process_time() - started


def made(target: Target, number: int, seed: int) -> bytes:
    """The input of one execution."""
    dice = Random(f"{seed} {target.name} {number}")  # noqa: S311  # reproducible, not secret
    data = mutated(dice.choice(target.seeds), target.seeds, dice, structured=target.structured)
    return target.sealed(data) if target.sealed is not None and dice.random() < 0.5 else data


def outcome(target: Target, data: bytes) -> tuple[str, str | None]:
    """What kind of end an input has, "" for a value; and what is wrong with that, None if nothing is."""
    try:
        with _deadline():
            target.read(data)
    except target.refusals as refused:
        return _kind(refused), None
    except (Exception, OvertimeError) as problem:  # noqa: BLE001  # whatever it is, it is the finding
        place = traceback.extract_tb(problem.__traceback__)[-1]
        where = "" if isinstance(problem, OvertimeError) else f" at {place.name}"
        return f"{_kind(problem)}{where}", f"{type(problem).__name__}: {problem!s:.200}{where}"
    return "", None


def reduced(target: Target, data: bytes, kind: str) -> bytes:
    """A smaller input that ends the same way: parts are left out for as long as it does."""
    if "OvertimeError" in kind:
        return data  # every attempt would cost the whole deadline
    attempts, size = 0, max(1, len(data) // 2)
    while attempts < _REDUCTIONS:
        place, shorter = 0, False
        while place < len(data) and attempts < _REDUCTIONS:
            attempts += 1
            candidate = data[:place] + data[place + size :]
            if outcome(target, candidate) == (kind, None) or outcome(target, candidate)[0] != kind:
                place += size
            else:
                data, shorter = candidate, True
        if size == 1 and not shorter:
            break
        size = max(1, size // 2)
    return data


def _kind(problem: BaseException) -> str:
    said = str(problem)[:300]
    # Behind the last colon of an inconsistency stands the value, of which there are many.
    said = said.rpartition(": ")[0] or said if isinstance(problem, InconsistentError) else said
    return f"{type(problem).__name__}: {_MOVING.sub('', said)[:100]}"


@contextmanager
def _deadline() -> Iterator[None]:
    signal.setitimer(signal.ITIMER_VIRTUAL, DEADLINE_CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _overtime(_number: int, _frame: FrameType | None) -> None:
    raise OvertimeError(f"still at it after {DEADLINE_CPU_S:g} s of CPU")


signal.signal(signal.SIGVTALRM, _overtime)
