"""Feeds targets: one execution is told by target, seed and number alone; a finding is made as small as it still fails."""

from __future__ import annotations

import re
import signal
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType

from tests.fuzz.mutate import mutated
from tests.fuzz.target import InconsistentError, Target

ROOT = Path(__file__).resolve().parents[2]
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


@dataclass(frozen=True, slots=True)
class Ended:
    """How one execution ended. `kind` is "" for a value, and the same for all that end in the same way."""

    kind: str
    problem: str | None = None


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
        ended = outcome(target, data)
        tally.executions += 1
        if ended.problem is None:
            tally.values += not ended.kind
            tally.kinds.add(ended.kind)
        elif ended.kind not in tally.findings and len(tally.findings) < _FINDINGS:
            smallest = reduced(target, data, ended)
            tally.findings[ended.kind] = Finding(target.name, number, smallest, ended.problem)
    tally.kinds.discard("")
    tally.cpu_s += time.process_time() - started


def made(target: Target, number: int, seed: int) -> bytes:
    """The input of one execution."""
    dice = Random(f"{seed} {target.name} {number}")  # noqa: S311  # reproducible, not secret
    seeds = target.seeds()
    data = mutated(dice.choice(seeds), seeds, dice, structured=target.structured)
    return target.sealed(data) if target.sealed is not None and dice.random() < 0.5 else data


def outcome(target: Target, data: bytes, deadline_s: float = DEADLINE_CPU_S) -> Ended:
    """How an input ends."""
    try:
        with _deadline(deadline_s):
            target.read(data)
    except target.refusals as refused:
        return Ended(f"{type(refused).__name__}: {_MOVING.sub('', str(refused)[:300])[:100]}")
    except InconsistentError as problem:
        # Behind the last colon stands the value, of which there are many.
        return Ended(str(problem)[:300].rpartition(": ")[0] or str(problem), f"{problem!s:.200}")
    except (Exception, OvertimeError) as problem:  # noqa: BLE001  # whatever it is, it is the finding
        name = type(problem).__name__
        place = "" if isinstance(problem, OvertimeError) else _place(problem)
        return Ended(name + place, f"{name}: {problem!s:.200}{place}")
    return Ended("")


def _place(problem: BaseException) -> str:
    """The innermost of our own functions that it came through."""
    ours = [each for each in traceback.extract_tb(problem.__traceback__) if str(ROOT) in each.filename]
    return f" in {ours[-1].name}" if ours else ""


def reduced(target: Target, data: bytes, ended: Ended) -> bytes:
    """A smaller input that ends the same way: parts are left out for as long as it does."""
    if "OvertimeError" in ended.kind:
        return data  # every attempt would cost the whole deadline
    attempts, size = 0, max(1, len(data) // 2)
    while attempts < _REDUCTIONS:
        place, shorter = 0, False
        while place < len(data) and attempts < _REDUCTIONS:
            attempts += 1
            candidate = data[:place] + data[place + size :]
            less = outcome(target, candidate)
            if less.kind == ended.kind and less.problem is not None:
                data, shorter = candidate, True
            else:
                place += size
        if size == 1 and not shorter:
            break
        size = max(1, size // 2)
    return data


@contextmanager
def _deadline(cpu_s: float) -> Iterator[None]:
    signal.setitimer(signal.ITIMER_VIRTUAL, cpu_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _overtime(_number: int, _frame: FrameType | None) -> None:
    raise OvertimeError("still at it after its deadline")


signal.signal(signal.SIGVTALRM, _overtime)
