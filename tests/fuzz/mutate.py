"""Inputs near good ones: cut, spliced, doubled, flipped, with nasty tokens and values of other types. Told by its dice alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

# Large enough for what grows with the square of its input to be seen, small enough for a million executions.
LIMIT_BYTES = 256 * 1024
TOKENS: tuple[bytes, ...] = (
    b"\0", b"\n", b"\r\n", b"\r", b"\t", b" ", b" " * 300, b"\x1b[2J", b"\x7f", b"\x85", b"\xff\xfe", b"\xed\xa0\x80",
    b"\xc0\x80", b"'", b'"', b"\\", b"\\u0000", b"\\ud800", b"{", b"}", b"[", b"]", b"(", b")", b",", b":", b";", b"=", b"#",
    b"%", b"@", b"-", b"|", b">", b"?", b"*a", b"&a ", b"!!int ", b"<<: ", b"---\n", b"...\n", b"{{{{", b"[[[[", b"../", b"/",
    b"0", b"-1", b"1" * 30, b"9" * 5000, b"0x10", b"010", b"1_0", b"1e999", b"NaN", b"Infinity", b"true", b"null", b"~", b"no",
    b"(null)", b"domgit", b"Domain-0", b"fe80::1%e", b"::ffff:1.2.3.4", b"00:16:3e:00:53:01", b"@domgit-secret:x@",
    b"libxl: warning: libxl_dom.c:1: something\n", b"Dump was interrupted and may be inconsistent.\n",
    b"# Warning: table ip filter is managed by iptables-nft, do not touch!\n", b"locale: Cannot set LC_ALL\n",
    "\N{ARABIC-INDIC DIGIT THREE}".encode(), "\N{KELVIN SIGN}".encode(), "\N{RIGHT-TO-LEFT OVERRIDE}".encode(),
    "\N{LINE SEPARATOR}".encode(), "\N{CYRILLIC SMALL LETTER A}".encode(), "\N{FULLWIDTH DIGIT ONE}".encode(),
    "\N{GRINNING FACE}".encode(), "\N{ZERO WIDTH NO-BREAK SPACE}".encode(),
)  # fmt: skip
NUMBERS = ("0", "-1", "1", "4294967296", "-9223372036854775809", "9" * 40, "1.5", "1e400", "00", "7" * 4400)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 7, 2**31, 2**63, 10**40, 1.5, float("inf"), float("nan"), "", "x", "7", "0x1f", "no", "\0", "a\nb",
    "\ud800", "\u202e", '"', "x" * 400, [], ["x"], [[]], [{}], {}, {"x": []}, {"": ""}, "00:16:3e:00:53:01", "192.0.2.1", "::1%x",
)  # fmt: skip

Step = Callable[[bytes, Sequence[bytes], Random], bytes]


def mutated(seed: bytes, others: Sequence[bytes], dice: Random, *, structured: bool) -> bytes:
    """A seed after a few steps away from it; `structured` ones are JSON, and often stay it."""
    data = seed
    for _ in range(dice.choice((1, 1, 1, 2, 2, 3, 4, 8))):
        step = _edited if structured and dice.random() < 0.6 else dice.choice(_STEPS)
        data = step(data, others, dice)
    return data[:LIMIT_BYTES]


def _span(data: bytes, dice: Random) -> tuple[int, int]:
    first = dice.randrange(len(data) + 1)
    return first, min(len(data), first + dice.choice((0, 1, 1, 2, 4, 16, 64, len(data))))


def _truncated(data: bytes, _: Sequence[bytes], dice: Random) -> bytes:
    return data[: dice.randrange(len(data) + 1)]


def _beheaded(data: bytes, _: Sequence[bytes], dice: Random) -> bytes:
    return data[dice.randrange(len(data) + 1) :]


def _cut(data: bytes, _: Sequence[bytes], dice: Random) -> bytes:
    first, last = _span(data, dice)
    return data[:first] + data[last:]


def _flipped(data: bytes, _: Sequence[bytes], dice: Random) -> bytes:
    if not data:
        return data
    place = dice.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << dice.randrange(8)]) + data[place + 1 :]


def _inserted(data: bytes, _: Sequence[bytes], dice: Random) -> bytes:
    first, last = _span(data, dice)
    return data[:first] + dice.choice(TOKENS) + data[dice.choice((first, last)) :]


def _spliced(data: bytes, others: Sequence[bytes], dice: Random) -> bytes:
    other = dice.choice(others)
    return data[: dice.randrange(len(data) + 1)] + other[dice.randrange(len(other) + 1) :]


def _line(data: bytes, _: Sequence[bytes], dice: Random) -> bytes:
    """A line lost, doubled, moved, cut or written over."""
    lines = data.splitlines(keepends=True)
    if not lines:
        return data
    first, second = dice.randrange(len(lines)), dice.randrange(len(lines))
    match dice.randrange(5):
        case 0:
            del lines[first]
        case 1:
            lines.insert(second, lines[first])
        case 2:
            lines[first], lines[second] = lines[second], lines[first]
        case 3:
            lines[first] = lines[first][: dice.randrange(len(lines[first]) + 1)]
        case _:
            lines[first] = dice.choice(TOKENS)
    return b"".join(lines)


def _number(data: bytes, _: Sequence[bytes], dice: Random) -> bytes:
    found = [*re.finditer(rb"\d+", data)]
    if not found:
        return data
    which = dice.choice(found)
    return data[: which.start()] + dice.choice(NUMBERS).encode() + data[which.end() :]


def _repeated(data: bytes, _: Sequence[bytes], dice: Random) -> bytes:
    """Something small very often: seldom, because what it costs is the point of it."""
    if dice.random() < 0.9:
        return data
    first, last = _span(data, dice)
    chunk = data[first:last][:100] or dice.choice(TOKENS)
    times = dice.choice((100, 1000, 10_000, 100_000))
    return data[:first] + (chunk * times)[:LIMIT_BYTES] + data[last:]


_STEPS: tuple[Step, ...] = (
    _truncated, _beheaded, _cut, _flipped, _flipped, _inserted, _inserted, _inserted, _spliced, _line, _line, _number, _repeated,
)  # fmt: skip


def _edited(data: bytes, _: Sequence[bytes], dice: Random) -> bytes:
    """A JSON document with one value exchanged, lost, doubled, renamed or wrapped; any other data stays as it is."""
    try:
        document = json.loads(data)
        places = [*_places(document)]
        if not places:
            return json.dumps(dice.choice(VALUES)).encode()
        _edit(places, dice)
        return json.dumps(document).encode()
    except (RecursionError, ValueError):  # no JSON, or wrapped once too often, or into itself
        return data


def _edit(places: Sequence[tuple[Any, Any]], dice: Random) -> None:
    container, key = dice.choice(places)
    match dice.randrange(7):
        case 0 | 1:
            container[key] = dice.choice(VALUES)
        case 2:
            del container[key]
        case 3:
            other, name = dice.choice(places)
            container[key] = other[name]
        case 4 if isinstance(container, list):
            container.insert(key, container[key])
        case 4:
            container[_word(dice)] = container.pop(key)
        case 5:
            for _ in range(dice.choice((1, 3, 40, 400))):
                container[key] = dice.choice(([container[key]], {"x": container[key]}))
        case _ if isinstance(container[key], str):
            text = container[key]
            place = dice.randrange(len(text) + 1)
            container[key] = text[:place] + _word(dice) + text[dice.choice((place, place + 1)) :]
        case _:
            container[_word(dice) if isinstance(container, dict) else key] = dice.choice(VALUES)


def _word(dice: Random) -> str:
    return dice.choice(TOKENS).decode("utf-8", "backslashreplace")


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value, without recursion."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict | list):
            keys = range(len(each)) if isinstance(each, list) else each
            found += [(each, key) for key in keys]
            waiting += each if isinstance(each, list) else each.values()
    return found
