"""What the kernel says of interfaces, bridge ports and forwarding entries: argv and parser side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address

from schemas.address import Address
from state.files import Files
from state.listing import parse_entries
from state.run import ReadError, Runner, TornError

LLDP_GROUP = 0x0E  # the last byte of 01:80:c2:00:00:0e
# The group of interfaces that a guest's port is put into, a number that nobody else would choose ("dom"). It stays with
# the port whatever that is called by then.
GUEST_GROUP = 0x646F6D


@dataclass(frozen=True, slots=True, order=True)
class Link:
    """An interface. `kind` is the driver's name for it (bridge, veth, tun, "" for hardware).

    `group_fwd_mask` is that of a bridge port: a bit for each reserved group whose frames it forwards. `bridge` is the
    interface that it is enslaved to, which may also be a bond. `lower` is the one that it stands on (a VLAN), or its
    other end (a veth), in this network namespace. `xdp`: a program sees its frames before every hook. `group` is a number,
    or the name that the host has for it.
    """

    name: str
    index: int
    mac: str
    up: bool
    mtu: int
    bridge: str | None
    kind: str
    group_fwd_mask: int = 0
    lower: str | None = None
    xdp: bool = False
    group: str = "default"


@dataclass(frozen=True, slots=True, order=True)
class Port:
    """An interface as a port of a bridge."""

    name: str
    bridge: str
    learning: bool
    locked: bool
    isolated: bool


@dataclass(frozen=True, slots=True, order=True)
class FdbEntry:
    """A forwarding entry of a bridge, without those for the bridge's own addresses."""

    port: str
    mac: str
    static: bool
    sticky: bool


# Not `link show`: for any word behind `link`, ip first asks the kernel by a NEWLINK message whether it takes those.
LINKS = ("ip", "-j", "-d", "link")
PORTS = ("bridge", "-j", "-d", "link", "show")
FDB = ("bridge", "-j", "fdb", "show")
ADDRESSES = ("ip", "-j", "address", "show")
INTERFACES = "/sys/class/net"
# The bonding driver's switch stands among the interfaces and is none.
_NO_INTERFACES = frozenset({"bonding_masters"})
_HEX = re.compile(r"(?:0x)?[0-9a-f]{1,4}")


def parse_links(text: str) -> Mapping[str, Link]:
    """The interfaces in `ip -j -d link`, by name.

    Raises:
        ReadError: not the JSON that iproute2 writes, an interface that stands twice, or none at all.

    Source: ip-link(8), iproute2 6.1.
    """
    links: dict[str, Link] = {}
    for entry in parse_entries("ip link", text):
        info = entry.entry("linkinfo")
        mask = info.entry("info_slave_data").text("group_fwd_mask", "0")
        if _HEX.fullmatch(mask) is None:
            raise ReadError(f"ip link: group_fwd_mask is {mask!r:.80}")
        link = Link(
            name=entry.text("ifname"),
            index=entry.number("ifindex"),
            mac=entry.text("address", ""),
            up="UP" in entry.words("flags"),
            mtu=entry.number("mtu"),
            bridge=entry.text("master") if entry.has("master") else None,
            kind=info.text("info_kind", ""),
            group_fwd_mask=int(mask, 16),
            lower=entry.text("link") if entry.has("link") else None,
            xdp=entry.has("xdp"),
            group=entry.text("group", "default"),
        )
        if link.name in links:
            raise ReadError(f"ip link: {link.name!r} stands twice")
        links[link.name] = link
    if "lo" not in links:
        raise ReadError("ip link: no lo, which every host has")
    return links


def parse_ports(text: str) -> Mapping[str, Port]:
    """The bridge ports in `bridge -j -d link show`, by name.

    Raises:
        ReadError: not the JSON that iproute2 writes, a port that stands twice, or a kernel without locked ports
            (before 5.18).

    Source: bridge(8), iproute2 6.1; rtnl_bridge_getlink in net/core/rtnetlink.c, Linux 6.1.
    """
    ports: dict[str, Port] = {}
    for entry in parse_entries("bridge link", text):
        # Bridges list themselves too, and a network card with a switch in it stands there a second time, with that
        # switch's mode and nothing of our bridge's.
        if not entry.has("master") or entry.has("hwmode"):
            continue
        port = Port(
            name=entry.text("ifname"),
            bridge=entry.text("master"),
            learning=entry.flag("learning"),
            locked=entry.flag("locked"),
            isolated=entry.flag("isolated"),
        )
        if port.name in ports:
            raise ReadError(f"bridge link: {port.name!r} stands twice")
        ports[port.name] = port
    return ports


def parse_fdb(text: str) -> tuple[FdbEntry, ...]:
    """The forwarding entries in `bridge -j fdb show` that belong to ports of a bridge, sorted.

    Raises:
        ReadError: not the JSON that iproute2 writes.

    Source: bridge(8), iproute2 6.1.
    """
    found = {
        FdbEntry(
            port=entry.text("ifname"),
            mac=entry.mac("mac"),
            static=entry.text("state") == "static",
            sticky="sticky" in entry.words("flags"),
        )
        for entry in parse_entries("bridge fdb", text)
        # "permanent" are the bridge's and ports' own addresses; entries without a master are no bridge's.
        if entry.text("state") != "permanent" and entry.has("master")
    }
    return tuple(sorted(found))


def parse_own(text: str) -> frozenset[str]:
    """The bridges with addresses of their own in `bridge -j fdb show`: every bridge has one for itself and its ports.

    Raises:
        ReadError: not the JSON that iproute2 writes.

    Source: br_fdb_add_local in net/bridge/br_fdb.c, Linux 6.1.
    """
    entries = parse_entries("bridge fdb", text)
    return frozenset(
        entry.text("master")
        for entry in entries
        if entry.text("state") == "permanent" and entry.has("master")
    )


def parse_addresses(text: str) -> Mapping[str, tuple[Address, ...]]:
    """What dom0 itself answers to, by interface, in `ip -j address show`; interfaces without addresses have an empty tuple.

    Raises:
        ReadError: not the JSON that iproute2 writes, or an interface that stands twice.

    Source: ip-address(8), iproute2 6.1.
    """
    found: dict[str, tuple[Address, ...]] = {}
    for entry in parse_entries("ip address", text):
        # One that is left out of what was asked for is an empty object with its addresses alone, and has no name.
        texts = [each.text("local") for each in entry.entries("addr_info") if each.has("local")]
        name = entry.text("ifname")
        if name in found:
            raise ReadError(f"ip address: {name!r} stands twice")
        found[name] = tuple(_address(each) for each in texts)
    return found


def _address(text: str) -> Address:
    try:
        address = ip_address(text)
    except ValueError as exc:
        raise ReadError(f"ip address: local is {text!r:.80}, which is no address") from exc
    # From the number: a zone, which ipaddress takes anything for, is no part of an address.
    return IPv4Network(int(address)) if isinstance(address, IPv4Address) else IPv6Network(int(address))


@dataclass(frozen=True, slots=True)
class Network:
    """Interfaces and ports by name, forwarding entries, and (interface, address) of dom0 itself, each sorted."""

    links: Mapping[str, Link]
    ports: Mapping[str, Port]
    fdb: tuple[FdbEntry, ...]
    addresses: tuple[tuple[str, Address], ...]


def read_network(runner: Runner, files: Files) -> Network:
    """Everything that the kernel says of interfaces, each listing held against the others and against sysfs.

    Raises:
        TornError: they contradict each other: an interface came or went meanwhile, or a listing is not whole.
        ReadError: a command failed or printed something else.
    """
    links = parse_links(_dumped(runner, LINKS))
    ports = parse_ports(_dumped(runner, PORTS))
    fdb = _dumped(runner, FDB)
    addresses = parse_addresses(_dumped(runner, ADDRESSES))
    there = set(files.names(INTERFACES)) - _NO_INTERFACES
    for tool, names in (("ip link", set(links)), ("ip address", set(addresses))):
        if names != there:
            raise TornError(f"{tool}: {_different(names, there)}, as against {INTERFACES}")
    enslaved = {
        (link.name, link.bridge) for link in links.values() if link.bridge and _is_bridge(links, link.bridge)
    }
    listed = {(port.name, port.bridge) for port in ports.values()}
    if listed != enslaved:
        different = _different({name for name, _ in listed}, {name for name, _ in enslaved})
        raise TornError(f"bridge link: {different}, as against ip link")
    silent = {port.bridge for port in ports.values()} - parse_own(fdb)
    if silent:
        raise TornError(f"bridge fdb: nothing of {', '.join(sorted(silent))}")
    return Network(
        links=links,
        ports=ports,
        fdb=parse_fdb(fdb),
        addresses=tuple(
            (name, each) for name in sorted(addresses) for each in sorted(addresses[name], key=_order)
        ),
    )


def _is_bridge(links: Mapping[str, Link], name: str) -> bool:
    return name in links and links[name].kind == "bridge"


def _order(address: Address) -> tuple[int, Address]:
    return address.version, address


def _different(names: set[str], there: set[str]) -> str:
    missing, more = ", ".join(sorted(there - names)), ", ".join(sorted(names - there))
    said = [f"without {missing}"] * bool(missing) + [f"with {more}"] * bool(more)
    return " and ".join(said) or "another bridge of a port"


def _dumped(runner: Runner, argv: Sequence[str]) -> str:
    """What iproute2 lists. The kernel may have changed its list midway: told on stderr, with exit status 0.

    Source: rtnl_dump_filter_l in lib/libnetlink.c, iproute2 6.1.
    """
    completed = runner.run(argv)
    if "Dump was interrupted" in completed.stderr:
        raise TornError(f"{' '.join(argv)}: interfaces came or went while they were listed")
    return completed.output()
