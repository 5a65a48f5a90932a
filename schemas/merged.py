"""A domU over its profile, with the documents that made it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.domu import DomU
from schemas.tree import Path, Tree


@dataclass(frozen=True, slots=True)
class Merged:
    """One domU on its host, as it is once the profile is merged in, and where each of its values stands."""

    host: str
    domu: DomU
    tree: Tree
    profile: Tree | None = None

    @property
    def file(self) -> str:
        """Its own file."""
        return self.tree.file

    def located(self, path: Path) -> Tree:
        """The document that brought the value at `path`."""
        if self.profile is not None and not self.tree.holds(path) and self.profile.holds(path):
            return self.profile
        return self.tree

    def document(self) -> str:
        """The domU in canonical JSON, without what is as by default."""
        return self.domu.model_dump_json(exclude_defaults=True)
