"""How full guests' file systems were over the last two weeks, bounded, and when they will be full if they go on so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from pydantic import ConfigDict, TypeAdapter, ValidationError

from reconciler.durable import write_whole

DAY_S = 86_400
# What grows by the day is seen in two weeks; four samples a day tell a night's backup from growth.
APART_S, KEPT_S = DAY_S // 4, 14 * DAY_S
# Less than a day says nothing of a trend, more than a year ahead is not told.
_LEAST_SPAN_S, _LEAST_SAMPLES, _MOST_DAYS = DAY_S, 4, 365


@dataclass(frozen=True, slots=True)
class Series:
    """How much of one file system was used, since it has had its present size: (seconds since 1970, bytes), oldest first."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    uuid: str
    volume: str
    size_bytes: int
    samples: tuple[tuple[int, int], ...]

    @property
    def key(self) -> tuple[str, str]:
        """Whose it is, and what he calls it."""
        return self.uuid, self.volume


History = Mapping[tuple[str, str], Series]
_ADAPTER: TypeAdapter[tuple[Series, ...]] = TypeAdapter(tuple[Series, ...])


def load(path: Path) -> History:
    """What was seen before; nothing where there is none, or nothing can be made of it."""
    try:
        return {each.key: each for each in _ADAPTER.validate_json(path.read_bytes(), strict=True)}
    except (OSError, ValidationError):
        return {}


def save(path: Path, history: History) -> None:
    """Replace what was seen before.

    Raises:
        OSError: it could not be written.
    """
    write_whole(path, _ADAPTER.dump_json(tuple(history.values())).decode() + "\n", mode=0o600)


def advanced(history: History, now: Sequence[Series], *, time_s: int) -> History:
    """The history with what is seen now, one sample each. What is not seen is kept for as long as its samples are young enough."""
    seen = {each.key: each for each in now}
    found = {}
    for key in sorted({*history, *seen}):
        before, fresh = history.get(key), seen.get(key)
        if before is None or (fresh is not None and fresh.size_bytes != before.size_bytes):
            kept: tuple[tuple[int, int], ...] = ()
        else:
            # Samples of a later time are from before somebody put the clock right.
            kept = tuple(each for each in before.samples if time_s - KEPT_S < each[0] <= time_s)
        if fresh is not None and (not kept or time_s - kept[-1][0] >= APART_S):
            kept = (*kept, *fresh.samples)
        size_bytes = fresh.size_bytes if fresh is not None else history[key].size_bytes
        if kept:
            found[key] = Series(*key, size_bytes, kept)
    return found


def days_to_full(series: Series | None, available_bytes: int) -> int | None:
    """In how many days nothing is left, if it goes on as before; None where nothing speaks for that.

    The median of the slopes between each sample and the one half the history later: a backup that came and went moves a
    line of least squares for two weeks, and this not at all.
    """
    samples = () if series is None else series.samples
    if len(samples) < _LEAST_SAMPLES or samples[-1][0] - samples[0][0] < _LEAST_SPAN_S:
        return None
    half = len(samples) // 2
    pairs = zip(samples[:-half], samples[half:], strict=True)
    a_day = median(DAY_S * (later[1] - earlier[1]) / (later[0] - earlier[0]) for earlier, later in pairs)
    if a_day <= 0 or available_bytes > a_day * _MOST_DAYS:
        return None
    return int(available_bytes / a_day)
