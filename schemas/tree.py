"""A YAML document as plain values that remember where they stood. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from schemas.diagnostic import Diagnostic
from schemas.shown import SHOWN_LIMIT, shown

Path = tuple[str | int, ...]
Places = Mapping[Path, tuple[int, int]]


class Guesses:
    """Places of a document where something stands in for a value that is wrong or missing."""

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self.paths = frozenset(paths)
        self._around = frozenset(path[:length] for path in self.paths for length in range(len(path)))

    def __or__(self, more: Iterable[Path]) -> Guesses:
        """These and more."""
        paths = self.paths.union(more)
        return self if len(paths) == len(self.paths) else Guesses(paths)

    def touch(self, *paths: Path) -> bool:
        """Whether one of `paths` is such a place, lies in one, or has one in it."""
        return bool(self.paths) and any(
            path in self._around or any(path[:length] in self.paths for length in range(len(path) + 1))
            for path in paths
        )


NO_GUESSES = Guesses()


@dataclass(frozen=True)
class Tree:
    """One document. `value` is made of dict, list, Plain and str.

    `find_places` is asked only about a document with a problem: of 10,000 good ones nobody wants to know where their
    values stood, and to remember it costs as much as to read them.
    """

    file: str
    value: Any
    find_places: Callable[[], Places] = dict

    @cached_property
    def places(self) -> Places:
        """The path of every value with the (line, column) of its key, or of the item in a list; both from 1."""
        return self.find_places()

    def forget_places(self) -> None:
        """Gives back what `places` takes; whoever asks again waits again."""
        self.__dict__.pop("places", None)

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


def bringer(path: Path, tree: Tree, profile: Tree | None) -> Tree:
    """Which of a domU's document and its profile's brought what stands at `path` after the merge, or lacks it."""
    if profile is None:
        return tree
    # Lists replace: what stands in one of the domU's own, or is missing there, is the domU's.
    whole = next((path[:length] for length, part in enumerate(path) if isinstance(part, int)), path)
    return profile if not tree.holds(whole) and profile.holds(whole) else tree


def merge(profile: Any, domu: Any) -> Any:
    """A profile's value with a domU's over it: maps merge deeply, everything else is replaced."""
    if isinstance(profile, dict) and isinstance(domu, dict):
        merged = dict(profile)
        for key, value in domu.items():
            merged[key] = merge(profile[key], value) if key in profile else value
        return merged
    return domu


def dotted(path: Path) -> str:
    """A path as people write it: `vifs[0].bridge`. Keys are whatever somebody wrote: what would break the line is escaped."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            plain = part.isascii() and part.isprintable() and 0 < len(part) <= SHOWN_LIMIT
            text += ("." if text else "") + (part if plain else shown(part))
    return text


def field(path: Path) -> str:
    """A path as messages name it: what stands in a spec without `spec.` before it."""
    return dotted(path[1:] if path[:1] == ("spec",) and len(path) > 1 else path)
