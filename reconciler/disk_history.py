"""How full guests' file systems were over the last two weeks, bounded, and when they will be full if they go on so. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

DAY_S = 86_400
# What grows by the day is seen in two weeks; four samples a day tell a night's backup from growth.
APART_S, KEPT_S = DAY_S // 4, 14 * DAY_S
# Less than a day of it says nothing of a trend, more than a year ahead is not told.
_LEAST_SPAN_S, _LEAST_SAMPLES, _MOST_DAYS = DAY_S, 4, 365


@dataclass(frozen=True, slots=True)
class Sample:
    """How much of a file system of what size was used, when, in seconds since 1970."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    time_s: int
    used_bytes: int
    size_bytes: int


History = Mapping[tuple[str, str], tuple[Sample, ...]]  # by uuid and volume


def advanced(
    history: History, now: Mapping[tuple[str, str], Sample], *, time_s: int
) -> dict[tuple[str, str], tuple[Sample, ...]]:
    """The history with what was found now. What was not found is kept for as long as its samples are young enough."""
    found = {}
    for key in sorted({*history, *now}):
        # Samples of a later time are from before somebody put the clock right.
        kept = tuple(each for each in history.get(key, ()) if time_s - KEPT_S < each.time_s <= time_s)
        fresh = now.get(key)
        if fresh is not None and (not kept or fresh.time_s - kept[-1].time_s >= APART_S):
            kept = (*kept, fresh)
        if kept:
            found[key] = kept
    return found


def days_to_full(samples: Sequence[Sample], available_bytes: int) -> int | None:
    """In how many days nothing is left, if it goes on as since it has had its size; None where nothing speaks for that.

    By the line of least squares: one large file that came or went counts for no more than any other sample.
    """
    samples = _of_one_size(samples)
    if len(samples) < _LEAST_SAMPLES or samples[-1].time_s - samples[0].time_s < _LEAST_SPAN_S:
        return None
    mean_time = sum(each.time_s for each in samples) / len(samples)
    mean_used = sum(each.used_bytes for each in samples) / len(samples)
    moved = sum((each.time_s - mean_time) * (each.used_bytes - mean_used) for each in samples)
    spread = sum((each.time_s - mean_time) ** 2 for each in samples)
    a_day = moved / spread * DAY_S
    if a_day <= 0 or available_bytes > a_day * _MOST_DAYS:
        return None
    return int(available_bytes / a_day)


def _of_one_size(samples: Sequence[Sample]) -> Sequence[Sample]:
    """The last samples since the file system has had its present size."""
    start = len(samples)
    while start and samples[start - 1].size_bytes == samples[-1].size_bytes:
        start -= 1
    return samples[start:]
