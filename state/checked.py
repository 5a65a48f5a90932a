"""DomUs as plain values once they are checked: for another process, and for the next reading. Runs in the child only.

A domU without any problem is remembered by what it was made of: its own file, its profile's, its host's, and all
networks. While none of these changes, nothing of it is read or parsed again. Only what is whole is remembered: a file
with a problem is read anew each time, so that every message names the line as it stands.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.claims import Claimant, Claims, Source
from schemas.layout import Place
from schemas.tree import Path as TreePath
from schemas.tree import Tree

# (profile or "", host, name, uuid, values, addresses, document or ""); of Claims only what JSON and marshal carry.
Record = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Checked:
    """The words of a domU that was checked before; its documents are read again only when somebody contradicts it."""

    file: str
    text: str
    again: Callable[[str], Source]

    def located(self, path: TreePath) -> Tree:
        """See Source."""
        return self.again(self.file).located(path)

    def document(self) -> str:
        """See Source."""
        return self.text or self.again(self.file).document()


def record(claimant: Claimant, profile: str, *, whole: bool) -> Record:
    """A claimant as a record; with its document when it is `whole`."""
    document = claimant.source.document() if whole else ""
    uuid, values, addresses = claimant.claims
    return (profile, claimant.host, claimant.name, uuid, tuple(values), tuple(addresses), document)


def claimant(file: str, given: Record, again: Callable[[str], Source]) -> Claimant:
    """The claimant that a record was made of."""
    _, host, name, uuid, values, addresses, document = given
    return Claimant(host, name, Claims(uuid, values, addresses), Checked(file, document, again))


class Memory:
    """The records of earlier readings, each by the ids of all that it was made of.

    `text` is what `lines` once gave: whatever is wrong with it, is forgotten. `made_by` names the rules that were
    applied and the host that was asked for: what others found good, or left out, is not known here.
    """

    def __init__(self, text: str, ids: Mapping[str, str], places: Mapping[str, object], made_by: str) -> None:
        self._ids = ids
        self._profiles = {
            where.name: file
            for file, where in places.items()
            if isinstance(where, Place) and where.kind == "Profile"
        }
        networks = sorted(
            file for file, where in places.items() if isinstance(where, Place) and where.kind == "Network"
        )
        content = [made_by, *(f"{file} {ids.get(file)}" for file in networks)]
        self._ground = hashlib.sha256("\n".join(content).encode()).hexdigest()
        self._lines = {line.partition("\t")[0]: line for line in text.splitlines()}

    def recall(self, files: Iterable[str]) -> dict[str, Record]:
        """The records of those of the files that are made of what they were made of."""
        found: dict[str, str] = {}
        for file in files:
            parts = self._lines.get(file, "").split("\t", 3)
            if len(parts) == 4 and parts[2] == self._seal(file, parts[1], parts[3]):  # noqa: PLR2004
                found[file] = parts[3]
        records = json.loads(f"[{','.join(found.values())}]")  # all at once: it takes a third of the time
        return dict(zip(found, records, strict=True))

    def lines(self, records: Mapping[str, Record]) -> list[str]:
        """What to keep of these records, a line each."""
        texts = {file: json.dumps(given, separators=(",", ":")) for file, given in records.items()}
        return [
            f"{file}\t{records[file][0]}\t{self._seal(file, records[file][0], text)}\t{text}"
            for file, text in texts.items()
        ]

    def outdated(self, records: Iterable[str]) -> list[str]:
        """The files of which something is kept that is true no longer."""
        return sorted(self._lines.keys() - set(records))

    def _seal(self, file: str, profile: str, text: str) -> str:
        """A digest of what a domU is made of and of what was found: neither has changed while it fits."""
        ids, host = self._ids, file.split("/", 2)[1]
        ingredients = (
            ids.get(file),
            ids.get(f"hosts/{host}/host.yaml"),
            ids.get(self._profiles.get(profile, "")) if profile else "",
            self._ground,
            text,
        )
        return hashlib.sha256(repr(ingredients).encode("utf-8", "surrogatepass")).hexdigest()[:32]
