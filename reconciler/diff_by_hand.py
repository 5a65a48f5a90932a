"""What replaces the lines by which somebody binds vifs by hand, and what would be lost with them. Notes alone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network, summarize_address_range

from reconciler.diff_foreign import Sight
from reconciler.foreign.by_hand import Kind, Line, lines, log_of
from reconciler.foreign.match import without
from reconciler.guard.backend import chosen
from reconciler.guard.binding import Binding, Guard
from reconciler.plan import Note
from reconciler.scope import Situation
from reconciler.switches import HOST_SWITCH, called
from schemas.address import Address, address_text
from state.desired import Host
from state.foreign import parse_rules
from state.netfilter import Ranges, merged

BY_HAND, UNBOUND = "by_hand", "by_hand_unbound"
_MOST_NAMED = 3
# Each is an address of its own to the judge, which a plan has no time for where lines were made for a thousand vifs.
_MOST_TRIED = 3
# Other addresses of a vif's neighbourhood that are tried, for one that no line of it names.
_NEAR = range(1, 256)
_REPLACED: Mapping[Kind, str] = {
    "source": "{bound}, for ARP and towards dom0 as well",
    "any_source": "{bound}, where this line lets every source through",
    "destination": "nothing is needed in its place: what is sent to a guest is not judged, and this line lets every source through to it",
    "any_destination": "nothing is needed in its place: what is sent to a guest is not judged, and this line lets every source through to it",
    "dhcp": "every binding allows DHCP, with the vif's own hardware address inside, and from 0.0.0.0 as broadcast alone",
    "answers": "nothing is needed in its place: the guard keeps no state, and what claims to be an answer is judged like all else",
    "untracked": "nothing is needed in its place: what only passes a bridge takes no entry of the guard's",
}


@dataclass(frozen=True, slots=True)
class _Vif:
    """What git gives a port: whose it is, and its binding."""

    name: str
    binding: Binding


def may_be_by_hand(situation: Situation) -> bool:
    """Whether rules of others name bridge ports at all: where they do not, nothing needs to be read for this."""
    return any("--physdev-" in text for text in situation.observed.foreign.rules.values())


def by_hand_notes(situation: Situation, guard: Guard, sight: Sight | None) -> Iterator[Note]:
    """What to know of lines made by hand: of a line that all vifs have, once; of one whose address nobody has in git, each."""
    host, observed = situation.desired.host, situation.observed
    rules = parse_rules(observed.foreign) if sight is None else sight.rules
    found = lines(rules, (port for _, ports in host.bridges for port in ports))
    if not found:
        return
    vifs = _vifs(situation, guard)
    yield from _tables(found)
    alike: dict[tuple[str, Kind], list[Line]] = {}
    strange: dict[tuple[str, str], list[Line]] = {}
    for line in found:
        if line.port and line.port not in vifs:
            strange.setdefault((line.table.address, line.port), []).append(line)
        elif (missing := _missing(line, vifs)) is not None:
            yield missing
        else:
            alike.setdefault((line.table.address, line.kind), []).append(line)
    for those in alike.values():
        yield Note(those[0].table.address, BY_HAND, f"{_quoted(those)}: {_said(those, vifs, host)}")
    for (address, port), those in strange.items():
        what = f"no VPS in git has a vif {port}: it is an unknown vif (unknownVifs), or this is left over"
        yield Note(address, UNBOUND, f"{_quoted(those)}: {what}")
    yield from _darkness(found, vifs, sight)
    yield from _switch(situation)


def _tables(found: Iterable[Line]) -> Iterator[Note]:
    counts: dict[tuple[str, str], int] = {}
    for line in found:
        key = line.table.address, line.table.where
        counts[key] = counts.get(key, 0) + 1
    for (address, where), count in counts.items():
        what = "binds vifs by hand" if count == 1 else "bind vifs by hand"
        what = f"{count} {'line' if count == 1 else 'lines'} {what}, and what replaces each is said here"
        yield Note(
            address,
            BY_HAND,
            f"{where}: {what}; domgit touches none of them: take them away when the guard enforces",
        )


def _vifs(situation: Situation, guard: Guard) -> Mapping[str, _Vif]:
    names = {domu.uuid: domu.name for domu in (*situation.applied.values(), *situation.desired.domus)}
    return {each.interface: _Vif(names[each.uuid], each) for each in guard.bindings if each.uuid in names}


def _missing(line: Line, vifs: Mapping[str, _Vif]) -> Note | None:
    """The note of a line that lets an address through which its vif does not have in git."""
    if line.kind != "source":
        return None
    vif = vifs[line.port]
    unbound = [
        address_text(each) for each in _networks(line.version, without(line.addresses, _own(vif, line)))
    ]
    if not unbound:
        return None
    where = f"`ips` of {vif.name}, vif {vif.binding.index}"
    what = f"git does not bind {_named(unbound)} to it: what it sends from there is dropped when the guard enforces ({where})"
    return Note(f"domu.{vif.name}", UNBOUND, f"{_quoted([line])}: {what}")


def _own(vif: _Vif, line: Line) -> Ranges:
    """The addresses of a vif in git, of the version that a line is about."""
    own = (each for each in vif.binding.addresses if each.version == line.version)
    return merged((int(each.network_address), int(each.broadcast_address)) for each in own)


def _networks(version: int, addresses: Ranges) -> Iterator[Address]:
    kind = IPv4Address if version == 4 else IPv6Address  # noqa: PLR2004
    for low, high in addresses:
        yield from summarize_address_range(kind(low), kind(high))


def _said(those: list[Line], vifs: Mapping[str, _Vif], host: Host) -> str:
    """What replaces lines of one kind."""
    match those[0].kind:
        case "log":
            return _log(those[0], host)
        case "drop":
            return "`guard.mode: enforce` drops what is not bound: every kind of frame, and of guests' ports alone"
        case kind:
            return _REPLACED[kind].format(bound=_bound(sorted({line.port for line in those}), vifs))


def _bound(ports: list[str], vifs: Mapping[str, _Vif]) -> str:
    """The bindings that replace what is said of some ports."""
    first = vifs[ports[0]].binding
    addresses = ", ".join(address_text(each) for each in first.addresses)
    more = f", and {len(ports) - 1} more to theirs" if len(ports) > 1 else ""
    return f"git binds {first.interface} to {first.mac} and {addresses}{more}"


def _log(line: Line, host: Host) -> str:
    said = log_of(line.rule)
    ours = f'{{prefix: "{host.log_prefix}", limit: {host.log_count}/{host.log_per}, level: {host.log_level}}}'
    same = said is not None and (said.prefix, said.count, said.per, said.level) == (
        host.log_prefix,
        host.log_count,
        host.log_per,
        host.log_level,
    )
    return (
        f"`guard.log` of the host says the same: {ours}"
        if same
        else f"`guard.log` of the host says otherwise: {ours}"
    )


def _darkness(found: Iterable[Line], vifs: Mapping[str, _Vif], sight: Sight | None) -> Iterator[Note]:
    """Whether other addresses than those of the lines would be dark by these rules, tried on a few vifs."""
    if sight is None:
        return
    own: dict[tuple[str, int], list[Line]] = {}
    for line in found:
        if line.kind == "source" and line.port in vifs:
            own.setdefault((line.port, line.version), []).append(line)
    dark: dict[str, list[str]] = {}
    for version in (4, 6):
        ports = [port for port, each in own if each == version]
        for port in ports[:_MOST_TRIED]:
            other, bridge = _other(own[port, version]), _bridge(sight, port)
            if other is None or bridge is None:
                continue
            verdict = sight.judge.address(sight.place(bridge, port, vifs[port].binding.mac), other)
            for _, event in verdict.dark:
                dark.setdefault(event.quoted, []).append(port)
    others = len({port for port, _ in own})
    for quoted, ports in dark.items():
        said = sorted(set(ports))
        tried = f" ({_MOST_TRIED} of {others} vifs were tried)" if others > _MOST_TRIED else ""
        what = f"{quoted} keeps every other address of {', '.join(said)} dark{tried}"
        yield Note(
            "guard", BY_HAND, f"{what}: a change of address is refused while it is loaded (would_be_dark)"
        )


def _bridge(sight: Sight, port: str) -> str | None:
    return next(
        (bridge for bridge, guests in sight.guests.items() if port in guests and bridge in sight.uplinks),
        None,
    )


def _other(those: Iterable[Line]) -> Address | None:
    """An address near those of a vif that none of its own lines names."""
    named = [(low, high) for line in those for low, high in line.addresses]
    version = next(iter(those)).version
    kind = IPv4Address if version == 4 else IPv6Address  # noqa: PLR2004
    near = (named[0][0] ^ step for step in _NEAR)
    free = next((each for each in near if not any(low <= each <= high for low, high in named)), None)
    return None if free is None else ip_network(kind(free))


def _switch(situation: Situation) -> Iterator[Note]:
    """Whether bridged frames meet such lines at all, and who else needs that."""
    host, files = situation.desired.host, situation.observed.files
    on = (files.get(HOST_SWITCH) or "").strip() not in {"", "0"}
    if on and chosen(host.guard_backend, situation.observed.features) == "nftables":
        yield Note(
            f"file.{HOST_SWITCH}",
            BY_HAND,
            "is 1: rules made by hand need it, the guard does not: set it to 0 when they are gone, unless somebody else needs it (Docker, kube-proxy)",
        )
    elif on:
        yield Note(
            f"file.{HOST_SWITCH}",
            BY_HAND,
            "is 1: rules made by hand need it; the guard needs the managed bridges' own switches alone, and sets them",
        )
    elif not any(each.ip for each in called(host, files).values()):
        yield Note(
            f"file.{HOST_SWITCH}",
            BY_HAND,
            "is 0, and so for the managed bridges: rules made by hand see none of their frames, and stop nobody",
        )


def _quoted(those: list[Line]) -> str:
    """Lines that are alike, by the first of them."""
    first = those[0]
    ports = sorted({line.port for line in those} - {first.port, ""})
    of = f": {_named(ports)}" if ports else ""
    more = f" (and {len(those) - 1} more like it{of})" if len(those) > 1 else ""
    return f"{first.table.where}: `{first.rule.text}`{more}"


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
