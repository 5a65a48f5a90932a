"""The unprivileged child: reads a repository, checks all of it, and hands canonical JSON to its parent.

Started by state.source as `python -m state.spec_reader`, with a request on standard input and the answer on
standard output. It alone parses YAML and runs git; whatever a hostile repository does to it stays in it.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from schemas.address import address_text
from schemas.claims import AddressClaim, Source
from schemas.diagnostic import Diagnostic
from schemas.findings import KEPT_LIMIT
from schemas.fleet import Fleet, completed_fleet, view
from schemas.ground import Ground, check_ground, places_of
from schemas.layout import Place, place
from schemas.tree import Tree
from state.checked import Memory, Record, claimant, record, rules
from state.git_objects import Commit, GitError, descends, list_commit, read_blobs
from state.processes import shared_out
from state.spec_child import Request
from state.worktree import ChangedError, Worktree
from state.yaml_reader import read_yaml

# A screen full of problems is enough to work on; a hostile commit could make millions.
DIAGNOSTICS_LIMIT = 2000
_BATCH_BYTES = 32 * 10**6  # read from git at a time; 10,000 domUs are a third of it
Row = tuple[Any, ...]  # the fields of a Diagnostic, as another process and the parent take them
# 10,000 DomUs take 6 s and 400 MB here on a slow machine; a bomb is stopped well before it hurts the host.
CPU_LIMIT_S = 60
MEMORY_LIMIT_BYTES = 2 * 1024**3
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, _PR_SET_NO_NEW_PRIVS = 47, 4, 38
_CAPABILITY_VERSION_3 = 0x20080522


def main() -> None:
    """Answer one request: its first line says what is wanted, the rest is what earlier readings found."""
    gc.disable()  # nothing here is freed before the end, and looking for what could be takes half of the time
    request, remembered = json.loads(sys.stdin.readline()), sys.stdin.read()
    checked_by = rules()
    confine(keep_capabilities=bool(request.pop("read_everything")))
    try:
        answer = read(Request(**request), remembered, checked_by)
    except (GitError, ChangedError) as exc:
        answer = {"error": str(exc)}
    except MemoryError:
        answer = {
            "error": f"more than {MEMORY_LIMIT_BYTES // 2**20} MiB are needed to check it (expected fewer values)"
        }
    sys.stdout.write(json.dumps(answer, separators=(",", ":")))
    sys.stdout.flush()
    os._exit(
        0
    )  # to take a fleet's worth of objects apart one by one would take as long as to check some hundreds


@dataclass(frozen=True, slots=True)
class Files:
    """The specification files: their ids by path (all "" in a worktree), what cannot be one, and how to read them.

    `read` gives (path, content) of what it is asked for, in that order, with no more than some megabytes at a time in
    memory.
    """

    commit: Commit
    ids: Mapping[str, str]
    problems: tuple[Diagnostic, ...]
    read: Callable[[Iterable[str]], Iterable[tuple[str, bytes]]]


def confine(*, keep_capabilities: bool, file_limit_bytes: int = 0) -> None:
    """Bound memory, time and files; give up the right to read everything unless the repository is root's.

    It was needed until here to import this program from a folder that only root can enter.
    """
    # The hard limit later: at the soft one the signal says what it was.
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S + 5))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    # The reader writes to its pipes and to no file, the fetcher its mirror.
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit_bytes, file_limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)  # setpriv set it already when root started us
    if keep_capabilities:
        return
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    if libc.capset(header, none) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def read(request: Request, remembered: str, checked_by: str) -> Mapping[str, Any]:
    """The answer: source, diagnostics, and the view of the host when one is asked for.

    Raises:
        GitError: the repository or the revision cannot be read.
    """
    worktree = request.revision == "WORKTREE"
    files = _worktree(request.repository) if worktree else _committed(request.repository, request.revision)
    places = places_of([*files.ids, *(each.file for each in files.problems if each.file)])
    others = [file for file in files.ids if (where := _place(places, file)) and where.kind != "DomU"]
    trees, found = _trees(files.read(others))
    ground = check_ground(places, trees, [*files.problems, *found])
    memory = Memory(remembered, files.ids, places, f"{checked_by} {request.host}")
    fleet, fresh, records = _fleet(ground, files, memory, request.host)
    commit = files.commit
    descended = None
    if not worktree and request.applied is not None:
        descended = descends(request.repository, request.applied, commit.revision)
    return {
        "source": {
            "revision": commit.revision,
            "parents": commit.parents,
            "author": commit.author,
            "committer": commit.committer,
            "committed_at": commit.committed_at,
            "subject": commit.subject,
            "descends": descended,
        },
        "files": len(files.ids),
        "hosts": sorted(fleet.hosts),
        "valid": fleet.valid,
        "diagnostics": _bounded(fleet.diagnostics, fleet.untold),
        "view": None if request.host is None else _view(fleet, request.host),
        "taken": _taken(fleet, trees) if worktree else None,
        "learnt": memory.lines(fresh) if request.learn else [],
        "outdated": memory.outdated(records) if request.learn else [],
    }


def _worktree(repository: str) -> Files:
    found = Worktree(repository)
    return Files(Commit(found.digest), dict.fromkeys(found.files, ""), found.problems, found.read)


def _committed(repository: str, revision: str | None) -> Files:
    listing = list_commit(repository, revision or "HEAD")

    def contents(files: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        for batch in _batches(files, lambda file: listing.sizes[listing.blobs[file]]):
            blobs = read_blobs(repository, {listing.blobs[file] for file in batch})
            yield from ((file, blobs[listing.blobs[file]]) for file in batch)

    return Files(listing.commit, listing.blobs, listing.problems, contents)


def _batches(files: Iterable[str], size: Callable[[str], int]) -> Iterator[list[str]]:
    """The files in their order, in lists of at most so many bytes and one file."""
    batch: list[str] = []
    total = 0
    for file in files:
        batch.append(file)
        total += size(file)
        if total > _BATCH_BYTES:
            yield batch
            batch, total = [], 0
    yield batch


def _place(places: Mapping[str, object], file: str) -> Place | None:
    where = places.get(file)
    return where if isinstance(where, Place) else None


def _fleet(
    ground: Ground, files: Files, memory: Memory, host: str | None
) -> tuple[Fleet, Mapping[str, Record], Mapping[str, Record]]:
    """The fleet, the records that are new, and all records."""
    domus = [file for file in files.ids if (where := _place(ground.places, file)) and where.kind == "DomU"]
    records = memory.recall(domus)
    missing = [file for file in domus if file not in records]

    def check(part: Sequence[str]) -> list[Record | list[Row]]:
        return [_record(ground, file, data, host) for file, data in files.read(part)]

    made = dict(zip(missing, shared_out(check, missing), strict=True))
    fresh = {file: given for file, given in made.items() if isinstance(given, tuple)}
    unread = [Diagnostic(*row) for given in made.values() if isinstance(given, list) for row in given]
    records |= fresh
    trees, problems = _trees(files.read([file for file, given in made.items() if not given]))
    problems += unread
    again = _Again(ground, files, domus)
    known = [claimant(file, given, again) for file, given in records.items()]
    return completed_fleet(ground, trees, problems, known), fresh, records


def _record(ground: Ground, file: str, data: bytes, host: str | None) -> Record | list[Row]:
    """The record of a domU that nothing is wrong with; why a file has no document; nothing for what is to be looked at again."""
    tree, problems = read_yaml(file, data)
    where = _place(ground.places, file)
    if tree is None:
        return [_plain(each) for each in problems]
    if where is None:
        return []
    made, wrong = ground.check(where, tree)
    if made is None or wrong:
        return []
    spec = tree.value["spec"]
    return record(made, str(spec.get("profile", "")), whole=where.host == host)


class _Again:
    """Reads documents once more, to say where what is contradicted stands."""

    def __init__(self, ground: Ground, files: Files, domus: Iterable[str]) -> None:
        self._ground, self._files, self._domus = ground, files, domus
        self._contents: Mapping[str, bytes] = {}
        self._sources: dict[str, Source] = {}

    def __call__(self, file: str) -> Source:
        """The source of a domU in which nothing was wrong."""
        self._contents = self._contents or dict(
            self._files.read(self._domus)
        )  # all at once: many may contradict
        if file not in self._sources:
            tree, _ = read_yaml(file, self._contents[file])
            where = _place(self._ground.places, file)
            made = None if tree is None or where is None else self._ground.check(where, tree)[0]
            if made is None:
                raise GitError(f"{file} changed while it was read")
            self._sources[file] = made.source
        return self._sources[file]


def _trees(contents: Iterable[tuple[str, bytes]]) -> tuple[dict[str, Tree], list[Diagnostic]]:
    trees: dict[str, Tree] = {}
    found: list[Diagnostic] = []
    for file, data in contents:
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
    return address_text(IPv4Network((number, length)) if version == 4 else IPv6Network((number, length)))  # noqa: PLR2004


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


if __name__ == "__main__":
    main()
