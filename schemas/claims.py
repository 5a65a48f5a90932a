"""What may be claimed once: names, uuids, MACs, addresses, disks, displays, vif names, over all hosts. Pure."""

from __future__ import annotations

import hashlib
import uuid as uuids
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from schemas.address import BITS, Address, address_text, eui64, is_link_local, network_around
from schemas.diagnostic import Diagnostic
from schemas.domu import DomU, SharedIp
from schemas.tree import Guesses, Path, Tree

_NOUNS = {
    "DG1301": "name",
    "DG1302": "uuid",
    "DG1303": "MAC",
    "DG1305": "disk",
    "DG1306": "VNC display",
    "DG1307": "vif name",
}
_OF_TOMBSTONES = frozenset({"DG1301", "DG1302"})
# (code, what is compared, what is shown, where it stands)
Claim = tuple[str, str, str, Path]
# (prefix length, IP version, network as a number, segment, shared, where it stands). Link-local addresses are a
# segment's own; all others are claimed once in all, and their segment is "".
AddressClaim = tuple[int, int, int, str, bool, Path]


class Claims(NamedTuple):
    """All that one domU takes, in plain values: they pass to another process and into a cache as they are.

    Read back from JSON they are lists; nothing here minds.
    """

    uuid: str
    values: Sequence[Claim]
    addresses: Sequence[AddressClaim]


class Source(Protocol):
    """Where a claimant's words stand: its documents, or what remembers how to get them."""

    @property
    def file(self) -> str:
        """Its own file."""

    def located(self, path: Path) -> Tree:
        """The document that brought the value at `path`. Asked about conflicts only."""

    def document(self) -> str:
        """The domU in canonical JSON."""


@dataclass(frozen=True, slots=True)
class Claimant:
    """A domU with what it claims.

    `sound`: nothing else is wrong with it. What another one says is compared all the same, so that all
    problems are seen at once, but it cannot hold back more than itself.
    """

    host: str
    name: str
    claims: Claims
    source: Source
    sound: bool = True

    @property
    def uuid(self) -> str:
        """The identity."""
        return self.claims.uuid

    @property
    def claims_its_uuid(self) -> bool:
        """Whether the identity is what somebody wrote."""
        return any(claim[0] == "DG1302" for claim in self.claims.values)

    @property
    def scope(self) -> str:
        """As in Fleet.scopes. By its file: in one with errors the name may be another."""
        return f"domu:{self.host}/{self.source.file.rpartition('/')[2].removesuffix('.yaml')}"


# uuid5 makes this anew each time, which takes longer than all else that is claimed.
_SEED = hashlib.sha1(uuids.NAMESPACE_URL.bytes + b"domgit:", usedforsecurity=False)


def uuid_of(domu: DomU) -> str:
    """The identity: the one that is written, or uuid5(NAMESPACE_URL, "domgit:" + name)."""
    if domu.metadata.uuid:
        return domu.metadata.uuid
    digest = _SEED.copy()
    digest.update(domu.metadata.name.encode())
    return str(uuids.UUID(bytes=digest.digest()[:16], version=5))


def claims_of(host: str, domu: DomU, common: tuple[str, ...]) -> Claims:
    """What a domU takes on that host. `common`: folders that all hosts see, as in Footing; a path in one is claimed once in all."""
    uuid, name, spec = uuid_of(domu), domu.metadata.name, domu.spec
    values: list[Claim] = [
        ("DG1301", name.casefold(), name, ("metadata", "name")),
        ("DG1302", uuid, uuid, ("metadata", "uuid" if domu.metadata.uuid else "name")),
    ]
    addresses: list[AddressClaim] = []
    if spec.state == "absent":
        return Claims(uuid, values, addresses)  # a tombstone claims its name and uuid, nothing else
    for index, vif in enumerate(spec.vifs):
        path: Path = ("spec", "vifs", index)
        values.append(("DG1303", vif.mac, vif.mac, (*path, "mac")))
        if vif.name is not None:
            ports = ports_of(vif.name, spec.type)
            values += [("DG1307", f"{host}/{port}", port, (*path, "name")) for port in ports]
        formed = eui64(vif.mac)
        declared: dict[tuple[int, int, int], AddressClaim] = {}
        for place, item in enumerate(vif.ips):
            address: Address = item.address if isinstance(item, SharedIp) else item
            if is_link_local(address) and address.prefixlen < address.max_prefixlen:
                continue  # refused (DG1405), and everybody has one in it
            number = int(address.network_address)
            key = (address.prefixlen, address.version, number)
            segment = vif.bridge if is_link_local(address) else ""
            # Said twice, it is claimed as shared if it once was.
            shared = isinstance(item, SharedIp) or (key in declared and declared[key][4])
            declared[key] = (*key, segment, shared, (*path, "ips", place))
        declared.setdefault((128, 6, formed), (128, 6, formed, vif.bridge, False, (*path, "mac")))
        addresses += declared.values()
    for index, disk in enumerate(spec.disks):
        # Read-only ones too: a customer's image under another's name is a leak, not sharing.
        disk_key = disk.path if disk.path.startswith(common) else f"{host}:{disk.path}"
        values.append(("DG1305", disk_key, disk.path, ("spec", "disks", index, "path")))
    vnc = spec.console.vnc
    if vnc is not None:
        display = str(vnc.display)
        values.append(("DG1306", f"{host}:{display}", display, ("spec", "console", "vnc", "display")))
    return Claims(uuid, values, addresses)


def known_claims(claims: Claims, guessed: Guesses) -> Claims:
    """Those that follow from what somebody wrote. With a wrong `state` nobody knows whether it claims more than a tombstone."""
    if not guessed.paths:
        return claims
    tombstone = guessed.touch(("spec", "state"))
    values = [claim for claim in claims.values if not guessed.touch(claim[3])]
    if guessed.touch(("metadata", "uuid")):
        values = [claim for claim in values if claim[0] != "DG1302"]
    addresses = [
        claim
        for claim in claims.addresses
        if not guessed.touch(claim[5]) and not (claim[3] and guessed.touch((*claim[5][:3], "bridge")))
    ]
    if tombstone:
        return Claims(claims.uuid, [claim for claim in values if claim[0] in _OF_TOMBSTONES], [])
    return Claims(claims.uuid, values, addresses)


def ports_of(name: str, kind: str | None) -> tuple[str, ...]:
    """The ports in dom0 of a vif called `name`: the emulated card of an HVM guest is a second one, which nobody else may have either."""
    return (name, f"{name}-emu") if kind == "hvm" else (name,)


Conflict = tuple[Diagnostic, frozenset[str]]


def check_claims(claimants: Iterable[Claimant]) -> Iterator[Conflict]:
    """Every value that two domUs claim although only one may have it; said at the later claimant.

    With each the scopes it reaches, as in Fleet.scopes: the hosts of both claimants, no third one.
    """
    claimants = list(claimants)
    yield from _value_conflicts(claimants)
    yield from _address_conflicts(claimants)


def _value_conflicts(claimants: Sequence[Claimant]) -> Iterator[Conflict]:
    taken = [(code, key) for claimant in claimants for code, key, _, _ in claimant.claims.values]
    if len(set(taken)) == len(taken):  # as in nearly every commit: seen in half of the time
        return
    first: dict[tuple[str, str], tuple[Claimant, Path]] = {}
    for claimant in claimants:
        for code, key, value, path in claimant.claims.values:
            mine = (claimant, path)
            holder = first.setdefault((code, key), mine)
            if holder is not mine:
                what = f"{_NOUNS[code]} {value}"
                yield _conflict(code, what, mine, holder)


def _reach(one: Claimant, other: Claimant) -> frozenset[str]:
    if one.sound and other.sound:
        return frozenset({f"host:{one.host}", f"host:{other.host}"})
    return frozenset(each.scope for each in (one, other) if not each.sound)


def _conflict(
    code: str, what: str, later: tuple[Claimant, Path], earlier: tuple[Claimant, Path], hint: str = ""
) -> Conflict:
    (claimant, path), (holder, holders_path) = later, earlier
    path, holders_path = tuple(path), tuple(holders_path)
    there = holder.source.located(holders_path)
    where = f"{there.file}:{there.place(holders_path)[0]}"
    message = f"{what} is claimed by domu.{holder.name} too ({where}; expected one claimant{hint})"
    found = claimant.source.located(path).error(code, path, message, f"domu.{claimant.name}")
    return inherited(found, claimant.source.file), _reach(claimant, holder)


def inherited(found: Diagnostic, file: str) -> Diagnostic:
    """A problem of the domU in `file`; where it stands in its profile the domU's file is named as well."""
    return found if found.file == file else replace(found, message=f"{found.message} (inherited by {file})")


_Holder = tuple[Claimant, Path, bool]  # who claims an address, where, and whether as a shared one


def _address_conflicts(claimants: Iterable[Claimant]) -> Iterator[Conflict]:
    """Addresses and prefixes that overlap. An address is looked up once for every prefix length in use, not every prefix.

    Of the holders of one address only the first is remembered, shared and not: a thousand claimants of it are
    a thousand problems, not a million.
    """
    held: dict[tuple[int, int, int, str], list[_Holder]] = {}
    wanted = [(claim, claimant) for claimant in claimants for claim in claimant.claims.addresses]
    single = {
        (version, number, segment)
        for (length, version, number, segment, *_), _ in wanted
        if length == BITS[version]
    }
    if len(single) == len(wanted):  # no prefix among them, and no address twice
        return
    wanted.sort(key=_length)  # what contains an address is there before it
    lengths: defaultdict[int, list[int]] = defaultdict(list)
    for (length, version, number, segment, shared, path), claimant in wanted:
        if length not in lengths[version]:
            lengths[version].append(length)
        mine = (claimant, path, shared)
        bits = BITS[version]
        for around in lengths[version]:
            for holder in held.get((version, around, number >> (bits - around), segment), ()):
                if not _together(mine, holder):
                    yield _overlap(length, version, number, mine, holder)
        own = (version, length, number >> (bits - length), segment)
        if own not in held:
            held[own] = [mine]
        elif all(holder[2] != shared for holder in held[own]):
            held[own].append(mine)


def _length(wanted: tuple[AddressClaim, Claimant]) -> int:
    return wanted[0][0]


def _together(one: _Holder, other: _Holder) -> bool:
    """Whether both may have it: they share it, or are one vif. Or both form it, so they have one MAC, and that is told."""
    (mine, path, shared), (theirs, their_path, shared_too) = one, other
    same_vif = mine is theirs and tuple(path[:3]) == tuple(their_path[:3])
    return (shared and shared_too) or same_vif or path[-1] == their_path[-1] == "mac"


def _overlap(length: int, version: int, number: int, mine: _Holder, holder: _Holder) -> Conflict:
    hint = "; `shared: true` must stand on every claimant" if mine[2] or holder[2] else ""
    return _conflict(
        "DG1304",
        f"address {address_text(network_around(version, number, length))}",
        mine[:2],
        holder[:2],
        hint,
    )
