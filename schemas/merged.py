"""A domU over its profile, with the documents that made it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.domu import DomU
from schemas.tree import NO_GUESSES, Guesses, Path, Tree, bringer


@dataclass(frozen=True, slots=True)
class Merged:
    """One domU on its host, as it is once the profile is merged in, and where each of its values stands.

    `guessed` are the places where something stands in for a value that is wrong.
    """

    host: str
    domu: DomU
    tree: Tree
    profile: Tree | None = None
    guessed: Guesses = NO_GUESSES

    @property
    def file(self) -> str:
        """Its own file."""
        return self.tree.file

    @property
    def stem(self) -> str:
        """What its file is called: in one with errors the name may be another."""
        return self.tree.file.rpartition("/")[2].removesuffix(".yaml")

    @property
    def name(self) -> str:
        """Its xl name; its file's where that is wrong."""
        return self.stem if self.guessed.touch(("metadata", "name")) else self.domu.metadata.name

    def located(self, path: Path) -> Tree:
        """The document that brought the value at `path`."""
        return bringer(path, self.tree, self.profile)

    def document(self) -> str:
        """The domU in canonical JSON, without what is as by default."""
        return self.domu.model_dump_json(exclude_defaults=True)
