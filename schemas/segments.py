"""The networks of a bridge, found by address: a fleet has thousands of both, so none is ever looked for one by one. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from schemas.address import BITS, Address, Numbers, address_text, is_link_local, span, within
from schemas.network import Network
from schemas.shown import listed

Range = tuple[int, int, str]  # lowest, highest, why no guest gets them


@dataclass(frozen=True, slots=True)
class Subnet:
    """A network with what no guest gets of it, as numbers. `reserved` are in order and have nothing in common."""

    network: Network
    edges: tuple[Range, ...]
    reserved: tuple[Range, ...]

    def refusal(self, first: int, last: int) -> str | None:
        """Why an address of this network is not for guests, by the lowest and the highest number in it."""
        for low, high, why in self.edges:
            if first <= high and low <= last:
                return f"{'is' if first == last else 'holds'} {why}"
        before = bisect_right(self.reserved, last, key=_lowest) - 1
        return self.reserved[before][2] if before >= 0 and first <= self.reserved[before][1] else None


@dataclass(slots=True)
class Segment:
    """One bridge. Overlapping networks are an error of theirs; of two with the same subnet one is kept.

    `whole`: False where there are networks that cannot be read; an address may lie in one of those.
    """

    subnets: dict[tuple[int, int, int], Subnet] = field(default_factory=dict)
    gateways: dict[tuple[int, int], str] = field(default_factory=dict)
    lengths: set[tuple[int, int]] = field(default_factory=set)
    has_link_local_router: bool = False
    whole: bool = True

    def add(self, network: Network) -> None:
        """Take one more network in."""
        subnet: Address = network.spec.subnet
        self.subnets[_key(subnet, subnet.prefixlen)] = Subnet(
            network, tuple(_edges(network)), tuple(_reserved(network))
        )
        self.lengths.add((subnet.version, subnet.prefixlen))
        gateway: Address | None = network.spec.gateway
        if gateway is not None:
            self.gateways[gateway.version, int(gateway.network_address)] = network.metadata.name
            self.has_link_local_router |= is_link_local(gateway)

    def router(self, address: Address) -> str | None:
        """The network whose gateway has that address."""
        return self.gateways.get((address.version, int(address.network_address)))

    def around(self, length: int, numbers: Numbers) -> list[Subnet]:
        """The networks that hold all of an address with a prefix of that length."""
        version, number, _ = numbers
        bits = BITS[version]
        return [
            found
            for known, shorter in self.lengths
            if known == version
            and shorter <= length
            and (found := self.subnets.get((version, shorter, number >> (bits - shorter)))) is not None
        ]

    def __str__(self) -> str:
        """The subnets, for messages."""
        return listed(str(each.network.spec.subnet) for each in self.subnets.values())


@dataclass(slots=True)
class Segments:
    """All bridges by name. `unread`: those with networks that cannot be read; None stands for any bridge."""

    unread: frozenset[str | None]
    by_bridge: dict[str, Segment] = field(default_factory=dict)

    def on(self, bridge: str) -> Segment:
        """The segment of a bridge; an empty one where no network names it."""
        found = self.by_bridge.get(bridge)
        if found is None:
            found = self.by_bridge[bridge] = Segment(whole=self.unread.isdisjoint({bridge, None}))
        return found


def _lowest(withheld: Range) -> int:
    return withheld[0]


def _reserved(network: Network) -> Iterator[Range]:
    """Prefixes lie in each other or have nothing in common: only those that lie in no other one."""
    end = -1
    for address in sorted(network.spec.reserved, key=lambda each: (span(each)[0], each.prefixlen)):
        low, high = span(address)
        if low > end:
            yield low, high, f"is reserved in network {network.metadata.name} ({address_text(address)})"
            end = high


def _edges(network: Network) -> Iterator[Range]:
    spec, name = network.spec, network.metadata.name
    if spec.gateway is not None and spec.gateway.version == spec.subnet.version:
        yield *span(spec.gateway), f"the gateway of network {name}"
    # The lowest address is the network's, and IPv6's subnet-router anycast; IPv6 has no broadcast. Both ends of
    # a /31 and a /127 are hosts (RFC 3021, RFC 6164).
    if spec.subnet.prefixlen < spec.subnet.max_prefixlen - 1:
        lowest, highest = span(spec.subnet)
        for edge in (lowest, highest) if spec.subnet.version == 4 else (lowest,):  # noqa: PLR2004
            yield edge, edge, f"the network or broadcast address of network {name}"


def segments(networks: Iterable[Network], unread: Iterable[str | None] = ()) -> Segments:
    """The segments of these networks; `unread` as in Segments."""
    found = Segments(frozenset(unread))
    for network in networks:
        found.on(network.spec.bridge).add(network)
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
