"""Who is bound to what on a host as git has it, for questions about packets. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from reconciler.diff_guard import specified_guard
from reconciler.explain.answer import People
from reconciler.explain.judge import Judge
from state.desired import Desired, DomU
from state.nft import Features


@dataclass(frozen=True, slots=True)
class Explainer:
    """The judge of a host's guard, and what is called how. `ports`: the interface of each vif by DOMU/INDEX."""

    judge: Judge
    ports: Mapping[str, str]
    people: People


def explainer(desired: Desired) -> Explainer:
    """What answers for a host, halted domUs included.

    The kernel is taken for one that can match a frame's bridge by name; others know an unbound port by its own name alone.
    """
    domus = tuple(_named(domu) for domu in desired.domus)
    guard = specified_guard(desired.host, domus)
    ports = {
        f"{domu.name}/{vif.index}": vif.name for domu in domus for vif in domu.vifs if vif.name is not None
    }
    gateways = {
        str(gateway.network_address): f"the gateway of {bridge}" for bridge, gateway in desired.gateways
    }
    people = People({domu.uuid: domu.name for domu in desired.domus}, gateways)
    return Explainer(Judge.of(guard, Features(ibrname=True)), ports, people)


def _named(domu: DomU) -> DomU:
    """The domU with a name for each vif: one that has none is called after its domid, which nobody knows here."""
    return replace(
        domu, vifs=tuple(replace(vif, name=vif.name or f"vif?.{vif.index}@{domu.name}") for vif in domu.vifs)
    )
