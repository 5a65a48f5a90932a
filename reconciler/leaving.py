"""What a plan takes away before the guard changes, seen as gone already. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from reconciler.plan import Change
from reconciler.scope import Situation
from reconciler.step import Run, StopDomain
from state.observed import Domain, Observed


def cleared_of(situation: Situation, changes: Iterable[Change]) -> Observed:
    """The host as it will be when the guard changes: without the domains and vifs that the plan takes away first.

    A plan that is made in the middle of a pass, because something could not be taken away, takes nothing more away.
    """
    if situation.stuck:
        return situation.observed
    due = [change for change in changes if change.due]
    stopped = {change.uuid for change in due if _stops(change)}
    detached = {(change.uuid, int(change.address.rpartition(".")[2])) for change in due if change.early}
    observed = situation.observed
    domains = tuple(
        replace(domain, vifs=tuple(vif for vif in domain.vifs if (domain.uuid, vif.index) not in detached))
        for domain in observed.domains
        if domain.uuid not in stopped
    )
    staying = _interfaces(domains)
    gone = _interfaces(observed.domains) - staying
    gone |= {f"{name}-emu" for name in gone}
    return replace(
        observed,
        domains=domains,
        links={name: link for name, link in observed.links.items() if name not in gone},
        ports={name: port for name, port in observed.ports.items() if name not in gone},
    )


def _interfaces(domains: Iterable[Domain]) -> set[str]:
    return {vif.interface for domain in domains for vif in domain.vifs}


def _stops(change: Change) -> bool:
    return any(
        isinstance(step, StopDomain) or (isinstance(step, Run) and step.argv[:2] == ("xl", "destroy"))
        for step in change.steps
    )
