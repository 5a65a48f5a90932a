"""What may become of a tool's answer on its way to domgit, its exit status being 0 all the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from state.run import Completed
from tests.model.world import Argv, Seam

# What tools say beside what they were asked for, into the same pipe.
WARNINGS = (
    "libxl: warning: libxl_domain.c:1: something that is no row\n",
    "# Warning: table ip filter is managed by iptables-nft, do not touch!\n",
    "perl: warning: Setting locale failed.\n",
)
# A listing of so many bytes is cut at every one of them.
SMALL_BYTES = 700


def spoilt(text: str, dice: Random, *, most: int) -> Iterator[tuple[str, str]]:
    """(what was done, the text after it): cut, emptied, records lost or doubled, bytes garbled, warnings in between."""
    yield "nothing at all", ""
    yield from _cut(text, dice, most)
    lines = text.splitlines(keepends=True)
    for at in _some(len(lines), dice, most):
        yield f"without line {at}", "".join([*lines[:at], *lines[at + 1 :]])
        yield f"line {at} twice", "".join([*lines[: at + 1], *lines[at:]])
        yield (
            f"a warning behind line {at}",
            "".join([*lines[: at + 1], dice.choice(WARNINGS), *lines[at + 1 :]]),
        )
    for half in (len(lines) // 2, 1):
        yield f"the first {half} lines", "".join(lines[:half])
        yield f"the first line and the last {half}", "".join([*lines[:1], *lines[-half:]])
    for at in _some(len(text), dice, most):
        yield f"byte {at} garbled", f"{text[:at]}#{text[at + 1 :]}"
    if text.startswith(("[", "{")):
        yield from _records(text)


def _cut(text: str, dice: Random, most: int) -> Iterator[tuple[str, str]]:
    places = range(len(text)) if len(text) <= SMALL_BYTES else _some(len(text), dice, most)
    ends = [at + 1 for at, letter in enumerate(text) if letter == "\n"][:-1]
    for at in sorted({*places, *ends}):
        yield f"cut at {at}", text[:at]


def _records(text: str) -> Iterator[tuple[str, str]]:
    """Arrays with one item less or one twice, and without any, which is valid JSON all the same."""
    whole = json.loads(text)
    for place in _arrays(whole, ()):
        items = _at(whole, place)
        for at in range(len(items)):
            yield f"without {(*place, at)}", json.dumps(_with(whole, place, [*items[:at], *items[at + 1 :]]))
            yield f"{(*place, at)} twice", json.dumps(_with(whole, place, [*items[: at + 1], *items[at:]]))
        yield f"{place} empty", json.dumps(_with(whole, place, []))


def _arrays(value: Any, place: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        yield place
    for key in range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else ():
        yield from _arrays(value[key], (*place, key))


def _at(value: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        value = value[key]
    return value


def _with(value: Any, place: tuple[Any, ...], items: list[Any]) -> Any:
    if not place:
        return items
    changed = list(value) if isinstance(value, list) else dict(value)
    changed[place[0]] = _with(value[place[0]], place[1:], items)
    return changed


def _some(count: int, dice: Random, most: int) -> list[int]:
    return sorted(dice.sample(range(count), most)) if count > most else [*range(count)]


@dataclass(slots=True)
class Answering(Seam):
    """Has one command answer with `text`, every time or only the first; counts the acts, and what was read."""

    argv: Argv = ()
    text: str = ""
    times: int | None = None
    acts: list[Argv] = field(default_factory=list)
    read: dict[tuple[str, ...], str] = field(default_factory=dict)

    def before(self, argv: Argv) -> Any:
        self.acts.append(argv)
        return "do"

    def said(self, completed: Completed) -> Completed:
        self.read[completed.argv] = completed.stdout
        if completed.argv != tuple(self.argv) or self.times == 0:
            return completed
        self.times = None if self.times is None else self.times - 1
        return Completed(completed.argv, 0, self.text, "", 0, 0.0)
