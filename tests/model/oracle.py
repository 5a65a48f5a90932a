"""What must hold after every single act of domgit, judged from the host alone, without anything that plans."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Literal

from reconciler.ledger import MAKING, Ledger
from schemas.address import eui64_link_local
from state.desired import Address, DomU
from state.files import FileStat
from tests.model.domain import Domain
from tests.model.host import BRIDGES, Host
from tests.model.people import STRANGER
from tests.model.world import Argv, Seam
from tests.model.xl_config import parse_config

ADDRESS_SETS = ("own_v4", "own_net4", "own_v6", "own_net6")


class UnsafeError(AssertionError):
    """An act of domgit that must never be."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What the oracle remembers from before an act."""

    images: Mapping[str, FileStat]
    stranger: str
    running: Mapping[str, int]
    open_ports: frozenset[str]
    bound_ports: frozenset[str]
    grants: frozenset[tuple[str, str, str]]
    installers: frozenset[int]  # domids


@dataclass(slots=True)
class Oracle(Seam):
    """Watches a host while domgit acts on it; `inner` decides what becomes of each act.

    `desired` is git's word by uuid, `owned` are the domUs that are ours when a pass begins. `specs` are all that may still count for a domU: git's, what was last applied, and
    what was given to it since it last was as git wanted. `ledger` reads what is ours now.
    """

    host: Host
    inner: Seam = field(default_factory=Seam)
    desired: Mapping[str, DomU] = field(default_factory=dict)
    owned: frozenset[str] = frozenset()
    specs: Mapping[str, tuple[DomU, ...]] = field(default_factory=dict)
    ledger: Callable[[], Ledger] = dict
    acts: int = 0
    last: str = ""
    # Who has been installed, or begun to be, as far as the ledger has been told.
    installed: frozenset[str] = frozenset()
    _sight: Sight | None = None
    _tried_from: frozenset[tuple[str, str, str]] | None = None

    def before(self, argv: Argv) -> Literal["do", "refuse", "skip"]:
        self.acts, self.last = self.acts + 1, " ".join(argv)
        self._sight = sight(self.host)
        self.installed = frozenset(uuid for uuid, owned in self.ledger().items() if owned.install)
        if argv[0] == "domgit:watchdog":
            self._tried_from = self._sight.grants
        return self.inner.before(argv)

    def after(self, argv: Argv) -> Literal["tell", "refuse"]:
        if self._sight is not None:
            for problem in self._problems(self._sight, argv):
                raise UnsafeError(f"{' '.join(argv)}: {problem}")
        return self.inner.after(argv)

    def reading(self, argv: Argv) -> None:
        self.inner.reading(argv)

    def _problems(self, was: Sight, argv: Argv) -> Iterator[str]:
        now = sight(self.host)
        for path, image in was.images.items():
            if now.images.get(path) != image:
                yield f"the image {path} was {image}, is {now.images.get(path)}"
        if was.stranger != now.stranger:
            yield f"a domain that is not ours was {was.stranger}, is {now.stranger}"
        for uuid in was.running.keys() - now.running.keys():
            # A domU whose file has errors is kept as it was applied, halted ones too.
            word = [self.desired[uuid]] if uuid in self.desired else self.specs.get(uuid, ())
            if all(spec.state == "running" for spec in word):
                yield f"{uuid} was stopped although git does not say so"
        if argv[:2] == ("xl", "config-update") or (
            argv[0] == "domgit:write" and argv[1].startswith("/etc/xen/") and argv[1].endswith(".cfg")
        ):
            yield from strange_disks(self.host, self.host.files.texts[argv[-1]], self.ledger())
        yield from self._begun_again(argv, now.installers - was.installers)
        yield from self._opened(now.open_ports - was.open_ports)
        if argv[0] == "nft" and now.grants == self._tried_from != was.grants:
            return  # a change was taken back: what was there before is nobody's new grant
        for port in (was.bound_ports - now.bound_ports) & now.open_ports:
            domain, _ = owner_of(self.host, port)
            if domain is not None and domain.runs and domain.uuid in self.owned:
                yield f"{port} of {domain.name} is up on its bridge and has lost its binding"
        yield from self._granted(now.grants if argv[0] == "nft" else now.grants - was.grants, was.grants)

    def _begun_again(self, argv: Argv, domids: frozenset[int]) -> Iterator[str]:
        """Installers that were started for who had been installed before."""
        for uuid in (self.host.toolstack.domains[domid].uuid for domid in domids):
            if argv[:2] == ("xl", "create") and uuid in self.installed:
                yield f"an installer was started over what {uuid} has on its disks"

    def _opened(self, ports: frozenset[str]) -> Iterator[str]:
        """Ports that came up just now: each with a binding of its own MAC, which its own specification gives it."""
        for port in ports:
            domain, mac = owner_of(self.host, port)
            if domain is None:
                yield f"{port} came up and belongs to nobody"
            elif self.host.nftables.verdict(port) != "goto from_guest":
                yield f"{port} came up without a binding"
            elif f'"{port}" . {mac}' not in self.host.nftables.elements("own_mac"):
                yield f"{port} came up and is bound to another MAC than {mac}"
            elif mac not in {vif.mac for spec in self.specs.get(domain.uuid, ()) for vif in spec.vifs}:
                yield f"{port} came up with {mac}, which no specification gives to {domain.uuid}"

    def _granted(
        self, grants: frozenset[tuple[str, str, str]], before: frozenset[tuple[str, str, str]]
    ) -> Iterator[str]:
        """Everything that a port may send from is one domU's, the one that has the port; no address is two domUs'."""
        holders: dict[tuple[str, str], set[str]] = {}
        for port in sorted({port for port, _, _ in grants}):
            mine = {(mac, address) for each, mac, address in grants if each == port}
            domain, _ = owner_of(self.host, port)
            # A stranger that came with this name while the pass was under way is nobody that a grant could be meant for.
            candidates = [domain.uuid] if domain is not None and domain.uuid in self.owned else [*self.specs]
            fitting = {uuid for uuid in candidates if mine <= self._allowed(uuid)}
            if not fitting and domain is not None:
                # Somebody has added to what a vif may do that nothing speaks of any more: what domgit adds is compared.
                mine = {(mac, address) for each, mac, address in grants - before if each == port}
                fitting = {domain.uuid} if mine <= self._allowed(domain.uuid) else set()
            if not fitting:
                yield f"what {port} may send from is no single domU's: {sorted(mine)}"
                continue
            for _, address in mine:
                for (other_port, other), theirs in holders.items():
                    if fitting.isdisjoint(theirs) and _overlap(address, other):
                        yield f"{address} is granted to {port} and to {other_port}, which is another domU's"
            holders |= {(port, address): fitting for _, address in mine}

    def _allowed(self, uuid: str) -> set[tuple[str, str]]:
        """(MAC, address) pairs of the domU's vifs: a MAC stays until a replug, addresses follow git at once."""
        vifs = [vif for spec in self.specs.get(uuid, ()) for vif in spec.vifs]
        domain = self.host.toolstack.of_uuid(uuid)
        # One that somebody plugged in before domgit came keeps his MAC as well.
        plugged = {} if domain is None else {index: nic.config.mac for index, nic in domain.nics.items()}
        macs = {(vif.index, vif.mac) for vif in vifs} | set(plugged.items())
        allowed = set()
        for index, mac in macs:
            addresses: list[Address] = [each for vif in vifs if vif.index == index for each in vif.addresses]
            addresses += [eui64_link_local(mac)]
            allowed |= {(mac, _written(address)) for address in addresses}
        return allowed


def strange_disks(host: Host, text: str, ledger: Ledger) -> Iterator[str]:
    """The disks of a configuration that was not made or taken for its domU, or that its guest has as something else."""
    config = parse_config(text)
    known = ledger[config.uuid].disks if config.uuid in ledger else {}
    domain = host.toolstack.of_uuid(config.uuid)
    has = {disk.path: disk.format for disk in (() if domain is None else domain.config.disks)}
    for disk in config.disks:
        if disk.cdrom:
            continue
        if known.get(disk.path, MAKING).startswith(MAKING):
            yield f"{config.name} is given {disk.path}, which is not its own"
        if has.get(disk.path, disk.format) != disk.format:
            yield f"{config.name} is given {disk.path} as {disk.format}, it has it as {has[disk.path]}"


def sight(host: Host) -> Sight:
    """What the oracle compares, as it is now."""
    toolstack = host.toolstack
    stranger = toolstack.of_uuid(STRANGER)
    ports = {link.name: link for link in host.links.by_name.values() if link.bridge in BRIDGES}
    guests = frozenset(
        name
        for name, link in ports.items()
        if link.up and name not in BRIDGES.values() and name != "strange0"
    )
    return Sight(
        images=dict(host.files.images),
        stranger=f"{stranger} {ports.get('strange0')}",
        running={each.uuid: each.domid for each in toolstack.domains.values() if each.runs},
        open_ports=guests,
        bound_ports=frozenset(name for name in ports if _bound(host, name)),
        grants=grants_of(host),
        installers=frozenset(
            each.domid for each in toolstack.domains.values() if each.config.on_reboot == "preserve"
        ),
    )


def _bound(host: Host, port: str) -> bool:
    """Whether the guard knows the port as a guest's, with the MAC that it has."""
    _, mac = owner_of(host, port)
    known = f'"{port}" . {mac}' in host.nftables.elements("own_mac")
    return known and host.nftables.verdict(port) == "goto from_guest"


def grants_of(host: Host) -> frozenset[tuple[str, str, str]]:
    """(port, MAC, address) of all that the guard lets through."""
    found = set()
    for name in ADDRESS_SETS:
        for key in host.nftables.elements(name):
            port, mac, address = key.split(" . ")
            found.add((port.strip('"'), mac, address))
    return frozenset(found)


def owner_of(host: Host, port: str) -> tuple[Domain | None, str]:
    """The domain that has a port, and its MAC there."""
    for domain in host.toolstack.domains.values():
        for nic in domain.nics.values():
            if nic.interface == port:
                return domain, nic.config.mac
    return None, ""


def _written(network: Address) -> str:
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _overlap(one: str, other: str) -> bool:
    first: IPv4Network | IPv6Network = ip_network(one)
    second: IPv4Network | IPv6Network = ip_network(other)
    return first.version == second.version and first.overlaps(second)
