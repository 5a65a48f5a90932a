"""The unprivileged child: reads a repository, checks all of it, and hands canonical JSON to its parent.

Started by state.source as `python -m state.spec_reader`, with a request on standard input and the answer on
standard output. It alone parses YAML and runs git; whatever a hostile repository does to it stays in it.
"""

from __future__ import annotations

import ctypes
import gc
import json
import resource
import sys
from collections.abc import Mapping
from typing import Any

from schemas.address import address_text
from schemas.diagnostic import Diagnostic
from schemas.fleet import Fleet, check_fleet, view
from schemas.layout import Place, place
from schemas.tree import Tree
from state.git_objects import Commit, GitError, descends, read_commit
from state.worktree import read_worktree
from state.yaml_reader import read_yaml

# A screen full of problems is enough to work on; a hostile commit could make millions.
DIAGNOSTICS_LIMIT = 2000
# 10,000 DomUs take 6 s and 400 MB here on a slow machine; a bomb is stopped well before it hurts the host.
CPU_LIMIT_S = 60
MEMORY_LIMIT_BYTES = 2 * 1024**3
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, _PR_SET_NO_NEW_PRIVS = 47, 4, 38
_CAPABILITY_VERSION_3 = 0x20080522


def main() -> None:
    """Answer one request."""
    gc.disable()  # nothing here is freed before the end, and looking for what could be takes half of the time
    request = json.load(sys.stdin)
    confine(keep_capabilities=bool(request["read_everything"]))
    try:
        answer = read(request["repository"], request["revision"], request["host"], request["applied"])
    except GitError as exc:
        answer = {"error": str(exc)}
    json.dump(answer, sys.stdout, separators=(",", ":"))


def confine(*, keep_capabilities: bool, file_limit_bytes: int = 0) -> None:
    """Bound memory, time and files; give up the right to read everything unless the repository is root's.

    It was needed until here to import this program from a folder that only root can enter.
    """
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))
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


def read(repository: str, revision: str | None, host: str | None, applied: str | None) -> Mapping[str, Any]:
    """The answer: source, diagnostics, and the view of `host` when one is asked for.

    `applied` is a commit that was read before; the answer says whether this one descends from it.

    Raises:
        GitError: the repository or the revision cannot be read.
    """
    if revision == "WORKTREE":
        digest, contents, problems = read_worktree(repository)
        commit, descended = Commit(digest), None
    else:
        commit, contents, problems = read_commit(repository, revision or "HEAD")
        descended = None if applied is None else descends(repository, applied, commit.revision)
    trees, found = _trees(contents, problems)
    fleet = check_fleet([*contents, *(each.file for each in problems if each.file)], trees, found)
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
        "files": len(contents),
        "hosts": sorted(fleet.hosts),
        "valid": fleet.valid,
        "diagnostics": _bounded(fleet.diagnostics),
        "view": None if host is None else _view(fleet, host),
        "taken": _taken(fleet, trees) if revision == "WORKTREE" else None,
    }


def _trees(
    contents: Mapping[str, bytes], problems: tuple[Diagnostic, ...]
) -> tuple[dict[str, Tree], list[Diagnostic]]:
    trees: dict[str, Tree] = {}
    found = list(problems)
    for file, data in contents.items():
        if place(file) is None or isinstance(place(file), Diagnostic):
            continue
        tree, diagnostics = read_yaml(file, data)
        found += diagnostics
        if tree is not None:
            trees[file] = tree
    return trees, found


def _taken(fleet: Fleet, trees: Mapping[str, Tree]) -> Mapping[str, Any]:
    """What a new domU cannot have any more, over all hosts, and what each profile would bring it."""
    domus = [claimant.domu for claimant in fleet.domus]
    return {
        "names": [domu.metadata.name for domu in domus],
        "macs": [vif.mac for domu in domus for vif in domu.spec.vifs],
        "addresses": [
            address_text(address) for domu in domus for vif in domu.spec.vifs for address in vif.addresses()
        ],
        "vif_names": [vif.name for domu in domus for vif in domu.spec.vifs if vif.name is not None],
        "roots": {name: host.spec.images.roots for name, host in fleet.hosts.items()},
        "profiles": {
            where.name: _brought(tree.value.get("spec"))
            for file, tree in trees.items()
            if isinstance(where := place(file), Place) and where.kind == "Profile"
        },
    }


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
        "domus": [
            {
                "file": claimant.tree.file,
                "document": claimant.domu.model_dump(mode="json", exclude_defaults=True),
            }
            for claimant in seen.domus
        ],
        "held": seen.held,
        "elsewhere": seen.elsewhere,
        "refused": seen.refused,
        "diagnostics": _bounded(seen.diagnostics),
    }


def _bounded(diagnostics: tuple[Diagnostic, ...]) -> list[list[Any]]:
    rows = [_plain(diagnostic) for diagnostic in diagnostics[:DIAGNOSTICS_LIMIT]]
    if len(diagnostics) > DIAGNOSTICS_LIMIT:
        more = f"{len(diagnostics) - DIAGNOSTICS_LIMIT} more problems (expected none)"
        rows.append(_plain(Diagnostic(None, None, None, "DG1506", more)))
    return rows


def _plain(diagnostic: Diagnostic) -> list[Any]:
    return [
        diagnostic.file,
        diagnostic.line,
        diagnostic.column,
        diagnostic.code,
        diagnostic.message,
        diagnostic.address,
        diagnostic.severity,
    ]


if __name__ == "__main__":
    main()
