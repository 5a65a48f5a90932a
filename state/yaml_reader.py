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

from schemas.diagnostic import Diagnostic
from schemas.scalars import Plain, shown
from schemas.tree import Path, Places, Tree

FILE_LIMIT_BYTES = 64 * 1000
DEPTH_LIMIT = 32
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
# Controls, bidirectional overrides, zero-width and line-separator characters: what a reviewer cannot see.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff]"
)

# Without these there is no anchor, alias, tag, directive or merge key, and no character that only an escape shows.
_UNUSUAL = re.compile(r"[&*!%<\\]")
_VISIBLE = bytes([*b"\t\n\r", *range(0x20, 0x7F)])


class _RefusedError(Exception):
    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(str(diagnostic))
        self.diagnostic = diagnostic


def read_yaml(file: str, data: bytes) -> tuple[Tree | None, tuple[Diagnostic, ...]]:
    """The document in `data`, or what is wrong with it.

    A syntax error ends reading; duplicate keys and nulls are all reported, and then there is no tree either.
    """
    try:
        text = _decoded(file, data)
        value = _ordinary(text)
        if value is None:
            reader = _Reader(file)
            value = reader.read(text)
            if reader.problems:
                return None, tuple(reader.problems)
    except _RefusedError as refused:
        return None, (refused.diagnostic,)
    return Tree(file, value, partial(_places, file, text)), ()


def _places(file: str, text: str) -> Places:
    reader = _Reader(file)
    reader.read(text)
    return reader.places


def _ordinary(text: str) -> dict[str, Any] | None:  # noqa: C901, PLR0912  # one loop: a call an event costs as much as the event
    """The value of a document with nothing unusual in it; None for any other, which the reader below takes apart.

    It notes no places and says nothing, in half of the time: of 10,000 documents nearly all are of this kind.
    """
    if _UNUSUAL.search(text):
        return None
    following: Callable[[], Any] = CParser(text).get_event
    root: list[Any] = []
    stack: list[Any] = []
    container: Any = root
    key: str | None = None
    try:
        following()  # the stream's start
        if type(following()) is not DocumentStartEvent:
            return None
        while True:
            event = following()
            kind = type(event)
            wants_key = key is None and type(container) is dict
            if kind is ScalarEvent:
                value = event.value
                if wants_key:
                    if value in container or value in _NULLS:
                        return None
                    key = value
                    continue
                if not event.style:
                    if value in _NULLS:
                        return None
                    value = Plain(value)
            elif kind is MappingEndEvent or kind is SequenceEndEvent:
                container, key = stack.pop(), None
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
                container[key], key = value, None
            if kind is not ScalarEvent:
                stack.append(container)
                container = value
        whole = type(following()) is StreamEndEvent  # and no second document
    except yaml.YAMLError:
        return None
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
        line = data.count(b"\n", 0, exc.start) + 1
        column = exc.start - (data.rfind(b"\n", 0, exc.start) + 1) + 1
        raise _RefusedError(
            Diagnostic(file, line, column, "DG1005", f"byte 0x{data[exc.start]:02x} is no UTF-8")
        ) from None
    if match := _INVISIBLE.search(text):
        line = text.count("\n", 0, match.start()) + 1
        column = match.start() - (text.rfind("\n", 0, match.start()) + 1) + 1
        raise _RefusedError(
            Diagnostic(file, line, column, "DG1005", f"character U+{ord(match[0]):04X} is not allowed")
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
            raise _RefusedError(
                Diagnostic(
                    self.file,
                    1,
                    1,
                    "DG1007",
                    "no document (expected a map with apiVersion, kind, metadata and spec)",
                )
            )
        return root[0]

    def _events(self, text: str) -> Iterator[Any]:
        try:
            yield from yaml.parse(text, Loader=yaml.CSafeLoader)
        except yaml.YAMLError as exc:
            mark = getattr(exc, "problem_mark", None) or getattr(exc, "context_mark", None)
            line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
            problem = getattr(exc, "problem", None) or "not YAML"
            raise _RefusedError(
                Diagnostic(self.file, line, column, "DG1001", f"{problem} (expected YAML)")
            ) from None

    def _value(self, event: Any, root: list[Any]) -> None:
        """One scalar, or the start of a collection, put where the innermost open collection wants it."""
        value = self._made(event)
        if not self.stack:
            root.append(value)
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
        if isinstance(value, Plain) and value in _NULLS:
            self._report(event, "DG1004", f"{str(value)!r} is null (leave the key out instead)")
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
            self._report(event, "DG1004", f"{str(key)!r} is null (expected a name)")
        name = str(key)
        if name in container:
            line = self.places[*outer, name][0]
            self._report(
                event, "DG1003", f"key {shown(name)} stands here a second time (first in line {line})"
            )
        self.places[*outer, name] = _place(event)
        container.setdefault(name, None)
        pending.append(name)

    def _made(self, event: Any) -> Any:
        if isinstance(event, AliasEvent):
            self._refuse(
                event, "DG1002", f"an alias *{(event.anchor or '')[:60]} (expected every value written out)"
            )
        if event.anchor is not None:
            self._refuse(
                event, "DG1002", f"an anchor &{event.anchor[:60]} (expected every value written out)"
            )
        if event.tag is not None:
            self._refuse(event, "DG1002", f"a tag {event.tag[:60]} (expected plain values)")
        if isinstance(event, ScalarEvent):
            if not event.style:
                return Plain(event.value)
            if match := _INVISIBLE.search(event.value):  # written as an escape, so not seen in the text
                self._refuse(event, "DG1005", f"character U+{ord(match[0]):04X} is not allowed")
            return str(event.value)
        return {} if isinstance(event, MappingStartEvent) else []

    def _report(self, event: Any, code: str, message: str) -> None:
        self.problems.append(self._diagnostic(event, code, message))

    def _diagnostic(self, event: Any, code: str, message: str) -> Diagnostic:
        line, column = _place(event)
        return Diagnostic(self.file, line, column, code, message)

    def _refuse(self, event: Any, code: str, message: str) -> None:
        raise _RefusedError(self._diagnostic(event, code, message))


def _place(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1
