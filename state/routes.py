"""Where dom0's own packets leave it: default routes, and the way to one address. argv and parser side by side."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from state.listing import Entry, parse_entries
from state.run import ReadError, Runner, read

# Of all tables: which of them a packet takes is for the rules to say (ip-rule(8)), and one that none of them leads to
# names a gateway that need not answer.
DEFAULTS = (
    ("ip", "-4", "-j", "route", "show", "default", "table", "all"),
    ("ip", "-6", "-j", "route", "show", "default", "table", "all"),
)
_TO = ("ip", "-j", "route", "get")


@dataclass(frozen=True, slots=True)
class Route:
    """One next hop of a default route: `gateway` None where everything is thought to be on the link itself."""

    device: str
    gateway: IPv4Address | IPv6Address | None


def parse_defaults(text: str) -> tuple[Route, ...]:
    """The next hops in `ip -j route show default table all`, in ip's order; routes that lead nowhere are none.

    Raises:
        ReadError: not the JSON that iproute2 writes.

    Source: ip-route(8), iproute2 6.1.
    """
    # A route without a device is of a type that refuses (unreachable, prohibit, blackhole) or has several hops.
    return tuple(
        _hop(each)
        for route in parse_entries("ip route", text)
        for each in (route.entries("nexthops") if route.has("nexthops") else (route,))
        if each.has("dev") and route.text("type", "unicast") == "unicast"
    )


def parse_way(text: str) -> str:
    """The device in `ip -j route get ADDRESS`.

    Raises:
        ReadError: not the JSON that iproute2 writes.

    Source: ip-route(8), iproute2 6.1.
    """
    found = parse_entries("ip route get", text)
    if not found:
        raise ReadError("ip route get: no route")
    return found[0].text("dev")


def _hop(entry: Entry) -> Route:
    # An IPv4 route may have a gateway of IPv6 (RFC 5549), which has its own key.
    gateway = entry.entry("via").text("host") if entry.has("via") else entry.text("gateway", "")
    try:
        return Route(entry.text("dev"), ip_address(gateway) if gateway else None)
    except ValueError as exc:
        raise ReadError(f"ip route: gateway is {gateway!r:.80}, which is no address") from exc


def read_defaults(runner: Runner) -> tuple[Route, ...]:
    """The next hops of dom0's default routes, each once, sorted.

    Raises:
        ReadError: ip failed or printed something else.
    """
    found = {route for argv in DEFAULTS for route in parse_defaults(read(runner, argv))}
    return tuple(sorted(found, key=str))


def read_way(runner: Runner, address: IPv4Address | IPv6Address) -> str | None:
    """The device by which packets to an address leave; None where there is no way to it.

    Raises:
        ReadError: ip does not answer, or printed something else.
    """
    completed = runner.run((*_TO, str(address)))
    return parse_way(completed.stdout) if completed.rc == 0 else None
