"""The frame that words describe; what they leave out is as an honest guest would have it. Pure."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from reconciler.explain import build
from reconciler.explain.build import ICMP, ICMPV6, IGMP, TCP, UDP, IpAddress
from reconciler.explain.headers import ARP, IPV4, IPV6
from reconciler.explain.words import MESSAGES, MESSAGES6, PacketError, read_words
from reconciler.guard.binding import Binding, Guard
from schemas.address import eui64_link_local

_V4, _V6 = 4, 6
_SERVER, _CLIENT, _SERVER6, _CLIENT6 = 67, 68, 547, 546  # ports of DHCP
BROADCAST, _NOBODY = "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"
# Whoever is on the other side and stands in no binding (RFC 7042's documentation range).
_SOMEBODY = "00:00:5e:00:53:01"
_ALL_NODES, _ALL_ROUTERS, _MLD_ROUTERS = (IPv6Address(each) for each in ("ff02::1", "ff02::2", "ff02::16"))
_DHCP_SERVERS6, _ALL4, _NONE4 = IPv6Address("ff02::1:2"), IPv4Address("255.255.255.255"), IPv4Address(0)
_IGMP_ROUTERS = IPv4Address("224.0.0.22")
_MLD_QUERY, _MLD_DONE, _RS, _RA, _NS, _NA, _REDIRECT, _MLD2 = 130, 132, 133, 134, 135, 136, 137, 143
_SOLICITED_NODE = int(IPv6Address("ff02::1:ff00:0"))
# What each word is about: it has no meaning in another packet.
_ABOUT: Mapping[str, str] = {
    "sport": "ports", "dport": "ports", "chaddr": "dhcp", "icmp": "icmp", "code": "icmp", "option": "nd", "igmp": "igmp", "op": "arp",
    "sender-mac": "arp", "target-mac": "arp", "ext": "ip", "frag": "ip", "target": "target",
}  # fmt: skip
_HAVE: Mapping[str, str] = {
    "ports": "proto=udp or proto=tcp", "dhcp": "proto=udp and dport=67 or 68", "icmp": "proto=icmp or proto=icmpv6",
    "nd": "icmp=ns, na, rs, ra or redirect", "igmp": "proto=igmp", "arp": "proto=arp", "ip": "an IP packet",
    "target": "proto=arp, or icmp=ns, na or redirect",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Described:
    """A frame and the port that it comes in by; `bridge` "" where none was named."""

    port: str
    bridge: str
    frame: bytes


@dataclass(frozen=True, slots=True)
class _Own:
    """What a port may use: MAC, and its addresses by family, the declared ones first."""

    mac: str
    v4: tuple[IPv4Address, ...]
    v6: tuple[IPv6Address, ...]


def described(words: Sequence[str], guard: Guard, ports: Mapping[str, str]) -> Described:
    """The frame that the words describe. `ports` are the interfaces by other names of a vif, such as DOMU/INDEX.

    Raises:
        PacketError: the words do not make a packet; everything that is wrong with them.
    """
    given = read_words(words)
    port, bridge = ports.get(given["vif"], given["vif"]), given.get("bridge", "")
    binding = next((each for each in guard.bindings if port in {each.interface, _emulated(each)}), None)
    if "hex" in given:
        if others := sorted(given.keys() - {"vif", "bridge", "hex"}):
            raise PacketError(
                [f"{', '.join(others)}: the frame is given already (expected vif and bridge beside hex)"]
            )
        return Described(port, bridge, given["hex"])
    if binding is None and (needed := [each for each in ("smac", "src") if each not in given]):
        names = [*ports, *(each.interface for each in guard.bindings)]
        near = "".join(f", did you mean {each!r}?" for each in get_close_matches(port, names, 1))
        what, words_needed = " and ".join(needed), " ".join(f"{each}=..." for each in needed)
        raise PacketError(
            [
                f"{what}: missing, and vif {port!r} has no binding to take it from{near} (expected {words_needed})"
            ]
        )
    return Described(port, bridge, _Writer(given, _own(binding, given), guard).frame())


def _emulated(binding: Binding) -> str:
    return f"{binding.interface}-emu" if binding.emulated else binding.interface


def _own(binding: Binding | None, given: Mapping[str, Any]) -> _Own:
    if binding is None:
        return _Own(given["smac"], (), ())
    firsts = [each.network_address for each in (*binding.addresses, eui64_link_local(binding.mac))]
    return _Own(
        binding.mac,
        tuple(each for each in firsts if isinstance(each, IPv4Address)),
        tuple(each for each in firsts if isinstance(each, IPv6Address)),
    )


@dataclass(slots=True)
class _Writer:
    given: Mapping[str, Any]
    own: _Own
    guard: Guard

    def frame(self) -> bytes:
        """The whole frame."""
        problems = list(self._problems())
        if problems:
            raise PacketError(problems)
        if self._is_arp():
            kind, payload, to = self._arp()
        elif "type" in self.given and self.given["type"] not in {IPV4, IPV6}:
            kind, payload, to = self.given["type"], bytes(46), BROADCAST
        else:
            kind, payload, to = self._ip()
        kind = self.given.get("type", kind)
        hardware = self.given.get("smac", self.own.mac)
        return build.ethernet(
            self.given.get("dmac", to), hardware, kind, payload, tags=self.given.get("vlan", ())
        )

    def _problems(self) -> Sequence[str]:
        families = {
            each.version for name in ("src", "dst", "target") if (each := self.given.get(name)) is not None
        }
        found = ["src, dst, target: both IPv4 and IPv6 (expected one of them)"] if len(families) > 1 else []
        if self._protocol() in {ICMP, ICMPV6} and self._message() < 0:
            names = MESSAGES if self._version() == _V4 else MESSAGES6
            found.append(
                f"icmp: {self.given['icmp']} is no message of IPv{self._version()} (expected one of {', '.join(names)})"
            )
        about = self._about()
        found += [
            f"{name}: means nothing in this packet (expected {_HAVE[what]} with it)"
            for name, what in _ABOUT.items()
            if name in self.given and what not in about
        ]
        if self._is_arp() and self._version() == _V6:
            found.append("proto: arp is asked for IPv4 addresses only (expected icmp=ns for IPv6)")
        if self._protocol() == ICMPV6 and self._version() == _V4 and not self._is_arp():
            found.append("proto: icmpv6 needs IPv6 addresses (expected proto=icmp)")
        if self._version() == _V4 and set(self.given.get("ext", ())) - {51}:
            found.append("ext: IPv4 has no such header (expected ah)")
        return found

    def _about(self) -> set[str]:
        """What the packet has in it, by the names of _HAVE."""
        if self._is_arp():
            return {"arp", "target"}
        if "type" in self.given and self.given["type"] not in {IPV4, IPV6}:
            return set()
        protocol, ports = self._protocol(), self._ports()
        found = {"ip"}
        found |= {"ports"} if protocol in {TCP, UDP} else set()
        found |= {"dhcp"} if protocol == UDP and ports[1] in {_SERVER, _CLIENT} else set()
        found |= {"icmp"} if protocol in {ICMP, ICMPV6} else set()
        found |= {"igmp"} if protocol == IGMP else set()
        if protocol == ICMPV6:
            found |= {"nd"} if self._message() in {_RS, _RA, _NS, _NA, _REDIRECT} else set()
            found |= {"target"} if self._message() in {_NS, _NA, _REDIRECT} else set()
        return found

    def _is_arp(self) -> bool:
        return (
            self.given.get("proto") == -1
            or self.given.get("type") == ARP
            or ("op" in self.given and "proto" not in self.given)
        )

    def _version(self) -> int:
        for name in ("src", "dst", "target"):
            if (address := self.given.get(name)) is not None:
                return int(address.version)
        if self.given.get("type") in {IPV4, ARP} or self._is_arp():
            return _V4
        six = self.given.get("type") == IPV6 or self.given.get("proto") == ICMPV6
        six |= self.given.get("dport") in {_CLIENT6, _SERVER6} or not {
            "ns",
            "na",
            "rs",
            "ra",
            "redirect",
        }.isdisjoint({self.given.get("icmp")})
        six |= str(self.given.get("icmp")).startswith("mld")
        return _V6 if six or not (self.own.v4 or "dport" in self.given or "igmp" in self.given) else _V4

    def _protocol(self) -> int:
        if "proto" in self.given:
            return int(self.given["proto"])
        if "icmp" in self.given or "option" in self.given:
            return ICMP if self._version() == _V4 else ICMPV6
        return IGMP if "igmp" in self.given else UDP

    def _message(self) -> int:
        names = MESSAGES if self._version() == _V4 else MESSAGES6
        found = self.given.get("icmp", "echo")
        return names.get(found, -1) if isinstance(found, str) else int(found)

    def _ports(self) -> tuple[int, int]:
        to = self.given.get("dport", 9)  # discard
        answering = {_SERVER: _CLIENT, _CLIENT: _SERVER, _SERVER6: _CLIENT6, _CLIENT6: _SERVER6}
        return self.given.get("sport", answering.get(to, 49152)), to

    def _arp(self) -> tuple[int, bytes, str]:
        operation = self.given.get("op", 1)
        sender = self.given.get("src", self.own.v4[0] if self.own.v4 else _NONE4)
        target = self.given.get("target", self.given.get("dst", sender))
        to = BROADCAST if operation == 1 else self._holder(target, BROADCAST)
        there = self.given.get("target-mac", _NOBODY if operation == 1 else to)
        hardware = self.given.get("sender-mac", self.given.get("smac", self.own.mac))
        return ARP, build.arp(operation, (hardware, sender), (there, target)), to

    def _ip(self) -> tuple[int, bytes, str]:
        protocol = self._protocol()
        source, destination = self._ends(protocol)
        message = self._body(protocol, source)
        kind, packet = build.packet(
            source,
            destination,
            protocol,
            message,
            headers=self.given.get("ext", ()),
            part=self.given.get("frag"),
        )
        return kind, packet, self._hardware(destination)

    def _ends(self, protocol: int) -> tuple[IpAddress, IpAddress]:
        if self._version() == _V4:
            mine: IpAddress = self.own.v4[0] if self.own.v4 else _NONE4
            asks = protocol == UDP and self._ports()[1] == _SERVER and "dst" not in self.given
            there: IpAddress = _IGMP_ROUTERS if protocol == IGMP else _ALL4
            return self.given.get("src", _NONE4 if asks else mine), self.given.get("dst", there)
        local = self.own.v6[-1] if self.own.v6 else IPv6Address(0)
        kind = self._message() if protocol == ICMPV6 else 0
        near = kind in {_RS, _RA, _REDIRECT, _MLD_QUERY, 131, _MLD_DONE, _MLD2} or (
            protocol == UDP and self._ports()[1] in {_CLIENT6, _SERVER6}
        )
        source = self.given.get("src", local if near or not self.own.v6 else self.own.v6[0])
        return source, self.given.get("dst", self._group(protocol, kind, source))

    def _group(self, protocol: int, kind: int, source: IpAddress) -> IPv6Address:
        """Where a message goes that was sent to nobody in particular."""
        if protocol == UDP and self._ports()[1] == _SERVER6:
            return _DHCP_SERVERS6
        match kind:
            case 135:
                return IPv6Address(_SOLICITED_NODE | int(self._target(source)) & 0xFFFFFF)
            case 133 | 132:
                return _ALL_ROUTERS
            case 143:
                return _MLD_ROUTERS
            case _:
                return _ALL_NODES

    def _target(self, source: IpAddress) -> IPv6Address:
        mine = source if int(source) else self.own.v6[0] if self.own.v6 else source
        return IPv6Address(int(self.given.get("target", mine)))

    def _body(self, protocol: int, source: IpAddress) -> bytes:
        match protocol:
            case 17:
                return build.udp(self._ports(), self._datagram())
            case 6:
                return build.tcp(self._ports())
            case 1:
                return build.icmp(self._message(), self.given.get("code", 0))
            case 58:
                return build.icmp(self._message(), self.given.get("code", 0), self._icmp6(source))
            case 2:
                return build.icmp(self.given.get("igmp", 0x16), 0, IPv4Address("224.0.0.22").packed)
            case _:
                return bytes(16)

    def _datagram(self) -> bytes:
        to = self._ports()[1]
        if to in {_SERVER, _CLIENT}:
            return build.dhcp(
                self.given.get("chaddr", self.given.get("smac", self.own.mac)), server=to == _CLIENT
            )
        return bytes(16)

    def _icmp6(self, source: IpAddress) -> bytes:
        """What stands behind type, code and checksum, options included."""
        kind = self._message()
        bodies: Mapping[int, Callable[[], bytes]] = {
            _NS: lambda: bytes(4) + self._target(source).packed,
            _NA: lambda: bytes((0x20, 0, 0, 0)) + self._target(source).packed,
            _RS: lambda: bytes(4),
            _RA: lambda: struct.pack("!BBHII", 64, 0, 1800, 0, 0),
            _REDIRECT: lambda: bytes(4) + 2 * self._target(source).packed,
        }
        if kind in bodies:
            return bodies[kind]() + b"".join(self.given.get("option", self._usual_option(kind, source)))
        return bytes(20) if _MLD_QUERY <= kind <= _MLD_DONE else bytes(4)

    def _usual_option(self, kind: int, source: IpAddress) -> tuple[bytes, ...]:
        if not int(source) or kind == _REDIRECT:
            return ()
        option = 2 if kind == _NA else 1
        return (bytes((option, 1)) + build.mac_bytes(self.given.get("smac", self.own.mac)),)

    def _hardware(self, destination: IpAddress) -> str:
        if isinstance(destination, IPv6Address):
            return (
                f"33:33:{destination.packed[12:].hex(':')}"
                if destination.is_multicast
                else self._holder(destination, _SOMEBODY)
            )
        if destination.is_multicast:
            return "01:00:5e:" + (int(destination) & 0x7FFFFF).to_bytes(3).hex(":")
        return BROADCAST if destination == _ALL4 else self._holder(destination, _SOMEBODY)

    def _holder(self, address: IpAddress, otherwise: str) -> str:
        """The MAC of the vif that an address is bound to."""
        return next((each.mac for each in holders(self.guard, address)), otherwise)


def holders(guard: Guard, address: IpAddress) -> tuple[Binding, ...]:
    """Who an address is bound to, by itself or in a prefix."""
    return tuple(
        each
        for each in guard.bindings
        if any(
            network.version == address.version and address in network
            for network in (*each.addresses, eui64_link_local(each.mac))
        )
    )
