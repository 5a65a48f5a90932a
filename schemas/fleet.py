"""A whole repository: every document checked, profiles merged, references and claims compared. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from schemas.claims import Claimant, check_claims
from schemas.diagnostic import Diagnostic
from schemas.findings import Findings
from schemas.ground import Ground, check_ground, places_of
from schemas.host import Host
from schemas.layout import Place
from schemas.network import Network
from schemas.tree import Tree


@dataclass(frozen=True, slots=True)
class Fleet:
    """The accepted documents, and everything that is wrong with the others.

    `scopes` says for each diagnostic, in the same order, how far it reaches: `domu:HOST/NAME` keeps that
    domU at its last-good specification, `host:HOST` that host, `fleet` every host. `domus` hold those with
    errors, too, unless nothing could be made of their documents. `untold` is how many more problems there are.
    """

    hosts: Mapping[str, Host]
    networks: tuple[Network, ...]
    domus: tuple[Claimant, ...]
    diagnostics: tuple[Diagnostic, ...]
    scopes: tuple[frozenset[str], ...]
    untold: int = 0

    @property
    def valid(self) -> bool:
        """Whether a commit with this content is to be accepted: warnings alone are no reason to refuse."""
        return all(diagnostic.severity == "warning" for diagnostic in self.diagnostics)


@dataclass(frozen=True, slots=True)
class HostView:
    """What one host needs of a fleet. `refused`: an error reaches the whole host, which stays at last-good."""

    host: Host | None
    networks: tuple[Network, ...]
    domus: tuple[Claimant, ...]
    held: tuple[str, ...]
    elsewhere: Mapping[str, str]
    diagnostics: tuple[Diagnostic, ...]
    refused: bool


def check_fleet(files: Iterable[str], trees: Mapping[str, Tree], problems: Iterable[Diagnostic]) -> Fleet:
    """The fleet that a repository describes, and every problem in it at once.

    `files` are all paths under the known folders, `trees` the documents that could be read, `problems` what
    was wrong with the others.
    """
    return completed_fleet(check_ground(places_of(files), trees, problems), trees, (), ())


def completed_fleet(
    ground: Ground, trees: Mapping[str, Tree], problems: Iterable[Diagnostic], known: Iterable[Claimant]
) -> Fleet:
    """The fleet on that ground: the domUs in `trees`, those whose files have `problems` instead, and those known.

    `known` are checked on this ground already, and have nothing wrong with them.
    """
    findings = Findings(ground.found, ground.untold)
    for problem in problems:
        findings.add([problem], ground.scope(problem.file))
    claimants = {claimant.source.file: claimant for claimant in known}
    for file, tree in trees.items():
        where = ground.places.get(file)
        if isinstance(where, Place) and where.kind == "DomU":
            claimant, wrong = ground.check(where, tree)
            findings.add(wrong, ground.scope(file))
            tree.forget_places()
            if claimant is not None:
                claimants[file] = claimant
    in_order = tuple(claimants[file] for file in sorted(claimants))
    for conflict, reach in check_claims(in_order):
        findings.add([conflict], *reach)
    found = sorted(findings.kept, key=lambda item: _order(item[0]))
    return Fleet(
        hosts=ground.hosts,
        networks=ground.networks,
        domus=in_order,
        diagnostics=tuple(diagnostic for diagnostic, _ in found),
        scopes=tuple(scope for _, scope in found),
        untold=findings.untold,
    )


def view(fleet: Fleet, name: str) -> HostView:
    """What the host `name` is to do, with what is held back."""
    held, refused, relevant = set(), False, []
    for diagnostic, scopes in zip(fleet.diagnostics, fleet.scopes, strict=True):
        whole = not scopes.isdisjoint({"fleet", f"host:{name}"})
        single = [scope.partition("/")[2] for scope in scopes if scope.startswith(f"domu:{name}/")]
        if whole or single:
            relevant.append(diagnostic)
            if diagnostic.severity == "error":
                refused = refused or whole
                held.update(single)
    here = tuple(
        claimant
        for claimant in fleet.domus
        if claimant.host == name and claimant.sound and claimant.name not in held
    )
    return HostView(
        host=fleet.hosts.get(name),
        networks=fleet.networks,
        domus=here,
        held=tuple(sorted(held)),
        elsewhere={
            claimant.uuid: claimant.host
            for claimant in fleet.domus
            if claimant.host != name and (claimant.sound or claimant.claims_its_uuid)
        },
        diagnostics=tuple(relevant),
        refused=refused or name not in fleet.hosts,
    )


def _order(diagnostic: Diagnostic) -> tuple[str, float, int, str, str]:
    return (
        diagnostic.file or "",
        math.inf if diagnostic.line is None else diagnostic.line,
        diagnostic.column or 0,
        diagnostic.code,
        diagnostic.message,
    )
