"""What may be claimed once: names, uuids, MACs, addresses, disks, displays, vif names, over all hosts. Pure."""

from __future__ import annotations

import uuid as uuids
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Network

from schemas.address import Address, address_text, within
from schemas.diagnostic import Diagnostic
from schemas.domu import DomU, SharedIp
from schemas.host import Host
from schemas.tree import Path, Tree

LINK_LOCAL = IPv6Network("fe80::/10")


@dataclass(frozen=True, slots=True)
class Claimant:
    """A domU with the documents that made it, for saying where a claim stands.

    `sound`: nothing else is wrong with it. What another one says is compared all the same, so that all
    problems are seen at once, but it cannot hold back more than itself.
    """

    host: str
    domu: DomU
    tree: Tree
    profile: Tree | None
    sound: bool = True

    @property
    def name(self) -> str:
        """Its xl name."""
        return self.domu.metadata.name

    def located(self, path: Path) -> Tree:
        """The document that brought the value at `path`."""
        if self.profile is not None and not self.tree.holds(path) and self.profile.holds(path):
            return self.profile
        return self.tree


@dataclass(frozen=True, slots=True)
class _Claim:
    what: str
    code: str
    value: str
    claimant: Claimant
    path: Path


def uuid_of(domu: DomU) -> str:
    """The identity: the one that is written, or the one that follows from the name."""
    return domu.metadata.uuid or str(uuids.uuid5(uuids.NAMESPACE_URL, f"domgit:{domu.metadata.name}"))


def eui64_link_local(mac: str) -> IPv6Network:
    """The link-local address that a guest forms from its MAC.

    Source: RFC 4291, appendix A.
    """
    part = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([part[0] ^ 2]) + part[1:3] + b"\xff\xfe" + part[3:]
    return IPv6Network((b"\xfe\x80" + bytes(6) + identifier, 128))


Conflict = tuple[Diagnostic, frozenset[str]]


def check_claims(claimants: Iterable[Claimant], hosts: Mapping[str, Host]) -> Iterator[Conflict]:
    """Every value that two domUs claim although only one may have it; said at the later claimant.

    With each the scopes it reaches, as in Fleet.scopes: the hosts of both claimants, no third one.
    """
    claimants = list(claimants)
    groups: defaultdict[tuple[str, str], list[_Claim]] = defaultdict(list)
    for claimant in claimants:
        for key, claim in _claims(claimant, hosts):
            groups[claim.code, key].append(claim)
    for claims in groups.values():
        for claim in claims[1:]:
            yield _conflict(claim, claims[0])
    yield from _address_conflicts(claimants)


def _reach(one: Claimant, other: Claimant) -> frozenset[str]:
    if one.sound and other.sound:
        return frozenset({f"host:{one.host}", f"host:{other.host}"})
    return frozenset(f"domu:{each.host}/{each.name}" for each in (one, other) if not each.sound)


def _conflict(claim: _Claim, first: _Claim) -> Conflict:
    line = first.claimant.located(first.path).place(first.path)[0]
    other = f"{first.claimant.tree.file}:{line}"
    message = f"{claim.what} {claim.value} is claimed by domu.{first.claimant.name} too ({other}; expected one claimant)"
    found = claim.claimant.located(claim.path).error(
        claim.code, claim.path, message, f"domu.{claim.claimant.name}"
    )
    return found, _reach(claim.claimant, first.claimant)


def _claims(claimant: Claimant, hosts: Mapping[str, Host]) -> Iterator[tuple[str, _Claim]]:
    """(key, claim) of all that is compared for equality alone."""
    domu, host = claimant.domu, claimant.host

    def claim(
        what: str, code: str, value: str, *path: str | int, key: str | None = None
    ) -> tuple[str, _Claim]:
        return (key or value), _Claim(what, code, value, claimant, path)

    yield claim("name", "DG1301", domu.metadata.name, "metadata", "name", key=domu.metadata.name.casefold())
    yield claim("uuid", "DG1302", uuid_of(domu), "metadata", "uuid" if domu.metadata.uuid else "name")
    if domu.spec.state == "absent":
        return  # a tombstone claims its name and uuid, nothing else
    for index, vif in enumerate(domu.spec.vifs):
        yield claim("MAC", "DG1303", vif.mac, "spec", "vifs", index, "mac")
        if vif.name is not None:
            # The emulated card of an HVM guest is a second port, whose name nobody else may have either.
            for name in (vif.name, f"{vif.name}-emu") if domu.spec.type == "hvm" else (vif.name,):
                yield claim("vif name", "DG1307", name, "spec", "vifs", index, "name", key=f"{host}/{name}")
    shared = hosts[host].spec.images.shared if host in hosts else []
    for index, disk in enumerate(domu.spec.disks):
        everywhere = any(disk.path.startswith(f"{folder}/") for folder in shared)
        # Read-only ones too: a customer's image under another's name is a leak, not sharing.
        path: Path = ("spec", "disks", index, "path")
        yield claim(
            "disk", "DG1305", disk.path, *path, key=disk.path if everywhere else f"{host}:{disk.path}"
        )
    vnc = domu.spec.console.vnc
    if vnc is not None:
        yield claim(
            "VNC display",
            "DG1306",
            str(vnc.display),
            "spec",
            "console",
            "vnc",
            "display",
            key=f"{host}:{vnc.display}",
        )


@dataclass(frozen=True, slots=True)
class _Held:
    claimant: Claimant
    path: Path
    shared: bool


def _address_conflicts(claimants: Iterable[Claimant]) -> Iterator[Conflict]:
    """Addresses and prefixes that overlap. An address is looked up once for every prefix length in use, not every prefix.

    Of the holders of one address only the first is remembered, shared and not: a thousand claimants of it are
    a thousand problems, not a million.
    """
    held: dict[tuple[int, int, int, str], list[_Held]] = defaultdict(list)
    wanted = sorted(_address_claims(claimants), key=_length)  # what contains an address is there before it
    lengths = {(network.version, network.prefixlen) for network, _, _ in wanted}
    for network, segment, claim in wanted:
        bits, number = network.max_prefixlen, int(network.network_address)
        for version, length in lengths:
            if version != network.version or length > network.prefixlen:
                continue
            key = (version, length, number >> (bits - length) << (bits - length), segment)
            for other in held.get(key, ()):
                yield from _overlap(network, claim, other)
        holders = held[network.version, network.prefixlen, number, segment]
        if all(holder.shared != claim.shared for holder in holders):
            holders.append(claim)


def _length(claim: tuple[Address, str, _Held]) -> int:
    return claim[0].prefixlen


def _address_claims(claimants: Iterable[Claimant]) -> Iterator[tuple[Address, str, _Held]]:
    """Every address that is declared or formed, with the segment it means something on."""
    for claimant in claimants:
        if claimant.domu.spec.state == "absent":
            continue
        for index, vif in enumerate(claimant.domu.spec.vifs):
            shared = vif.shared()
            paths: dict[Address, Path] = {}
            for place, item in enumerate(vif.ips):
                paths[_item_address(item)] = ("spec", "vifs", index, "ips", place)
            mac_path: Path = ("spec", "vifs", index, "mac")
            paths.setdefault(eui64_link_local(vif.mac), mac_path)
            for network, path in paths.items():
                # Link-local addresses are a segment's own, all others are claimed once in all.
                segment = vif.bridge if within(network, LINK_LOCAL) else ""
                yield network, segment, _Held(claimant, path, network in shared)


def _overlap(network: Address, claim: _Held, other: _Held) -> Iterator[Conflict]:
    if (claim.shared and other.shared) or (
        claim.claimant is other.claimant and claim.path[:3] == other.path[:3]
    ):
        return
    tree = claim.claimant.located(claim.path)
    where = (
        f"{other.claimant.located(other.path).file}:{other.claimant.located(other.path).place(other.path)[0]}"
    )
    hint = "; `shared: true` must stand on every claimant" if claim.shared or other.shared else ""
    message = f"address {address_text(network)} is claimed by domu.{other.claimant.name} too ({where}; expected one claimant{hint})"
    found = tree.error("DG1304", claim.path, message, f"domu.{claim.claimant.name}")
    yield found, _reach(claim.claimant, other.claimant)


def _item_address(item: SharedIp | Address) -> Address:
    return item.address if isinstance(item, SharedIp) else item
