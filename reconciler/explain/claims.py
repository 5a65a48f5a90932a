"""What a frame says of its sender, each thing beside what is bound. Pure.

The rules decide; this is what people are told of the frame that they decided on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from reconciler.explain.build import ICMPV6, UDP, IpAddress
from reconciler.explain.headers import ARP, IPV4, IPV6, Headers
from reconciler.explain.packet import holders
from reconciler.guard.binding import Binding, Guard

_NS, _NA, _RS = 135, 136, 133
_DHCP_SERVER = 67
_NOBODY = 0
SOURCE_MAC, SOURCE, DHCP_MAC, OPTION_MAC = (
    "source MAC",
    "source address",
    "hardware address in the DHCP message",
    "MAC in the option",
)
ARP_MAC, ARP_SENDER, ARP_PROBED = (
    "sender MAC of the ARP",
    "sender address of the ARP",
    "address that the ARP probes for",
)
ADVERTISED, TESTED = "address that the advertisement is about", "address that is tested for duplicates"


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that a frame says of who sent it. `bound`: to the vif that it came in by; `holders`: whoever it is bound to."""

    what: str
    value: str
    bound: bool
    holders: tuple[Binding, ...]


def claims(found: Headers, binding: Binding | None, guard: Guard) -> tuple[Claim, ...]:
    """Everything that a frame claims, the outermost first; nothing of what is inside a tag, or cut off."""
    of = _Claims(found, binding, guard)
    return tuple(each for each in of.all() if each is not None)


@dataclass(frozen=True, slots=True)
class _Claims:
    found: Headers
    binding: Binding | None
    guard: Guard

    def all(self) -> Iterator[Claim | None]:
        yield self._mac(SOURCE_MAC, self.found.load(6, 6))
        inside: Mapping[int, Iterator[Claim | None]] = {ARP: self._arp(), IPV4: self._v4(), IPV6: self._v6()}
        yield from inside.get(self.found.load(12, 2) or 0, iter(()))

    def _arp(self) -> Iterator[Claim | None]:
        at = self.found.network
        yield self._mac(ARP_MAC, self.found.load(at + 8, 6))
        sender = self.found.load(at + 14, 4)
        if sender == _NOBODY:
            yield self._address(ARP_PROBED, self.found.load(at + 24, 4), 4)
        else:
            yield self._address(ARP_SENDER, sender, 4)

    def _v4(self) -> Iterator[Claim | None]:
        source = self.found.load(self.found.network + 12, 4)
        yield None if source == _NOBODY else self._address(SOURCE, source, 4)
        transport = self.found.transport
        if transport is not None and transport.protocol == UDP and self.found.behind(2, 2) == _DHCP_SERVER:
            yield self._mac(DHCP_MAC, self.found.behind(36, 6))

    def _v6(self) -> Iterator[Claim | None]:
        source = self.found.load(self.found.network + 8, 16)
        yield None if source == _NOBODY else self._address(SOURCE, source, 6)
        transport = self.found.transport
        kind = self.found.behind(0, 1) if transport is not None and transport.protocol == ICMPV6 else None
        if kind == _NA or (kind == _NS and source == _NOBODY):
            what = ADVERTISED if kind == _NA else TESTED
            yield self._address(what, self.found.behind(8, 16), 6)
        if kind in {_NS, _NA}:
            yield self._option(24)
        elif kind == _RS:
            yield self._option(8)

    def _option(self, at: int) -> Claim | None:
        """The link-layer address in the first option of a neighbour message."""
        if self.found.behind(at, 2) not in {
            0x101,
            0x201,
        }:  # source and target link-layer address, of one unit
            return None
        return self._mac(OPTION_MAC, self.found.behind(at + 2, 6))

    def _mac(self, what: str, number: int | None) -> Claim | None:
        if number is None:
            return None
        text = number.to_bytes(6).hex(":")
        there = tuple(each for each in self.guard.bindings if each.mac == text)
        return Claim(what, text, self._is(there), there)

    def _address(self, what: str, number: int | None, version: int) -> Claim | None:
        if number is None:
            return None
        address: IpAddress = IPv4Address(number) if version == 4 else IPv6Address(number)  # noqa: PLR2004  # the version
        there = holders(self.guard, address)
        return Claim(what, str(address), self._is(there), there)

    def _is(self, there: tuple[Binding, ...]) -> bool:
        return self.binding is not None and any(
            (each.uuid, each.index) == (self.binding.uuid, self.binding.index) for each in there
        )
