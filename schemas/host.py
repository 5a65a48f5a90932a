"""kind: Host, one dom0. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.domu import Disruption, GuardMode, Mode
from schemas.model import ApiVersion, Model
from schemas.scalars import (
    Cron,
    Duration,
    HostName,
    Integer,
    InterfaceName,
    LogPrefix,
    LogRate,
    MachineId,
    Path,
    Percent,
    TimeZone,
    VolumeGroup,
)


class Bridge(Model):
    """A managed bridge."""

    name: InterfaceName
    """Its name. Example: xenbr0. The same name means the same L2 segment on all hosts."""
    uplinks: list[InterfaceName] = []
    """The ports that are no guests'. Every other port is guarded. Default: none."""


class Log(Model):
    """How drops are logged."""

    prefix: LogPrefix = "Dropped by firewall: "
    """Before every line. Default: "Dropped by firewall: "."""
    limit: LogRate = "15/minute"
    """For the whole host, shared out fairly among vifs. Default: 15/minute."""
    level: Literal["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"] = "debug"
    """The kernel's log level. Default: debug."""


class GuardSpec(Model):
    """The packet filter."""

    backend: Literal["auto", "nftables", "iptables"] = "auto"
    """Default: auto, nftables where the kernel can."""
    mode: GuardMode = "audit"
    """audit: count and log, drop nothing; enforce: drop. Default: audit, until its report was read."""
    unknown_vifs: Literal["report", "drop"] = "report"
    """What happens to vifs that are in no specification. Default: report."""
    log: Log = Log()
    """Default: 15/minute at debug."""


class Window(Model):
    """A time in which more may be disturbed."""

    cron: Cron
    """When it opens. Example: "0 3 * * *"."""
    duration: Duration
    """How long it stays open. Example: 2h."""
    disruption: Disruption
    """What is allowed while it is open."""
    time_zone: TimeZone = "UTC"
    """Default: UTC."""


class RestartLimit(Model):
    """How many domUs may be restarted in how much time."""

    count: Annotated[Integer, Field(ge=0, le=10_000)] = 1
    """Default: 1."""
    per: Duration = 600
    """Default: 10m."""


class Limits(Model):
    """How much one plan may take away."""

    absent: Annotated[Integer, Field(ge=0, le=10_000)] = 1
    """Tombstones that one plan may carry out. Default: 1."""
    restart: RestartLimit = RestartLimit()
    """Default: one in ten minutes."""
    detach: Percent = 10
    """Share of the host's vifs that one plan may detach, at least one. Default: 10%."""


class Images(Model):
    """Where disks and kernels may lie."""

    roots: list[Path] = ["/srv/xen/images"]
    """Folders of disk images. Default: /srv/xen/images."""
    kernels: list[Path] = ["/srv/xen"]
    """Folders of kernels, ramdisks and ISO images. Default: /srv/xen."""
    volume_groups: list[VolumeGroup] = []
    """LVM volume groups whose volumes may be disks. Default: none."""
    shared: list[Path] = []
    """Storage that several hosts mount: a disk there is claimed once in all. Default: none."""


class DiskUse(Model):
    """The watch over guests' file systems."""

    warn_at: Percent = 90
    """Default: 90%."""
    interval: Duration = 600
    """Default: 10m."""


class Start(Model):
    """Who starts domUs when the host boots."""

    owner: Literal["xendomains", "domgit"] = "xendomains"
    """Default: xendomains."""
    parallel: Annotated[Integer, Field(ge=1, le=64)] = 4
    """How many at once. Default: 4."""


class HostSpec(Model):
    """What the dom0 is to be."""

    machine_id: MachineId | None = None
    """When set, must equal /etc/machine-id. Default: none."""
    mode: Mode = "report"
    """What the daemon may do: report or enforce; `apply` by hand always may. Default: report."""
    bridges: list[Bridge] = []
    """The bridges whose ports are guarded. Default: none."""
    guard: GuardSpec = GuardSpec()
    """Default: the best backend of the kernel, audit only."""
    disruption: Disruption = "none"
    """How far the daemon goes by itself. Default: none."""
    windows: list[Window] = []
    """Default: none."""
    limits: Limits = Limits()
    """Default: one tombstone, 10% of the vifs."""
    images: Images = Images()
    """Default: /srv/xen/images, /srv/xen."""
    disks: DiskUse = DiskUse()
    """Default: warn at 90%."""
    start: Start = Start()
    """Default: xendomains."""


class HostMetadata(Model):
    """Who the dom0 is."""

    name: HostName
    """The folder's name. Example: dom0-a."""


class Host(Model):
    """One dom0."""

    api_version: ApiVersion
    """domgit/v1"""
    kind: Literal["Host"]
    """Host"""
    metadata: HostMetadata
    """Who the dom0 is."""
    spec: HostSpec = HostSpec()
    """What it is to be."""
