"""MAC and IP addresses as they may stand in a specification, each with one canonical form. Pure.

An IP address and a prefix are the same thing here: a network, which may hold a single address.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from socket import AF_INET, AF_INET6, inet_pton  # reads as strictly as ipaddress, in a twentieth of the time
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer

from schemas.scalars import plain_text
from schemas.shown import shown

Address = IPv4Network | IPv6Network
BITS = {4: 32, 6: 128}  # of an address, by IP version
Numbers = tuple[int, int, int]  # an IP version, the lowest and the highest address


_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
# ASCII and no zone: ipaddress takes "fe80::1%anything", newlines included.
_ADDRESS = re.compile(r"[0-9A-Fa-f.:]{2,45}")
_LENGTH = re.compile(r"0|[1-9][0-9]{0,2}")


def _mac(value: object) -> str:
    text = plain_text(value).lower()
    if _MAC.fullmatch(text) is None:
        raise ValueError(f"{shown(text)} is no MAC address (expected six bytes such as 00:16:3e:7c:1f:6e)")
    if int(text[:2], 16) & 1 or text == "00:00:00:00:00:00":
        raise ValueError(
            f"{shown(text)} is no unicast MAC address (expected an even first byte, and not all zeros)"
        )
    if text == "fe:ff:ff:ff:ff:ff":
        raise ValueError(f"{shown(text)} is what Xen gives to the ports in dom0 (expected another)")
    return text


Mac = Annotated[str, BeforeValidator(_mac)]


def _plain_address(text: str) -> tuple[int, int]:
    """(IP version, number) of an address."""
    if _ADDRESS.fullmatch(text) is None:
        raise ValueError(
            f"{shown(text)} is no IP address (expected such as 172.16.39.105 or 2001:db8:39::105)"
        )
    version, family = (6, AF_INET6) if ":" in text else (4, AF_INET)
    try:
        number = int.from_bytes(inet_pton(family, text))
    except OSError:
        raise ValueError(f"{shown(text)} is no IP address ({_why_none(text)})") from None
    if version == 6 and number >> 32 == 0xFFFF:  # noqa: PLR2004
        mapped = IPv4Address(number & 0xFFFFFFFF)
        raise ValueError(f"{shown(text)} is an IPv4-mapped IPv6 address (expected {mapped})")
    return version, number


def _why_none(text: str) -> str:
    try:
        # Not ip_address(): it knows no reason, since it tries both.
        _ = IPv6Address(text) if ":" in text else IPv4Address(text)
    except ValueError as exc:
        return f"{str(exc)[0].lower()}{str(exc)[1:]}"
    return "expected another notation"


def _network(value: object) -> Address:
    """An address or a prefix without host bits, whatever it is for."""
    text = plain_text(value)
    head, slash, length = text.partition("/")
    version, number = _plain_address(head)
    most = BITS[version]
    if slash and _LENGTH.fullmatch(length) is None:
        raise ValueError(f"{shown(text)} is no prefix (expected a length such as /29)")
    bits = int(length) if slash else most
    if bits > most:
        raise ValueError(f"{shown(text)} is no prefix (expected a length of at most {most})")
    network = network_around(version, number, bits)
    if int(network.network_address) != number:
        raise ValueError(f"{shown(text)} has host bits (expected {network}, or {head} alone)")
    return network


def network_around(version: int, number: int, length: int) -> Address:
    """The network with a prefix of that length around an address, which is given as a number."""
    if version == 4:  # noqa: PLR2004
        return IPv4Network((number, length), strict=False)
    return IPv6Network((number, length), strict=False)


def span(network: Address) -> tuple[int, int]:
    """The lowest and the highest address, as numbers: a fleet asks 20,000 times, and the library's answers take longer."""
    first = int(network.network_address)
    return first, first | (1 << (network.max_prefixlen - network.prefixlen)) - 1


def numbers_of(network: Address) -> Numbers:
    """An address in plain numbers, by which it is compared: the library's own hash takes longer than all else."""
    return network.version, *span(network)


def is_link_local(network: Address) -> bool:
    """Whether all of it lies in fe80::/10, which every segment has for itself."""
    return network.version == 6 and network.prefixlen >= 10 and int(network.network_address) >> 118 == 0x3FA  # noqa: PLR2004


# Overlap, not membership: a prefix around one of these would hand it out as well. The IPv4-mapped ones are
# second names of IPv4 addresses, which claims would miss; the IPv4-compatible ones (::/96, deprecated by RFC 4291)
# are written `::1.2.3.4` by some tools and `::102:304` by others.
_NO_GUESTS: dict[int, tuple[Address, ...]] = {
    4: tuple(IPv4Network(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32")),
    6: tuple(IPv6Network(text) for text in ("::/96", "::ffff:0:0/96", "ff00::/8")),
}
# The same as numbers: (first, last, network).
_NO_GUEST_RANGES = {
    version: tuple((*span(network), network) for network in networks)
    for version, networks in _NO_GUESTS.items()
}


def parse_address(value: object) -> Address:
    """An address or a prefix of a guest, as a network.

    Raises:
        ValueError: neither, host bits in a prefix, or an address that no guest can be given.
    """
    network = _network(value)
    first, last = span(network)
    for low, high, taken in _NO_GUEST_RANGES[network.version]:
        if first <= high and low <= last:
            raise ValueError(f"{shown(value)} cannot be a guest's address ({taken} is not for hosts)")
    return network


def within(inner: Address, outer: Address) -> bool:
    """Whether all of `inner` lies in `outer`."""
    if inner.version != outer.version or inner.prefixlen < outer.prefixlen:
        return False
    shift = outer.max_prefixlen - outer.prefixlen
    return int(inner.network_address) >> shift == int(outer.network_address) >> shift


def overlaps(one: Address, other: Address) -> bool:
    """Whether they have an address in common."""
    return within(one, other) or within(other, one)


def address_text(network: Address) -> str:
    """The canonical text: an address without its length, a prefix with it."""
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _subnet(value: object) -> Address:
    network = parse_address(value)
    if network.prefixlen == network.max_prefixlen:
        raise ValueError(f"{shown(str(value))} is no subnet (expected a prefix such as 172.16.39.0/24)")
    return network


def _host_address(value: object) -> Address:
    network = parse_address(value)
    if network.prefixlen != network.max_prefixlen:
        raise ValueError(f"{shown(str(value))} is a prefix (expected one address)")
    return network


def _listen_address(value: object) -> Address:
    network = _network(value)
    if network.prefixlen != network.max_prefixlen:
        raise ValueError(f"{shown(str(value))} is a prefix (expected one address)")
    if network.is_unspecified:  # every network that dom0 is in would reach the guest's screen
        raise ValueError(f"{shown(str(value))} is every address of dom0 (expected one, such as 127.0.0.1)")
    if network.is_multicast or network in _NO_GUESTS[4]:
        raise ValueError(f"{shown(str(value))} is no address to listen on (expected such as 127.0.0.1)")
    return network


def eui64_link_local(mac: str) -> IPv6Network:
    """The link-local address that a guest forms from its MAC.

    Source: RFC 4291, appendix A.
    """
    return IPv6Network((eui64(mac), 128))


def eui64(mac: str) -> int:
    """See eui64_link_local, as a number."""
    number = int(mac.replace(":", ""), 16)
    high, low = (number >> 24) ^ 0x020000, number & 0xFFFFFF
    return 0xFE80 << 112 | high << 40 | 0xFFFE << 24 | low


_AS_TEXT = PlainSerializer(address_text, return_type=str)
_IP_SCHEMA = Field(json_schema_extra={"type": "string"})
Ip = Annotated[Any, BeforeValidator(parse_address), _AS_TEXT, _IP_SCHEMA]
ListenIp = Annotated[Any, BeforeValidator(_listen_address), _AS_TEXT, _IP_SCHEMA]
HostIp = Annotated[Any, BeforeValidator(_host_address), _AS_TEXT, _IP_SCHEMA]
Subnet = Annotated[Any, BeforeValidator(_subnet), PlainSerializer(str, return_type=str), _IP_SCHEMA]
