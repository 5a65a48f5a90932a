"""A domain of the dom0 in memory, and its configuration as `xl list --long` prints it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from tests.model.xl_config import DomainConfig, NicConfig

SCRIPTS = "/etc/xen/scripts"


@dataclass(slots=True)
class Nic:
    """A vif that the toolstack was asked for. `config` is as saved; `rate` is xenstore's, which anybody may write.

    `interface` is what the kernel calls its port now, whatever the configuration says; None once it is gone.
    """

    config: NicConfig
    interface: str | None
    rate: tuple[int, int] | None
    status: str = ""
    error: str = ""

    @property
    def script(self) -> str:
        return f"{SCRIPTS}/{self.config.script or 'vif-bridge'}"


@dataclass(slots=True)
class Domain:
    """One domain. `config` holds what only a new start can change; memory, vcpus and vifs are as they are now.

    `half`: its `xl create` was killed before it was whole; it is paused, and libxl has saved nothing of it.
    `watched` is the configuration path of the `xl create` that looks after it, None once that has ended.
    """

    domid: int
    config: DomainConfig
    name: str
    memory_mib: int
    vcpus: int
    watched: str | None
    nics: dict[int, Nic] = field(default_factory=dict)
    shutdown: str | None = None
    dying: bool = False
    half: bool = False

    @property
    def uuid(self) -> str:
        return self.config.uuid

    @property
    def runs(self) -> bool:
        return self.shutdown is None and not self.dying and not self.half

    def saved(self) -> DomainConfig:
        """What its next own reboot starts from, unless something is staged: the file's values, and what was changed live."""
        return replace(
            self.config,
            name=self.name,
            memory_mib=self.memory_mib,
            vcpus=self.vcpus,
            nics={index: nic.config for index, nic in sorted(self.nics.items())},
        )


def listed(domain: Domain) -> dict[str, Any]:
    """The domain's entry in `xl list --long`: keys with default values are left out, as libxl does.

    Source: captures of Xen 4.17.
    """
    saved = domain.saved()
    built: dict[str, Any] = {
        "max_vcpus": saved.max_vcpus,
        "avail_vcpus": list(range(saved.vcpus)),
        "max_memkb": saved.max_memory_mib * 1024,
        "target_memkb": saved.memory_mib * 1024,
        "kernel": saved.kernel,
        "ramdisk": saved.ramdisk,
        "cmdline": saved.cmdline,
        "bootloader": saved.bootloader,
        f"type.{saved.type}": {},
    }
    config: dict[str, Any] = {
        "c_info": {"type": saved.type, "name": saved.name, "domid": 2**32 - 1, "uuid": saved.uuid},
        "b_info": {key: value for key, value in built.items() if value != ""},
        "disks": [_disk(disk) for disk in saved.disks],
        "nics": [_nic(index, nic) for index, nic in saved.nics.items()],
        "on_poweroff": saved.on_poweroff,
        "on_reboot": saved.on_reboot,
        "on_crash": saved.on_crash,
        "on_soft_reset": "soft_reset",
    }
    if saved.vnc is not None:
        listen, display, password = saved.vnc
        server = _without({"enable": "True", "listen": listen, "display": display, "passwd": password}, 0)
        config["vfbs"] = [{"devid": 0, "vnc": _without(server, "")}]
    return {"domid": domain.domid, "config": _without(_without(config, "destroy"), [])}


def _without(values: dict[str, Any], default: object) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value != default}


def _disk(disk: Any) -> dict[str, Any]:
    shown = {"pdev_path": disk.path, "vdev": disk.vdev, "format": disk.format}
    shown |= {"readwrite": int(disk.writable), "removable": int(disk.cdrom), "is_cdrom": int(disk.cdrom)}
    return _without(shown, 0)


def _nic(index: int, nic: NicConfig) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "devid": index,
        "mac": nic.mac,
        "ip": nic.ip,
        "bridge": nic.bridge,
        "ifname": nic.ifname,
        "script": nic.script,
        "nictype": "vif",
    }
    if nic.rate is not None:
        shown["rate_bytes_per_interval"], shown["rate_interval_usecs"] = nic.rate
    return _without(shown, "")
