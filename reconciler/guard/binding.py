"""What the guard enforces: bindings of vifs, and the bridges around them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Literal

Address = (
    IPv4Network | IPv6Network
)  # one address is a /32 or a /128; wider ones are prefixes without host bits
Mode = Literal["audit", "enforce"]
What = Literal["table", "rules", "elements"]  # how much of a loaded guard is replaced


@dataclass(frozen=True, slots=True, order=True)
class Binding:
    """(interface, MAC, addresses) of one vif of one domU: what it may send, and nothing else.

    `addresses` are the declared ones, sorted; the EUI-64 link-local address is always bound too and
    not listed here. An HVM guest has a second port `<interface>-emu`: `emulated` binds it as well.
    """

    interface: str
    mac: str
    addresses: tuple[Address, ...]
    uuid: str
    index: int
    mode: Mode = "enforce"
    emulated: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Bridge:
    """A managed bridge and its declared uplinks: every other port is a guest's or unknown.

    `mac` is the bridge's own, where that is known: who sends to it sends to dom0, or has dom0 route.
    """

    name: str
    uplinks: tuple[str, ...]
    mac: str = ""


@dataclass(frozen=True, slots=True)
class LogLimit:
    """How drops are logged: prefix, kernel level by name (`debug`), and at most `count` lines per `per` in all."""

    prefix: str
    level: str
    count: int
    per: Literal["second", "minute", "hour", "day"]


@dataclass(frozen=True, slots=True)
class Guard:
    """All that the packet filter of one host must hold, each tuple sorted.

    `closed` are ports of managed bridges that belong to no binding and no uplink, as they were seen.
    `alone`: no other bridge is on the host, so that a port's name tells whose it is.
    """

    bridges: tuple[Bridge, ...]
    bindings: tuple[Binding, ...]
    unknown_vifs: Literal["report", "drop"]
    log: LogLimit
    closed: tuple[str, ...] = ()
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One command that loads a part of the guard. `optional`: the kernel may lack what it needs."""

    argv: tuple[str, ...]
    stdin: str = ""
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """How a kernel gets from the guard that is loaded to another one: commands in order, and those that take them back.

    `what` of it they replace; nothing is left to do where there are no `steps`. No `undo`: only what the kernel itself
    lists, right before the move, can be put back.
    """

    steps: tuple[Step, ...]
    undo: tuple[Step, ...]
    what: What


def outermost(addresses: Iterable[Address]) -> tuple[Address, ...]:
    """The addresses without prefixes that lie inside others: an interval set refuses what overlaps, and its whole script."""
    networks = tuple(addresses)
    return tuple(
        each
        for each in networks
        if each.prefixlen == each.max_prefixlen or not any(_holds(other, each) for other in networks)
    )


def _holds(outer: Address, inner: Address) -> bool:
    return outer.prefixlen < inner.prefixlen and outer.overlaps(inner)
