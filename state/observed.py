"""What is, on one dom0: one value for everything that plans compare with, and how it is read."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from schemas.address import Address
from state import links, xenstore, xl
from state.files import USERDATA, Files, FileStat, folder_of
from state.foreign import Foreign, read_foreign
from state.guard import read_features, read_guards
from state.links import FdbEntry, Link, Port
from state.nft import Features, LoadedTable, Loader
from state.routes import Route, read_defaults
from state.run import ReadError, Runner, TornError, read
from state.xenstore import BackendVif
from state.xl import SavedDomain, ShutdownReason

# A domain takes some tenths of a second to come or go.
READ_ATTEMPTS, READ_AGAIN_AFTER_S = 6, 0.1
# What libxl keeps of each domain: its configuration as JSON, and as text what `xl config-update` was given.
_USERDATA = re.compile(r"userdata-d\.(?P<domid>[0-9]{1,5})\.(?P<uuid>[0-9a-f-]{36})\.(?P<kind>xl|libxl-json)")
T = TypeVar("T")
Sleep = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Domain:
    """One domU as the hypervisor, xenstore and libxl have it.

    `saved` is None while the domain is being created or dies: it exists, and nothing else is known.
    `staged` is the text that `xl config-update` left for the domain's next own reboot.
    """

    domid: int
    uuid: str
    name: str
    paused: bool
    dying: bool
    shutdown: ShutdownReason | None
    saved: SavedDomain | None
    vifs: tuple[BackendVif, ...]
    staged: str | None

    @property
    def running(self) -> bool:
        """Whether the guest can act: neither shut down nor dying."""
        return self.shutdown is None and not self.dying


@dataclass(frozen=True, slots=True)
class StaleStaging:
    """A staged configuration whose domain is gone: a later domain of that domid and uuid would get it."""

    path: str
    uuid: str


@dataclass(frozen=True, slots=True)
class Interest:
    """What matters to a pass: texts to read, images to look at, and what the guard may be loaded with.

    `programs` are shell programs that load a guard with one backend each; see state.guard.read_features.
    """

    files: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    programs: Mapping[Loader, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Observed:
    """The state of a dom0 at one moment. Mappings hold a key for all that was asked for.

    `beside` is the guard of the other backend, which is there too in the middle of a switch.
    """

    domains: tuple[Domain, ...]
    links: Mapping[str, Link]
    ports: Mapping[str, Port]
    fdb: tuple[FdbEntry, ...]
    guard: LoadedTable | None
    features: Features
    files: Mapping[str, str | None]
    images: Mapping[str, FileStat | None]
    holders: Mapping[str, str]
    monitors: Collection[str]
    stale: tuple[StaleStaging, ...] = ()
    free_memory_mib: int = 0
    foreign: Foreign = field(default_factory=Foreign)
    beside: LoadedTable | None = None
    addresses: tuple[tuple[str, Address], ...] = ()  # dom0's own, by interface
    routes: tuple[Route, ...] = ()  # the next hops of dom0's default routes
    no_folder: frozenset[str] = frozenset()  # images that are not there, and neither is their folder
    by_uuid: Mapping[str, Domain] = field(init=False, repr=False, compare=False)
    by_name: Mapping[str, Domain] = field(init=False, repr=False, compare=False)  # living ones alone
    pinned: Mapping[str, tuple[str, ...]] = field(
        init=False, repr=False, compare=False
    )  # static MACs by port

    def __post_init__(self) -> None:
        """Index what every domU is looked up in. By uuid a dying domain never hides a living one.

        Raises:
            ReadError: two living domains share a uuid, so nothing can be told apart.
        """
        index: dict[str, Domain] = {}
        for domain in self.domains:
            other = index.get(domain.uuid)
            if other is not None and not other.dying and not domain.dying:
                raise ReadError(f"domains {other.domid} and {domain.domid} have the same uuid {domain.uuid}")
            if other is None or other.dying:
                index[domain.uuid] = domain
        names = {domain.name: domain for domain in reversed(self.domains) if not domain.dying}
        pinned: dict[str, tuple[str, ...]] = {}
        for entry in sorted(self.fdb):
            if entry.static:
                pinned[entry.port] = (*pinned.get(entry.port, ()), entry.mac)
        object.__setattr__(self, "by_uuid", index)
        object.__setattr__(self, "by_name", names)
        object.__setattr__(self, "pinned", pinned)

    def digest(self) -> str:
        """`sha256:` over all that plans are made from."""
        content = (
            self.domains,
            sorted(self.ports.items()),
            self.fdb,
            self.guard,
            self.beside,
            sorted(self.files.items()),
            sorted((path, stat) for path, stat in self.images.items()),
            sorted(self.foreign.rules.items()),
        )
        return "sha256:" + hashlib.sha256(repr(content).encode("utf-8", "surrogateescape")).hexdigest()


def observe(runner: Runner, files: Files, interest: Interest, sleep: Sleep = time.sleep) -> Observed:
    """Everything at one moment, read anew.

    Raises:
        ReadError: any part cannot be read or contradicts another: then nothing is known.
    """
    domains, stale = observe_domains(runner, files, sleep)
    network = _until_whole(lambda: links.read_network(runner, files), sleep)
    images = {path: files.stat(path) for path in sorted(interest.images)}
    missing = [path for path, found in images.items() if found is None]
    folders = {folder: files.stat(folder) for folder in sorted({folder_of(path) for path in missing})}
    guards = read_guards(runner, files)
    return Observed(
        domains=domains,
        links=network.links,
        ports=network.ports,
        fdb=network.fdb,
        guard=guards[0] if guards else None,
        beside=guards[1] if len(guards) > 1 else None,
        features=read_features(runner, [each.by for each in guards], interest.programs),
        files={path: files.read_text(path) for path in sorted(interest.files)},
        images=images,
        holders=files.holders(interest.images),
        monitors=files.monitors(),
        stale=stale,
        free_memory_mib=xl.parse_info(read(runner, xl.INFO)).free_memory_mib,
        foreign=read_foreign(runner, files),
        addresses=network.addresses,
        routes=read_defaults(runner),
        no_folder=frozenset(path for path in missing if folders[folder_of(path)] is None),
    )


def observe_for(runner: Runner, files: Files, keys: Iterable[str], sleep: Sleep = time.sleep) -> Observed:
    """As much as the facts named by `keys` need, read anew; the rest is empty and says nothing.

    Raises:
        ReadError: as observe.
    """
    wanted: dict[str, list[str]] = {}
    for key in keys:
        kind, _, rest = key.partition(":")
        wanted.setdefault(kind, []).append(rest)
    of_domains = bool(wanted.keys() & {"domain", "name", "memory", "vcpus", "staged", "vif"})
    uuids = frozenset(
        rest.partition(":")[0]
        for kind in ("domain", "memory", "vcpus", "staged", "vif")
        for rest in wanted.get(kind, ())
    )
    network = _until_whole(lambda: links.read_network(runner, files), sleep) if "port" in wanted else None
    guards = read_guards(runner, files) if "guard" in wanted else ()
    return Observed(
        domains=_until_whole(lambda: _observe_domains(runner, files, uuids), sleep)[0] if of_domains else (),
        links=network.links if network is not None else {},
        ports=network.ports if network is not None else {},
        fdb=network.fdb if network is not None else (),
        guard=guards[0] if guards else None,
        beside=guards[1] if len(guards) > 1 else None,
        features=Features(ibrname=False),
        files={path: files.read_text(path) for path in wanted.get("file", ())},
        images={path: files.stat(path) for path in wanted.get("image", ())},
        holders={},
        monitors=(),
    )


def observe_domains(
    runner: Runner, files: Files, sleep: Sleep = time.sleep
) -> tuple[tuple[Domain, ...], tuple[StaleStaging, ...]]:
    """All domUs by domid, and staged configurations that outlived theirs.

    Raises:
        ReadError: xl or xenstore cannot be read, or never gave a picture that fits together.
    """
    return _until_whole(lambda: _observe_domains(runner, files), sleep)


def _until_whole(reading: Callable[[], T], sleep: Sleep) -> T:
    """A reading, again a few times where something came or went meanwhile: a guest that reboots must not stop a pass."""
    policy = Retrying(
        retry=retry_if_exception_type(TornError),
        stop=stop_after_attempt(READ_ATTEMPTS),
        wait=wait_fixed(READ_AGAIN_AFTER_S),
        sleep=sleep,
        reraise=True,
    )
    return policy(reading)


def _observe_domains(
    runner: Runner, files: Files, only: Collection[str] | None = None
) -> tuple[tuple[Domain, ...], tuple[StaleStaging, ...]]:
    """All domUs, with everything that is known of those in `only`: what libxl lists of each takes it milliseconds."""
    rows, uuids = xl.read_rows(runner), xl.read_uuids(runner)
    domids = None if only is None else sorted(domid for domid, uuid in uuids.items() if uuid in only)
    saved = xl.read_saved(runner, domids)
    vifs = xenstore.read_vifs(runner, domids)
    made = xenstore.read_domains(runner)
    kept = {
        (match["kind"], int(match["domid"]), match["uuid"]): f"{USERDATA}/{name}"
        for name in files.names(USERDATA)
        if (match := _USERDATA.fullmatch(name))
    }
    by_domid: dict[int, list[BackendVif]] = {}
    for vif in vifs:
        by_domid.setdefault(vif.domid, []).append(vif)
    _check_listed({row.domid for row in rows}, uuids=set(uuids), saved=set(saved), made=made)
    domains = []
    for row in rows:
        uuid = uuids[row.domid]
        path = kept.pop(("xl", row.domid, uuid), None)
        domain = Domain(
            domid=row.domid,
            uuid=uuid,
            name=row.name,
            paused=row.paused,
            dying=row.dying,
            shutdown=row.shutdown,
            saved=saved.get(row.domid),
            vifs=tuple(by_domid.get(row.domid, ())),
            staged=None if path is None else files.read_text(path),
        )
        if domids is None or row.domid in domids:
            _check_known(domain, kept.get(("libxl-json", row.domid, uuid)))
        domains.append(domain)
    staged = ((path, uuid) for (kind, _, uuid), path in kept.items() if kind == "xl")
    return tuple(domains), tuple(StaleStaging(path, uuid) for path, uuid in sorted(staged))


def _check_listed(rows: set[int], *, uuids: set[int], saved: set[int], made: Collection[int]) -> None:
    """Hold what each source says of who is there against `xl list`, which is the hypervisor's word.

    A list that was cut at the end of a line is a list like any other. libxl forgets a domain before the hypervisor
    does, so whoever libxl has made is in the list, if that is whole. After dom0 has rebooted all of these are empty,
    and then nobody is there: how many there were before is no reason to doubt them.

    Raises:
        TornError: a domain came or went meanwhile, or a list is not whole.
    """
    for said, where in ((uuids, "xl vm-list"), (saved, "xl list --long"), (made, xenstore.LIBXL)):
        if missing := sorted({*said} - rows):
            raise TornError(f"xl list: no domain {missing[0]}, which {where} has")
    if missing := sorted(rows - uuids):
        raise TornError(f"xl vm-list: no domain {missing[0]}, which came or went while it was read")


def _check_known(domain: Domain, kept: str | None) -> None:
    """See that nothing is missing of what is known of a domain; `kept` is where libxl has its configuration, if anywhere.

    Raises:
        TornError: it came, went or changed meanwhile, or a list is not whole.
    """
    saved = domain.saved
    if saved is None:
        # One that is being created has nothing kept yet, and one that is torn down nothing any more.
        if kept is not None and not domain.dying:
            raise TornError(f"xl list --long: no domain {domain.domid}, of which libxl has kept {kept}")
        return
    # A domid that changed hands between two calls of xl, or a name that did.
    for what, listed, long in (("uuid", domain.uuid, saved.uuid), ("name", domain.name, saved.name)):
        if listed != long and not domain.dying:
            raise TornError(
                f"xl list --long: {what} of domain {domain.domid} is {long!r:.80}, not {listed!r:.80}"
            )
    # libxl leaves vifs out of its listing that are no longer in xenstore, where nobody but libxl writes these.
    there = {vif.index: (vif.mac, vif.bridge, vif.interface) for vif in domain.vifs}
    for vif in saved.vifs if not domain.dying else ():
        known = (vif.mac, vif.bridge, vif.interface or f"vif{domain.domid}.{vif.index}")
        found = there.get(vif.index)
        if vif.backend == 0 and found != known:
            where = f"vif {vif.index} of domain {domain.domid}"
            raise TornError(
                f"xenstore-ls: {where} is {found or 'not there'!r:.200}, in xl list --long {known!r:.200}"
            )


def interfaces(domains: Iterable[Domain]) -> Mapping[str, BackendVif]:
    """All vifs of living domains by the name of their port in dom0."""
    return {vif.interface: vif for domain in domains if not domain.dying for vif in domain.vifs}
