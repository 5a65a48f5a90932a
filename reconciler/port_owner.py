"""Whose a guest's port is: what the hotplug script holds a vif against before it gets a binding. Pure."""

from __future__ import annotations

from reconciler.scope import Situation


def port_owners(situation: Situation) -> frozenset[str]:
    """Whose each named port may be, as reconciler.guard_kept.Kept.owners has it: of what is wanted, was applied, and lives.

    A port is given to one vif at a time, by its MAC: that an old owner stands there for a while gives him nothing.
    """
    observed, last = situation.observed, situation.last
    found = {
        (vif.name, domu.uuid, vif.index, vif.bridge)
        for domu in (*situation.desired.domus, *(() if last is None else last.domus))
        for vif in domu.vifs
        if vif.name is not None
    }
    found |= {
        (vif.interface, domain.uuid, vif.index, vif.bridge)
        for domain in observed.domains
        if domain.uuid in situation.ledger
        for vif in domain.vifs
        if vif.interface != f"vif{vif.domid}.{vif.index}"
    }
    return frozenset(f'"{port}" {uuid}.{index} {bridge}' for port, uuid, index, bridge in found)
