"""Whether a condition holds for a class of frames, and for which of them. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from functools import lru_cache
from itertools import chain
from typing import assert_never

from state.netfilter import Condition, Masked, Named, Ranges, Sometimes, Tuples, Unknown, Within

Names = frozenset[str]
Domain = Ranges | Names
Fields = Mapping[str, Domain]
Member = tuple[Ranges | tuple[str, ...], ...]  # of Tuples
# A mask is tried on every value of a field that has no more than these.
_FEW = 64


class Truth(IntEnum):
    """For how many frames of a class something holds."""

    NO = 0
    ALL = 1
    SOME = 2
    UNKNOWN = 3


def one(number: int) -> Ranges:
    """The domain of a field whose value is known."""
    return ((number, number),)


def common(left: Ranges, right: Ranges) -> Ranges:
    """What lies in both."""
    if len(left) == 1:
        low, high = left[0]
        at = bisect_left(right, (low, low))
        at -= at > 0 and right[at - 1][1] >= low
        if low == high:
            return left if at < len(right) and right[at][0] <= low <= right[at][1] else ()
    else:
        at = 0
    found = []
    for first, last in left:
        while at < len(right) and right[at][1] < first:
            at += 1
        here = at
        while here < len(right) and right[here][0] <= last:
            found.append((max(first, right[here][0]), min(last, right[here][1])))
            here += 1
    return tuple(found)


def without(left: Ranges, right: Ranges) -> Ranges:
    """What lies in the first and not in the second."""
    found = []
    for first, last in left:
        low = first
        for start, end in common(((first, last),), right):
            if start > low:
                found.append((low, start - 1))
            low = end + 1
        if low <= last:
            found.append((low, last))
    return tuple(found)


def matches(pattern: str, name: str) -> bool:
    """Whether an interface has a name; `*` at the end stands for anything."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


@lru_cache(maxsize=4096)
def _named(domain: Names, patterns: tuple[str, ...]) -> tuple[Names, Names]:
    """The names that one of the patterns stands for, and the others."""
    wild = [each for each in patterns if each.endswith("*")]
    named = domain.intersection(patterns)
    if wild:
        named |= {name for name in domain if any(matches(each, name) for each in wild)}
    return named, domain - named


def holds(condition: Condition, fields: Fields) -> tuple[Truth, Domain | None]:
    """For how many frames of a class a condition holds, and, for some of them, the values of its field in those.

    The values are None where they were not worked out: then they may be any of the class.
    """
    match condition:
        case Within(field, ranges, negated):
            domain = fields.get(field)
            if domain is None or isinstance(domain, frozenset):
                return Truth.NO, None
            taken = common(domain, ranges)
            return _judged(
                domain, taken, without(domain, ranges) if negated and taken else domain, negated=negated
            )
        case Named(field, patterns, negated):
            domain = fields.get(field)
            if not isinstance(domain, frozenset):
                return Truth.NO, None
            return _judged(domain, *_named(domain, patterns), negated=negated)
        case Masked(field, mask, value, negated):
            return _masked(fields.get(field), mask, value, negated=negated)
        case Tuples():
            return _tuples(condition, fields), None
        case Sometimes(rarely):
            return Truth.NO if rarely else Truth.SOME, None
        case Unknown():
            return Truth.UNKNOWN, None
        case _:
            assert_never(condition)


def _judged(domain: Domain, taken: Domain, rest: Domain, *, negated: bool) -> tuple[Truth, Domain | None]:
    if not taken:
        return (Truth.ALL if negated else Truth.NO), None
    if taken == domain:
        return (Truth.NO if negated else Truth.ALL), None
    return Truth.SOME, rest if negated else taken


def _masked(domain: Domain | None, mask: int, value: int, *, negated: bool) -> tuple[Truth, Domain | None]:
    if domain is None or isinstance(domain, frozenset):
        return Truth.NO, None
    if sum(high - low + 1 for low, high in domain) > _FEW:
        return Truth.SOME, None
    numbers = [number for low, high in domain for number in range(low, high + 1)]
    taken = tuple((number, number) for number in numbers if (number & mask) == value)
    if len(taken) in {0, len(numbers)}:
        return (Truth.ALL if bool(taken) != negated else Truth.NO), None
    rest = tuple((number, number) for number in numbers if (number & mask) != value)
    return Truth.SOME, rest if negated else taken


def _tuples(condition: Tuples, fields: Fields) -> Truth:
    domains = [fields.get(field) for field in condition.fields]
    if any(domain is None for domain in domains):
        return Truth.NO  # negated or not: a frame without one of the fields is not looked at
    found = Truth.NO
    for member in _near(condition, fields):
        every = Truth.ALL
        for field, part in zip(condition.fields, member, strict=True):
            every = max(every, truth) if (truth := holds(_part(field, part), fields)[0]) else Truth.NO
            if every is Truth.NO:
                break
        found = max(found, every) if every is not Truth.ALL else every
        if found is Truth.ALL:
            break
    if condition.negated and found in {Truth.NO, Truth.ALL}:
        return Truth.ALL if found is Truth.NO else Truth.NO
    return found


def _near(condition: Tuples, fields: Fields) -> Iterator[Member]:
    """The members that may hold: of a large set those with the frame's own value, found without looking at all."""
    for place, field in enumerate(condition.fields):
        value = single(fields.get(field))
        if value is not None:
            by_value, others = _by_value(condition, place)
            return chain(by_value.get(value, ()), others)
    return iter(condition.members)


@lru_cache(maxsize=256)
def _by_value(condition: Tuples, place: int) -> tuple[Mapping[int | str, list[Member]], list[Member]]:
    """The members by the one value that they have at a place, and those that have more there."""
    by_value: dict[int | str, list[Member]] = {}
    others = []
    for member in condition.members:
        value = single(member[place]) if len(member[place]) == 1 else None
        if value is None or (isinstance(value, str) and value.endswith("*")):
            others.append(member)
        else:
            by_value.setdefault(value, []).append(member)
    return by_value, others


def single(values: Domain | tuple[str, ...] | None) -> int | str | None:
    """The one value of a field, or of a part of a member; None for none and for more."""
    if values is None or len(values) != 1:
        return None
    for value in values:
        if isinstance(value, str):
            return value
        if value[0] == value[1]:
            return value[0]
    return None


def _part(field: str, part: Ranges | tuple[str, ...]) -> Within | Named:
    names = [each for each in part if isinstance(each, str)]
    if names:
        return Named(field, tuple(names))
    return Within(field, tuple(each for each in part if not isinstance(each, str)))


def apart(conditions: Sequence[Condition], fields: Fields) -> tuple[str, Domain] | None:
    """What is left of a class when those that meet all conditions are gone: the one field that tells them apart.

    None where more than one field does, or it was not worked out: then what is left may be any of the class.
    """
    found: tuple[str, Domain] | None = None
    for condition in conditions:
        truth, taken = holds(condition, fields)
        if truth is Truth.ALL:
            continue
        if found is not None or taken is None or not isinstance(condition, Within | Named | Masked):
            return None
        domain = fields[condition.field]
        if isinstance(domain, frozenset):
            rest: Domain = domain - taken if isinstance(taken, frozenset) else domain
        else:
            rest = without(domain, taken) if not isinstance(taken, frozenset) else domain
        found = condition.field, rest
    return found
