"""libxl and xl's monitors on the dom0 in memory: domains come, change, reboot and go."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from state.files import USERDATA
from tests.model.answer import Refused
from tests.model.domain import Domain, Nic
from tests.model.files import FileSystem
from tests.model.hotplug import Hotplug
from tests.model.links import Links
from tests.model.xl_config import DomainConfig, NicConfig, parse_config

# Between the old and the new domain of a guest that reboots, its monitor sleeps this long.
REBOOT_GAP_S = 2.0
_FAILED = 3
_NO_BUSY_DISK = "Device {} is mounted in a guest domain, and so cannot be mounted now."


@dataclass(frozen=True, slots=True)
class Coming:
    """The next domain of a guest that is rebooting; its monitor lives meanwhile."""

    config: DomainConfig
    watched: str
    at_s: float


@dataclass(slots=True)
class Toolstack:
    """All domains but Domain-0. `zombies`: destroyed domains stay, dying, until `settle`.

    `temper` says how a guest takes a shutdown request: it obeys, ignores it, reboots instead, or is deaf; by uuid.
    """

    files: FileSystem
    links: Links
    hotplug: Hotplug
    total_mib: int = 16384
    domains: dict[int, Domain] = field(default_factory=dict)
    coming: list[Coming] = field(default_factory=list)
    temper: dict[str, str] = field(default_factory=dict)
    asked: set[int] = field(default_factory=set)  # Linux takes one request in a boot, and looks at no other
    zombies: bool = False
    now_s: float = 0.0
    _domid: int = 0

    # ---- what is asked of it ----

    @property
    def free_mib(self) -> int:
        return self.total_mib - 1024 - sum(each.memory_mib for each in self.domains.values())

    def loops(self) -> Mapping[str, str]:
        used = [
            disk.path for domain in self.domains.values() if not domain.dying for disk in domain.config.disks
        ]
        return {path: f"/dev/loop{number}" for number, path in enumerate(used)}

    def monitors(self) -> tuple[str, ...]:
        watched = [domain.watched for domain in self.domains.values()]
        return tuple(path for path in (*watched, *(each.watched for each in self.coming)) if path is not None)

    def living(self, domid: int) -> Domain | None:
        domain = self.domains.get(domid)
        return None if domain is None or domain.dying else domain

    def of_uuid(self, uuid: str) -> Domain | None:
        return next((each for each in self.domains.values() if each.uuid == uuid and not each.dying), None)

    def kept(self) -> tuple[str, ...]:
        """The names under which libxl keeps configurations: of whole domains, from the end of their making on."""
        whole = (each for each in self.domains.values() if not each.half and not each.dying)
        return tuple(f"userdata-d.{each.domid}.{each.uuid}.libxl-json" for each in whole)

    # ---- what xl does ----

    def create(self, config: DomainConfig, watched: str) -> Domain:
        """A new domain, running.

        Raises:
            Refused: with nothing left over but the domid that it took.
        """
        self._domid += 1
        if any(each.name == config.name and not each.dying for each in self.domains.values()):
            raise Refused(f'Domain with name "{config.name}" already exists.', _FAILED)
        if config.kernel and not self.files.exists(config.kernel):
            raise Refused("xc_dom_kernel_file failed: No such file or directory", _FAILED)
        self._check_disks(config)
        if config.memory_mib > self.free_mib:
            raise Refused("xc_dom_boot_mem_init failed", _FAILED)
        if config.vnc is not None and config.vnc[1] in {
            each.config.vnc[1] for each in self.domains.values() if each.config.vnc
        }:
            raise Refused("device model did not start", _FAILED)
        domain = Domain(self._domid, config, config.name, config.memory_mib, config.vcpus, watched)
        self.domains[domain.domid] = domain
        try:
            for index, nic in config.nics.items():
                self._plug(domain, index, nic)
        except Refused as refused:
            self._gone(domain)
            raise Refused(f"script: {refused}", _FAILED) from refused
        return domain

    def create_half(self, config: DomainConfig) -> None:
        """What is left of an `xl create` that was killed midway; nothing if the name is taken."""
        there = [*((each.name, each.uuid) for each in self.domains.values())]
        there += [(each.config.name, each.config.uuid) for each in self.coming]
        if all(config.name != name and config.uuid != uuid for name, uuid in there):
            self._domid += 1
            made = Domain(self._domid, config, config.name, config.memory_mib, config.vcpus, None, half=True)
            self.domains[made.domid] = made

    def _check_disks(self, config: DomainConfig) -> None:
        others = [disk for each in self.domains.values() for disk in each.config.disks]
        for disk in config.disks:
            if not self.files.exists(disk.path):
                raise Refused(f"Disk vdev={disk.vdev} failed to stat: {disk.path}", _FAILED)
            if any(each.path == disk.path and (each.writable or disk.writable) for each in others):
                raise Refused(_NO_BUSY_DISK.format(disk.path), _FAILED)

    def _plug(self, domain: Domain, index: int, nic: NicConfig) -> None:
        interface = self.links.add(f"vif{domain.domid}.{index}").name
        domain.nics[index] = Nic(nic, interface, nic.rate)
        self.hotplug.online(domain, index)

    def attach(self, domain: Domain, index: int | None, nic: NicConfig) -> None:
        """A further vif; when its script fails it stays all the same, without a place on the bridge."""
        if index in domain.nics:
            raise Refused("device already exists in xenstore\nlibxl_device_nic_add failed.")
        free = next(number for number in range(len(domain.nics) + 1) if number not in domain.nics)
        try:
            self._plug(domain, free if index is None else index, nic)
        except Refused as refused:
            raise Refused(f"script: {refused}\nlibxl_device_nic_add failed.") from refused

    def detach(self, domain: Domain, index: int) -> None:
        self.hotplug.offline(domain.nics.pop(index))

    def destroy(self, domain: Domain) -> None:
        """Gone at once, or dying for a while; its monitor ends either way."""
        self._gone(domain)
        if self.zombies:
            domain.dying, domain.name, domain.shutdown = True, "(null)", None
            self.domains[domain.domid] = domain

    def _gone(self, domain: Domain) -> None:
        for index in list(domain.nics):
            self.detach(domain, index)
        domain.watched = None
        self.files.remove(self.staged_path(domain))
        del self.domains[domain.domid]

    def staged_path(self, domain: Domain) -> str:
        return f"{USERDATA}/userdata-d.{domain.domid}.{domain.uuid}.xl"

    # ---- what guests do ----

    def reboot(self, domain: Domain) -> None:
        self._ended(domain, "reboot", domain.config.on_reboot)

    def power_off(self, domain: Domain) -> None:
        self._ended(domain, "poweroff", domain.config.on_poweroff)

    def crash(self, domain: Domain) -> None:
        self._ended(domain, "crash", domain.config.on_crash)

    def ask_to_shut_down(self, domain: Domain) -> None:
        """`xl shutdown`: a guest that has shut down, has ignored one, or is deaf lets it wait for its whole minute."""
        temper = self.temper.get(domain.uuid, "obeys")
        if temper == "deaf" or not domain.runs or domain.domid in self.asked:
            self.sleep(60.0)
            raise Refused("shutdown failed (rc=-9)")
        self.asked.add(domain.domid)
        if temper == "obeys":
            self.power_off(domain)
        elif temper == "reboots":
            self.reboot(domain)

    def _ended(self, domain: Domain, reason: str, action: str) -> None:
        """The guest's kernel has ended; its monitor, if one lives, does what the domain was made with."""
        if not domain.runs:
            return
        watched, staged = domain.watched, self.files.texts.get(self.staged_path(domain))
        domain.shutdown = reason
        if watched is None:
            return
        match action:
            case "preserve":
                domain.watched = None
            case "destroy":
                self.destroy(domain)
            case "restart":
                config = domain.saved() if staged is None else parse_config(staged)
                self.destroy(domain)
                self.coming.append(Coming(config, watched, self.now_s + REBOOT_GAP_S))
            case _:
                raise AssertionError(f"never written: {action}")

    # ---- time ----

    def sleep(self, seconds: float) -> None:
        """Time passes: monitors wake up. One whose domain cannot come back ends."""
        self.now_s += seconds
        due = [each for each in self.coming if each.at_s <= self.now_s]
        self.coming = [each for each in self.coming if each.at_s > self.now_s]
        for each in due:
            try:
                self.create(each.config, each.watched)
            except Refused:
                continue

    def settle(self) -> bool:
        """Whatever is under way has ended; False if nothing was."""
        if not self.coming and not any(each.dying for each in self.domains.values()):
            return False
        self.zombies = False
        for domain in [each for each in self.domains.values() if each.dying]:
            del self.domains[domain.domid]
        while self.coming:
            self.sleep(max(REBOOT_GAP_S, math.nextafter(self.coming[0].at_s - self.now_s, math.inf)))
        return True
