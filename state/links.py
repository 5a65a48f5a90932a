"""What the kernel says of interfaces, bridge ports and forwarding entries: argv and parser side by side."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from schemas.address import Address
from state.run import ReadError, Runner, read


@dataclass(frozen=True, slots=True, order=True)
class Link:
    """An interface. `kind` is the driver's name for it (bridge, veth, tun, "" for hardware).

    `group_fwd_mask` is that of a bridge port: a bit for each reserved group whose frames it forwards.
    """

    name: str
    index: int
    mac: str
    up: bool
    mtu: int
    bridge: str | None
    kind: str
    group_fwd_mask: int = 0


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


LINKS = ("ip", "-j", "-d", "link", "show")
PORTS = ("bridge", "-j", "-d", "link", "show")
FDB = ("bridge", "-j", "fdb", "show")
ADDRESSES = ("ip", "-j", "address", "show")


def parse_links(text: str) -> Mapping[str, Link]:
    """The interfaces in `ip -j -d link show`, by name.

    Raises:
        ReadError: not the JSON that iproute2 writes.

    Source: ip-link(8), iproute2 6.1.
    """
    links = {}
    for entry in _entries("ip link", text):
        try:
            info = entry.get("linkinfo", {})
            links[entry["ifname"]] = Link(
                name=entry["ifname"],
                index=entry["ifindex"],
                mac=entry.get("address", ""),
                up="UP" in entry["flags"],
                mtu=entry["mtu"],
                bridge=entry.get("master"),
                kind=info.get("info_kind", ""),
                group_fwd_mask=int(info.get("info_slave_data", {}).get("group_fwd_mask", "0"), 16),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise ReadError(f"ip link: an entry is not as expected: {exc!r}") from exc
    return links


def parse_ports(text: str) -> Mapping[str, Port]:
    """The bridge ports in `bridge -j -d link show`, by name.

    Raises:
        ReadError: not the JSON that iproute2 writes, or a kernel without locked ports (before 5.18).

    Source: bridge(8), iproute2 6.1.
    """
    ports = {}
    for entry in _entries("bridge link", text):
        if "master" not in entry:
            continue  # bridges list themselves too
        try:
            ports[entry["ifname"]] = Port(
                name=entry["ifname"],
                bridge=entry["master"],
                learning=entry["learning"],
                locked=entry["locked"],
                isolated=entry["isolated"],
            )
        except (KeyError, TypeError) as exc:
            raise ReadError(f"bridge link: an entry is not as expected: {exc!r}") from exc
    return ports


def parse_fdb(text: str) -> tuple[FdbEntry, ...]:
    """The forwarding entries in `bridge -j fdb show` that belong to ports of a bridge, sorted.

    Raises:
        ReadError: not the JSON that iproute2 writes.

    Source: bridge(8), iproute2 6.1.
    """
    found = set()
    entries = _entries("bridge fdb", text)
    try:
        for entry in entries:
            # "permanent" are the bridge's and ports' own addresses; entries without a master are no bridge's.
            if entry["state"] != "permanent" and "master" in entry:
                found.add(
                    FdbEntry(
                        port=entry["ifname"],
                        mac=entry["mac"].lower(),
                        static=entry["state"] == "static",
                        sticky="sticky" in entry["flags"],
                    )
                )
        return tuple(sorted(found))
    except (KeyError, TypeError, AttributeError) as exc:
        raise ReadError(f"bridge fdb: an entry is not as expected: {exc!r}") from exc


def parse_addresses(text: str) -> tuple[tuple[str, Address], ...]:
    """(interface, address) of all that dom0 itself answers to, in `ip -j address show`, sorted.

    Raises:
        ReadError: not the JSON that iproute2 writes.

    Source: ip-address(8), iproute2 6.1.
    """
    try:
        found = [
            (entry["ifname"], ip_network(str(each["local"])))
            for entry in _entries("ip address", text)
            for each in entry["addr_info"]
            if "local" in each
        ]
        return tuple(sorted(found, key=lambda each: (each[0], each[1].version, each[1])))
    except (KeyError, TypeError, ValueError) as exc:
        raise ReadError(f"ip address: an entry is not as expected: {exc!r}") from exc


def _entries(tool: str, text: str) -> Iterable[Mapping[str, Any]]:
    try:
        entries = json.loads(text)
    except ValueError as exc:
        raise ReadError(f"{tool}: not JSON") from exc
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ReadError(f"{tool}: not an array of objects")
    return (entry for entry in entries if entry)


def read_links(runner: Runner) -> Mapping[str, Link]:
    """The interfaces by name.

    Raises:
        ReadError: ip failed or printed something else.
    """
    return parse_links(read(runner, LINKS))


def read_ports(runner: Runner) -> Mapping[str, Port]:
    """The bridge ports by name.

    Raises:
        ReadError: bridge failed or printed something else.
    """
    return parse_ports(read(runner, PORTS))


def read_addresses(runner: Runner) -> tuple[tuple[str, Address], ...]:
    """The addresses of dom0 itself, by interface.

    Raises:
        ReadError: ip failed or printed something else.
    """
    return parse_addresses(read(runner, ADDRESSES))


def read_fdb(runner: Runner) -> tuple[FdbEntry, ...]:
    """The forwarding entries of all bridges' ports.

    Raises:
        ReadError: bridge failed or printed something else.
    """
    return parse_fdb(read(runner, FDB))
