"""What git wants of this host: starts the unprivileged child, and checks once more what it hands over."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas.address import Address, parse_address
from schemas.claims import Claimant, check_claims
from schemas.diagnostic import Diagnostic
from schemas.domu import DomU
from schemas.host import Host
from schemas.network import Network
from schemas.rules import check_domu
from schemas.segments import segments
from schemas.tree import Tree
from state.desired import Desired
from state.resolve import resolve
from state.run import CLEAN_ENVIRONMENT, ReadError, Runner

READ_TIMEOUT_S = 120.0
# Only what is named here reaches git. Protected configuration (command scope) cannot be overridden by a
# repository's own; what executes something or follows a pointer elsewhere is off.
_GIT_CONFIGURATION = {
    "safe.directory": "*",  # ownership is checked by running as the owner; see _privileges
    "safe.bareRepository": "explicit",
    "protocol.allow": "never",
    "uploadpack.packObjectsHook": "",
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.pager": "cat",
    "core.attributesFile": "/dev/null",
    "core.alternateRefsCommand": "",
    "core.bigFileThreshold": "1m",
    "log.showSignature": "false",
    "diff.external": "",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "credential.helper": "",
    "gpg.program": "/bin/false",
    "gpg.ssh.program": "/bin/false",
}


@dataclass(frozen=True, slots=True)
class Taken:
    """What is given away over all hosts. `roots`: image folders by host; `profiles`: the keys that each brings."""

    names: frozenset[str]
    macs: frozenset[str]
    addresses: tuple[Address, ...]
    vif_names: frozenset[str]
    roots: Mapping[str, tuple[str, ...]]
    profiles: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of a repository. `desired` is None when no host was asked for, or the commit refuses it."""

    revision: str
    author: str
    subject: str
    committed_at: str
    files: int
    hosts: tuple[str, ...]
    valid: bool
    diagnostics: tuple[Diagnostic, ...]
    desired: Desired | None = None
    networks: tuple[Network, ...] = ()
    refused: bool = False
    parents: tuple[str, ...] = field(default=(), repr=False)
    committer: str = ""
    taken: Taken | None = None  # WORKTREE only: what a new domU has to keep clear of
    descends: bool | None = None  # from the commit that was asked about; None: not asked, or not known here


def read_repository(
    runner: Runner, *, repository: str, revision: str | None, host: str | None, applied: str | None = None
) -> Reading:
    """What the repository says at `revision` (a branch, tag or commit id, or WORKTREE) about `host`.

    `applied` is the id of a commit: Reading.descends says whether it is in this one's history.

    Raises:
        ReadError: it cannot be read, or the child handed over what no repository can say.
    """
    path = Path(repository).resolve()
    if not path.is_dir():
        raise ReadError(f"{repository}: no such folder")
    owner = path.stat()
    prefix, keeps = _privileges(owner)
    request = {"repository": str(path), "revision": revision, "host": host, "read_everything": keeps}
    request["applied"] = applied
    completed = runner.run(
        [*prefix, sys.executable, "-P", "-m", "state.spec_reader"],
        stdin=json.dumps(request),
        timeout_s=READ_TIMEOUT_S,
        environment=git_environment(),
    )
    if completed.rc != 0:
        raise ReadError(
            f"reading {repository}: the reader ended with exit status {completed.rc}: {completed.stderr.strip()[-400:]}"
        )
    try:
        answer = json.loads(completed.stdout)
    except ValueError as exc:
        raise ReadError(f"reading {repository}: the reader's answer is no JSON") from exc
    if "error" in answer:
        raise ReadError(f"{repository}: {answer['error']}")
    return _reading(answer, host)


def git_environment(
    configuration: Mapping[str, str] | None = None, *, protocol: str = ""
) -> Mapping[str, str]:
    """The whole environment of a process that runs git; `configuration` adds to what is always set."""
    settings = {**_GIT_CONFIGURATION, **(configuration or {})}
    environment = {
        **CLEAN_ENVIRONMENT,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "SSH_ASKPASS": "/bin/false",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_ALLOW_PROTOCOL": protocol,
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_CEILING_DIRECTORIES": "/",
        "GIT_PYTHON_REFRESH": "error",
        "GIT_PYTHON_GIT_EXECUTABLE": "git",
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "GIT_CONFIG_COUNT": str(len(settings)),
        # -P keeps the current folder out of the import path; our own packages are wherever this file is.
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
    }
    for number, (key, value) in enumerate(settings.items()):
        environment[f"GIT_CONFIG_KEY_{number}"] = key
        environment[f"GIT_CONFIG_VALUE_{number}"] = value
    return environment


def _privileges(owner: os.stat_result) -> tuple[list[str], bool]:
    """How to start the child so that it can read the repository and do nothing else, and whether it keeps that right.

    Not root: as we are. Root: as the repository's owner, without any capability; for root's own repositories that
    is root with reading everything as the only one. Nobody with that capability would not do: git asks access(2),
    which leaves capabilities out for everybody but root.
    """
    if os.geteuid() != 0:
        return [], False
    owned_by_root = owner.st_uid == 0
    if owned_by_root and stat.S_IMODE(owner.st_mode) & stat.S_IWOTH:
        raise ReadError("the repository is root's, and everybody can write it (expected mode 755 or less)")
    return as_user(owner.st_uid, owner.st_gid), owned_by_root


def as_user(user: int, group: int) -> list[str]:
    """The start of an argv that runs a child of root's as somebody else, with the right to read everything.

    The child needs that to import our packages from a folder that only root can enter, and drops it right after.
    """
    return [
        "setpriv",
        f"--reuid={user}",
        f"--regid={group}",
        "--clear-groups",
        "--no-new-privs",
        "--inh-caps=-all,+dac_read_search",
        "--ambient-caps=-all,+dac_read_search",
        "--bounding-set=-all,+dac_read_search",
        "--",
    ]


def _reading(answer: Mapping[str, Any], host: str | None) -> Reading:
    try:
        source, seen = answer["source"], answer["view"]
        desired: Desired | None = None
        networks: tuple[Network, ...] = ()
        refused = False
        if seen is not None:
            refused = bool(seen["refused"])
            networks = tuple(Network.model_validate(each) for each in seen["networks"])
            if not refused:
                desired = _desired(seen, networks, str(host))
        return Reading(
            revision=_revision(source["revision"]),
            author=_printable(source["author"]),
            committer=_printable(source["committer"]),
            subject=_printable(source["subject"]),
            taken=_taken(answer["taken"]),
            descends=None if source["descends"] is None else bool(source["descends"]),
            committed_at=_printable(source["committed_at"]),
            files=int(answer["files"]),
            hosts=tuple(answer["hosts"]),
            valid=bool(answer["valid"]),
            diagnostics=_diagnostics(answer["diagnostics"] if seen is None else seen["diagnostics"]),
            desired=desired,
            networks=networks,
            refused=refused,
            parents=tuple(source["parents"]),
        )
    except (KeyError, TypeError, ValueError, ValidationError) as exc:
        raise ReadError(f"the reader handed over what no repository can say: {exc!r}") from exc


def _desired(seen: Mapping[str, Any], networks: tuple[Network, ...], name: str) -> Desired:
    """The view as Desired, with the rules and claims of this host checked once more on this side."""
    host = Host.model_validate(seen["host"])
    if host.metadata.name != name:
        raise ReadError(f"the reader handed over host {host.metadata.name!r} instead of {name!r}")
    documents = [(DomU.model_validate(each["document"]), str(each["file"])) for each in seen["domus"]]
    for document, file in documents:
        if file != f"hosts/{name}/domus/{document.metadata.name}.yaml":
            raise ReadError(f"the reader handed over {document.metadata.name!r} as {file!r}")
    claimants = [Claimant(name, document, Tree(file, {}), None) for document, file in documents]
    by_bridge = segments(networks)
    for claimant in claimants:
        for problem in check_domu(claimant, host, by_bridge, ""):
            if problem.severity == "error":
                raise ReadError(f"the reader handed over a broken domU: {problem}")
    for problem, _ in check_claims(claimants, {name: host}):
        raise ReadError(f"the reader handed over contradicting claims: {problem}")
    return resolve(
        host,
        documents,
        held=tuple(str(each) for each in seen["held"]),
        elsewhere={str(uuid): str(other) for uuid, other in seen["elsewhere"].items()},
        diagnostics=_diagnostics(seen["diagnostics"]),
    )


def _taken(answer: Mapping[str, Any] | None) -> Taken | None:
    if answer is None:
        return None
    return Taken(
        names=frozenset(str(each).casefold() for each in answer["names"]),
        macs=frozenset(answer["macs"]),
        addresses=tuple(parse_address(each) for each in answer["addresses"]),
        vif_names=frozenset(answer["vif_names"]),
        roots={str(host): tuple(roots) for host, roots in answer["roots"].items()},
        profiles={str(name): frozenset(keys) for name, keys in answer["profiles"].items()},
    )


def _revision(value: object) -> str:
    text = str(value)
    if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}|worktree:[0-9a-f]{64}", text, re.ASCII) is None:
        raise ValueError(f"{text[:80]!r} is no revision")
    return text


def _printable(value: object) -> str:
    """A committer's text without what a terminal would act on."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in str(value)[:1000])


def _diagnostics(rows: list[list[Any]]) -> tuple[Diagnostic, ...]:
    return tuple(Diagnostic(*row) for row in rows)
