"""The guests: each domU name has an "operating system", a network namespace whose settings outlive reboots.

A guest boots when its domain runs, drives its frontends, balloons, and shuts down when asked (or not, if told so).
"""

import ipaddress
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.dom0 import GUESTS, hypervisor, kernel
from tests.dom0.backends import BACKEND, CONNECTED, INIT_WAIT, Blkback, Console, Key, Netback, Vif
from tests.dom0.network import GATEWAY_ADDRESSES, NetworkError, add_namespace, ip_batch
from tests.dom0.xenstore import Xenstore

log = logging.getLogger("players")

REASONS = {
    "poweroff": hypervisor.POWEROFF,
    "halt": hypervisor.POWEROFF,
    "reboot": hypervisor.REBOOT,
    "suspend": hypervisor.SUSPEND,
    "crash": hypervisor.CRASH,
}
# What a guest does with the first shutdown request of a boot: obeys; takes note of it and goes on; does not even look.
SHUTDOWN_BEHAVIOURS = ("obey", "ignore", "deaf")


@dataclass(frozen=True, slots=True)
class Settings:
    """What is on the guest's disk, so to speak."""

    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # per device, with prefix length
    gateways: tuple[str, ...] = ()
    routes: tuple[tuple[str, str], ...] = ()  # destination, via
    shutdown: str = "obey"
    boots: int = 0
    installed: bool = False  # whether addresses were ever set, by hand or at the first boot


def file_name(domain_name: str) -> str:
    """The name of the guest's settings and (with "guest-" before it) of its namespace."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", domain_name) or "_"


def read_settings(name: str) -> Settings:
    """The guest's settings, empty before its first boot."""
    path = GUESTS / f"{file_name(name)}.json"
    if not path.exists():
        return Settings()
    raw: dict[str, Any] = json.loads(path.read_text())
    raw["addresses"] = {device: tuple(values) for device, values in raw["addresses"].items()}
    raw["routes"] = tuple((to, via) for to, via in raw["routes"])
    return Settings(**{**raw, "gateways": tuple(raw["gateways"])})


def write_settings(name: str, settings: Settings) -> None:
    """Writes them whole: readers never see half a file."""
    path = GUESTS / f"{file_name(name)}.json"
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(settings), indent=1))
    partial.rename(path)


@dataclass(slots=True)
class Guest:
    """A domain that has booted."""

    domid: int
    name: str
    down: bool = False
    asked: bool = False  # Linux takes one request in a boot, and looks at no other, whatever became of it


class Guests:
    """All guests of this dom0."""

    def __init__(self, xenstore: Xenstore) -> None:
        self._xenstore = xenstore
        self.netback = Netback(xenstore, self.namespace_of)
        self.blkback = Blkback(xenstore, lambda domid: domid in self.booted)
        self.console = Console(xenstore)
        self.booted: dict[int, Guest] = {}

    def namespace_of(self, domid: int) -> str:
        """The namespace of the domain's operating system, made if this is its first boot."""
        namespace = f"guest-{file_name(self._xenstore.read(f'/local/domain/{domid}/name') or str(domid))}"
        add_namespace(namespace)
        return namespace

    # ---- what the hypervisor tells ----

    def sync(self) -> None:
        """Boots domains that run and forgets those that are gone."""
        domains = hypervisor.domains()
        for domid in [d for d in self.booted if d not in domains]:
            del self.booted[domid]
        for domid in [d for d in self.console.ptys if d not in domains]:
            self.console.close(domid)
        for domid, domain in domains.items():
            if domain.runs and domid not in self.booted:
                self._boot(domid)

    def _boot(self, domid: int) -> None:
        name = self._xenstore.read(f"/local/domain/{domid}/name") or str(domid)
        self.booted[domid] = Guest(domid, name)
        self.namespace_of(domid)
        settings = read_settings(name)
        if not settings.installed:
            settings = self._install(domid, settings)
            write_settings(name, settings)
        self._vcpus(domid)
        for key in sorted(k for k in self.netback.vifs if k[0] == domid):
            self.connect(key)
        for device in self._xenstore.list(f"/local/domain/{domid}/device/vbd"):
            self.blkback.look((domid, int(device)))
        write_settings(name, replace(settings, boots=settings.boots + 1))
        self.console.write(domid, f"{name}: boot {settings.boots + 1} complete")
        log.info("guest booted", extra={"guest": name, "domid": domid, "boot": settings.boots + 1})

    def _install(self, domid: int, settings: Settings) -> Settings:
        """What an installer does with the addresses that the provider assigned, as `ip=` in the configuration."""
        addresses: dict[str, tuple[str, ...]] = {}
        gateways: list[str] = []
        for key in sorted(k for k in self.netback.vifs if k[0] == domid):
            words = (self._xenstore.read(f"{BACKEND}/vif/{key[0]}/{key[1]}/ip") or "").split()
            addresses[f"eth{key[1]}"] = tuple(filter(None, map(_with_prefix, words)))
        for gateway in map(ipaddress.ip_interface, GATEWAY_ADDRESSES):
            everything = [ipaddress.ip_interface(a).ip for values in addresses.values() for a in values]
            if any(a in gateway.network for a in everything):
                gateways.append(str(gateway.ip))
        return replace(settings, addresses=addresses, gateways=tuple(gateways), installed=True)

    # ---- what xenstore tells ----

    def look_at_vif(self, key: Key) -> None:
        """A vif's entry changed; a new one of a running guest is driven at once."""
        self.netback.look(key)
        vif = self.netback.vifs.get(key)
        guest = self.booted.get(key[0])
        if vif is not None and not vif.connected and guest is not None and not guest.down:
            self.connect(key)

    def connect(self, key: Key) -> None:
        """The guest's driver finds the interface: frontend connected, named ethN, settings applied."""
        vif, guest = self.netback.vifs[key], self.booted[key[0]]
        if self._xenstore.read(f"{BACKEND}/vif/{key[0]}/{key[1]}/state") != INIT_WAIT:
            return
        device = f"eth{key[1]}"
        ip_batch([f"link set {vif.peer} name {device}", f"link set {device} up"], vif.namespace)
        vif.peer, vif.connected = device, True
        apply_settings(guest.name, vif.namespace, device)
        self._xenstore.write(f"{vif.frontend}/state", CONNECTED)
        self.netback.look(key)

    def look_at_domain(self, domid: int, node: str) -> None:
        """A node of the domain itself changed."""
        if node.startswith("console"):
            self.console.look(domid)
        guest = self.booted.get(domid)
        if guest is None or guest.down:
            return
        if node == "control/shutdown":
            self._asked(guest)
        elif node == "memory/target":
            self._balloon(domid)
        elif node.startswith("cpu/"):
            self._vcpus(domid)
        elif node == "name":
            self._renamed(guest)

    def _asked(self, guest: Guest) -> None:
        path = f"/local/domain/{guest.domid}/control/shutdown"
        request = self._xenstore.read(path)
        behaviour = read_settings(guest.name).shutdown
        if request not in REASONS or guest.asked or behaviour == "deaf":
            return
        guest.asked = True
        self._xenstore.write(path, "")
        if behaviour == "obey":
            self.stop(guest, REASONS[request])

    def stop(self, guest: Guest, reason: int) -> None:
        """The guest's kernel ends: no more frames, and the toolstack decides what comes next.

        Its interfaces may stay for long, and another domain that starts under its name meanwhile has an eth0 as well.
        """
        guest.down = True
        for vif in self._connected(guest.domid):
            ended = f"x{vif.key[0]}.{vif.key[1]}"
            ip_batch([f"link set {vif.peer} down", f"link set {vif.peer} name {ended}"], vif.namespace)
            vif.peer = ended
        log.info("guest stops", extra={"guest": guest.name, "domid": guest.domid, "reason": reason})
        hypervisor.shut_down(guest.domid, reason)

    def _connected(self, domid: int) -> list[Vif]:
        return [vif for key, vif in sorted(self.netback.vifs.items()) if key[0] == domid and vif.connected]

    def _balloon(self, domid: int) -> None:
        target_kib = int(self._xenstore.read(f"/local/domain/{domid}/memory/target") or 0)
        if target_kib > 0:
            hypervisor.change(domid, lambda d: replace(d, pages=min(target_kib // 4, d.max_pages)))

    def _vcpus(self, domid: int) -> None:
        base = f"/local/domain/{domid}/cpu"
        online = sum(
            self._xenstore.read(f"{base}/{i}/availability") == "online" for i in self._xenstore.list(base)
        )
        if online:
            hypervisor.change(domid, lambda d: replace(d, online_vcpus=online))

    def _renamed(self, guest: Guest) -> None:
        """The provider renamed the domain; its operating system is the same one."""
        new = self._xenstore.read(f"/local/domain/{guest.domid}/name")
        if not new or new == guest.name:
            return
        old_path, new_path = (Path("/run/netns", f"guest-{file_name(name)}") for name in (guest.name, new))
        if old_path != new_path and not new_path.exists():
            new_path.touch()
            kernel.mount(old_path, new_path, "", kernel.MS_BIND)
            kernel.unmount(old_path)
            old_path.unlink()
            write_settings(new, read_settings(guest.name))
            (GUESTS / f"{file_name(guest.name)}.json").unlink()
            for vif in (v for k, v in self.netback.vifs.items() if k[0] == guest.domid):
                vif.namespace = new_path.name
        guest.name = new

    # ---- what tests and humans ask ----

    def command(self, name: str, verb: str) -> str:
        """Carries out what the guest's own administrator does; the answer is empty or says why not."""
        running = [g for g in self.booted.values() if g.name == name and not g.down]
        if verb == "apply":
            for guest in running:
                for vif in self._connected(guest.domid):
                    apply_settings(name, vif.namespace, vif.peer)
            return ""
        if not running:
            return f"guest {name!r} does not run"
        if verb == "running":
            return ""
        if verb not in REASONS:
            return f"unknown verb {verb!r} (expected one of {', '.join(sorted(REASONS))})"
        self.stop(running[-1], REASONS[verb])
        return ""


def _with_prefix(word: str) -> str | None:
    try:
        interface = ipaddress.ip_interface(word)
    except ValueError:
        return None
    if "/" in word and interface.ip == interface.network.network_address:
        return None  # a routed network, not an address of the interface
    return word if "/" in word else f"{word}/{24 if interface.version == 4 else 64}"


def apply_settings(name: str, namespace: str, device: str) -> None:
    """The device's addresses, and the routes that are possible by now, are what the settings say."""
    settings = read_settings(name)
    lines = [f"address flush dev {device} scope global"]
    lines += [f"address add {address} dev {device}" for address in settings.addresses.get(device, ())]
    ip_batch(lines, namespace)
    routes = [("default", gateway) for gateway in settings.gateways] + list(settings.routes)
    for destination, via in routes:
        try:
            ip_batch([f"route replace {destination} via {via}"], namespace)
        except NetworkError as exc:
            log.info("route not possible", extra={"guest": name, "reason": str(exc)})
