"""What a guest may send, decided from the bytes of a frame and its binding alone: the other opinion that the guard is held against.

Written from the RFCs and from what docs/guard.md promises, never from the rules, and with no table of theirs. Three verdicts:
`pass` and `drop` bind the guard. `free` is where nobody is harmed and nobody needs it: a frame that no receiver takes, or that does
no more than its sender may do anyhow in a form that docs/guard.md says is refused.

Source: RFC 826, 5227 (ARP); 791, 1256, 1858 (IPv4); 951, 2131 (DHCP); 2236, 3376, 4286, 4541 (IGMP, who routers are); 8200, 7112, 4302
(IPv6 and its headers); 4861, 4862, 6980, 7113, 7527 (neighbour discovery); 2710, 3590, 3810 (MLD); 4620, 3122 (node information,
inverse discovery); 8415 (DHCPv6); IEEE 802.1D, 8.6.3 (reserved groups).
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Literal

from reconciler.guard.binding import Binding

Verdict = Literal["pass", "drop", "free"]
_ETHERNET, _ARP, _IPV4, _IPV6 = 14, 28, 20, 40
_ICMP, _IGMP, _UDP, _ICMP6, _AH, _FRAGMENT, _PIM, _NOTHING = 1, 2, 17, 58, 51, 44, 103, 59
_OPTIONS = frozenset({0, 43, 60})  # extension headers that count their length in units of eight bytes
_HEADERS = _OPTIONS | {_AH, _FRAGMENT}
_CHADDR = slice(28, 34)  # of BOOTP
_ROUTERS4 = frozenset(
    {0x11, 0x13, 0x14, 0x30, 0x32}
)  # query, DVMRP, PIM version 1, discovery's two of routers
_REPORTS4 = frozenset({0x12, 0x16, 0x17, 0x22})  # RFC 2236's and 3376's, leaving among them
_REPORTS6 = frozenset({131, 132, 143})
_ROUTERS6 = frozenset({130, 134, 137, 139, 140, 141, 142, 147, 151, 152, 153})
# Other messages of routers and agents, which docs/guard.md says nothing of and whose receivers want a key or a treaty.
_AGENTS6 = frozenset({138, 145, 148, 149, 154, 155, 157, 158})
_RS, _NS, _NA = 133, 135, 136
_SOURCE, _TARGET, _NONCE = 1, 2, 14  # options of neighbour discovery
_ALL_ROUTERS = IPv6Address("ff02::2").packed
_SOLICITED = IPv6Address("ff02::1:ff00:0").packed[:13]


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and why."""

    verdict: Verdict
    why: str


def _pass(why: str) -> Judgement:
    return Judgement("pass", why)


def _drop(why: str) -> Judgement:
    return Judgement("drop", why)


def _free(why: str) -> Judgement:
    return Judgement("free", why)


@dataclass(frozen=True, slots=True)
class _Upper:
    """What an IP packet carries: its protocol, its bytes up to the packet's end, and what they were found behind."""

    protocol: int
    body: bytes
    fragment: int = 0  # its offset
    more: bool = False
    wrapped: bool = False  # in a fragment, an atomic one too
    sealed: bool = False  # behind an authentication header
    behind: bool = False  # any extension header
    covered: bool = False  # an extension header behind a fragment header or behind an authentication header
    hops: int = 255

    @property
    def whole(self) -> bool:
        return not (self.fragment or self.more)


class Oracle:
    """The judge of one guest's frames."""

    def __init__(self, binding: Binding) -> None:
        self._mac = bytes.fromhex(binding.mac.replace(":", ""))
        ranges = [
            (
                int(each.network_address).to_bytes(size, "big"),
                int(each.broadcast_address).to_bytes(size, "big"),
            )
            for each in binding.addresses
            for size in (each.max_prefixlen // 8,)
        ]
        local = (
            b"\xfe\x80" + bytes(6) + bytes((self._mac[0] ^ 2,)) + self._mac[1:3] + b"\xff\xfe" + self._mac[3:]
        )
        self._own = (*ranges, (local, local))

    def owns(self, address: bytes) -> bool:
        """Whether an address, by its bytes, is bound."""
        return any(len(low) == len(address) and low <= address <= high for low, high in self._own)

    def owns_text(self, address: str) -> bool:
        """Whether an address as humans write it is bound."""
        return self.owns(ip_address(address).packed)

    def judge(self, frame: bytes) -> Judgement:
        """The verdict on a frame of at least an Ethernet header."""
        if frame[6:12] != self._mac:
            return _drop("another source MAC")
        kind, packet = int.from_bytes(frame[12:14], "big"), frame[_ETHERNET:]
        judges = {0x0800: self._ipv4, 0x0806: self._arp, 0x86DD: self._ipv6}
        if kind not in judges:
            return _drop("neither IPv4 nor ARP nor IPv6, untagged")
        found = judges[kind](packet, frame[:6])
        if frame[:5] == b"\x01\x80\xc2\x00\x00" and frame[5] <= 0x0F:
            if frame[5] == 0x0E:
                return _free("LLDP's group: the port lock has the guard see it")
            if found.verdict == "pass":
                return _free("a group that bridges do not forward")
        if frame[:6] == self._mac and found.verdict == "pass":
            return _free("to itself")
        return found

    def _arp(self, packet: bytes, _: bytes) -> Judgement:
        if len(packet) < 18 or packet[:6] != b"\0\1\x08\0\6\4" or packet[6:8] not in {b"\0\1", b"\0\2"}:
            return _drop("no request or reply of Ethernet and IPv4")
        if packet[8:14] != self._mac:
            return _drop("arp of another MAC")
        sender, target = packet[14:18], packet[24:28]
        if self.owns(sender):
            return _pass("arp of an own address") if len(packet) >= _ARP else _free("arp that is cut short")
        if sender == bytes(4) and packet[6:8] == b"\0\1" and self.owns(target):
            return _pass("arp probe for an own address")
        return _drop("arp of an address that is not bound")

    def _ipv4(self, packet: bytes, to: bytes) -> Judgement:
        source = packet[12:16]
        unspecified = source == bytes(4)
        if unspecified and not (
            (packet[9] == _UDP and packet[16:20] == b"\xff" * 4)
            or (packet[9] == _IGMP and b"\xe0" <= packet[16:17] < b"\xf0")
        ):
            return _drop("from nobody")
        if not (self.owns(source) or unspecified):
            return _drop("an IPv4 source that is not bound")
        words, length = packet[0] & 15, int.from_bytes(packet[2:4], "big")
        sane = (
            len(packet) >= _IPV4 and packet[0] >> 4 == 4 and words >= 5 and words * 4 <= length <= len(packet)
        )
        flags = int.from_bytes(packet[6:8], "big")
        if not sane and packet[9] == _UDP and not flags & 0x1FFF:
            # No kernel takes it. A DHCP client of ISC's takes frames as they come, and asks less of a header.
            return _drop("ports behind an IPv4 header that is none")
        if not sane or _sum(packet[: words * 4]) != 0xFFFF:
            return _free("an IPv4 header that no receiver takes")
        upper = _Upper(packet[9], packet[words * 4 : length], flags & 0x1FFF, bool(flags & 0x2000))
        if not unspecified:
            return self._ipv4_upper(upper)
        return _igmp_from_nobody(upper) if upper.protocol == _IGMP else self._dhcp_from_nobody(upper, to)

    def _dhcp_from_nobody(self, upper: _Upper, to: bytes) -> Judgement:
        if upper.body[:4] != b"\0\x44\0\x43" or upper.fragment or self._dhcp(upper).verdict == "drop":
            return _drop("from nobody, and no DHCP of a client to everybody")
        return self._dhcp(upper) if to == b"\xff" * 6 else _free("DHCP to everybody in a frame to one")

    def _ipv4_upper(self, upper: _Upper) -> Judgement:
        if upper.fragment:
            return _later4(upper.protocol)
        if upper.protocol == _AH:
            # RFC 4302, 3.4.2: without a security association its receiver discards it, whatever is inside.
            return _pass("IPv4 behind an authentication header")
        if upper.protocol == _PIM:
            return _drop("PIM: routers speak it")
        if upper.protocol == _IGMP:
            return _igmp(upper.body)
        if upper.protocol == _ICMP and not upper.body:
            return _free("a message that is cut short")
        if upper.protocol == _ICMP and upper.body[:1] in {b"\5", b"\x09"}:
            return _drop("ICMP of a router: redirect or router advertisement")
        if upper.protocol != _UDP:
            return _pass("IPv4 from an own address")
        if len(upper.body) < 4:
            return _free("ports that are cut short")
        if upper.body[2:4] == b"\0\x44":
            return _drop("to a DHCP client")
        return self._dhcp(upper) if upper.body[2:4] == b"\0\x43" else _pass("IPv4 from an own address")

    def _dhcp(self, upper: _Upper) -> Judgement:
        message = upper.body[8:]
        if upper.whole and len(message) < _CHADDR.stop:
            return _free("DHCP that is cut short")
        if message[_CHADDR] != self._mac:
            return _drop("DHCP without the own hardware address")
        if not upper.whole:
            return _free("DHCP in fragments")
        if message[:3] != b"\1\1\6":
            return _free("to a DHCP server, and no request")
        return _pass("DHCP of a client")

    def _ipv6(self, packet: bytes, _: bytes) -> Judgement:
        source, target = packet[8:24], packet[24:40]
        unspecified = source == bytes(16)
        if not (self.owns(source) or unspecified):
            return _drop("an IPv6 source that is not bound")
        if len(packet) < _IPV6:
            return _free("an IPv6 header that no receiver takes")
        length = int.from_bytes(packet[4:6], "big")
        sane = packet[0] >> 4 == 6 and length <= len(packet) - _IPV6
        body = packet[_IPV6 : _IPV6 + length] if sane else packet[_IPV6:]
        upper = _walk(packet[6], body, packet[7])
        if isinstance(upper, Judgement):
            return upper
        if not sane or (packet[6] == 0 and length == 0):
            return _free("an IPv6 header that no receiver takes")
        found = self._from_nobody6(upper, target) if unspecified else self._ipv6_upper(upper, target)
        if upper.covered and found.verdict == "pass":
            return _free("headers behind a fragment header or an authentication header")
        return found

    def _ipv6_upper(self, upper: _Upper, target: bytes) -> Judgement:
        if upper.fragment:
            return (
                _free("a later fragment of PIM")
                if upper.protocol == _PIM
                else _pass("a later fragment of IPv6")
            )
        if upper.sealed and upper.protocol != _ICMP6:
            return _pass("IPv6 behind an authentication header")
        if upper.protocol == _PIM:
            return _drop("PIM: routers speak it")
        if len(upper.body) < {_ICMP6: 1, _UDP: 4}.get(upper.protocol, 0):
            # No later fragment has what is missing, unless headers stand between (RFC 7112).
            hidden = upper.wrapped and upper.covered
            return (
                _drop("a first fragment without its message")
                if hidden
                else _free("a message that is cut short")
            )
        if upper.protocol == _UDP and upper.body[2:4] == b"\x02\x22":
            return _drop("to a DHCPv6 client")
        return self._icmp6(upper, target) if upper.protocol == _ICMP6 else _pass("IPv6 from an own address")

    def _icmp6(self, upper: _Upper, target: bytes) -> Judgement:
        kind = upper.body[0]
        if kind in _ROUTERS6:
            return _drop("ICMPv6 of a router")
        if kind in _AGENTS6:
            return _free("ICMPv6 of agents")
        if kind not in {_RS, _NS, _NA}:
            return (
                _free("ICMPv6 behind an authentication header")
                if upper.sealed
                else _pass("ICMPv6 from an own address")
            )
        fixed = 8 if kind == _RS else 24
        if len(upper.body) < fixed:
            return _drop("neighbour discovery that is cut short")
        if kind == _NA and not self.owns(upper.body[8:24]):
            return _drop("advertises an address that is not bound")
        found = self._link_layers(upper.body[fixed:], _TARGET if kind == _NA else _SOURCE)
        if found.verdict == "pass" and upper.wrapped:
            return (
                _free("neighbour discovery in a fragment")
                if upper.whole
                else _drop("neighbour discovery in fragments")
            )
        if found.verdict == "pass" and upper.behind:
            return _free("neighbour discovery behind extension headers")
        if found.verdict == "pass" and (
            upper.hops != 255 or upper.body[1] or (kind == _RS and target != _ALL_ROUTERS)
        ):
            return _free("neighbour discovery that no receiver takes")
        return found

    def _link_layers(self, options: bytes, ours: int) -> Judgement:
        """Of the options of a message: none, or the own MAC as the one that it may have."""
        found, rest = [], options
        while rest:
            length = rest[1] * 8 if len(rest) > 1 else 0
            found.append(rest[:length] if length else rest)
            if rest[0] in {_SOURCE, _TARGET} and rest[2:8] != self._mac[: len(rest[2:8])]:
                return _drop("neighbour discovery with another MAC inside")
            if not 0 < length <= len(rest):
                return _free("options that no receiver takes")
            rest = rest[length:]
        if [each[:2] for each in found] not in ([], [bytes((ours, 1))]):
            return _free("neighbour discovery with further options")
        return _pass("neighbour discovery for an own address")

    def _from_nobody6(self, upper: _Upper, target: bytes) -> Judgement:
        if upper.protocol != _ICMP6 or upper.fragment:
            return _drop("from nobody")
        if not upper.body:
            return _free("a message that is cut short")
        kind, message = upper.body[0], upper.body
        if kind in _REPORTS6 and target[0] == 0xFF:
            usual = target[1] == 2 and upper.hops == 1 and not (upper.wrapped or upper.sealed)
            return _pass("MLD of somebody without address") if usual else _free("unusual MLD")
        if kind == _RS and not upper.wrapped and len(message) == 8:
            # To anybody: it names nobody, and only routers answer.
            usual = target == _ALL_ROUTERS and upper.hops == 255 and message[1] == 0 and not upper.behind
            return _pass("asks for routers") if usual else _free("unusual router solicitation")
        if kind != _NS or len(message) < 24 or not self.owns(message[8:24]):
            return _drop("from nobody")
        if target[:13] != _SOLICITED or (not upper.whole):
            return _drop("from nobody, and not to the group of its address")
        return _detection(message, upper, target)


def _detection(message: bytes, upper: _Upper, target: bytes) -> Judgement:
    options = message[24:]
    while options:
        length = options[1] * 8 if len(options) > 1 else 0
        if options[0] == _SOURCE:
            return _drop("duplicate address detection with a MAC")
        if not 0 < length <= len(options):
            return _free("options that no receiver takes")
        options = options[length:]
    plain = message[24:26] in {b"", bytes((_NONCE, 1))} and len(message) <= 32
    usual = target[13:] == message[21:24] and upper.hops == 255 and message[1] == 0
    usual = usual and not upper.behind
    return (
        _pass("duplicate address detection")
        if plain and usual
        else _free("unusual duplicate address detection")
    )


def _igmp(message: bytes) -> Judgement:
    if not message:
        return _free("a message that is cut short")
    if message[0] in _ROUTERS4:
        return _drop("IGMP of a router")
    return _free("looks for multicast routers") if message[0] == 0x31 else _pass("IGMP of a listener")


def _later4(protocol: int) -> Judgement:
    if protocol in {_IGMP, _PIM}:
        # RFC 4541 says nothing of fragments: who snoops may take any for a message of its own, as Linux does.
        return _drop("a later fragment of IGMP or PIM")
    return _pass("a later fragment of IPv4")


def _igmp_from_nobody(upper: _Upper) -> Judgement:
    if upper.fragment:
        return _drop("a later fragment of IGMP")
    if not upper.body:
        return _free("a message that is cut short")
    if upper.body[0] not in _REPORTS4:
        return _drop("from nobody, and no report")
    return _pass("IGMP of a listener without address") if upper.whole else _free("IGMP in fragments")


def _walk(following: int, body: bytes, hops: int) -> _Upper | Judgement:
    """Along the chain of IPv6's headers to what they carry, as far as this packet has it."""
    wrapped = more = covered = sealed = False
    first = following
    while following in _HEADERS:
        covered = covered or wrapped or sealed
        if len(body) < 8:
            return _cut(wrapped=wrapped)
        if following == _FRAGMENT:
            offset, more = int.from_bytes(body[2:4], "big") >> 3, more or bool(body[3] & 1)
            if offset:
                if body[0] in _HEADERS:
                    return _drop("a later fragment of extension headers")
                return _Upper(body[0], body[8:], offset, more, True, sealed, True, covered, hops)
            length, wrapped = 8, True
        elif following == _AH:
            length, sealed = (body[1] + 2) * 4, True
        else:
            length = (body[1] + 1) * 8
        if length > len(body):
            return _cut(wrapped=wrapped)
        following, body = body[0], body[length:]
    return _Upper(following, body, 0, more, wrapped, sealed, first in _HEADERS, covered, hops)


def _cut(*, wrapped: bool) -> Judgement:
    if wrapped:
        return _drop("a first fragment without all of its headers")
    return _free("extension headers that are cut short")


def _sum(header: bytes) -> int:
    padded = header + bytes(len(header) % 2)
    total = sum(int.from_bytes(padded[at : at + 2], "big") for at in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
