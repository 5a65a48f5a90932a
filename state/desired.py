"""What is wanted of one host: values ready to compare with what is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Literal

from schemas.diagnostic import Diagnostic

Address = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Vif:
    """A vif as wanted. `name` None: the kernel's own name vif<domid>.<index> is kept.

    `rate` is (bytes per interval, interval in microseconds), as libxl stores it.
    """

    index: int
    name: str | None
    mac: str
    bridge: str
    addresses: tuple[Address, ...]
    rate: tuple[int, int] | None
    rate_text: str | None  # as xl.cfg takes it
    guard: Literal["audit", "enforce"]
    shared: tuple[Address, ...] = ()  # those that others may have as well


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk as wanted; `size_bytes` None: it must exist already."""

    vdev: str
    path: str
    size_bytes: int | None
    format: str
    writable: bool
    sparse: bool
    adopt: bool


@dataclass(frozen=True, slots=True)
class Boot:
    """How the domU starts in its present phase; empty texts are left out of the configuration."""

    phase: Literal["install", "run"]
    kernel: str
    ramdisk: str
    cmdline: str
    bootloader: str
    firmware: str
    cdrom: str


@dataclass(frozen=True, slots=True)
class Vnc:
    """The VNC server of the virtual frame buffer; `secret` names a file under /etc/domgit/secrets."""

    listen: str
    display: int
    secret: str | None


@dataclass(frozen=True, slots=True)
class DomU:
    """A VPS as wanted, profile merged, every default filled in."""

    name: str
    uuid: str
    state: Literal["running", "halted", "absent"]
    protect: bool
    mode: Literal["report", "enforce"]
    disruption: Literal["none", "link", "reboot"]
    after_poweroff: Literal["stay", "start"]
    order: int
    type: Literal["pv", "pvh", "hvm"]
    memory_mib: int
    max_memory_mib: int
    vcpus: int
    max_vcpus: int
    boot: Boot | None  # None for a tombstone, whose other fields mean nothing either
    disks: tuple[Disk, ...]
    vifs: tuple[Vif, ...]
    console_device: str
    console_login: Literal["report", "ensure", "ignore"]
    vnc: Vnc | None
    on_crash: str
    file: str
    moved_from: str | None = None  # the host that it leaves for this one
    epoch: int = 1  # one higher with every move
    console_baud: int = 38400
    installed: Boot | None = None  # in phase install: how it starts once its installer has ended
    advances: bool = False  # in phase install: whether it goes on to that by itself


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one plan may take away: domUs, and vifs in percent of all."""

    absent: int
    detach_percent: int


@dataclass(frozen=True, slots=True)
class DiskUse:
    """The watch over guests' file systems: how full is too full, and how often is looked."""

    warn_percent: int = 90
    interval_s: int = 600


@dataclass(frozen=True, slots=True)
class Host:
    """The dom0 as wanted. `unknown_vifs` and `log` are the guard's; see reconciler.guard.binding."""

    name: str
    machine_id: str | None
    mode: Literal["report", "enforce"]
    bridges: tuple[tuple[str, tuple[str, ...]], ...]
    guard_backend: Literal["auto", "nftables", "iptables"]
    unknown_vifs: Literal["report", "drop"]
    log_prefix: str
    log_level: str
    log_count: int
    log_per: Literal["second", "minute", "hour", "day"]
    disruption: Literal["none", "link", "reboot"]
    limits: Limits
    disks: DiskUse = DiskUse()


@dataclass(frozen=True, slots=True)
class Desired:
    """All that one commit wants of one host.

    `domus` hold the tombstones too, sorted by name. `held` are the names of domUs whose file has an
    error: they keep their last-good specification. `elsewhere` maps the uuids that other hosts claim to
    those hosts: a uuid that is gone here and present there is a move, never an orphan. `gateways` are those of
    the networks in which domUs of this host have addresses, as (bridge, address), sorted.
    """

    host: Host
    domus: tuple[DomU, ...]
    held: tuple[str, ...]
    elsewhere: Mapping[str, str]
    diagnostics: tuple[Diagnostic, ...] = ()
    gateways: tuple[tuple[str, Address], ...] = ()
