"""The networks of a bridge, found by address: a fleet has thousands of both, so none is ever looked for one by one. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from schemas.address import Address, within
from schemas.network import Network

_SHOWN = 5  # a message names the first few networks; who has more knows them


@dataclass(frozen=True, slots=True)
class Segment:
    """One bridge. Overlapping networks are an error of theirs; of two with the same subnet one is kept."""

    subnets: dict[tuple[int, int, int], Network] = field(default_factory=dict)
    gateways: dict[Address, Network] = field(default_factory=dict)
    lengths: set[tuple[int, int]] = field(default_factory=set)

    def add(self, network: Network) -> None:
        """Take one more network in."""
        subnet: Address = network.spec.subnet
        self.subnets[_key(subnet, subnet.prefixlen)] = network
        self.lengths.add((subnet.version, subnet.prefixlen))
        if network.spec.gateway is not None:
            self.gateways[network.spec.gateway] = network

    def around(self, address: Address) -> list[Network]:
        """The networks that hold all of `address`."""
        keys = (
            _key(address, length)
            for version, length in self.lengths
            if version == address.version and length <= address.prefixlen
        )
        return [self.subnets[key] for key in keys if key in self.subnets]

    def __str__(self) -> str:
        """The subnets, for messages."""
        names = [str(network.spec.subnet) for network in self.subnets.values()]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return (", ".join(names[:_SHOWN]) or "none") + more


def segments(networks: Iterable[Network]) -> Mapping[str, Segment]:
    """The segments by bridge; one without networks for every other name."""
    found: defaultdict[str, Segment] = defaultdict(Segment)
    for network in networks:
        found[network.spec.bridge].add(network)
    return found


def overlapping(networks: Sequence[Network]) -> Iterator[tuple[int, int]]:
    """(later, earlier) positions of networks on one bridge of which one lies in the other."""
    order = sorted(range(len(networks)), key=lambda position: _order(networks[position]))
    open_: list[int] = []  # the networks around the present one, outermost first
    for position in order:
        spec = networks[position].spec
        while open_:
            outer = networks[open_[-1]].spec
            if outer.bridge == spec.bridge and within(spec.subnet, outer.subnet):
                yield max(position, open_[-1]), min(position, open_[-1])
                break
            open_.pop()
        open_.append(position)


def _order(network: Network) -> tuple[str, int, int, int]:
    subnet: Address = network.spec.subnet
    return network.spec.bridge, subnet.version, int(subnet.network_address), subnet.prefixlen


def _key(address: Address, length: int) -> tuple[int, int, int]:
    return address.version, length, int(address.network_address) >> (address.max_prefixlen - length)
