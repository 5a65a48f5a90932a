"""What git wants of this host: starts the unprivileged child, and checks once more what it hands over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from schemas.address import Address, parse_address
from schemas.claims import Claimant, check_claims, claims_of
from schemas.diagnostic import Diagnostic
from schemas.domu import DomU
from schemas.footing import footing
from schemas.host import Host
from schemas.merged import Merged
from schemas.network import Network
from schemas.rules import check_domu
from schemas.segments import segments
from schemas.tree import Tree
from state.desired import Desired
from state.request import Request
from state.resolve import resolve
from state.run import ReadError, Runner
from state.spec_child import ask, diagnostics, text, texts, verdict


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
    memory: str | None = field(default=None, repr=False)  # for the next reading; None: not asked for
    descends: bool | None = None  # from the commit that was asked about; None: not asked, or not known here


def read_repository(
    runner: Runner,
    *,
    repository: str,
    revision: str | None,
    host: str | None,
    applied: str | None = None,
    memory: str | None = None,
) -> Reading:
    """What the repository says at `revision` (a branch, tag or commit id, or WORKTREE) about `host`.

    `applied` is the id of a commit: Reading.descends says whether it is in this one's history. `memory` is what an
    earlier reading for this host gave as Reading.memory, "" where there was none: it makes this one quicker and
    changes nothing else. None asks for no new one.

    Raises:
        ReadError: it cannot be read, or the child handed over what no repository can say.
    """
    request = Request(repository, revision, host, applied, learn=memory is not None)
    answer = ask(runner, request, memory or "")
    try:
        reading = _reading(answer, host)
        return reading if memory is None else replace(reading, memory=_remembered(answer, memory))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as exc:
        raise ReadError(f"the reader handed over what no repository can say: {exc!r:.500}") from exc


def _remembered(answer: Mapping[str, Any], memory: str) -> str:
    """What was known before, without what is outdated, and with what was learnt; lines by the file they begin with."""
    lines = {line.partition("\t")[0]: line for line in memory.splitlines()}
    for file in texts(answer["outdated"]):
        lines.pop(file, None)
    lines |= {line.partition("\t")[0]: line for line in texts(answer["learnt"])}
    return "\n".join(lines.values())


def _reading(answer: Mapping[str, Any], host: str | None) -> Reading:
    source, seen, whole = answer["source"], answer["view"], verdict(answer)
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
        files=whole.files,
        hosts=whole.hosts,
        valid=whole.valid,
        diagnostics=whole.diagnostics if seen is None else diagnostics(seen["diagnostics"]),
        desired=desired,
        networks=networks,
        refused=refused,
        parents=texts(source["parents"]),
    )


def _desired(seen: Mapping[str, Any], networks: tuple[Network, ...], name: str) -> Desired:
    """The view as Desired, with the rules and claims of this host checked once more on this side."""
    host = Host.model_validate(seen["host"])
    if host.metadata.name != name:
        raise ReadError(f"the reader handed over host {host.metadata.name!r} instead of {name!r}")
    documents = [(DomU.model_validate_json(each["document"]), text(each["file"])) for each in seen["domus"]]
    for document, file in documents:
        if file != f"hosts/{name}/domus/{document.metadata.name}.yaml":
            raise ReadError(f"the reader handed over {document.metadata.name!r} as {file!r}")
    by_bridge, below = segments(networks), footing(host)
    claimants = []
    for document, file in documents:
        merged = Merged(name, document, Tree(file, {}))
        for problem in check_domu(merged, below, by_bridge):
            if problem.severity == "error":
                raise ReadError(f"the reader handed over a broken domU: {problem}")
        claims = claims_of(name, document, below.common)
        claimants.append(Claimant(name, document.metadata.name, claims, merged))
    for problem, _ in check_claims(claimants):
        raise ReadError(f"the reader handed over contradicting claims: {problem}")
    return resolve(
        host,
        documents,
        networks=networks,
        held=texts(seen["held"]),
        elsewhere={text(uuid): text(other) for uuid, other in seen["elsewhere"].items()},
        diagnostics=diagnostics(seen["diagnostics"]),
    )


def _taken(answer: Mapping[str, Any] | None) -> Taken | None:
    if answer is None:
        return None
    return Taken(
        names=frozenset(each.casefold() for each in texts(answer["names"])),
        macs=frozenset(texts(answer["macs"])),
        addresses=tuple(parse_address(each) for each in texts(answer["addresses"])),
        vif_names=frozenset(texts(answer["vif_names"])),
        roots={text(host): texts(roots) for host, roots in answer["roots"].items()},
        profiles={text(name): frozenset(texts(keys)) for name, keys in answer["profiles"].items()},
    )


def _revision(value: object) -> str:
    revision = text(value)
    if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}|worktree:[0-9a-f]{64}", revision, re.ASCII) is None:
        raise ValueError(f"{revision[:80]!r} is no revision")
    return revision


def _printable(value: object) -> str:
    """A committer's text without what a terminal would act on."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text(value)[:1000])
