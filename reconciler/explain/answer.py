"""The whole answer to one frame, as text and as data: verdict, rules, claims, and why in plain words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from reconciler import FORMAT_VERSION
from reconciler.explain.claims import (
    ADVERTISED,
    ARP_MAC,
    ARP_PROBED,
    ARP_SENDER,
    DHCP_MAC,
    OPTION_MAC,
    SOURCE,
    SOURCE_MAC,
    TESTED,
    Claim,
    claims,
)
from reconciler.explain.headers import ARP, IPV4, IPV6, TAGS, Headers, headers
from reconciler.explain.judge import BRIDGE, Judge
from reconciler.explain.packet import Described
from reconciler.explain.walk import Way
from reconciler.guard.binding import Binding
from schemas.address import eui64_link_local

_TYPES: Mapping[int, str] = {
    IPV4: "IPv4",
    ARP: "ARP",
    IPV6: "IPv6",
    0x8100: "a VLAN tag",
    0x88A8: "a provider's VLAN tag",
}
_PROTOCOLS: Mapping[int, str] = {1: "ICMP", 2: "IGMP", 6: "TCP", 17: "UDP", 51: "AH", 58: "ICMPv6"}
_802_3 = 0x600  # below it a length stands in place of a type
# Which claims the rules look at that refuse under a reason.
_BY: Mapping[str, frozenset[str]] = {
    "mac": frozenset({SOURCE_MAC}),
    "arp": frozenset({ARP_MAC, ARP_SENDER, ARP_PROBED}),
    "v4": frozenset({SOURCE}),
    "v6": frozenset({SOURCE}),
    "nd": frozenset({SOURCE, ADVERTISED, TESTED, OPTION_MAC}),
    "dhcp": frozenset({DHCP_MAC}),
}
# What it is that is refused where every claim is the sender's own.
_WHY: Mapping[str, str] = {
    "type": "only IPv4, ARP and IPv6 without a tag pass",
    "arp": "it is no request or reply of Ethernet and IPv4 from a bound address, and no probe for one",
    "v4": "it has no source address, and is neither a DHCP client's broadcast nor an IGMP report to a group",
    "v6": "it has no source address that passes there, or a header behind which nobody can look",
    "nd": "neighbour discovery passes right behind the IPv6 header, about bound addresses, with no option or the own MAC as the only one",
    "dhcp": "guests are no DHCP servers, and ask in one piece, for their own hardware address",
    "router": "guests have no router's role: no advertisement, redirect, membership query or node information, and no part of a packet that a bridge may take for one",
}


@dataclass(frozen=True, slots=True)
class People:
    """Who is who: the names of domUs by uuid, and what an address is where it is bound to nobody, such as a gateway."""

    domus: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)

    def vif(self, binding: Binding) -> str:
        """A vif as people call it."""
        return f"{binding.interface} (domu.{self.domus.get(binding.uuid, binding.uuid)} vif {binding.index})"


@dataclass(frozen=True, slots=True)
class Answer:
    """What becomes of a frame, and why. `binding`: that of its port, None where it has none. `managed`: its bridge is ours."""

    frame: bytes
    port: str
    bridge: str
    way: Way
    binding: Binding | None
    uplink: bool
    managed: bool
    claims: tuple[Claim, ...]
    people: People

    @property
    def audited(self) -> bool:
        """Whether it is refused and passes all the same, since its vif is watched only."""
        return self.way.verdict == "pass" and self.way.reason not in {"", "unknown"}

    @property
    def why(self) -> str:
        """One sentence."""
        if self.way.reason == BRIDGE:
            return "the bridge itself drops it before any rule: a source MAC that is none, a pause frame, or a tag that is cut off"
        if not self.way.base:
            return "no rule sees it: the bridge hands frames to LLDP's group to dom0's own stack where the port is not locked"
        if self.uplink:
            return f"{self.port} is an uplink of {self.bridge}: what comes in by it is not judged"
        if self.binding is None and not self.managed:
            return f"{self.bridge or 'its bridge'} is no bridge of this host's specification: what crosses it is not judged"
        if self.binding is None:
            answer = "unknownVifs drops" if self.way.verdict == "drop" else "unknownVifs lets pass"
            return f"{self.port} is bound to no domU and no uplink: {answer} what comes in by it"
        if not self.way.reason:
            return f"it claims nothing but what is bound to {self.people.vif(self.binding)}"
        said = self._refused(self.binding)
        return f"{said}; the vif is audited, so it is counted and passes" if self.audited else said

    def _refused(self, binding: Binding) -> str:
        reason = self.way.reason
        foreign = next(
            (each for each in self.claims if not each.bound and each.what in _BY.get(reason, ())), None
        )
        if foreign is not None:
            return f"{foreign.what} {foreign.value} is not bound to {self.people.vif(binding)}, {self._whose(foreign)}"
        if reason == "type":
            return f"{_kind(headers(self.frame))} is refused: {_WHY['type']}"
        return _WHY.get(reason, reason)

    def _whose(self, claim: Claim) -> str:
        if claim.holders:
            return f"but to {', '.join(self.people.vif(each) for each in claim.holders)}"
        other = self.people.others.get(claim.value)
        return "nor to any other vif" if other is None else f"and is {other}"


def answered(packet: Described, judge: Judge, people: People) -> Answer:
    """The answer to a described frame."""
    guard = judge.guard
    bridge = packet.bridge or next(
        (each.name for each in guard.bridges if packet.port in each.uplinks),
        guard.bridges[0].name if guard.bridges else "",
    )
    names = {each.interface: each for each in guard.bindings}
    names |= {f"{each.interface}-emu": each for each in guard.bindings if each.emulated}
    binding = names.get(packet.port)
    return Answer(
        frame=packet.frame,
        port=packet.port,
        bridge=bridge,
        way=judge.way(packet.frame, port=packet.port, bridge=bridge),
        binding=binding,
        uplink=any(packet.port in each.uplinks for each in guard.bridges),
        managed=any(each.name == bridge for each in guard.bridges),
        claims=claims(headers(packet.frame), binding, guard),
        people=people,
    )


def text(answer: Answer) -> str:
    """The answer for people."""
    way = answer.way
    head = (
        f"{way.verdict} ({way.reason}{', audited' if answer.audited else ''})" if way.reason else way.verdict
    )
    lines = [f"{head}: {answer.why}", f"  frame: {shown(answer.frame)}"]
    lines += [f"  claims: {each.what} {each.value} ({_status(each, answer)})" for each in answer.claims]
    if answer.binding is not None:
        lines.append(f"  bound to {answer.people.vif(answer.binding)}: {', '.join(_bound(answer.binding))}")
    lines += ["  rules, as the nftables backend has them:"] if way.hops else []
    lines += [f"    {hop.chain}: {hop.rule}{_led(hop.rule, hop.led)}" for hop in way.hops]
    return "".join(f"{line}\n" for line in lines)


def document(answer: Answer) -> dict[str, Any]:
    """The answer as data; `rule` is the last one that the frame met."""
    hops = [{"chain": hop.chain, "rule": hop.rule, "to": hop.led} for hop in answer.way.hops]
    binding = answer.binding
    return {
        "format_version": FORMAT_VERSION,
        "verdict": answer.way.verdict,
        "reason": answer.way.reason or None,
        "audited": answer.audited,
        "why": answer.why,
        "rule": hops[-1] if hops else None,
        "rules": hops,
        "port": answer.port,
        "bridge": answer.bridge,
        "uplink": answer.uplink,
        "bound": None
        if binding is None
        else {**_holder(binding, answer.people), "addresses": list(_bound(binding))[1:]},
        "claims": [
            {
                "what": each.what,
                "value": each.value,
                "bound": each.bound,
                "holders": [_holder(holder, answer.people) for holder in each.holders],
            }
            for each in answer.claims
        ],
        "frame": {"text": shown(answer.frame), "hex": answer.frame.hex()},
    }


def _holder(binding: Binding, people: People) -> dict[str, Any]:
    return {
        "address": f"domu.{people.domus.get(binding.uuid, binding.uuid)}.vif.{binding.index}",
        "interface": binding.interface,
        "mac": binding.mac,
        "mode": binding.mode,
    }


def _status(claim: Claim, answer: Answer) -> str:
    if claim.bound:
        return "bound"
    if claim.holders:
        return f"bound to {', '.join(answer.people.vif(each) for each in claim.holders)}"
    return answer.people.others.get(claim.value, "bound to nobody")


def _bound(binding: Binding) -> Iterator[str]:
    yield binding.mac
    for each in (*binding.addresses, eui64_link_local(binding.mac)):
        yield str(each.network_address if each.prefixlen == each.max_prefixlen else each)


def _led(rule: str, led: str) -> str:
    """Where the rule led, where its own text does not end with that."""
    return "" if not led or rule.endswith(led) else f" -> {led}"


def shown(frame: bytes) -> str:
    """A frame on one line: MACs, type, addresses, protocol and ports, as far as they are there."""
    found = headers(frame)
    parts = [
        f"{frame[6:12].hex(':')} > {frame[:6].hex(':')}",
        *_inside(found, _outer(found)),
        f"{len(frame)} bytes",
    ]
    return ", ".join(parts)


def _outer(found: Headers) -> int:
    return found.load(12, 2) or 0


def _kind(found: Headers) -> str:
    kind = _outer(found)
    if kind in TAGS:
        return f"{_TYPES[kind]}, VLAN {(found.load(14, 2) or 0) & 0xFFF}"
    return _TYPES.get(
        kind, f"type 0x{kind:04x}" if kind >= _802_3 else "802.3 with a length in place of a type"
    )


def _inside(found: Headers, kind: int) -> Iterator[str]:
    ends: tuple[IPv4Address | IPv6Address, ...] = ()
    match kind:
        case 0x0800 | 0x0806:
            places = (12, 16) if kind == IPV4 else (14, 24)
            numbers = [found.load(found.network + at, 4) for at in places]
            ends = tuple(IPv4Address(each) for each in numbers if each is not None)
        case 0x86DD:
            numbers = [found.load(found.network + at, 16) for at in (8, 24)]
            ends = tuple(IPv6Address(each) for each in numbers if each is not None)
    yield f"{_kind(found)} {' > '.join(str(each) for each in ends)}" if ends else _kind(found)
    if kind == ARP:
        yield f"operation {found.load(found.network + 6, 2)}"
    elif ends and found.transport is not None:
        yield from _behind(found)


def _behind(found: Headers) -> Iterator[str]:
    transport = found.transport
    if transport is None:
        return
    name = _PROTOCOLS.get(transport.protocol, f"protocol {transport.protocol}")
    if transport.fragment:
        yield f"{name}, a later fragment"
    elif transport.protocol in {6, 17}:
        yield f"{name} {found.behind(0, 2)} > {found.behind(2, 2)}"
    elif transport.protocol in {1, 2, 58}:
        yield f"{name} type {found.behind(0, 1)}"
    else:
        yield name
