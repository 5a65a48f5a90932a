"""Rules of others that let frames get past the guard, or change what it has verified. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from reconciler.foreign.frames import Frame, wild
from reconciler.foreign.judge import Judge, Place, ports_of
from reconciler.foreign.match import Domain, common
from reconciler.foreign.path import Met, Ports, comes_first, travel
from reconciler.foreign.walk import Event
from state.netfilter import Table

_PAST: Mapping[str, str] = {
    "leaves": "takes frames past the guard",
    "copies": "copies frames past the guard",
    "rewrites": "changes frames before the guard sees them",
    "asks": "may change frames before the guard sees them, which cannot be judged",
}
_AFTER = "changes the source of frames behind the guard"
_OFFLOADED = "what its flowtable holds passes by the guard"


@dataclass(frozen=True, slots=True)
class Weakness:
    """How a table weakens the guard at a port. `sure` is False where it only may, for all that can be told."""

    table: Table
    how: str
    port: str
    sure: bool


def weaknesses(judge: Judge, places: Iterable[Place]) -> Iterator[Weakness]:
    """What of all rules weakens the guard at these ports, whatever addresses they have."""
    places = [*places]
    for table in judge.rules.tables:
        offloaded = frozenset(table.offloaded)
        for place in places:
            if place.port in offloaded:
                yield Weakness(table, f"{table.where}: {_OFFLOADED}", place.port, sure=True)
    first = [*judge.hooks.before_the_guard()]
    alike: dict[object, list[Event]] = {}
    for place in places if first else ():
        key = judge.alike(place)
        if key not in alike:
            alike[key] = [*_before(judge, first, place)]
        for event in alike[key]:
            how = f"{event.quoted} {_PAST[event.what]}"
            yield Weakness(event.table, how, place.port, sure=not event.flow.doubt)


def _before(judge: Judge, first: Iterable[Met], place: Place) -> Iterator[Event]:
    """What is done to anything that a guest may send before the guard sees it."""
    ports = Ports(place.bridge, frozenset({place.port}), place.away)
    for fields in wild():
        yield from (event for event in travel(judge.walker, first, ports, fields)[1] if event.what in _PAST)


def rewritten(judge: Judge, place: Place, found: Iterable[tuple[Frame, Event]]) -> Iterator[Weakness]:
    """Of frames that a binding promises, those whose source is changed behind the guard: sure where one could be named."""
    for frame, event in found:
        if comes_first(event.hook):
            continue  # said by weaknesses: it does that to everything
        sure = any(_happens(judge, place, frame, event, fields) for fields in _examples(frame, event))
        yield Weakness(event.table, f"{event.quoted} {_AFTER}", place.port, sure=sure)


def _happens(judge: Judge, place: Place, frame: Frame, event: Event, fields: Mapping[str, Domain]) -> bool:
    """Whether this very frame meets the rule."""
    ports = ports_of(place, frame)
    way = judge.way(place.bridge, fields)
    for leaves in sorted(ports.leaves):
        events = travel(judge.walker, way, replace(ports, leaves=frozenset({leaves})), fields)[1]
        if any(each.rule is event.rule and not each.flow.doubt for each in events):
            return True
    return False


def _examples(frame: Frame, event: Event) -> Iterator[Mapping[str, Domain]]:
    """Single frames of a class that may have met a rule: from what it met, and from what was done to them before."""
    met = event.flow.fields
    for narrower in (met, *reversed(event.flow.hints)):
        fields: dict[str, Domain] = {}
        for name, domain in frame.fields.items():
            values: Domain = domain
            if name not in {"mark", "ctmark", "tracked", "pkttype"}:
                values = _both(_both(domain, met.get(name)), narrower.get(name))
            fields[name] = _first(values)
        yield fields


def _both(domain: Domain, other: Domain | None) -> Domain:
    if other is None or isinstance(domain, frozenset) or isinstance(other, frozenset):
        return domain
    return common(domain, other) or domain


def _first(domain: Domain) -> Domain:
    if isinstance(domain, frozenset):
        return frozenset({min(domain)})
    return ((domain[0][0], domain[0][0]),)
