"""Which of a binding's frames rules of others drop for certain, and which perhaps. Pure.

An address is dark where nothing of what is promised to it gets through one way: neither TCP nor UDP that it begins, or
that others begin with it, or the answers, or the messages by which neighbours find each other. What drops a part of
that, such as one port, is a provider's own policy and makes nothing dark.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from reconciler.foreign.frames import Frame, answering, frames
from reconciler.foreign.match import Fields, matches
from reconciler.foreign.path import Called, Hooks, Met, Ports, numbers, travel
from reconciler.foreign.walk import Event, Walker, conditions
from schemas.address import Address
from state.netfilter import Condition, Masked, Named, Ranges, Rules, Tuples, Within

_ADDRESSES = frozenset({"saddr4", "daddr4", "saddr6", "daddr6", "arp_saddr", "arp_daddr"})
_MACS = frozenset({"smac", "dmac", "arp_smac", "arp_dmac"})
_NAMES = frozenset({"iif", "oif", "physin", "physout"})
WHAT: Mapping[str, str] = {
    "out": "what it sends",
    "in": "what is sent to it",
    "reply out": "its answers",
    "reply in": "the answers to it",
    "ask out": "what it asks its neighbours",
    "answer out": "what it answers its neighbours",
    "ask in": "what its neighbours ask it",
    "answer in": "what its neighbours answer",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a vif is plugged in: its port, its MAC, its bridge, the ports that lead away, and that of one other guest.

    One stands for all of them: what becomes of frames between guests makes nobody dark.
    """

    port: str
    mac: str
    bridge: str
    away: frozenset[str]
    other: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of an address: what is dropped of it for certain, by which rule, and what rules take a part of."""

    dark: tuple[tuple[str, Event], ...] = ()
    partly: tuple[Event, ...] = ()
    rewritten: tuple[tuple[Frame, Event], ...] = ()


@dataclass(slots=True)
class Judge:
    """Judges the addresses of vifs. Addresses that no rule tells apart are judged once."""

    rules: Rules
    called: Mapping[str, Called]
    hooks: Hooks = field(init=False)
    walker: Walker = field(init=False, default_factory=Walker)
    _told: _Told = field(init=False)
    _ways: dict[tuple[str, str], tuple[Met, ...]] = field(init=False, default_factory=dict)
    _known: dict[tuple[object, ...], Verdict] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.hooks, self._told = Hooks(self.rules), _Told(self.rules)

    def sees(self, bridge: str) -> bool:
        """Whether any chain of others sees frames on a bridge."""
        called = self.called[bridge]
        return any(self.hooks.way(ip=ip, called=called) for ip in ("ip", "ip6", ""))

    def address(self, place: Place, address: Address) -> Verdict:
        """What becomes of the frames from and to an address of a vif."""
        key = (place.bridge, place.away, self._told.port(place.other), *self._told.apart(place, address))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._judged(place, address)
        return found

    def alike(self, place: Place) -> object:
        """Equal for places where all rules treat a frame alike, whatever it is."""
        return place.bridge, self._told.port(place.port)

    def way(self, bridge: str, fields: Fields) -> tuple[Met, ...]:
        """The chains that a class of frames meets on a bridge."""
        ip = "" if "nfproto" not in fields else "ip" if "saddr4" in fields else "ip6"
        found = self._ways.get((bridge, ip))
        if found is None:
            found = self._ways[bridge, ip] = self.hooks.way(ip=ip, called=self.called[bridge])
        return found

    def _judged(self, place: Place, address: Address) -> Verdict:
        dropped: dict[tuple[str, str], Event] = {}
        partly: list[Event] = []
        rewritten: list[tuple[Frame, Event]] = []
        tracked: dict[str, Ranges] = {}
        for frame in frames(place.mac, address):
            ports = ports_of(place, frame)
            if not ports.comes or not ports.leaves:
                continue
            fields = frame.fields
            if frame.kind == "reply":
                fields = answering(fields, tracked["in" if frame.way == "out" else "out"])
            left, events = travel(self.walker, self.way(place.bridge, fields), ports, fields)
            if frame.kind == "tcp":
                tracked[frame.way] = () if left is None else numbers(left, "tracked")
            if left is None:
                dropped[frame.kind, frame.way] = next(each for each in reversed(events) if _takes(each))
            else:
                partly += [each for each in events if _takes(each) or each.what == "asks"]
                if frame.way != "in":
                    rewritten += [(frame, each) for each in events if each.what == "rewrites"]
        dark = _dark(dropped)
        # What is dark is said whole; of the rest, what is taken away of one protocol, or of what goes to other guests.
        return Verdict(dark, () if dark else (*partly, *dropped.values()), tuple(rewritten))


def _takes(event: Event) -> bool:
    return event.what in {"drops", "diverts", "leaves"}


def ports_of(place: Place, frame: Frame) -> Ports:
    """The ports that a class of frames may come in by and leave by."""
    own = frozenset({place.port})
    match frame.way:
        case "out":
            return Ports(place.bridge, own, place.away)
        case "in":
            return Ports(place.bridge, place.away, own)
        case _:
            return Ports(place.bridge, own, frozenset({place.other} - {""}))


def _dark(dropped: Mapping[tuple[str, str], Event]) -> tuple[tuple[str, Event], ...]:
    found = []
    for way in ("out", "in"):
        if ("tcp", way) in dropped and ("udp", way) in dropped:
            found.append((WHAT[way], dropped["tcp", way]))
        elif ("reply", way) in dropped:
            found.append((WHAT[f"reply {way}"], dropped["reply", way]))
        found += [
            (WHAT[f"{kind} {way}"], dropped[kind, way])
            for kind in ("ask", "answer")
            if (kind, way) in dropped
        ]
    return tuple(found)


class _Told:
    """What rules tell vifs and addresses apart by."""

    def __init__(self, rules: Rules) -> None:
        names, addresses, macs = set[str](), set[int](), set[int]()
        self._masks: list[Masked] = []
        for condition in _all_conditions(rules):
            match condition:
                case Named(field, patterns) if field in _NAMES:
                    names.update(patterns)
                case Within(field, ranges) if field in _ADDRESSES:
                    addresses.update(edge for low, high in ranges for edge in (low, high + 1))
                case Within(field, ranges) if field in _MACS:
                    macs.update(edge for low, high in ranges for edge in (low, high + 1))
                case Masked(field) if field in _ADDRESSES | _MACS:
                    self._masks.append(condition)
                case _:
                    continue
        self._exact = frozenset(name for name in names if not name.endswith("*"))
        self._wild = sorted(names - self._exact)
        self._addresses, self._macs = sorted(addresses), sorted(macs)
        for table in rules.tables:
            for chain in table.chains.values():
                if chain.hook is not None:
                    self._exact |= frozenset(chain.hook.devices)

    def port(self, port: str) -> object:
        """Equal for ports that all rules treat alike."""
        return port if port in self._exact else tuple(matches(each, port) for each in self._wild)

    def apart(self, place: Place, address: Address) -> tuple[object, ...]:
        """Equal for vifs and addresses that all rules treat alike."""
        mac = int(place.mac.replace(":", ""), 16)
        low, high = int(address.network_address), int(address.broadcast_address)
        return (
            address.version,
            place.port
            if place.port in self._exact
            else tuple(matches(each, place.port) for each in self._wild),
            bisect_right(self._addresses, low),
            bisect_right(self._addresses, high),
            bisect_right(self._macs, mac),
            tuple((low & each.mask, high & each.mask, mac & each.mask) for each in self._masks),
            low == high,
        )


def _all_conditions(rules: Rules) -> Iterable[Condition]:
    for table in rules.tables:
        for chain in table.chains.values():
            for rule in chain.rules:
                for condition in conditions(rule):
                    if isinstance(condition, Tuples):
                        yield from _parts(condition)
                    else:
                        yield condition


def _parts(condition: Tuples) -> Iterable[Condition]:
    for member in condition.members:
        for name, part in zip(condition.fields, member, strict=True):
            names = tuple(each for each in part if isinstance(each, str))
            numbers = tuple(each for each in part if not isinstance(each, str))
            yield Named(name, names) if names else Within(name, numbers)
