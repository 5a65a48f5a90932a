"""The networks of a bridge, found by address: a fleet has thousands of both, so none is ever looked for one by one. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from schemas.address import Address, address_text, is_link_local, span, within
from schemas.network import Network

_SHOWN = 5  # a message names the first few networks; who has more knows them


@dataclass(frozen=True, slots=True)
class Subnet:
    """A network with what no guest gets of it: (lowest, highest, why), as numbers."""

    network: Network
    withheld: tuple[tuple[int, int, str], ...]

    def refusal(self, address: Address) -> str | None:
        """Why an address of this network is not for guests."""
        first, last = span(address)
        return next((why for low, high, why in self.withheld if first <= high and low <= last), None)


@dataclass(slots=True)
class Segment:
    """One bridge. Overlapping networks are an error of theirs; of two with the same subnet one is kept."""

    subnets: dict[tuple[int, int, int], Subnet] = field(default_factory=dict)
    gateways: dict[tuple[int, int], str] = field(default_factory=dict)
    lengths: set[tuple[int, int]] = field(default_factory=set)
    has_link_local_router: bool = False

    def add(self, network: Network) -> None:
        """Take one more network in."""
        subnet: Address = network.spec.subnet
        self.subnets[_key(subnet, subnet.prefixlen)] = Subnet(network, tuple(_withheld(network)))
        self.lengths.add((subnet.version, subnet.prefixlen))
        gateway: Address | None = network.spec.gateway
        if gateway is not None:
            self.gateways[gateway.version, int(gateway.network_address)] = network.metadata.name
            self.has_link_local_router |= is_link_local(gateway)

    def router(self, address: Address) -> str | None:
        """The network whose gateway has that address."""
        return self.gateways.get((address.version, int(address.network_address)))

    def around(self, address: Address) -> list[Subnet]:
        """The networks that hold all of `address`."""
        version, length, number = address.version, address.prefixlen, int(address.network_address)
        bits = address.max_prefixlen
        return [
            found
            for known, shorter in self.lengths
            if known == version
            and shorter <= length
            and (found := self.subnets.get((version, shorter, number >> (bits - shorter)))) is not None
        ]

    def __str__(self) -> str:
        """The subnets, for messages."""
        names = [str(each.network.spec.subnet) for each in self.subnets.values()]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return (", ".join(names[:_SHOWN]) or "none") + more


def _withheld(network: Network) -> Iterator[tuple[int, int, str]]:
    spec, name = network.spec, network.metadata.name
    for reserved in spec.reserved:
        yield *span(reserved), f"is reserved in network {name} ({address_text(reserved)})"
    if spec.gateway is not None and spec.gateway.version == spec.subnet.version:
        yield *span(spec.gateway), f"is the gateway of network {name}"
    # The lowest address is the network's, and IPv6's subnet-router anycast; IPv6 has no broadcast. Both ends of
    # a /31 and a /127 are hosts (RFC 3021, RFC 6164).
    if spec.subnet.prefixlen < spec.subnet.max_prefixlen - 1:
        lowest, highest = span(spec.subnet)
        for edge in (lowest, highest) if spec.subnet.version == 4 else (lowest,):  # noqa: PLR2004
            yield edge, edge, f"holds the network or broadcast address of network {name}"


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
