"""What a living vif may send now, read back from the loaded guard: for one that no specification speaks of. Pure.

A pass that was cut short may have bound a vif that was never recorded as applied. As long as it lives it keeps what
it was given, and nobody else gets that.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from reconciler.scope import Situation
from schemas.address import eui64_link_local
from state.desired import Address, Vif
from state.nft import LoadedTable
from state.observed import Domain
from state.xenstore import BackendVif

_SETS = ("own_v4", "own_net4", "own_v6", "own_net6")


def granted(situation: Situation, domain: Domain, vif: BackendVif) -> Vif | None:
    """The vif as the guard lets it through; None for one that the guard does not know with its MAC.

    What was last applied to another domU is that one's, whoever added it here.
    """
    loaded = situation.observed.guard
    if loaded is None or f'"{vif.interface}" . {vif.mac}' not in loaded.elements.get("own_mac", frozenset()):
        return None
    others = [
        address
        for domu in situation.applied.values()
        if domu.uuid != domain.uuid
        for each in domu.vifs
        for address in each.addresses
    ]
    addresses = (
        address for address in _addresses(loaded, vif) if not any(address.overlaps(each) for each in others)
    )
    return Vif(
        index=vif.index,
        name=vif.interface,
        mac=vif.mac,
        bridge=vif.bridge,
        addresses=tuple(sorted(addresses, key=lambda network: (network.version, network))),
        rate=vif.rate,
        rate_text=None,
        guard="audit" if f'"{vif.interface}"' in loaded.elements.get("audited", frozenset()) else "enforce",
    )


def standing(situation: Situation, domain: Domain, vif: BackendVif) -> Vif | None:
    """What a vif that stays goes on with: what was last applied to it, or else what the guard has for it."""
    before = situation.applied.get(domain.uuid)
    applied = (each for each in (() if before is None else before.vifs) if each.index == vif.index)
    return next((each for each in applied if each.mac == vif.mac), None) or granted(situation, domain, vif)


def _addresses(loaded: LoadedTable, vif: BackendVif) -> Iterator[Address]:
    prefix = f'"{vif.interface}" . {vif.mac} . '
    for name in _SETS:
        for member in loaded.elements.get(name, frozenset()):
            if not member.startswith(prefix):
                continue
            try:
                address = ip_network(member.removeprefix(prefix))
            except ValueError:
                continue  # a range, which we never write: somebody else's, and not kept
            if address != eui64_link_local(vif.mac):
                yield address
