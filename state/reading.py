"""A repository read and checked as a whole, in the unprivileged child: the answer to one request.

What is asked of git is answered by a process of its own, see state.git_apart. Runs there only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol

from schemas.address import address_text, network_around
from schemas.claims import AddressClaim, Source
from schemas.diagnostic import Diagnostic
from schemas.findings import KEPT_LIMIT
from schemas.fleet import Fleet, completed_fleet, view
from schemas.ground import Ground, check_ground, places_of
from schemas.layout import TOO_MANY, Place, ground_and_domus, place
from schemas.tree import Tree
from state.checked import Memory, Record, claimant, record
from state.commit import Commit, GitError
from state.git_apart import Batch, GitApart, in_batches
from state.processes import shared_out
from state.request import Request
from state.worktree import Worktree
from state.yaml_reader import read_yaml

# A screen full of problems is enough to work on; a hostile commit could make millions.
DIAGNOSTICS_LIMIT = 2000
Row = tuple[Any, ...]  # the fields of a Diagnostic, as another process and the parent take them


class Files(Protocol):
    """The specification files: their ids by path (all "" in a worktree), what cannot be one, and how to read them.

    What is read comes in batches of some megabytes: no more than one is in memory at a time.
    """

    commit: Commit
    ids: Mapping[str, str]
    problems: tuple[Diagnostic, ...]

    def ground(self) -> Iterator[Batch]:
        """The files that are no domUs. Asked for once, before anything else."""

    def domus(self, files: Sequence[str]) -> Iterator[Batch]:
        """Those of the domUs of which nothing is remembered. Asked for once, after the ground."""

    def contents(self, files: Sequence[str]) -> Iterator[Batch]:
        """Any of them again."""


class _Checkout:
    """Files as they lie there."""

    def __init__(self, repository: str) -> None:
        self._found = Worktree(repository)
        self.commit = Commit(self._found.digest)
        kinds = ground_and_domus(self._found.files)
        self._ground = [] if kinds is None else kinds[0]
        self.ids: Mapping[str, str] = {} if kinds is None else dict.fromkeys(self._found.files, "")
        self.problems = (TOO_MANY,) if kinds is None else self._found.problems

    def ground(self) -> Iterator[Batch]:
        return self.contents(self._ground)

    def domus(self, files: Sequence[str]) -> Iterator[Batch]:
        return self.contents(files)

    def contents(self, files: Sequence[str]) -> Iterator[Batch]:
        return in_batches(self._found.read(files))


class _Committed:
    """Files of a commit. `ahead`: git was asked for the ground, and for all domUs, before anybody here asks."""

    def __init__(self, git: GitApart, *, ahead: bool) -> None:
        self._git, self._ahead = git, ahead
        (listing,) = git.answer()
        self.commit: Commit = listing.commit
        self.ids: Mapping[str, str] = listing.blobs
        self.problems: tuple[Diagnostic, ...] = listing.problems

    def ground(self) -> Iterator[Batch]:
        return self._git.answer()

    def domus(self, files: Sequence[str]) -> Iterator[Batch]:
        return self._git.answer() if self._ahead else self.contents(files)

    def contents(self, files: Sequence[str]) -> Iterator[Batch]:
        self._git.ask("contents", files)
        return self._git.answer()


class Checked:
    """A repository, read and checked. Whoever ends soon keeps it: to free a fleet takes as long as to check some hundreds.

    `git` was asked to list the commit, then for the ground, and for the domUs where nothing is remembered; None for
    WORKTREE. `checked_by` names the rules that are applied.

    Raises:
        GitError: the repository or the revision cannot be read.
        ChangedError: somebody writes in the worktree.
    """

    def __init__(self, request: Request, git: GitApart | None, remembered: str, checked_by: str) -> None:
        self._request, self._git = request, git
        files: Files = _Checkout(request.repository) if git is None else _Committed(git, ahead=not remembered)
        places = places_of([*files.ids, *(each.file for each in files.problems if each.file)])
        self._files = files
        self._trees, found = _trees(files.ground())
        ground = check_ground(places, self._trees, [*files.problems, *found])
        self._memory = Memory(remembered, files.ids, places, f"{checked_by} {request.host}")
        self._fleet, self._fresh, self._records = _fleet(ground, files, self._memory, request.host)

    def answer(self) -> Mapping[str, Any]:
        """Source, diagnostics, and the view of the host when one was asked for."""
        request, fleet, commit = self._request, self._fleet, self._files.commit
        return {
            "source": {
                "revision": commit.revision,
                "parents": commit.parents,
                "author": commit.author,
                "committer": commit.committer,
                "committed_at": commit.committed_at,
                "subject": commit.subject,
                "descends": self._descends(),
            },
            "files": len(self._files.ids),
            "hosts": sorted(fleet.hosts),
            "valid": fleet.valid,
            "diagnostics": _bounded(fleet.diagnostics, fleet.untold),
            "view": None if request.host is None else _view(fleet, request.host),
            "taken": _taken(fleet, self._trees) if self._git is None else None,
            "learnt": self._memory.lines(self._fresh) if request.learn else [],
            "outdated": self._memory.outdated(self._records) if request.learn else [],
        }

    def _descends(self) -> bool | None:
        if self._git is None or self._request.applied is None:
            return None
        self._git.ask("descends", self._request.applied, self._files.commit.revision)
        (descended,) = self._git.answer()
        return bool(descended) if descended is not None else None


def _kind(where: object) -> str | None:
    return where.kind if isinstance(where, Place) else None


def _fleet(
    ground: Ground, files: Files, memory: Memory, host: str | None
) -> tuple[Fleet, Mapping[str, Record], Mapping[str, Record]]:
    """The fleet, the records that are new, and all records."""
    domus = [file for file in files.ids if _kind(ground.places.get(file)) == "DomU"]
    records = memory.recall(domus)
    missing = [file for file in domus if file not in records]

    def check(part: Batch) -> list[Record | list[Row]]:
        return [_record(ground, file, data, host) for file, data in part]

    made: dict[str, Record | list[Row]] = {}
    for batch in files.domus(missing):
        made.update(zip((file for file, _ in batch), shared_out(check, batch), strict=True))
    fresh = {file: given for file, given in made.items() if isinstance(given, tuple)}
    unread = [Diagnostic(*row) for given in made.values() if isinstance(given, list) for row in given]
    records |= fresh
    trees, problems = _trees(files.contents([file for file, given in made.items() if not given]))
    problems += unread
    again = _Again(ground, files, domus)
    known = (claimant(file, given, again) for file, given in records.items())
    return completed_fleet(ground, trees, problems, known), fresh, records


def _record(ground: Ground, file: str, data: bytes, host: str | None) -> Record | list[Row]:
    """The record of a domU that nothing is wrong with; why a file has no document; nothing for what is to be looked at again."""
    tree, problems = read_yaml(file, data)
    where = ground.places[file]
    if tree is None:
        return [_plain(each) for each in problems]
    if not isinstance(where, Place):
        return []
    made, wrong = ground.check(where, tree)
    if made is None or wrong:
        return []
    spec = tree.value["spec"]
    return record(made, str(spec.get("profile", "")), whole=where.host == host)


class _Again:
    """Reads documents once more, to say where what is contradicted stands."""

    def __init__(self, ground: Ground, files: Files, domus: Sequence[str]) -> None:
        self._ground, self._files, self._domus = ground, files, domus
        self._contents: Mapping[str, bytes] = {}
        self._sources: dict[str, Source] = {}

    def __call__(self, file: str) -> Source:
        """The source of a domU in which nothing was wrong."""
        # All at once: many may contradict.
        self._contents = self._contents or {
            path: data for batch in self._files.contents(self._domus) for path, data in batch
        }
        if file not in self._sources:
            tree, _ = read_yaml(file, self._contents[file])
            where = self._ground.places[file]
            made = None
            if tree is not None and isinstance(where, Place):
                made, _ = self._ground.check(where, tree)
            if made is None:
                raise GitError(f"{file} changed while it was read")
            self._sources[file] = made.source
        return self._sources[file]


def _trees(batches: Iterable[Batch]) -> tuple[dict[str, Tree], list[Diagnostic]]:
    trees: dict[str, Tree] = {}
    found: list[Diagnostic] = []
    for file, data in chain.from_iterable(batches):
        tree, diagnostics = read_yaml(file, data)
        found += diagnostics if len(found) < KEPT_LIMIT else diagnostics[:1]
        if tree is not None:
            trees[file] = tree
    return trees, found


def _taken(fleet: Fleet, trees: Mapping[str, Tree]) -> Mapping[str, Any]:
    """What a new domU cannot have any more, over all hosts, and what each profile would bring it."""
    claims = [each.claims for each in fleet.domus]
    values = [(code, value) for each in claims for code, _, value, _ in each.values]
    return {
        "names": [each.name for each in fleet.domus],
        "macs": [value for code, value in values if code == "DG1303"],
        "addresses": [
            _address(claim)
            for each in claims
            for claim in each.addresses
            if not claim[3]  # of no segment's own
        ],
        "vif_names": [value for code, value in values if code == "DG1307"],
        "roots": {name: host.spec.images.roots for name, host in fleet.hosts.items()},
        "profiles": {
            where.name: _brought(tree.value.get("spec"))
            for file, tree in trees.items()
            if isinstance(where := place(file), Place) and where.kind == "Profile"
        },
    }


def _address(claim: AddressClaim) -> str:
    length, version, number, *_ = claim
    return address_text(network_around(version, number, length))


def _brought(spec: object) -> list[str]:
    """The keys of a profile's spec, those of its boot as `boot.run`."""
    if not isinstance(spec, dict):
        return []
    boot = spec.get("boot")
    return sorted([*spec, *(f"boot.{key}" for key in boot)] if isinstance(boot, dict) else spec)


def _view(fleet: Fleet, host: str) -> Mapping[str, Any]:
    seen = view(fleet, host)
    return {
        "host": None if seen.host is None else seen.host.model_dump(mode="json", exclude_defaults=True),
        "networks": [network.model_dump(mode="json", exclude_defaults=True) for network in seen.networks],
        "domus": [{"file": each.source.file, "document": each.source.document()} for each in seen.domus],
        "held": seen.held,
        "elsewhere": seen.elsewhere,
        "refused": seen.refused,
        "diagnostics": _bounded(seen.diagnostics, fleet.untold),
    }


def _bounded(diagnostics: tuple[Diagnostic, ...], untold: int) -> list[Row]:
    rows = [_plain(diagnostic) for diagnostic in diagnostics[:DIAGNOSTICS_LIMIT]]
    if len(diagnostics) > DIAGNOSTICS_LIMIT:
        at_least = "at least " * bool(untold)
        more = f"{at_least}{len(diagnostics) - DIAGNOSTICS_LIMIT + untold} more problems (expected none)"
        rows.append(_plain(Diagnostic(None, None, None, "DG1506", more)))
    return rows


def _plain(diagnostic: Diagnostic) -> Row:
    return (
        diagnostic.file,
        diagnostic.line,
        diagnostic.column,
        diagnostic.code,
        diagnostic.message,
        diagnostic.address,
        diagnostic.severity,
    )
