"""A host in a few lines: what git says, what was last applied, and how the live host differs from that.

`settled` is the host right behind an apply that did all it should; tests/unit/deviations.py then breaks it as a case
says. All addresses follow from a domU's number: vm07 has 172.16.39.107.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import Any, TypeVar

from reconciler.diff_guard import Held, make_guard
from reconciler.diff_vif import interface_of
from reconciler.guard import iptables, nftables
from reconciler.guard.binding import Guard
from reconciler.guard.nftables_rules import listed
from reconciler.hotplug import PATH as HOTPLUG
from reconciler.hotplug import TEMPLATES, diff_templates, script
from reconciler.installing import started
from reconciler.ledger import Owned
from reconciler.plan import Source
from reconciler.reconcile import interest
from reconciler.render_xl import ENDS, config_path, on_crash, render_xl
from reconciler.scope import Situation
from reconciler.step import WriteFile
from schemas.fleet import view
from state.desired import Desired, DomU, Vif
from state.files import FileStat, folder_of
from state.foreign import Foreign
from state.links import GUEST_GROUP, LLDP_GROUP, FdbEntry, Link, Port
from state.nft import Features, LoadedTable, Loader, normalised_rules
from state.observed import Domain, Interest, Observed, StaleStaging
from state.resolve import resolve
from state.routes import Route
from state.source import Reading
from state.xenstore import BackendVif
from state.xl import SavedDisk, SavedDomain, SavedVif, SavedVnc
from tests.unit.fleets import documents, fleet_of
from tests.unit.netfilter_tables import FakeTables

Words = Mapping[str, Any]
T = TypeVar("T")
REVISION, BEFORE = "c0ffee00" * 5, "decade00" * 5
AUTHOR = "Provider <noc@example.net>"
NETWORKS = {
    "a": ("172.16.39.0/24", "172.16.39.1", "xenbr0"),
    "a6": ("2001:db8:39::/64", "2001:db8:39::1", "xenbr0"),
    "b": ("198.51.100.0/24", "198.51.100.1", "xenbr1"),
}
HOST: Words = {
    "mode": "enforce",
    "bridges": [{"name": "xenbr0", "uplinks": ["eth0"]}],
    "guard": {"mode": "enforce", "unknownVifs": "report"},
    "disruption": "link",
    "images": {"volumeGroups": ["vol-vps"]},
}
MAC = "fe:ff:ff:ff:ff:ff"
FEATURES = Features(ibrname=True)
MIB = 1024 * 1024


def yaml(value: Any) -> str:
    """The value in flow style, scalars as plain as they were written in the case."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {yaml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(yaml(each) for each in value) + "]"
    text = str(value)
    return text if re.fullmatch(r"[A-Za-z0-9_./@%+-]+(:[A-Za-z0-9_./@%+-]+)*", text) else f'"{text}"'


def number(name: str) -> int:
    """The number in a domU's name."""
    return int(re.sub(r"\D", "", name) or "99")


def domu_words(name: str, words: Words) -> Words:
    """The whole document of a domU from the words of a case."""
    spec: dict[str, Any] = {
        "type": "pv",
        "memory": "256MiB",
        "maxMemory": "512MiB",
        "vcpus": "1",
        "maxVcpus": "2",
        "boot": {"run": {"kernel": "/srv/xen/vmlinuz", "cmdline": "root=/dev/xvda ro"}},
        **words,
    }
    metadata = {key: spec.pop(key) for key in ("uuid", "labels", "placement") if key in spec}
    spec["vifs"] = [
        _without_none({**_vif(name, index), **(each or {})})
        for index, each in enumerate(spec.get("vifs", [{}]))
    ]
    spec["disks"] = [
        _without_none({**_disk(name, index), **(each or {})})
        for index, each in enumerate(spec.get("disks", [{}]))
    ]
    return {"apiVersion": "domgit/v1", "kind": "DomU", "metadata": {"name": name, **metadata}, "spec": spec}


def _vif(name: str, index: int) -> dict[str, Any]:
    letter, own = "abcd"[index], number(name)
    return {
        "name": name if index == 0 else f"{name}{letter}",
        "mac": f"00:16:3e:00:53:{own:02x}" if index == 0 else f"00:16:3e:00:5{index}:{own:02x}",
        "bridge": "xenbr0",
        "ips": [f"172.16.39.{100 + 50 * index + own}"],
    }


def _disk(name: str, index: int) -> dict[str, Any]:
    letter = "abcd"[index]
    return {
        "vdev": f"xvd{letter}",
        "path": f"/srv/xen/images/{name}{'' if index == 0 else letter}.img",
        "size": "1GiB",
    }


def _without_none(words: Words) -> dict[str, Any]:
    return {key: value for key, value in words.items() if value != "none"}


def repository(words: Words) -> dict[str, str]:
    """The files of a repository from the words of a case: `host`, `elsewhere`, `files`, and domUs by name."""
    files = {
        f"networks/{name}.yaml": yaml(_document("Network", name, {"subnet": s, "gateway": g, "bridge": b}))
        for name, (s, g, b) in NETWORKS.items()
    }
    for host in ("dom0-a", "dom0-b"):
        files[f"hosts/{host}/host.yaml"] = yaml(_document("Host", host, _host(words.get("host") or {})))
    for name, spec in words.items():
        if name not in {"host", "elsewhere", "files"}:
            files[f"hosts/dom0-a/domus/{name}.yaml"] = yaml(domu_words(name, spec or {}))
    for name, spec in (words.get("elsewhere") or {}).items():
        files[f"hosts/dom0-b/domus/{name}.yaml"] = yaml(domu_words(name, spec or {}))
    return {**files, **(words.get("files") or {})}


def _host(words: Words) -> Words:
    merged = {**HOST, **words}
    return {**merged, "guard": {**HOST["guard"], **words.get("guard", {})}}


def _document(kind: str, name: str, spec: Words) -> Words:
    return {"apiVersion": "domgit/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def reading(words: Words, revision: str = REVISION, subject: str = "") -> Reading:
    """What the reader would hand over for that repository and host dom0-a."""
    fleet = fleet_of(repository(words))
    seen = view(fleet, "dom0-a")
    desired = None
    if not seen.refused and seen.host is not None:
        desired = resolve(
            seen.host,
            documents(seen),
            networks=seen.networks,
            held=seen.held,
            elsewhere=seen.elsewhere,
            diagnostics=seen.diagnostics,
        )
    return Reading(
        revision=revision,
        author=AUTHOR,
        subject=subject,
        committed_at="",
        files=0,
        hosts=tuple(fleet.hosts),
        valid=fleet.valid,
        diagnostics=seen.diagnostics,
        desired=desired,
        refused=seen.refused,
    )


def desired(words: Words) -> Desired:
    """What a repository without errors wants of dom0-a."""
    found = reading(words)
    assert found.desired is not None, found.diagnostics
    return found.desired


@dataclass(slots=True)
class World:
    """A host that can be changed piece by piece, then looked at whole."""

    domains: dict[str, Domain] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    ports: dict[str, Port] = field(default_factory=dict)
    fdb: set[FdbEntry] = field(default_factory=set)
    guard: LoadedTable | None = None
    beside: LoadedTable | None = None
    wanted: Guard | None = None  # what the loaded guard was made from
    backends: frozenset[Loader] = frozenset({"nftables"})
    files: dict[str, str | None] = field(default_factory=dict)
    images: dict[str, FileStat | None] = field(default_factory=dict)
    holders: dict[str, str] = field(default_factory=dict)
    monitors: set[str] = field(default_factory=set)
    stale: list[str] = field(default_factory=list)
    free_memory_mib: int = 8192
    ledger: dict[str, Owned] = field(default_factory=dict)
    foreign: dict[str, str] = field(default_factory=dict)
    addresses: list[tuple[str, str]] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    no_folders: set[str] = field(default_factory=set)

    def observed(self, seen: Interest) -> Observed:
        """The host as `observe` would give it, with a key for all that was asked for."""
        return Observed(
            domains=tuple(sorted(self.domains.values(), key=lambda each: each.domid)),
            links=dict(self.links),
            ports=dict(self.ports),
            fdb=tuple(sorted(self.fdb)),
            guard=self.guard,
            beside=self.beside,
            features=replace(FEATURES, backends=self.backends),
            files={path: self.files.get(path) for path in (*seen.files, *self._templates())},
            images={path: self.images.get(path) for path in seen.images},
            holders=dict(self.holders),
            monitors=tuple(sorted(self.monitors)),
            stale=tuple(StaleStaging(path, path.split(".")[2]) for path in self.stale),
            free_memory_mib=self.free_memory_mib,
            foreign=Foreign(dict(self.foreign)),
            addresses=tuple((interface, ip_network(text)) for interface, text in self.addresses),
            routes=tuple(self.routes),
            no_folder=frozenset(
                path
                for path in seen.images
                if folder_of(path) in self.no_folders and self.images.get(path) is None
            ),
        )

    def _templates(self) -> list[str]:
        """Those are read whatever was asked for."""
        return [path for path in self.files if path.startswith(f"{TEMPLATES}/")]

    def bridge(self, name: str, uplinks: Iterable[str]) -> None:
        """A bridge with its uplinks."""
        self.links[name] = Link(name, 1, MAC, up=True, mtu=1500, bridge=None, kind="bridge")
        for uplink in uplinks:
            self.bridged(uplink, name)

    def start(self, domu: DomU, domid: int) -> None:
        """The domU as `xl create` starts it, every hotplug script done."""
        vifs = tuple(_backend(vif, domid) for vif in domu.vifs)
        self.domains[domu.name] = Domain(
            domid=domid,
            uuid=domu.uuid,
            name=domu.name,
            paused=False,
            dying=False,
            shutdown=None,
            saved=saved(domu, domid),
            vifs=vifs,
            staged=None,
        )
        self.monitors.add(config_path(domu.name))
        for vif, wanted_vif in zip(vifs, domu.vifs, strict=True):
            enforced = wanted_vif.guard == "enforce"
            self.plug(vif, locked=enforced and domu.type != "hvm", lldp=enforced)
            if domu.type == "hvm":
                self.bridged(f"{vif.interface}-emu", vif.bridge, lldp=enforced)

    def bridged(self, name: str, bridge: str, *, up: bool = True, lldp: bool = False) -> None:
        """A port that nothing locks."""
        mask = 1 << LLDP_GROUP if lldp else 0
        self.links[name] = Link(
            name,
            len(self.links) + 2,
            MAC,
            up,
            1500,
            bridge,
            "",
            mask,
            group=str(GUEST_GROUP) if lldp else "default",
        )
        self.ports[name] = Port(name, bridge, learning=True, locked=False, isolated=False)

    def plug(self, vif: BackendVif, *, locked: bool = True, lldp: bool = True, up: bool = True) -> None:
        """A vif's port, on its bridge; `lldp`: it forwards that group's frames, so that the guard sees them."""
        self.bridged(vif.interface, vif.bridge, up=up, lldp=lldp)
        self.ports[vif.interface] = Port(
            vif.interface, vif.bridge, learning=not locked, locked=locked, isolated=False
        )
        self.fdb.add(FdbEntry(vif.interface, vif.mac, static=locked, sticky=locked))

    def unplug(self, interface: str, *, whole: bool = True) -> None:
        """The port off its bridge, and gone altogether unless told otherwise."""
        self.ports.pop(interface, None)
        self.fdb = {entry for entry in self.fdb if entry.port != interface}
        if whole:
            self.links.pop(interface, None)
        else:
            self.links[interface] = replace(self.links[interface], bridge=None)

    def stop(self, name: str) -> None:
        """The domain gone, with its ports."""
        for vif in self.domains.pop(name).vifs:
            self.unplug(vif.interface)
            self.unplug(f"{vif.interface}-emu")


def _backend(vif: Vif, domid: int) -> BackendVif:
    return BackendVif(
        domid=domid,
        index=vif.index,
        mac=vif.mac,
        bridge=vif.bridge,
        interface=interface_of(vif, domid),
        script="/etc/xen/scripts/vif-domgit",
        rate=vif.rate,
        hotplug_status="connected",
    )


def saved(domu: DomU, domid: int) -> SavedDomain:
    """What libxl saves of a domU that was started from its configuration."""
    boot = domu.boot
    assert boot is not None
    cdrom = [SavedDisk("hdc", boot.cdrom, "raw", writable=False, cdrom=True)] if boot.cdrom else []
    return SavedDomain(
        domid=domid,
        name=domu.name,
        uuid=domu.uuid,
        type=domu.type,
        memory_mib=domu.memory_mib,
        max_memory_mib=domu.max_memory_mib,
        vcpus=domu.vcpus,
        max_vcpus=domu.max_vcpus,
        kernel=boot.kernel,
        ramdisk=boot.ramdisk,
        cmdline=boot.cmdline,
        bootloader=boot.bootloader,
        vifs=tuple(
            SavedVif(vif.index, vif.mac, vif.bridge, vif.name or "", "vif-domgit", vif.rate)
            for vif in domu.vifs
        ),
        disks=(
            *(
                SavedDisk(disk.vdev, disk.path, disk.format, writable=disk.writable, cdrom=False)
                for disk in domu.disks
            ),
            *cdrom,
        ),
        vnc=None if domu.vnc is None else SavedVnc(domu.vnc.listen, domu.vnc.display, domu.vnc.secret or ""),
        serial="pty" if domu.type == "hvm" else "",
        on_poweroff="preserve",
        on_reboot=ENDS[boot.phase],
        on_crash=on_crash(domu),
    )


def settled(want: Desired | None) -> World:
    """The host right behind an apply of `want`; a bare dom0 where nothing ever was."""
    world = World()
    bridges = (("xenbr0", ("eth0",)),) if want is None else want.host.bridges
    for bridge, uplinks in bridges:
        world.bridge(bridge, uplinks)
    if want is None:
        return world
    world.files[HOTPLUG] = script()
    alive = [domu for domu in want.domus if domu.state != "absent"]
    for domid, domu in enumerate(alive, 1):
        world.files[config_path(domu.name)] = render_xl(domu)
        for disk in domu.disks:
            world.images[disk.path] = image(disk.path, (disk.size_bytes or 0) // MIB)
        made = {disk.path: identity(world.images[disk.path]) for disk in domu.disks}
        world.ledger[domu.uuid] = Owned(domu.name, disks=made, protect=domu.protect)
        if domu.state == "running":
            world.start(domu, domid)
            known = started(domu, None)
            world.ledger[domu.uuid] = replace(world.ledger[domu.uuid], install=known or "")
    seen = world.observed(interest(want, None, world.ledger))
    templates = (
        step
        for domu in alive
        for change in diff_templates(domu, seen, None, "nftables")
        for step in change.steps
    )
    world.files |= {step.path: step.text for step in templates if isinstance(step, WriteFile)}
    world.wanted = bound(want, world)
    world.guard = loaded(world.wanted, "nftables")
    return world


def image(path: str, size_mib: int, kind: Any = "file") -> FileStat:
    """An image with an inode of its own."""
    return FileStat(kind, 2049, sum(path.encode()), size_mib * MIB)


def identity(found: FileStat | None) -> str:
    """See FileStat."""
    assert found is not None
    return found.identity


def bound(want: Desired, world: World) -> Guard:
    """The guard for all that `want` has there."""
    seen = world.observed(interest(want, None, world.ledger))
    situation = Situation(want, Source(BEFORE), seen, world.ledger)
    domus = [domu for domu in want.domus if domu.state != "absent"]
    return make_guard(situation, domus, Held({}))


def loaded(guard: Guard, by: Loader) -> LoadedTable:
    """A guard in the kernel."""
    if by != "nftables":
        tables = FakeTables(ibrname=FEATURES.ibrname)
        tables.apply(iptables.full(guard, ibrname=FEATURES.ibrname))
        found = tables.loaded()
        assert found is not None
        return replace(found, by=by)
    members = {name: each for name, each in nftables.elements(guard).items() if each}
    text = listed(guard, FEATURES)
    return LoadedTable(members, normalised_rules(f"table bridge domgit {{\n{text}}}\n"))


def backwards(items: Mapping[str, T]) -> dict[str, T]:
    """The same mapping, listed from its end."""
    return dict(reversed(list(items.items())))


def shuffled(observed: Observed) -> Iterator[Observed]:
    """The same host with everything listed in other orders."""
    yield replace(
        observed,
        domains=observed.domains[::-1],
        links=backwards(observed.links),
        ports=backwards(observed.ports),
        fdb=observed.fdb[::-1],
        files=backwards(observed.files),
        images=backwards(observed.images),
    )
