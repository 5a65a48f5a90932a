"""The guard: what it should hold for the vifs there will be, against what the kernel has. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from reconciler.diff_levers import lever_notes
from reconciler.diff_vif import emulates, interface_of
from reconciler.granted import granted
from reconciler.guard import nftables
from reconciler.guard.backend import Calls, chosen
from reconciler.guard.backend import move as move_to
from reconciler.guard.binding import Binding, Bridge, Guard, LogLimit, Step
from reconciler.guard_limits import refusal, uplink_notes
from reconciler.plan import Change, Facts, Note, Phase
from reconciler.scope import Scope, Situation
from reconciler.step import Run
from reconciler.switches import set_calls, uncalled
from schemas.address import address_text
from schemas.scalars import is_interface_name
from state.desired import DomU, Host, Vif
from state.facts import fact, own_interfaces, ports_of, vif_ports
from state.nft import LoadedTable, Loader
from state.observed import Observed, interfaces

# 10,000 vifs load within a second or two. A change must have ended long before its watchdog takes it back.
LOAD_TIMEOUT_S = 12.0


@dataclass(frozen=True, slots=True)
class Held:
    """Vifs whose change waits for a human: by (uuid, index), with the specification they still live by."""

    vifs: Mapping[tuple[str, int], Vif]


def make_guard(situation: Situation, domus: Iterable[DomU], held: Held) -> Guard:
    """The guard for these domUs, whose vifs are as wanted or, where that is withheld, as they were."""
    observed, host = situation.observed, situation.desired.host
    bindings: dict[str, Binding] = {}
    taken = interfaces(observed.domains)
    owners = {domain.domid: domain.uuid for domain in observed.domains}
    for domu in domus:
        for binding in _bindings(domu, observed, held):
            other = taken.get(binding.interface)
            # A grant by name never reaches another domU that has the name just now.
            if other is None or owners.get(other.domid) == domu.uuid:
                bindings[binding.interface] = binding
    bindings.update({binding.interface: binding for binding in [*_unspecified(situation, bindings)]})
    # A port whose name no rule can hold is one that nobody specified, and one of dom0's own is no guest's.
    own = own_interfaces(observed) - _bound(observed.guard)
    bindings = {
        name: binding
        for name, binding in bindings.items()
        if is_interface_name(name) and own.isdisjoint({name, f"{name}-emu"} if binding.emulated else {name})
    }
    bridges = tuple(
        replace(bridge, mac=observed.links[bridge.name].mac if bridge.name in observed.links else "")
        for bridge in guarded_bridges(host)
    )
    closed: tuple[str, ...] = ()
    if host.unknown_vifs == "drop":
        unknown = unknown_vifs(host, observed, bindings.values())
        closed = tuple(port for port in unknown if port in vif_ports(observed) and is_interface_name(port))
    return Guard(
        bridges=bridges,
        bindings=tuple(sorted(bindings.values())),
        unknown_vifs=host.unknown_vifs,
        log=LogLimit(prefix=host.log_prefix, level=host.log_level, count=host.log_count, per=host.log_per),
        closed=closed,
        alone={link.name for link in observed.links.values() if link.kind == "bridge"}
        <= {bridge.name for bridge in bridges},
    )


def _bound(loaded: LoadedTable | None) -> frozenset[str]:
    """The ports that are bound already. Of a guest that reboots one may be there for a moment longer than its domain."""
    members = frozenset() if loaded is None else loaded.elements.get("ports", frozenset())
    return frozenset(member.split('"')[1] for member in members if member.endswith(" : goto from_guest"))


def _unspecified(situation: Situation, bindings: Mapping[str, Binding]) -> Iterator[Binding]:
    """What living vifs of ours have been given, of those that no specification speaks of."""
    for domain in situation.observed.domains:
        if domain.uuid not in situation.ledger or domain.dying:
            continue
        emulated = domain.saved is not None and domain.saved.type == "hvm"
        for there in domain.vifs:
            known = bindings.get(there.interface)
            # What is replugged in this pass is gone from this reading; a vif that stays keeps its MAC, whatever git says.
            if known is not None and (known.uuid != domain.uuid or known.mac == there.mac):
                continue
            vif = granted(situation, domain, there)
            if vif is not None:
                yield Binding(
                    there.interface, vif.mac, vif.addresses, domain.uuid, vif.index, vif.guard, emulated
                )


def guarded_bridges(host: Host) -> tuple[Bridge, ...]:
    """The managed bridges as the guard names them."""
    return tuple(Bridge(name, uplinks) for name, uplinks in host.bridges)


def specified_guard(host: Host, domus: Iterable[DomU]) -> Guard:
    """The guard from git alone, halted domUs included, without any live state."""
    bindings = [
        _binding(domu, vif, vif.name, vif.mac)
        for domu in domus
        if domu.state != "absent"
        for vif in domu.vifs
        if vif.name is not None
    ]
    return Guard(
        bridges=guarded_bridges(host),
        bindings=tuple(sorted(bindings)),
        unknown_vifs=host.unknown_vifs,
        log=LogLimit(prefix=host.log_prefix, level=host.log_level, count=host.log_count, per=host.log_per),
        alone=True,
    )


def _bindings(domu: DomU, observed: Observed, held: Held) -> Iterator[Binding]:
    domain = observed.by_uuid.get(domu.uuid)
    live = {} if domain is None or domain.dying else {vif.index: vif for vif in domain.vifs}
    wanted = {vif.index: vif for vif in domu.vifs}
    for index in sorted(wanted.keys() | {index for uuid, index in held.vifs if uuid == domu.uuid}):
        vif = held.vifs.get((domu.uuid, index)) or wanted[index]
        names = {vif.name}
        if index in live:
            # The port keeps its present name until it is replugged, and nobody else can have that name meanwhile.
            names.add(live[index].interface)
        elif vif.name is None and domain is not None:
            names.add(interface_of(vif, domain.domid))
        for name in sorted(name for name in names if name is not None):
            yield replace(_binding(domu, vif, name, vif.mac), emulated=emulates(domu, domain))


def _binding(domu: DomU, vif: Vif, interface: str, mac: str) -> Binding:
    return Binding(
        interface=interface,
        mac=mac,
        addresses=vif.addresses,
        uuid=domu.uuid,
        index=vif.index,
        mode=vif.guard,
        emulated=domu.type == "hvm",
    )


def unknown_vifs(host: Host, observed: Observed, bindings: Iterable[Binding]) -> tuple[str, ...]:
    """The ports of managed bridges that are neither uplinks nor bound, sorted.

    A domain that is being torn down sends nothing any more, and its ports are about to go.
    """
    known = {vif.interface for each in observed.domains if each.dying for vif in each.vifs}
    known |= {f"{name}-emu" for name in known}
    for binding in bindings:
        # What is called like a twin of a vif that has none is somebody else's.
        known |= {binding.interface, f"{binding.interface}-emu"} if binding.emulated else {binding.interface}
    found = []
    for bridge, uplinks in host.bridges:
        found += [port for port in ports_of(observed, bridge) if port not in known and port not in uplinks]
    return tuple(sorted(found))


def diff_guard(situation: Situation, scope: Scope, held: Held) -> Iterator[Change | Note]:
    """The one change that brings the packet filter where it should be, and ports that nobody knows."""
    host, observed = situation.desired.host, situation.observed
    if not host.bridges:
        return
    by = chosen(host.guard_backend, observed.features)
    if by is None:
        yield _blocked_guard(
            f"this kernel takes no rules of it (guard.backend: {host.guard_backend}; `domgit doctor` says what it lacks)"
        )
        return
    guard = make_guard(situation, (*scope.wanted, *scope.retained), held)
    unknown = unknown_vifs(host, observed, guard.bindings)
    strangers = [port for port in unknown if port not in vif_ports(observed)]
    for port in unknown:
        if port not in strangers:
            yield Note(
                f"port.{port}",
                "unknown_vif",
                f"belongs to no specification: {_fate(situation, port)} (unknownVifs: {host.unknown_vifs})",
            )
    for bridge, _ in host.bridges:
        if bridge not in observed.links:
            yield Note(f"bridge.{bridge}", "no_bridge", "does not exist on this host")
    yield from uplink_notes(situation)
    yield from lever_notes(situation, guard, _names(scope))
    yield from _diff(situation, by, guard, strangers, _names(scope))


def _fate(situation: Situation, port: str) -> str:
    """What becomes of the frames of a vif that nobody knows."""
    host, observed = situation.desired.host, situation.observed
    if host.unknown_vifs != "drop":
        return "left alone"
    if not (observed.features.ibrname or is_interface_name(port)):
        return "not dropped, because no rule can hold its name: rename it"
    by_bridge = observed.features.ibrname and observed.guard is not None
    return "dropped" if by_bridge or port in _closed(observed.guard) else "passes until this is applied"


def _names(scope: Scope) -> Mapping[str, str]:
    return {domu.uuid: domu.name for domu in (*scope.wanted, *scope.retained)}


def _diff(
    situation: Situation,
    by: Loader,
    guard: Guard,
    strangers: list[str],
    names: Mapping[str, str],
) -> Iterator[Change | Note]:
    observed = situation.observed
    loaded = observed.guard
    calls = Calls() if by == "nftables" else set_calls(situation.desired.host, observed.files)
    move = move_to(by, _all_loaded(observed), guard, observed.features, calls)
    if not move.steps:
        for port in strangers:
            what = "is no vif and no declared uplink: declare it in host.yaml, or take it off the bridge"
            yield Note(f"port.{port}", "undeclared_port", what)
        return
    touched = _touched(loaded, guard)
    was, becomes = _settings(situation, by, guard)
    closes = set(guard.closed) - _closed(loaded)
    first = loaded is None
    unchanged = situation.last is not None and situation.last.host == situation.desired.host
    corrective = unchanged and not _follows_git(situation, touched)
    yield Change(
        address="guard",
        actions=("create",) if first else ("update",),
        cause="corrective" if corrective else "intentional",
        impact="link" if closes else "none",
        phase=Phase.GUARD,
        steps=_runs(move.steps),
        fingerprint=(("guard", fact(observed, "guard")), *_let_go(situation, guard, touched)),
        before={**_shown(loaded, touched), **was},
        after={**_wanted(guard, touched), **becomes},
        counts=_counted(guard, touched, names, first=first or move.what == "rules"),
        inverse=_runs(move.undo),
        layer=("guard",),
        reason="vif_rules_missing" if corrective else None,
        blocked=refusal(situation, guard, strangers, closes),
    )


def _all_loaded(observed: Observed) -> tuple[LoadedTable, ...]:
    return tuple(each for each in (observed.guard, observed.beside) if each is not None)


def _runs(steps: Iterable[Step]) -> tuple[Run, ...]:
    return tuple(
        Run(step.argv, stdin=step.stdin, timeout_s=LOAD_TIMEOUT_S, optional=step.optional) for step in steps
    )


def _blocked_guard(why: str) -> Change:
    return Change(
        address="guard",
        actions=("create",),
        cause="intentional",
        impact="none",
        phase=Phase.GUARD,
        steps=(),
        fingerprint=(),
        before={},
        after={},
        counts=("guard",),
        layer=("guard",),
        blocked=why,
    )


def _settings(situation: Situation, by: Loader, guard: Guard) -> tuple[dict[str, object], dict[str, object]]:
    """What changes beside addresses: how vifs are guarded, and what becomes of unknown ones."""
    loaded, last = situation.observed.guard, situation.last
    was: dict[str, object] = {}
    becomes: dict[str, object] = {}
    if last is not None and last.host.unknown_vifs != guard.unknown_vifs:
        was["unknownVifs"], becomes["unknownVifs"] = last.host.unknown_vifs, guard.unknown_vifs
    if loaded is not None and loaded.by != by:
        was["backend"], becomes["backend"] = loaded.by, by
    if by != "nftables":
        for what in uncalled(situation.desired.host, situation.observed.files):
            was[what], becomes[what] = "off", "on"
    known = {} if loaded is None else {member.split('"')[1] for member in loaded.elements.get("own_mac", ())}
    audited = (
        set() if loaded is None else {member.strip('"') for member in loaded.elements.get("audited", ())}
    )
    for binding in guard.bindings:
        port, mode = binding.interface, "audit" if binding.interface in audited else "enforce"
        if port in known and mode != binding.mode:
            was[f"{port} mode"], becomes[f"{port} mode"] = mode, binding.mode
    return was, becomes


def _closed(loaded: LoadedTable | None) -> set[str]:
    """The ports that are closed already."""
    members = frozenset() if loaded is None else loaded.elements.get("ports", frozenset())
    return {member.split('"')[1] for member in members if member.endswith("goto refused_unknown")}


def _touched(loaded: LoadedTable | None, guard: Guard) -> frozenset[str]:
    """The ports, and bridges, with an element that comes or goes."""
    wanted = nftables.elements(guard)
    ports: set[str] = set()
    for name, members in wanted.items():
        there = frozenset() if loaded is None else loaded.elements.get(name, frozenset())
        ports.update(member.split('"')[1] for member in members ^ there)
    return frozenset(ports)


def _let_go(situation: Situation, guard: Guard, ports: Collection[str]) -> Facts:
    """Who has the ports that lose their binding: a guest that came back meanwhile would be there without one."""
    bound = {binding.interface for binding in guard.bindings}
    owners = {
        domu.uuid
        for domu in situation.applied.values()
        for vif in domu.vifs
        if vif.name in ports and vif.name not in bound
    }
    keys = [f"domain:{uuid}" for uuid in sorted(owners)]
    return tuple((key, fact(situation.observed, key)) for key in keys)


def _shown(loaded: LoadedTable | None, ports: Collection[str]) -> dict[str, object]:
    if loaded is None:
        return {}
    shown: dict[str, list[str]] = {}
    for name in ("own_v4", "own_net4", "own_v6", "own_net6"):
        for member in loaded.elements.get(name, frozenset()):
            port, _, address = (part.strip(' "') for part in member.split(" . "))
            if port in ports and not address.startswith("fe80:"):
                shown.setdefault(port, []).append(address)
    return {port: sorted(addresses) for port, addresses in sorted(shown.items())}


def _wanted(guard: Guard, ports: Collection[str]) -> dict[str, object]:
    wanted: dict[str, object] = {
        binding.interface: sorted(address_text(address) for address in binding.addresses)
        for binding in guard.bindings
        if binding.interface in ports
    }
    if guard.closed:
        wanted["closes"] = list(guard.closed)
    return wanted


def _counted(
    guard: Guard, ports: Collection[str], names: Mapping[str, str], *, first: bool
) -> tuple[str, ...]:
    if first:
        return ("guard",)
    owners = {binding.interface: names.get(binding.uuid) for binding in guard.bindings}
    found = {
        f"domu.{owner}" for port in ports if (owner := owners.get(port.removesuffix("-emu"))) is not None
    }
    # What is left over belongs to nobody any more: a removed domU counts itself, the rest is the guard's.
    return tuple(sorted(found)) or ("guard",)


def _follows_git(situation: Situation, ports: Collection[str]) -> bool:
    """Whether git has changed what these ports may do since the last apply."""
    applied, touched = situation.applied, {port.removesuffix("-emu") for port in ports}
    moved = [domu for domu in applied.values() if domu.uuid in situation.desired.elsewhere]
    if any(vif.name is None or vif.name in touched for domu in moved for vif in domu.vifs):
        return True
    for domu in situation.desired.domus:
        before = applied.get(domu.uuid)
        if before is not None and _what_binds(before) == _what_binds(domu):
            continue
        mine = {vif.name for vif in (*domu.vifs, *(before.vifs if before is not None else ()))}
        if mine & touched or None in mine:
            return True
    return False


def _what_binds(domu: DomU) -> tuple[object, ...]:
    """All of a specification that the guard depends on."""
    return domu.vifs, domu.state, domu.type
