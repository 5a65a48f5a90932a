"""YAML text to a Tree, by the events of libyaml's parser alone.

The events carry positions and never recurse, so no document can exhaust the stack; values stay text, since
the field's type decides what a plain scalar is. Runs in the unprivileged child only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import yaml
from yaml.cyaml import CParser  # type: ignore[attr-defined]  # the parser alone: CSafeLoader makes values as well
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from schemas.diagnostic import PROBLEMS_LIMIT, Diagnostic
from schemas.layout import FILE_LIMIT_BYTES
from schemas.scalars import Plain
from schemas.shown import shown
from schemas.tree import Path, Places, Tree, field

DEPTH_LIMIT = 32
# Texts of a few bytes become objects of a hundred: 200 files of nothing but `~,` would take all the memory that the
# child may have. A network with 4,000 reserved addresses is fine.
VALUES_LIMIT = 5000
_SEPARATORS = ",\n:-?[{"  # one of them stands before every key and value but the first
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
# Controls, bidirectional overrides, zero-width, filler, tag and line-separator characters, and blanks that are no
# blank: what a reviewer cannot see.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\xa0\u00ad\u034f\u061c\u115f\u1160\u1680\u180e\u2000-\u200f\u2028-\u202f"
    "\u205f-\u206f\u3000\u3164\ufeff\uffa0\ufff9-\uffff\U000e0000-\U000e0fff]"
)
_STARTS_NOTHING = "found character that cannot start any token"
# What libyaml says, and what its reader probably has to do about it.
_SYNTAX_HINTS = {
    _STARTS_NOTHING: "expected quotes around what begins with @, ` or %",
    "mapping values are not allowed in this context": "expected quotes around a text with ': ' in it, or less indentation",
    "could not find expected ':'": "expected KEY: VALUE",
    "did not find expected key": "expected every key of a map in the same column",
    "did not find expected '-' indicator": "expected every item of a list in the same column",
    "did not find expected ',' or '}'": "expected a comma between keys, or the map's end",
    "did not find expected ',' or ']'": "expected a comma between items, or the list's end",
    "found unexpected end of stream": "expected a closing quote",
    "found unknown escape character": "expected single quotes around a text with backslashes",
    "did not find expected alphabetic or numeric character": "expected quotes around what begins with & or *",
    "block sequence entries are not allowed in this context": "expected the list in a line of its own",
    "exceeded maximum nesting depth": "expected fewer levels",
}
# libyaml notices these where the next thing begins, which may be the end of the file.
_MISSED_FROM_ITS_BEGIN = frozenset({"found unexpected end of stream", "could not find expected ':'"})

# Without these there is no anchor, alias, tag, directive or merge key, and no character that only an escape shows.
_UNUSUAL = "&*!%<\\"
_VISIBLE = bytes([*b"\t\n\r", *range(0x20, 0x7F)])


class _RefusedError(Exception):
    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__()
        self.diagnostic = diagnostic


def read_yaml(file: str, data: bytes) -> tuple[Tree | None, tuple[Diagnostic, ...]]:
    """The document in `data`, or what is wrong with it.

    A syntax error ends reading; duplicate keys and nulls are all reported, and then there is no tree either.
    """
    try:
        text = _decoded(file, data)
        value = _ordinary(file, text)
        if value is None:
            reader = _Reader(file)
            value = reader.read_all(text)
            if reader.problems:
                return None, tuple(reader.problems)
    except _RefusedError as refused:
        return None, (refused.diagnostic,)
    return Tree(file, value, partial(_places, file, text)), ()


def _places(file: str, text: str) -> Places:
    reader = _Reader(file)
    reader.read(text)
    return reader.places


def _ordinary(file: str, text: str) -> dict[str, Any] | None:  # noqa: C901, PLR0912  # one loop: a call an event costs as much as the event
    """The value of a document with nothing unusual in it; None for any other, which the reader below takes apart.

    It notes no places, in half of the time: of 10,000 documents nearly all are of this kind. What ends reading it says
    itself: had it met anything else before, it would have stopped there.
    """
    if any(map(text.__contains__, _UNUSUAL)):
        return None
    if len(text) > VALUES_LIMIT and sum(map(text.count, _SEPARATORS)) >= VALUES_LIMIT:
        return None
    following: Callable[[], Any] = CParser(text).get_event
    root: list[Any] = []
    stack: list[Any] = []
    container: Any = root
    key: str | None = None
    wants_key = False
    try:
        following()  # the stream's start
        if type(following()) is not DocumentStartEvent:
            raise _no_map(file, (1, 1))
        while True:
            event = following()
            kind = type(event)
            if kind is ScalarEvent:
                value = event.value
                if wants_key:
                    if value in container or value in _NULLS:
                        return None
                    key, wants_key = value, False
                    continue
                if not event.style:
                    if value in _NULLS:
                        return None
                    value = Plain(value)
            elif kind is MappingEndEvent or kind is SequenceEndEvent:
                container, key = stack.pop(), None
                wants_key = type(container) is dict
                continue
            elif kind is DocumentEndEvent:
                break
            elif wants_key or len(stack) >= DEPTH_LIMIT:
                return None
            else:
                value = {} if kind is MappingStartEvent else []
            if key is None:
                container.append(value)
            else:
                container[key], key, wants_key = value, None, True
            if kind is not ScalarEvent:
                stack.append(container)
                container, wants_key = value, kind is MappingStartEvent
        whole = type(following()) is StreamEndEvent  # and no second document
    except yaml.YAMLError as exc:
        raise _no_yaml(file, text, exc) from None
    return root[0] if whole and isinstance(root[0], dict) else None


def _decoded(file: str, data: bytes) -> str:
    if len(data) > FILE_LIMIT_BYTES:
        raise _RefusedError(
            Diagnostic(file, 1, 1, "DG1006", f"{len(data)} bytes (expected at most {FILE_LIMIT_BYTES})")
        )
    if data.isascii() and not data.translate(None, _VISIBLE):
        return data.decode("ascii")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        before = data[: exc.start].decode("utf-8")
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        raise _RefusedError(
            Diagnostic(
                file,
                line,
                column,
                "DG1005",
                f"byte 0x{data[exc.start]:02x} is no UTF-8 (expected text in UTF-8)",
            )
        ) from None
    if match := _INVISIBLE.search(text):
        line = text.count("\n", 0, match.start()) + 1
        column = match.start() - (text.rfind("\n", 0, match.start()) + 1) + 1
        raise _RefusedError(
            Diagnostic(
                file,
                line,
                column,
                "DG1005",
                f"character U+{ord(match[0]):04X} cannot be seen (expected text that can)",
            )
        )
    return text


class _Reader:
    """Builds one tree; `stack` holds the open collections, so depth is a number and never recursion.

    `places` are the (line, column) of every value, `problems` what did not keep it from reading on.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.places: dict[Path, tuple[int, int]] = {}
        self.problems: list[Diagnostic] = []
        self.values = 0
        self.begin = (1, 1)

    def read_all(self, text: str) -> dict[str, Any]:
        """As `read`; what keeps it from reading on comes behind the problems before it."""
        try:
            return self.read(text)
        except _RefusedError as refused:
            self.problems.append(refused.diagnostic)
        return {}

    def read(self, text: str) -> dict[str, Any]:
        root: list[Any] = []
        documents = 0
        for event in self._events(text):
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._refuse(event, "DG1007", "a second document (expected one a file)")
                if event.version or event.tags:
                    self._refuse(event, "DG1002", "a directive (expected plain YAML without %YAML and %TAG)")
                self.stack: list[tuple[Any, Path, list[str]]] = []
            elif isinstance(event, ScalarEvent | MappingStartEvent | SequenceStartEvent | AliasEvent):
                self._value(event, root)
            elif isinstance(event, MappingEndEvent | SequenceEndEvent):
                self.stack.pop()
        if not root or not isinstance(root[0], dict):
            raise _no_map(self.file, self.begin, *root)
        return root[0]

    def _events(self, text: str) -> Iterator[Any]:
        following = CParser(text).get_event
        try:
            while type(event := following()) is not StreamEndEvent:
                yield event
        except yaml.YAMLError as exc:
            raise _no_yaml(self.file, text, exc) from None

    def _value(self, event: Any, root: list[Any]) -> None:
        """One scalar, or the start of a collection, put where the innermost open collection wants it."""
        self.values += 1
        if self.values > VALUES_LIMIT:
            self._refuse(event, "DG1006", f"more than {VALUES_LIMIT} keys and values")
        value = self._made(event)
        if not self.stack:
            root.append(value)
            self.begin = _place(event)
            path: Path = ()
        else:
            container, outer, pending = self.stack[-1]
            if isinstance(container, list):
                path = (*outer, len(container))
                container.append(value)
                self.places[path] = _place(event)
            elif not pending:
                self._key(event, value, container, outer, pending)
                return
            else:
                key = pending.pop()
                path = (*outer, key)
                container[key] = value
        if isinstance(value, Plain) and value in _NULLS and self.stack:
            written = str(value) if "u" in value.lower() else f"{value or 'nothing'}, which is null"
            self._report(
                event, "DG1004", f"{field(path)}: {written} (expected a value; leave out what has none)"
            )
        if isinstance(value, dict | list):
            if len(self.stack) >= DEPTH_LIMIT:
                self._refuse(event, "DG1006", f"nested deeper than {DEPTH_LIMIT} levels")
            self.stack.append((value, path, []))

    def _key(self, event: Any, key: Any, container: dict[str, Any], outer: Path, pending: list[str]) -> None:
        if not isinstance(key, str):
            self._refuse(event, "DG1001", "a collection as a key (expected a name)")
        if key == "<<" and isinstance(key, Plain):
            self._refuse(
                event, "DG1002", "a merge key (expected plain YAML; profiles are for what is shared)"
            )
        if isinstance(key, Plain) and key in _NULLS:
            self._report(
                event, "DG1004", f"{field((*outer, str(key) or '~'))}: a null as a key (expected a name)"
            )
        name = str(key)
        if name in container:
            line = self.places[*outer, name][0]
            where = field((*outer, name))
            self._report(event, "DG1003", f"{where}: a second time in this map (first in line {line})")
        self.places.setdefault((*outer, name), _place(event))
        container.setdefault(name, None)
        pending.append(name)

    def _made(self, event: Any) -> Any:
        if isinstance(event, AliasEvent):
            alias = shown(f"*{event.anchor}")
            self._refuse(event, "DG1002", f"an alias {alias} (expected every value written out)")
        if event.anchor is not None:
            anchor = shown(f"&{event.anchor}")
            self._refuse(event, "DG1002", f"an anchor {anchor} (expected every value written out)")
        if event.tag is not None:
            tag = shown(event.tag.replace("tag:yaml.org,2002:", "!!", 1))
            self._refuse(event, "DG1002", f"a tag {tag} (expected plain values)")
        if isinstance(event, ScalarEvent):
            if not event.style:
                return Plain(event.value)
            if match := _INVISIBLE.search(event.value):  # written as an escape, so not seen in the text
                self._refuse(
                    event,
                    "DG1005",
                    f"character U+{ord(match[0]):04X} cannot be seen (expected text that can)",
                )
            return str(event.value)
        return {} if isinstance(event, MappingStartEvent) else []

    def _report(self, event: Any, code: str, message: str) -> None:
        if len(self.problems) == PROBLEMS_LIMIT:
            more = f"more than {PROBLEMS_LIMIT} problems in this file (expected none)"
            raise _RefusedError(Diagnostic(self.file, None, None, "DG1506", more))
        self.problems.append(self._diagnostic(event, code, message))

    def _diagnostic(self, event: Any, code: str, message: str) -> Diagnostic:
        line, column = _place(event)
        return Diagnostic(self.file, line, column, code, message)

    def _refuse(self, event: Any, code: str, message: str) -> None:
        raise _RefusedError(self._diagnostic(event, code, message))


def _no_yaml(file: str, text: str, exc: yaml.YAMLError) -> _RefusedError:
    problem = getattr(exc, "problem", None) or "not YAML"
    begun, mark = getattr(exc, "context_mark", None), getattr(exc, "problem_mark", None)
    mark = begun if mark is None or problem in _MISSED_FROM_ITS_BEGIN else mark
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    since = f" in what begins in line {begun.line + 1}" if begun and begun.line + 1 < line else ""
    hint = _SYNTAX_HINTS.get(problem, "expected YAML")
    if (
        problem == _STARTS_NOTHING
        and text.split("\n")[line - 1 :][:1]
        and text.split("\n")[line - 1][column - 1 :].startswith("\t")
    ):
        problem, hint = "a tab", "expected blanks to indent"
    return _RefusedError(Diagnostic(file, line, column, "DG1001", f"{problem}{since} ({hint})"))


def _no_map(file: str, begin: tuple[int, int], *instead: object) -> _RefusedError:
    what = shown(instead[0]) if instead else "nothing"
    message = f"{what} (expected a map with apiVersion, kind, metadata and spec)"
    return _RefusedError(Diagnostic(file, *begin, "DG1007", message))


def _place(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1
