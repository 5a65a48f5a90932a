"""The first files of a repository, and the file of a new domU: texts to start from, for people to edit.

Pure but for `new_domu`, which has the repository read by the unprivileged child.
"""

from __future__ import annotations

import hashlib
import uuid as uuids
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from schemas.address import Address, HostIp, Subnet, address_text, overlaps
from schemas.diagnostic import Diagnostic, SpecError
from schemas.network import Network
from schemas.network_rules import network_rules
from schemas.scalars import DomUName, HostName, InterfaceName, is_good_vif_name
from state.run import HostRunner, Runner
from state.source import Reading, read_repository

_HOST_NAME: TypeAdapter[str] = TypeAdapter(HostName)
_DOMU_NAME: TypeAdapter[str] = TypeAdapter(DomUName)
_INTERFACE: TypeAdapter[str] = TypeAdapter(InterfaceName)
_SUBNET: TypeAdapter[Address] = TypeAdapter(Subnet)
_GATEWAY: TypeAdapter[Address] = TypeAdapter(HostIp)
_XEN_OUI = "00:16:3e"
_IPV4 = 4


def new_repository(
    *, host: str, bridge: str, uplink: str, subnet: str | None, gateway: str | None
) -> dict[str, str]:
    """The files of a repository for one dom0, by path: its host, a profile, and a network when there is a subnet.

    Both modes start at watching only: what they would do is read in a plan before they do it.

    Raises:
        SpecError: the subnet, the gateway or a name cannot be one.
    """
    try:
        _HOST_NAME.validate_python(host)
        for interface in (bridge, uplink):
            _INTERFACE.validate_python(interface)
        network = None if subnet is None else _SUBNET.validate_python(subnet)
        router = None if gateway is None else _GATEWAY.validate_python(gateway)
    except ValidationError as exc:
        raise _refused("DG1103", exc.errors()[0]["msg"].removeprefix("Value error, ")) from exc
    files = {
        "README.md": _README.format(host=host),
        f"hosts/{host}/host.yaml": _HOST.format(host=host, bridge=bridge, uplink=uplink),
        f"hosts/{host}/domus/.gitkeep": "",  # git keeps no empty folder, and the first domU goes there
        "profiles/small.yaml": _PROFILE,
    }
    if network is None:
        return files
    spec = {"subnet": subnet, "bridge": bridge, **({} if gateway is None else {"gateway": gateway})}
    made = {"apiVersion": "domgit/v1", "kind": "Network", "metadata": {"name": "vps-a"}, "spec": spec}
    for _, broken in network_rules([Network.model_validate(made)]):
        raise _refused(broken.code, broken.message)
    lines = [f"  subnet: {_scalar(str(network))}"]
    if router is not None:
        lines.append(f"  gateway: {_scalar(address_text(router))}")
    lines.append(
        "  # What is not for guests, dom0's own addresses first: `domgit new` gives out all the rest."
    )
    lines.append("  # reserved: [ADDRESS or PREFIX]")
    files["networks/vps-a.yaml"] = "\n".join([_NETWORK, *lines, f"  bridge: {bridge}", ""])
    return files


@dataclass(frozen=True, slots=True)
class NewDomU:
    """What is chosen for a new domU before its text is written."""

    name: str
    profile: str | None
    brought: frozenset[str]
    image_root: str
    vif_name: str | None
    mac: str
    bridge: str
    address: IPv4Address | IPv6Address


def new_domu(
    root: Path,
    *,
    name: str,
    host: str,
    profile: str | None,
    network: str | None,
    runner: Runner | None = None,
) -> tuple[Path, str]:
    """Where the file of a new domU goes in the checkout `root`, and its text.

    Raises:
        ReadError: the checkout cannot be read.
        SpecError: it has errors, the name is taken, or no profile, network or address can be chosen.
    """
    try:
        _DOMU_NAME.validate_python(name)
    except ValidationError as exc:
        raise _refused("DG1103", exc.errors()[0]["msg"].removeprefix("Value error, ")) from exc
    reading = read_repository(runner or HostRunner(), repository=str(root), revision="WORKTREE", host=host)
    errors = tuple(each for each in reading.diagnostics if each.severity == "error")
    if errors:
        raise SpecError(errors)
    chosen = choose(reading, name=name, host=host, profile=profile, network=network)
    return root / f"hosts/{host}/domus/{name}.yaml", domu_text(chosen)


def choose(reading: Reading, *, name: str, host: str, profile: str | None, network: str | None) -> NewDomU:
    """A name, an address, a MAC and a disk that nobody has, over all hosts of the repository.

    Raises:
        SpecError: the name is taken, or no profile, network or address can be chosen.
    """
    taken = reading.taken
    if taken is None or reading.desired is None:
        raise _refused("DG1201", f"no host {host!r} (have {_listed(reading.hosts)})")
    if name.casefold() in taken.names:
        raise _refused("DG1301", f"name {name!r} is claimed already")
    profile = _only("profile", profile, sorted(taken.profiles))
    here = {bridge for bridge, _ in reading.desired.host.bridges}
    usable = {each.metadata.name: each for each in reading.networks if each.spec.bridge in here}
    ipv4 = [key for key, each in usable.items() if each.spec.subnet.version == _IPV4]
    picked = _only("network", network, sorted(usable), among=ipv4)
    if picked is None:
        raise _refused("DG1202", f"no network on a bridge of {host} (expected a file in networks/)")
    address = next_address(usable[picked], taken.addresses)
    if address is None:
        raise _refused("DG1401", f"network {picked} has no free address")
    vif_name = name.lower()
    return NewDomU(
        name=name,
        profile=profile,
        brought=frozenset() if profile is None else taken.profiles[profile],
        image_root=taken.roots[host][0] if taken.roots.get(host) else "/srv/xen/images",
        vif_name=vif_name if is_good_vif_name(vif_name) and vif_name not in taken.vif_names else None,
        mac=next_mac(name, taken.macs),
        bridge=usable[picked].spec.bridge,
        address=address,
    )


def next_address(network: Network, taken: Iterable[Address]) -> IPv4Address | IPv6Address | None:
    """The lowest address of a network that a guest may have and nobody claims; None when it is full."""
    spec = network.spec
    subnet: Address = spec.subnet
    blocked = [*spec.reserved, *taken] + ([spec.gateway] if spec.gateway is not None else [])
    ranges = sorted(
        (int(each.network_address), int(each.broadcast_address)) for each in blocked if overlaps(each, subnet)
    )
    narrow = subnet.prefixlen >= subnet.max_prefixlen - 1  # both ends of a /31 and a /127 are hosts
    candidate = int(subnet.network_address) + (not narrow)
    last = int(subnet.broadcast_address) - (subnet.version == _IPV4 and not narrow)
    for first, end in ranges:
        if first > candidate:
            break
        candidate = max(candidate, end + 1)
    if candidate > last:
        return None
    # From bytes: a small number alone would become an IPv4 address.
    return ip_address(candidate.to_bytes(subnet.max_prefixlen // 8, "big"))


def next_mac(name: str, taken: frozenset[str]) -> str:
    """A MAC of Xen's own range that follows from the domU's name, so that two people who add it get the same."""
    identity = uuids.uuid5(uuids.NAMESPACE_URL, f"domgit:{name}")
    number = 0
    while True:
        tail = hashlib.sha256(f"{identity}:{number}".encode()).digest()[:3]
        mac = f"{_XEN_OUI}:{tail.hex(':')}"
        if mac not in taken:
            return mac
        number += 1


def domu_text(new: NewDomU) -> str:
    """The file of a new domU: what its profile brings is left out."""
    lines = ["apiVersion: domgit/v1", "kind: DomU", "metadata:", f"  name: {new.name}", "spec:"]
    if new.profile is not None:
        lines.append(f"  profile: {new.profile}")
    lines += [text for key, text in _NEEDED.items() if key not in new.brought]
    if "boot.run" not in new.brought:
        lines += ["  boot:", "    run: {bootloader: pygrub}   # the kernel on its own disk"]
    lines += [
        "  disks:",
        f"    - {{vdev: xvda, path: {new.image_root}/{new.name}.img, size: 10GiB}}   # made empty if it is not there",
        "  vifs:",
    ]
    vif = [
        *([] if new.vif_name is None else [f"name: {new.vif_name}"]),
        f"mac: {new.mac}",
        f"bridge: {new.bridge}",
        f"ips: [{_scalar(str(new.address))}]",
    ]
    lines += [f"    {'-' if number == 0 else ' '} {line}" for number, line in enumerate(vif)]
    return "\n".join(lines) + "\n"


_NEEDED: Mapping[str, str] = {"type": "  type: pvh", "memory": "  memory: 256MiB"}


def _scalar(text: str) -> str:
    """Quoted where YAML readers other than ours see more than text, as in IPv6 addresses."""
    return f'"{text}"' if ":" in text else text


def _only(what: str, wanted: str | None, have: list[str], among: list[str] | None = None) -> str | None:
    """The one that is named; without a name the only one there is, or None when there is none."""
    if wanted is not None:
        if wanted not in have:
            raise _refused(
                "DG1201" if what == "profile" else "DG1202", f"no {what} {wanted!r} (have {_listed(have)})"
            )
        return wanted
    choice = among or have
    if len(choice) > 1:
        raise _refused("DG1202", f"more than one {what} (expected --{what} with one of {_listed(choice)})")
    return choice[0] if choice else None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _refused(code: str, message: str) -> SpecError:
    return SpecError((Diagnostic(None, None, None, code, message),))


_README = """# VPSs of {host}

    domgit validate                      # the whole repository, all problems at once
    domgit new NAME --host {host}        # one more VPS, with the next free address
    domgit plan --host {host}            # on the dom0: what would be done
"""
_HOST = """apiVersion: domgit/v1
kind: Host
metadata:
  name: {host}
spec:
  mode: report                  # enforce: the daemon does what it plans; `domgit apply` always may
  bridges:
    - {{name: {bridge}, uplinks: [{uplink}]}}
  guard:
    mode: audit                 # enforce: drop what no binding allows, instead of counting it
    unknownVifs: report         # drop: also for vifs that stand in no file
"""
_PROFILE = """apiVersion: domgit/v1
kind: Profile
metadata:
  name: small
spec:
  type: pvh
  memory: 256MiB
  vcpus: 1
"""
_NETWORK = """apiVersion: domgit/v1
kind: Network
metadata:
  name: vps-a
spec:"""
