"""The way out: which neighbours dom0 and its guests leave by, and whether a guard would close it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network

from reconciler.guard import nftables
from reconciler.guard.binding import Guard
from schemas.address import Address
from state.desired import Desired, Host
from state.facts import ports_of
from state.links import Link
from state.observed import Observed
from state.reach import Ip, Neighbour
from state.routes import Route

# Every one is asked before and after each change of the guard. Those of dom0 come first; a host whose guests have
# more gateways than that has them behind the same few uplinks.
MOST_ASKED = 16
Elements = Mapping[str, frozenset[str]]
Members = Mapping[str, list[str]]


def neighbours(
    desired: Desired,
    links: Mapping[str, Link],
    addresses: Iterable[tuple[str, Address]],
    routes: Iterable[Route],
) -> tuple[Neighbour, ...]:
    """The gateways that are reached through managed bridges: dom0's own first, then those of its guests' networks."""
    bridges = {name for name, _ in desired.host.bridges}
    members = members_of(links)
    own = [(device, address.network_address) for device, address in addresses]
    found = [
        (route.device, route.gateway)
        for route in routes
        if route.gateway is not None and bridges & below(route.device, links, members)
    ]
    # Where a gateway is dom0 itself, no frame has to come in for it.
    found += [
        (bridge, address.network_address)
        for bridge, address in desired.gateways
        if bridge in bridges & links.keys() and address.network_address not in {each for _, each in own}
    ]
    asked = [Neighbour(device, gateway, _source(device, gateway, own)) for device, gateway in found]
    return tuple(dict.fromkeys(asked))[:MOST_ASKED]


def below(device: str, links: Mapping[str, Link], members: Members) -> frozenset[str]:
    """The interfaces that a device stands on, itself included: what its frames pass on their way out of dom0."""
    found: set[str] = set()
    waiting = [device]
    while waiting:
        name = waiting.pop()
        if name in found or name not in links:
            continue
        found.add(name)
        link = links[name]
        waiting += members.get(name, ())
        other = None if link.lower is None else links.get(link.lower)
        if other is not None:
            # The other end of a veth is a port, and what comes out there is on that port's bridge.
            waiting.append((other.bridge or "") if link.kind == "veth" else other.name)
    return frozenset(found)


def members_of(links: Mapping[str, Link]) -> Members:
    """The ports of each bridge, the members of each bond."""
    found: dict[str, list[str]] = {}
    for link in links.values():
        if link.bridge is not None:
            found.setdefault(link.bridge, []).append(link.name)
    return found


def _source(device: str, gateway: Ip, own: Iterable[tuple[str, Ip]]) -> Ip | None:
    """The device's address that is nearest to the gateway's, as the kernel would choose."""
    mine = [each for name, each in own if name == device and each.version == gateway.version]
    return min(mine, key=lambda each: (int(each) ^ int(gateway), int(each)), default=None)


def closed_way(observed: Observed, guard: Guard) -> str | None:
    """Why dom0 would be cut off by this guard: the gateway's frames may come in now, and by no port any more.

    A bridge without any port has no way out that could be closed, and one without a route of dom0's is nobody's.
    """
    uplinks = {bridge.name: bridge.uplinks for bridge in guard.bridges}
    free = {each for some in uplinks.values() for each in some}
    members = members_of(observed.links)
    for route in observed.routes:
        passed = sorted(uplinks.keys() & below(route.device, observed.links, members))
        ports = [
            port
            for bridge in passed
            for port in ports_of(observed, bridge)
            if port in observed.links and not _is_other_end(observed.links[port], route.device)
        ]
        if free & {*ports} or not _any_lets_in(_loaded(observed), ports, route.gateway, unknown=True):
            continue
        if not _any_lets_in(
            nftables.elements(guard), ports, route.gateway, unknown=guard.unknown_vifs == "report"
        ):
            lost = [
                lost_uplink(observed, bridge, each)
                for bridge in passed
                for each in uplinks[bridge]
                if each not in ports_of(observed, bridge)
            ]
            return (
                f"dom0's way out{'' if route.gateway is None else f' to {route.gateway}'} goes by {', '.join(passed)}, "
                f"and every port there would be a guest's: {'; '.join(lost) or 'no uplink is declared that leads out'} "
                "(put `uplinks` in host.yaml right, or the port back on its bridge)"
            )
    return None


def _is_other_end(port: Link, device: str) -> bool:
    """Whether a port is the far end of dom0's own veth: no gateway could be behind it."""
    return port.kind == "veth" and port.lower == device


def lost_uplinks(host: Host, observed: Observed) -> Iterator[tuple[str, str]]:
    """(bridge, what is wrong) for every declared uplink that is no port of its bridge, where the bridge is there."""
    for bridge, uplinks in host.bridges:
        there = ports_of(observed, bridge)
        if bridge in observed.links:
            yield from (
                (bridge, lost_uplink(observed, bridge, each)) for each in uplinks if each not in there
            )


def lost_uplink(observed: Observed, bridge: str, uplink: str) -> str:
    """Where an uplink is that is no port of its bridge."""
    links, members = observed.links, members_of(observed.links)
    ports = (port for port in ports_of(observed, bridge) if port != uplink)
    inside = next((port for port in ports if uplink in below(port, links, members)), None)
    if uplink not in links:
        where = "does not exist"
    elif inside is not None:
        where = f"is inside {inside}, which is the port: declare {inside}"
    elif links[uplink].bridge is not None:
        where = f"is a port of {links[uplink].bridge}"
    else:
        where = "is on no bridge"
    return f"its uplink {uplink} {where}"


def _loaded(observed: Observed) -> Elements:
    return {} if observed.guard is None else observed.guard.elements


def _any_lets_in(elements: Elements, ports: Iterable[str], gateway: Ip | None, *, unknown: bool) -> bool:
    """Whether frames of the gateway may come in by one of these ports; `unknown`: by one that is nobody's they may."""
    verdicts = dict(member.split(" : ") for member in elements.get("ports", ()))
    return any(
        _may_send(elements, port, gateway)
        if (verdict := verdicts.get(f'"{port}"')) == "goto from_guest"
        else verdict == "accept" or (verdict is None and unknown)
        for port in ports
    )


def _may_send(elements: Elements, port: str, gateway: Ip | None) -> bool:
    """Whether a guest's port may send from the gateway's address: a router may be a guest."""
    if f'"{port}"' in elements.get("audited", ()):
        return True
    if gateway is None:
        return False
    granted = (
        member.split(" . ")
        for name in (f"own_v{gateway.version}", f"own_net{gateway.version}")
        for member in elements.get(name, ())
    )
    return any(owner == f'"{port}"' and gateway in ip_network(address) for owner, _, address in granted)
