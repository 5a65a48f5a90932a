"""A rule over values that are each fine, broken by one document. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from schemas.diagnostic import Diagnostic, Severity
from schemas.tree import Guesses, Path, Tree, field


@dataclass(frozen=True, slots=True)
class Broken:
    """Where a rule is broken, and in which words. `given` are the other places that it follows from."""

    code: str
    path: Path
    message: str
    given: tuple[Path, ...] = ()
    severity: Severity = "error"

    def told(self, tree: Tree, about: str) -> Diagnostic:
        """As a problem of the document that brought the value at `path`."""
        found = tree.error(self.code, self.path, f"{field(self.path)}: {self.message}", about)
        return found if self.severity == "error" else replace(found, severity=self.severity)


def told(broken: Iterable[Broken], tree: Tree, about: str, guessed: Guesses) -> Iterator[Diagnostic]:
    """The problems of one document, without what only follows from a value that was `guessed`."""
    for each in broken:
        if not guessed.touch(each.path, *each.given):
            yield each.told(tree, about)


def idle(path: Path) -> Broken:
    """A warning: the format has the word, and its work comes in a later version; nobody is to rely on it before."""
    return Broken("DG1902", path, "this version reads it and does nothing with it yet", severity="warning")
