"""The hooks that a bridged frame meets, in their order, and which of its fields each of them sees. Pure.

| step | hooks |
|---|---|
| 1 | the port's own ingress: traffic control, then chains of the families netdev and inet |
| 2 | bridge prerouting; at 0 br_netfilter hands IP to the prerouting of ip, ip6 and inet, if it is told to |
| 3 | bridge forward; at -1 br_netfilter does so for forward |
| 4 | bridge postrouting; behind all else br_netfilter does so for postrouting |
| 5 | the egress of the port that it leaves by |

iptables and nft see the bridge as the interface in both directions, and the ports in physdev alone. Source: Linux
net/bridge/br_netfilter_hooks.c, and measured: docs/guard.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby

from reconciler.foreign.match import Domain, Names, common, one
from reconciler.foreign.walk import ANY_MARK, Event, Flow, Walker, joined
from state.netfilter import STATES, Chain, CopyMark, Hook, Ranges, Rules, SetMark, Table, Untrack, merged

# Where the guard's own chain stands; what is not behind it comes before it.
GUARD_PRIORITY = -310
# linux/netfilter_bridge.h, linux/netfilter_ipv4.h.
_HANDS_OVER: Mapping[str, int] = {"prerouting": 0, "forward": -1, "postrouting": 2**31}
_CONNTRACK = -200
_NO_CONNECTION: Ranges = ((STATES["invalid"], STATES["invalid"]), (STATES["untracked"], STATES["untracked"]))
_NO_PORT: Names = frozenset({""})


@dataclass(frozen=True, slots=True)
class Called:
    """What br_netfilter hands over on one bridge: IPv4 to ip and inet, IPv6 to ip6 and inet."""

    ip: bool
    ip6: bool


@dataclass(frozen=True, slots=True)
class Ports:
    """The bridge, and the ports that a class of frames may come in by and leave by."""

    bridge: str
    comes: Names
    leaves: Names


@dataclass(frozen=True, slots=True)
class Met:
    """A base chain that is met, and the moment.

    `tied`: of chains with one priority nobody can tell which comes first, and one of them leaves marks for the others.
    """

    order: tuple[int, int, int]
    table: Table
    chain: Chain
    hook: Hook
    tied: bool = False


_STEPS = ("ingress", "prerouting", "forward", "postrouting", "egress")


class Hooks:
    """All base chains of others, by where they hang."""

    def __init__(self, rules: Rules) -> None:
        self._by_place: dict[tuple[str, str], list[Met]] = {}
        for table in rules.tables:
            for chain in table.chains.values():
                hook = chain.hook
                if hook is not None and hook.place in _STEPS:
                    met = Met(_order(hook), table, chain, hook)
                    self._by_place.setdefault((_seen_as(hook), hook.place), []).append(met)
        for each in self._by_place.values():
            each.sort(key=lambda met: met.order)

    def way(self, *, ip: str, called: Called) -> tuple[Met, ...]:
        """The chains that frames of a kind meet: `ip` is "ip", "ip6", or "" for ARP and all else."""
        families = ["netdev", "bridge"]
        if (ip == "ip" and called.ip) or (ip == "ip6" and called.ip6):
            families += [ip, "inet"]
        found = (
            met for step in _STEPS for family in families for met in self._by_place.get((family, step), ())
        )
        ordered: list[Met] = []
        for _, each in groupby(sorted(found, key=lambda met: met.order), key=lambda met: met.order):
            together = [*each]
            tied = len(together) > 1 and any(_marks(met.table) for met in together)
            ordered += [replace(met, tied=True) for met in together] if tied else together
        return tuple(ordered)

    def before_the_guard(self) -> Iterator[Met]:
        """The chains that see a guest's frames before the guard does, forged ones too."""
        for family, place in (("netdev", "ingress"), ("bridge", "prerouting")):
            yield from (met for met in self._by_place.get((family, place), ()) if comes_first(met.hook))


def comes_first(hook: Hook) -> bool:
    """Whether a chain there sees a guest's frames before the guard does."""
    early = hook.family == "bridge" and hook.place == "prerouting" and hook.priority <= GUARD_PRIORITY
    return hook.place == "ingress" or early


def _marks(table: Table) -> bool:
    return any(
        isinstance(step, SetMark | CopyMark | Untrack)
        for chain in table.chains.values()
        for rule in chain.rules
        for step in rule.steps
    )


def _seen_as(hook: Hook) -> str:
    """The family whose frames a hook sees; an inet chain at ingress is one of a device."""
    return "netdev" if hook.place in {"ingress", "egress"} else hook.family


def _order(hook: Hook) -> tuple[int, int, int]:
    step = _STEPS.index(hook.place)
    if hook.family in {"bridge", "netdev"} or step in {0, 4}:
        return step, hook.priority, 0
    return step, _HANDS_OVER[hook.place], hook.priority


def travel(
    walker: Walker, way: Iterable[Met], ports: Ports, fields: Mapping[str, Domain]
) -> tuple[Flow | None, list[Event]]:
    """What arrives of a class of frames; None when nothing does. With all that was done to it on the way."""
    events: list[Event] = []
    flow: Flow | None = Flow(dict(fields))
    for met in way:
        if flow is None:
            break
        flow = _through(walker, met, ports, flow, events)
    return flow, events


def _through(walker: Walker, met: Met, ports: Ports, flow: Flow, events: list[Event]) -> Flow | None:
    aside: Flow | None = None
    if met.hook.kind == "nat" and not common(numbers(flow, "tracked"), one(STATES["new"])):
        return flow  # only the first frame of a connection is asked for
    if met.hook.place in {"ingress", "egress"}:
        devices = frozenset(met.hook.devices)
        own = ports.comes if met.hook.place == "ingress" else ports.leaves
        if not own & devices:
            return flow
        if own - devices:
            aside = flow  # those that come or leave by another port
        ports = replace(ports, comes=own & devices, leaves=own & devices)
    seen = _seen(met.hook, ports, flow)
    if met.tied:
        seen |= {name: ANY_MARK for name in ("mark", "ctmark") if name in seen}
    left = walker.base(met.table, met.chain, met.hook, replace(flow, fields=seen), events)
    if left is None:
        return aside
    fields = {
        name: flow.fields[name] if name in _HOOKS_OWN else left.fields.get(name, flow.fields[name])
        for name in flow.fields
    }
    untracked = common(numbers(left, "ctstate"), one(STATES["untracked"]))
    if untracked:
        still = numbers(flow, "tracked") if numbers(left, "ctstate") != untracked else ()
        fields["tracked"] = merged((*untracked, *still))
    return joined(replace(left, fields=fields), aside)


def numbers(flow: Flow, name: str) -> Ranges:
    """The numbers that a field of a flow may have."""
    domain = flow.fields.get(name, ())
    return () if isinstance(domain, frozenset) else domain


# What a frame has in these depends on the hook that looks at it.
_HOOKS_OWN = frozenset({"tracked", "pkttype"})


def _seen(hook: Hook, ports: Ports, flow: Flow) -> dict[str, Domain]:
    """The fields as this hook sees them."""
    fields = _connected(hook, flow)
    bridge: Names = frozenset({ports.bridge})
    place = hook.place
    inner = hook.family not in {"bridge", "netdev"} and place not in {"ingress", "egress"}
    if inner:
        if fields.get("pkttype") == frozenset({"other"}):
            fields["pkttype"] = frozenset({"host"})  # br_netfilter calls it dom0's own meanwhile
        fields |= {"physin": ports.comes, "physout": _NO_PORT if place == "prerouting" else ports.leaves}
    elif hook.family == "bridge":
        fields |= {"ibr": bridge} if place != "postrouting" else {}
        fields |= {"obr": bridge} if place != "prerouting" else {}
    if place in {"ingress", "prerouting", "forward"}:
        fields["iif"] = bridge if inner else ports.comes
    if place in {"egress", "forward", "postrouting"}:
        fields["oif"] = bridge if inner else ports.leaves
    return fields


def _connected(hook: Hook, flow: Flow) -> dict[str, Domain]:
    """The fields, with what conntrack knows of a frame when it comes to this hook."""
    fields = dict(flow.fields)
    tracked = numbers(flow, "tracked")
    if not tracked:
        return fields
    fields["ctstate"] = tracked if _is_tracked(hook) else one(STATES["invalid"])
    alone = common(tracked, _NO_CONNECTION)
    if not _is_tracked(hook) or alone == tracked:
        for name in ("ctmark", "ctdir", "ctstatus"):  # without a connection there is none of these
            fields.pop(name, None)
    elif alone:
        fields |= {"ctmark": ANY_MARK, "ctdir": ((0, 1),)}
    return fields


def _is_tracked(hook: Hook) -> bool:
    """Whether conntrack has looked at a frame when it comes here."""
    if hook.place == "ingress":
        return False
    return hook.place != "prerouting" or hook.priority > _CONNTRACK
