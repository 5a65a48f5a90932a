"""A YAML document as plain values that remember where they stood. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from schemas.diagnostic import Diagnostic

Path = tuple[str | int, ...]
Places = Mapping[Path, tuple[int, int]]
_WORD = re.compile(r"[A-Za-z0-9_./-]{1,60}")


@dataclass(frozen=True)
class Tree:
    """One document. `value` is made of dict, list, Plain and str.

    `find_places` is asked at most once, and only about a document with a problem: of 10,000 good ones nobody
    wants to know where their values stood, and to remember it costs as much as to read them.
    """

    file: str
    value: Any
    find_places: Callable[[], Places] = dict

    @cached_property
    def places(self) -> Places:
        """The path of every value with the (line, column) of its key, or of the item in a list; both from 1."""
        return self.find_places()

    def place(self, path: Path) -> tuple[int, int]:
        """Where `path` stands, or the nearest that stands around it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, (1, 1))

    def holds(self, path: Path) -> bool:
        """Whether the document itself brings a value at `path`."""
        return path in self.places

    def error(self, code: str, path: Path, message: str, address: str | None = None) -> Diagnostic:
        """A problem at `path`."""
        line, column = self.place(path)
        return Diagnostic(self.file, line, column, code, message, address)


def merge(profile: Any, domu: Any) -> Any:
    """A profile's value with a domU's over it: maps merge deeply, everything else is replaced."""
    if isinstance(profile, dict) and isinstance(domu, dict):
        merged = dict(profile)
        for key, value in domu.items():
            merged[key] = merge(profile[key], value) if key in profile else value
        return merged
    return domu


def dotted(path: Path) -> str:
    """A path as people write it: `vifs[0].bridge`; a key that is no word is quoted, one of several lines above all."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            word = part if _WORD.fullmatch(part) else ascii(part[:60])
            text += f".{word}" if text else word
    return text
