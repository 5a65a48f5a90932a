"""What may be claimed once: names, uuids, MACs, addresses, disks, displays, vif names, over all hosts. Pure."""

from __future__ import annotations

import uuid as uuids
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Network

from schemas.diagnostic import Diagnostic
from schemas.domu import DomU, SharedIp
from schemas.host import Host
from schemas.scalars import Address, address_text
from schemas.tree import Path, Tree

LINK_LOCAL = IPv6Network("fe80::/10")


@dataclass(frozen=True, slots=True)
class Claimant:
    """A domU with the documents that made it, for saying where a claim stands."""

    host: str
    domu: DomU
    tree: Tree
    profile: Tree | None

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


def check_claims(claimants: Iterable[Claimant], hosts: Mapping[str, Host]) -> Iterator[Diagnostic]:
    """Every value that two domUs claim although only one may have it; said at the later claimant."""
    claimants = list(claimants)
    groups: defaultdict[tuple[str, str], list[_Claim]] = defaultdict(list)
    for claimant in claimants:
        for key, claim in _claims(claimant, hosts):
            groups[claim.code, key].append(claim)
    for claims in groups.values():
        for claim in claims[1:]:
            yield _conflict(claim, claims[0])
    yield from _address_conflicts(claimants)


def _conflict(claim: _Claim, first: _Claim) -> Diagnostic:
    line = first.claimant.located(first.path).place(first.path)[0]
    other = f"{first.claimant.tree.file}:{line}"
    message = f"{claim.what} {claim.value} is claimed by domu.{first.claimant.name} too ({other}; expected one claimant)"
    return claim.claimant.located(claim.path).error(
        claim.code, claim.path, message, f"domu.{claim.claimant.name}"
    )


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
            yield claim(
                "vif name", "DG1307", vif.name, "spec", "vifs", index, "name", key=f"{host}/{vif.name}"
            )
    shared = hosts[host].spec.images.shared if host in hosts else []
    for index, disk in enumerate(domu.spec.disks):
        everywhere = any(disk.path.startswith(f"{folder}/") for folder in shared)
        if disk.access == "rw":
            yield claim(
                "disk",
                "DG1305",
                disk.path,
                "spec",
                "disks",
                index,
                "path",
                key=disk.path if everywhere else f"{host}:{disk.path}",
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


def _address_conflicts(claimants: Iterable[Claimant]) -> Iterator[Diagnostic]:
    """Addresses and prefixes that overlap. An address is looked up once for every prefix length in use, not every prefix."""
    held: dict[tuple[int, int, int, str], list[_Held]] = defaultdict(list)
    wanted: list[tuple[Address, str, _Held]] = []
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
                segment = (
                    vif.bridge if isinstance(network, IPv6Network) and network.subnet_of(LINK_LOCAL) else ""
                )
                wanted.append((network, segment, _Held(claimant, path, network in shared)))
    lengths = {(network.version, network.prefixlen) for network, _, _ in wanted}
    wanted.sort(key=lambda claim: claim[0].prefixlen)  # so that what contains an address is there before it
    for network, segment, claim in wanted:
        bits, number = network.max_prefixlen, int(network.network_address)
        for version, length in lengths:
            if version != network.version or length > network.prefixlen:
                continue
            key = (version, length, number >> (bits - length) << (bits - length), segment)
            for other in held.get(key, ()):
                yield from _overlap(network, claim, other)
        held[network.version, network.prefixlen, number, segment].append(claim)


def _overlap(network: Address, claim: _Held, other: _Held) -> Iterator[Diagnostic]:
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
    yield tree.error("DG1304", claim.path, message, f"domu.{claim.claimant.name}")


def _item_address(item: SharedIp | Address) -> Address:
    return item.address if isinstance(item, SharedIp) else item
