"""The problems of a repository as they are found, each with how far it reaches, and never more than can be kept. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.diagnostic import PROBLEMS_LIMIT, Diagnostic

# Beyond so many only one for each scope is kept: a repository of some megabytes could make millions.
KEPT_LIMIT = 20_000
# A problem, and how far it reaches; see Fleet.scopes.
Found = tuple[Diagnostic, frozenset[str]]


class Findings:
    """What was found so far. `untold` is how many problems there are besides."""

    def __init__(self, kept: Iterable[Found] = (), untold: int = 0) -> None:
        self.kept = list(kept)
        self.untold = untold
        self._reached = {(reach, found.severity) for found, reach in self.kept}

    def add(self, diagnostics: Iterable[Diagnostic], *scopes: str) -> None:
        """Keeps problems of one document: no more than anybody reads, and of each scope at least one."""
        reach = frozenset(scopes)
        for number, found in enumerate(diagnostics):
            if number == PROBLEMS_LIMIT:
                more = f"more than {PROBLEMS_LIMIT} problems in this file (expected none)"
                self.kept.append((Diagnostic(found.file, None, None, "DG1506", more), reach))
            key = (reach, found.severity)
            if key in self._reached and (number >= PROBLEMS_LIMIT or len(self.kept) >= KEPT_LIMIT):
                self.untold += 1
            else:
                self._reached.add(key)
                self.kept.append((found, reach))
