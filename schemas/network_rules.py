"""What Networks may not say although each of their values is fine. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from schemas.address import address_text, is_link_local, span, within
from schemas.network import Network
from schemas.rule import Broken
from schemas.segments import overlapping


def network_rules(networks: Sequence[Network]) -> Iterator[tuple[int, Broken]]:
    """With the position of its network: subnets that overlap; gateways and reserved ranges that no subnet of theirs has."""
    for later, earlier in overlapping(networks):
        subnet, other = networks[later].spec.subnet, networks[earlier]
        message = f"{subnet} overlaps network {other.metadata.name} ({other.spec.subnet}; expected one network for each address)"
        yield later, Broken("DG1402", ("spec", "subnet"), message)
    for position, network in enumerate(networks):
        for each in _outside(network):
            yield position, each


def _outside(network: Network) -> Iterator[Broken]:
    subnet, gateway = network.spec.subnet, network.spec.gateway
    # IPv6 routers answer to a link-local address at least as often as to one of the subnet.
    beside = subnet.version == 6 and gateway is not None and is_link_local(gateway)  # noqa: PLR2004
    if gateway is not None and not beside and not within(gateway, subnet):
        message = f"{address_text(gateway)} is not in {subnet} (expected an address of the subnet)"
        yield Broken("DG1403", ("spec", "gateway"), message)
    # Both ends of a /31 are hosts (RFC 3021), and IPv6's lowest address is any router's (RFC 4291, 2.6.1).
    edged = subnet.version == 4 and subnet.prefixlen < subnet.max_prefixlen - 1  # noqa: PLR2004
    if edged and gateway is not None and span(gateway)[0] in span(subnet):
        message = (
            f"{address_text(gateway)} is the network or broadcast address of {subnet} (expected a host's)"
        )
        yield Broken("DG1403", ("spec", "gateway"), message)
    for index, reserved in enumerate(network.spec.reserved):
        if not within(reserved, subnet):
            message = f"{address_text(reserved)} is not in {subnet} (expected a part of the subnet)"
            yield Broken("DG1403", ("spec", "reserved", index), message)
