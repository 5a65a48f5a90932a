"""Rules of others that see guests' frames too: what they drop or weaken is said and refused, and they are never touched. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from reconciler.diff_vif import interface_of
from reconciler.foreign.judge import Judge, Place, Verdict
from reconciler.foreign.path import Called
from reconciler.foreign.weaken import Weakness, rewritten, weaknesses
from reconciler.guard.backend import chosen
from reconciler.guard.binding import Binding, Guard
from reconciler.plan import Change, Note, Phase
from reconciler.scope import Scope, Situation
from reconciler.switches import called
from schemas.address import Address, address_text
from state.desired import DomU, Vif
from state.foreign import parse_rules
from state.netfilter import Rules, without_leaving
from state.observed import Observed

# What a change is blocked for that would make an address dark, and what is said of one that is.
WOULD_BE_DARK, IS_DARK, WEAKENED = "would_be_dark", "dark", "guard_weakened"
_REMEDY = "let it pass there, or take the rule away"
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Sight:
    """What rules of others do on the managed bridges of a host, judged for each guest's frames.

    `programs` are interfaces with a program of their own, which nobody here can judge.
    """

    rules: Rules
    judge: Judge
    uplinks: Mapping[str, frozenset[str]]
    guests: Mapping[str, tuple[str, ...]]
    programs: frozenset[str]

    def place(self, bridge: str, port: str, mac: str) -> Place:
        """Where a vif is plugged in."""
        guests = self.guests.get(bridge, ())
        other = next((name for name in guests if name != port), "")
        # Where no uplink leads away, the other guests are all there is.
        return Place(port, mac, bridge, self.uplinks[bridge] or frozenset(guests) - {port}, other)


def see(situation: Situation) -> Sight | None:
    """What there is to judge; None where no rule of others sees frames on a managed bridge."""
    host, observed = situation.desired.host, situation.observed
    programs = frozenset(link.name for link in observed.links.values() if link.xdp)
    if not observed.foreign.rules and not programs:
        return None
    rules = _without_shaping(parse_rules(observed.foreign), observed)
    judge = Judge(rules, _called(situation))
    offloaded = any(table.offloaded for table in rules.tables)
    if not (programs or rules.unread or offloaded or any(judge.sees(bridge) for bridge, _ in host.bridges)):
        return None
    uplinks = {bridge: frozenset(ports) for bridge, ports in host.bridges}
    guests: dict[str, list[str]] = {}
    for name, port in sorted(observed.ports.items()):
        if name not in uplinks.get(port.bridge, ()):
            guests.setdefault(port.bridge, []).append(name)
    names = {bridge: tuple(ports) for bridge, ports in guests.items()}
    return Sight(rules, judge, uplinks, names, programs)


def _called(situation: Situation) -> Mapping[str, Called]:
    """What br_netfilter hands over, or will, where the guard needs it to."""
    host, observed = situation.desired.host, situation.observed
    if chosen(host.guard_backend, observed.features) in {None, "nftables"}:
        return called(host, observed.files)
    return {bridge: Called(ip=True, ip6=True) for bridge, _ in host.bridges}


def _without_shaping(rules: Rules, observed: Observed) -> Rules:
    """The rules without detours through an ifb, which hands frames back to the port that they came by."""
    ifbs = {link.name for link in observed.links.values() if link.kind == "ifb"}
    return without_leaving(rules, ifbs) if ifbs else rules


def refused_dark(
    changes: Iterable[Change], situation: Situation, found: Scope, sight: Sight | None
) -> list[Change]:
    """The changes, with those blocked whose domU would get an address that rules of others keep dark.

    What it has it keeps, dark or not: a VPS that ran is started again although nobody can reach it just now.
    """
    changes = [*changes]
    for domu in () if sight is None else found.wanted:
        said = [
            (vif, why)
            for vif, port, addresses in _gains(domu, situation)
            if sight is not None and (why := _why_dark(sight, vif, port, addresses)) is not None
        ]
        if not said:
            continue
        why = "; ".join(f"vif {vif.index} would be dark: {text}" for vif, text in said)
        changes = [_refused(change, domu, why) for change in changes]
        listed = {change.address for change in changes if change.uuid == domu.uuid}
        changes += [
            _renumbering(domu, vif, situation.applied[domu.uuid], text)
            for vif, text in said
            if domu.uuid in situation.observed.by_uuid and f"domu.{domu.name}.vif.{vif.index}" not in listed
        ]
    return changes


def _renumbering(domu: DomU, vif: Vif, before: DomU, why: str) -> Change:
    """The line of a vif of which nothing but the guard would have changed."""
    had = next((each.addresses for each in before.vifs if each.index == vif.index), ())
    line = _finding(domu.name, vif.index, WOULD_BE_DARK, f"would be dark: {why}", domu.uuid)
    return replace(
        line, cause="intentional", before={"ips": _texts(had)}, after={"ips": _texts(vif.addresses)}
    )


def _texts(addresses: Iterable[Address]) -> list[str]:
    return [address_text(each) for each in addresses]


def _gains(domu: DomU, situation: Situation) -> Iterator[tuple[Vif, str, tuple[Address, ...]]]:
    """The vifs that get an address or a place that they did not have: vif, port, and those addresses."""
    if domu.state != "running":
        return
    before, domain = situation.applied.get(domu.uuid), situation.observed.by_uuid.get(domu.uuid)
    if before is None and domain is not None:
        return  # found running: whatever it can do now, it loses nothing by being guarded
    had = {} if before is None or (domain is None and before.state != "running") else _by_place(before.vifs)
    for vif in domu.vifs:
        already = had.get((vif.index, vif.name, vif.mac, vif.bridge), ())
        gained = tuple(each for each in vif.addresses if each not in already)
        if gained:
            yield vif, interface_of(vif, 0 if domain is None else domain.domid), gained


def _by_place(vifs: Iterable[Vif]) -> Mapping[tuple[int, str | None, str, str], tuple[Address, ...]]:
    return {(vif.index, vif.name, vif.mac, vif.bridge): vif.addresses for vif in vifs}


def _refused(change: Change, domu: DomU, why: str) -> Change:
    if (
        change.uuid != domu.uuid
        or change.blocked is not None
        or change.phase in {Phase.PREPARE, Phase.REMOVE}
    ):
        return change
    return replace(change, blocked=why, reason=WOULD_BE_DARK)


def _why_dark(sight: Sight, vif: Vif, port: str, addresses: Iterable[Address]) -> str | None:
    if vif.bridge not in sight.uplinks:
        return None
    place = sight.place(vif.bridge, port, vif.mac)
    return _why([(address, sight.judge.address(place, address)) for address in addresses])


def _why(verdicts: Iterable[tuple[Address, Verdict]]) -> str | None:
    """Which rules keep addresses dark, and what of them; None when none of them is."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for address, verdict in verdicts:
        for what, event in verdict.dark:
            kinds, texts = found.setdefault(f"{event.quoted} {_DOES[event.what]}", ([], []))
            for each, into in ((what, kinds), (address_text(address), texts)):
                if each not in into:
                    into.append(each)
    if not found:
        return None
    said = [f"{rule} {' and '.join(kinds)} ({', '.join(texts)})" for rule, (kinds, texts) in found.items()]
    return f"{'; '.join(said)}: {_REMEDY}"


_DOES: Mapping[str, str] = {"drops": "drops", "diverts": "diverts", "leaves": "diverts"}
_MAY: Mapping[str, str] = {
    "drops": "may drop",
    "diverts": "may divert",
    "leaves": "may divert",
    "asks": "may drop",
}


def _finding(name: str, index: int, reason: str, why: str, uuid: str) -> Change:
    return _said(f"domu.{name}.vif.{index}", f"domu.{name}", reason, why, uuid)


def _said(address: str, counted: str, reason: str, why: str, uuid: str | None = None) -> Change:
    """A change that has nothing to do, and is listed for its reason alone."""
    return Change(
        address=address,
        actions=("update",),
        cause="corrective",
        impact="none",
        phase=Phase.CHANGE if uuid is not None else Phase.GUARD,
        steps=(),
        fingerprint=(),
        before={},
        after={},
        counts=(counted,),
        reason=reason,
        blocked=why,
        uuid=uuid,
    )


def diff_foreign(
    situation: Situation, guard: Guard, changes: Iterable[Change], sight: Sight | None
) -> Iterator[Change | Note]:
    """What rules of others do to guests that are there, or that this plan starts."""
    if sight is None:
        return
    yield from (Note(each.address, "foreign_unread", each.why) for each in sight.rules.unread)
    seen = _Seen(sight, situation)
    starts = {change.uuid for change in changes if change.actions == ("create",) and change.due}
    for binding in guard.bindings:
        domain = situation.observed.by_uuid.get(binding.uuid)
        if domain.running if domain is not None else binding.uuid in starts:
            seen.look(binding)
    yield from seen.told()


class _Seen:
    """What was found at the ports of guests so far."""

    def __init__(self, sight: Sight, situation: Situation) -> None:
        self._sight, self._situation = sight, situation
        self._vifs = {
            (domu.uuid, vif.index): (domu.name, vif)
            for domu in (*situation.applied.values(), *situation.desired.domus)
            for vif in domu.vifs
        }
        self._dark: dict[tuple[str, int], Change] = {}
        self._partly: dict[str, set[str]] = {}
        self._unsure: dict[str, set[str]] = {}
        self._places: dict[str, Place] = {}
        self._weak: dict[str, dict[str, set[str]]] = {}
        self._looked_at: set[int] = set()

    def look(self, binding: Binding) -> None:
        """Judge what a binding allows."""
        name, vif = self._vifs.get((binding.uuid, binding.index), ("", None))
        port = self._situation.observed.ports.get(binding.interface)
        bridge = port.bridge if port is not None else "" if vif is None else vif.bridge
        if bridge not in self._sight.uplinks:
            return
        place = self._sight.place(bridge, binding.interface, binding.mac)
        self._places[place.port] = place
        if binding.emulated:
            self._places[f"{place.port}-emu"] = replace(place, port=f"{place.port}-emu")
        dark: list[tuple[Address, Verdict]] = []
        for address in binding.addresses:
            verdict = self._sight.judge.address(place, address)
            dark.append((address, verdict))
            if id(verdict) not in self._looked_at:
                self._looked_at.add(id(verdict))
                self._sort_out(verdict)
            # One verdict may be about many ports, and each of them is named.
            for weakness in rewritten(self._sight.judge, place, verdict.rewritten):
                self._weakened(weakness)
        why = _why(dark)
        if why is not None and name:
            key = binding.uuid, binding.index
            self._dark[key] = _finding(name, binding.index, IS_DARK, f"dark: {why}", binding.uuid)

    def _sort_out(self, verdict: Verdict) -> None:
        for event in verdict.partly:
            if event.flow.doubt:
                into, does = self._unsure, f"{_MAY[event.what]} what guests send or get"
            else:
                into, does = self._partly, f"{_DOES[event.what]} some of what guests send or get"
            into.setdefault(event.table.address, set()).add(f"{event.quoted} {does}")

    def _weakened(self, weakness: Weakness) -> None:
        if weakness.sure:
            self._weak.setdefault(weakness.table.address, {}).setdefault(weakness.how, set()).add(
                weakness.port
            )
        else:
            self._unsure.setdefault(weakness.table.address, set()).add(f"{weakness.how}, perhaps")

    def told(self) -> Iterator[Change | Note]:
        """All of it, as changes that cannot be done and notes, in no order."""
        for weakness in weaknesses(self._sight.judge, self._places.values()):
            self._weakened(weakness)
        yield from self._dark.values()
        for port in self._sight.programs & self._places.keys():
            yield Note(
                f"port.{port}",
                "xdp",
                "a program looks at its frames before every hook: what it does cannot be judged",
            )
        for address, hows in self._weak.items():
            said = "; ".join(f"{how} ({_named(ports)})" for how, ports in sorted(hows.items()))
            yield _said(address, address, WEAKENED, f"weakens the guard: {said}")
        for address, texts in self._partly.items():
            yield Note(address, "foreign_rules", _some(texts))
        for address, texts in self._unsure.items():
            yield Note(address, "foreign_unsure", f"{_some(texts)}: it is not understood")


def _some(texts: set[str]) -> str:
    more = f" (and {len(texts) - 1} more like it)" if len(texts) > 1 else ""
    return f"{min(texts)}{more}"


def _named(ports: set[str]) -> str:
    names = sorted(ports)
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
