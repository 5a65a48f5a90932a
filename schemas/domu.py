"""kind: DomU, one VPS. Field texts say unit, default, and what a change costs the guest. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, field_validator, model_validator

from schemas.address import Address, HostIp, ListenIp, Mac, address_text, parse_address
from schemas.model import ApiVersion, Made, Model
from schemas.scalars import (
    Boolean,
    CommandLine,
    DiskDevice,
    DiskSize,
    DomUName,
    HostName,
    Integer,
    InterfaceName,
    Label,
    LabelKey,
    Memory,
    Name,
    Path,
    Plain,
    Rate,
    SecretName,
    Uuid,
    integer,
)

Mode = Literal["report", "enforce"]
Disruption = Literal["none", "link", "reboot"]
GuardMode = Literal["audit", "enforce"]


class SharedIp(Model):
    """An address that several vifs claim together, such as a VRRP address; each of them says so."""

    address: HostIp
    """The address. Example: 172.16.39.9. A change costs the guest nothing."""
    shared: Literal[True]
    """true. Always said: an address is shared because somebody wrote so. Stands on every claimant."""

    @field_validator("shared", mode="before")
    @classmethod
    def _plain_true(cls, value: object) -> object:
        return True if isinstance(value, Plain) and value in {"true", "True", "TRUE"} else value


def _ip_item(value: object) -> object:
    if isinstance(value, dict):
        return SharedIp.model_validate(value)
    return value if isinstance(value, SharedIp) else parse_address(value)


def _ip_plain(item: SharedIp | Address) -> object:
    return item.model_dump(mode="json") if isinstance(item, SharedIp) else address_text(item)


class Vif(Model):
    """One network interface; its place in the list is its devid."""

    name: InterfaceName | None = None
    """The port's name in dom0. Default: none, the kernel's vif<domid>.<devid>. A change replugs the vif (link)."""
    mac: Mac
    """The MAC address. Example: 00:16:3e:7c:1f:6e. A change replugs the vif (link)."""
    bridge: InterfaceName
    """A bridge of the host. Example: xenbr0. A change replugs the vif (link)."""
    ips: Annotated[
        list[Annotated[Any, BeforeValidator(_ip_item), PlainSerializer(_ip_plain), Made(SharedIp)]],
        Field(max_length=256),
    ] = []
    """Addresses and prefixes the guest may use, at most 256. Default: none, only DHCP and DAD may be sent. A change costs nothing."""
    rate: Rate | None = None
    """Limit from guest to network, as xl takes it. Example: 10Mb/s. Default: none. A change costs nothing."""
    guard: GuardMode | None = None
    """audit: count and log only. Default: the host's guard mode. A change costs nothing."""

    def addresses(self) -> tuple[Address, ...]:
        """All declared addresses and prefixes, sorted, shared ones included."""
        found = {item.address if isinstance(item, SharedIp) else item for item in self.ips}
        return tuple(sorted(found, key=lambda network: (network.version, network)))

    def shared(self) -> frozenset[Address]:
        """Those that others may claim as well."""
        return frozenset(item.address for item in self.ips if isinstance(item, SharedIp))


class Disk(Model):
    """One disk."""

    vdev: DiskDevice
    """The disk in the guest. Example: xvda. A change waits for the guest's next reboot."""
    path: Path
    """The image file or block device in dom0, under the host's roots or volume groups. Waits for a reboot."""
    size: DiskSize | None = None
    """Bytes with a unit. Example: 5GiB. Default: none, it must exist. Created if never seen; never shrunk."""
    format: Literal["raw", "qcow2", "vhd"] = "raw"
    """The image's format, never probed. Default: raw. Never another for a disk that its VPS has."""
    access: Literal["ro", "rw"] = "rw"
    """Default: rw. Waits for a reboot."""
    sparse: Boolean = True
    """Whether a new image takes its space only as it fills. Default: true. Means nothing for an existing one."""
    adopt: Boolean = False
    """Take an existing file that domgit did not make. Default: false. Costs nothing."""


class BootInstall(Model):
    """How the installer starts. A change once it has begun starts nothing by itself: `apply --reinstall`."""

    kernel: Path
    """The installer's kernel."""
    ramdisk: Path | None = None
    """Its ramdisk. Default: none."""
    cmdline: CommandLine = ""
    """Its command line. Default: empty."""
    cdrom: Path | None = None
    """An ISO image, given to the guest as hdc. Default: none."""


class BootRun(Model):
    """How the installed system starts: a kernel from dom0, pygrub, or pvgrub. One of the three."""

    kernel: Path | None = None
    """A kernel in dom0. Waits for a reboot."""
    ramdisk: Path | None = None
    """Its ramdisk. Default: none. Waits for a reboot."""
    cmdline: CommandLine = ""
    """Its command line. Example: root=/dev/xvda1 ro console=hvc0. Default: empty. Waits for a reboot."""
    bootloader: Literal["pygrub"] | None = None
    """pygrub: the guest's own kernel, read from its disk in dom0. Waits for a reboot."""
    firmware: Literal["pvgrub"] | None = None
    """pvgrub: the guest's own kernel, read by the guest. Waits for a reboot."""

    @model_validator(mode="after")
    def _one_way(self) -> BootRun:
        ways = [self.kernel, self.bootloader, self.firmware]
        if sum(way is not None for way in ways) != 1:
            raise ValueError(
                "no way to start, or more than one (expected one of kernel, bootloader and firmware)"
            )
        if self.kernel is None and self.ramdisk is not None:
            raise ValueError("a ramdisk without a kernel (expected both)")
        return self


class Boot(Model):
    """The two ways in which the guest starts, and which one counts."""

    phase: Literal["install", "run"] = "run"
    """Default: run. An installer is started once, and its end brings run; back to install starts nothing by itself."""
    then: Literal["run"] | None = None
    """Beside `phase: install`: go on to run by itself when the installer ended. Default: none. Costs nothing."""
    install: BootInstall | None = None
    """Needed in phase install."""
    run: BootRun | None = None
    """Needed, unless halted in phase install."""


class Vnc(Model):
    """A VNC server on the guest's virtual frame buffer."""

    listen: ListenIp
    """The address in dom0. Example: 127.0.0.1. Waits for a reboot."""
    display: Annotated[Integer, Field(ge=0, le=999)]
    """The display: port 5900 + display. Waits for a reboot."""
    password_secret: SecretName | None = None
    """The name of a file under /etc/domgit/secrets. Default: none. Waits for a reboot."""


class Console(Model):
    """The text console and, when wanted, a VNC server."""

    device: Literal["hvc0", "xvc0", "ttyS0"] | None = None
    """The device the guest's kernel has. Default: hvc0, ttyS0 for hvm. Costs nothing."""
    baud: Annotated[Literal[9600, 19200, 38400, 57600, 115200], BeforeValidator(integer)] = 38400
    """Bits per second of the getty. Default: 38400. Costs nothing."""
    login: Literal["report", "ensure", "ignore"] = "report"
    """Whether a getty on that device is looked after. Default: report. Costs nothing."""
    vnc: Vnc | None = None
    """Default: none."""


class Spec(Model):
    """What the VPS is to be. After the profile is merged in, type, memory and boot.run are needed."""

    profile: Name | None = None
    """The profile to inherit. Default: none. Costs what the fields it brings cost."""
    type: Literal["pv", "pvh", "hvm"] | None = None
    """The kind of virtualisation. Waits for a reboot."""
    state: Literal["running", "halted", "absent"] = "running"
    """running, halted, or absent, the tombstone: the domU is removed, its disks stay. Default: running. Restart."""
    protect: Boolean = False
    """true: nothing destructive without an approval, also after the file is gone. Default: false. Costs nothing."""
    mode: Mode | None = None
    """report: this domU is only watched by the daemon. Default: the host's. Costs nothing."""
    disruption: Disruption | None = None
    """How far the daemon goes by itself. Default: the host's. Costs nothing."""
    after_poweroff: Literal["stay", "start"] = "stay"
    """start: a domU that its customer switched off is started again. Default: stay. Costs nothing."""
    order: Annotated[Integer, Field(ge=0, le=9999)] = 50
    """Start order at host boot, lowest first. Default: 50. Costs nothing."""
    memory: Memory | None = None
    """Whole MiB. Example: 256MiB. Live up to maxMemory."""
    max_memory: Memory | None = None
    """Whole MiB, the ceiling for live changes. Default: memory. Waits for a reboot."""
    vcpus: Annotated[Integer, Field(ge=1, le=512)] = 1
    """Virtual processors. Default: 1. Live up to maxVcpus."""
    max_vcpus: Annotated[Integer, Field(ge=1, le=512)] | None = None
    """The ceiling for live changes. Default: vcpus. Waits for a reboot."""
    boot: Boot | None = None
    """How it starts."""
    disks: list[Disk] = []
    """Default: none."""
    vifs: list[Vif] = []
    """Default: none."""
    console: Console = Console()
    """Default: hvc0 without VNC."""
    on_crash: Literal["restart", "destroy", "preserve"] = "restart"
    """What the toolstack does when the guest crashes. Default: restart. Waits for a reboot."""


class Placement(Model):
    """Where the domU lives, for moves between hosts."""

    epoch: Annotated[Integer, Field(ge=1, le=10**9)] = 1
    """Goes up by one with every move. Default: 1."""
    from_: Annotated[HostName | None, Field(alias="from")] = None
    """The host it leaves. Default: none."""


class Metadata(Model):
    """Who the VPS is."""

    name: DomUName
    """The xl name. A change renames it live."""
    uuid: Uuid | None = None
    """The identity everywhere. Default: uuid5(NAMESPACE_URL, "domgit:" + name)."""
    labels: dict[LabelKey, Label] = {}
    """Free texts for people. Default: none. Cost nothing."""
    placement: Placement = Placement()
    """Default: epoch 1."""


class DomU(Model):
    """One VPS; applies on the host in whose folder it lies, and there only."""

    api_version: ApiVersion
    """domgit/v1"""
    kind: Literal["DomU"]
    """DomU"""
    metadata: Metadata
    """Who the VPS is."""
    spec: Spec
    """What it is to be."""
