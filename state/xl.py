"""What xl says of the domains: argv and parser of each reading command, side by side.

Changes nothing, except that xl itself takes and removes its lock files while it reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from state.run import ReadError, Runner, read

# xl hangs for ever when xenstored does; a list of 1,000 domUs takes well under a second.
LIST_TIMEOUT_S = 15.0
_ROW = re.compile(
    r"(?P<name>.*?) +(?P<domid>\d+) +(?P<memory>\d+) +(?P<vcpus>\d+)\s+(?P<state>[r-][b-][p-][s-][-rscwS?][d-])\s+\d+\.\d"
)
_UUID_ROW = re.compile(
    r"(?P<uuid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\s+(?P<domid>\d+) ?\s*(?P<name>.*)"
)

ShutdownReason = Literal["poweroff", "reboot", "suspend", "crash", "watchdog", "soft-reset", "unknown"]
_REASONS: Mapping[str, ShutdownReason] = {
    "-": "poweroff",
    "r": "reboot",
    "s": "suspend",
    "c": "crash",
    "w": "watchdog",
    "S": "soft-reset",
}


@dataclass(frozen=True, slots=True, order=True)
class DomainRow:
    """A line of `xl list`. `shutdown` is set when the domain has shut down and waits for its monitor or us."""

    domid: int
    name: str
    paused: bool
    dying: bool
    shutdown: ShutdownReason | None


@dataclass(frozen=True, slots=True)
class SavedVif:
    """A NIC in libxl's saved configuration: what the next guest reboot gets."""

    index: int
    mac: str
    bridge: str
    interface: str  # "" when the kernel's own name vif<domid>.<index> is used
    script: str
    rate: tuple[int, int] | None  # bytes per interval, interval in microseconds


@dataclass(frozen=True, slots=True)
class SavedDisk:
    """A disk in libxl's saved configuration."""

    vdev: str
    path: str
    format: str
    writable: bool
    cdrom: bool


@dataclass(frozen=True, slots=True)
class SavedVnc:
    """The virtual frame buffer's VNC server; the password is read nowhere."""

    listen: str
    display: int


@dataclass(frozen=True, slots=True)
class SavedDomain:
    """A domain's configuration as libxl keeps it and as its next own reboot would use it."""

    domid: int
    name: str
    uuid: str
    type: str
    memory_mib: int
    max_memory_mib: int
    vcpus: int
    max_vcpus: int
    kernel: str
    ramdisk: str
    cmdline: str
    bootloader: str
    vifs: tuple[SavedVif, ...]
    disks: tuple[SavedDisk, ...]
    vnc: SavedVnc | None
    serial: str
    on_poweroff: str
    on_reboot: str
    on_crash: str


LIST = ("xl", "list")


def parse_list(text: str) -> tuple[DomainRow, ...]:
    """The domains of `xl list`, Domain-0 left out, by domid.

    A name may hold spaces or be empty: rows are read from the right.

    Raises:
        ReadError: the header or a row is not what xl prints, or Domain-0 is missing (an empty or cut list).

    Source: tools/xl/xl_list.c, Xen 4.17.
    """
    header, *lines = text.splitlines() or [""]
    if not header.startswith("Name ") or "State" not in header:
        raise ReadError(f"xl list: no header in {text[:80]!r}")
    rows = []
    for line in lines:
        match = _ROW.fullmatch(line)
        if match is None:
            raise ReadError(f"xl list: cannot read the row {line[:120]!r}")
        state = match["state"]
        rows.append(
            DomainRow(
                domid=int(match["domid"]),
                name=match["name"].rstrip(),
                paused=state[2] == "p",
                dying=state[5] == "d",
                shutdown=_REASONS.get(state[4], "unknown") if state[3] == "s" else None,
            )
        )
    if not any(row.domid == 0 for row in rows):
        raise ReadError("xl list: Domain-0 is missing")
    return tuple(sorted(row for row in rows if row.domid != 0))


VM_LIST = ("xl", "vm-list")


def parse_vm_list(text: str) -> Mapping[int, str]:
    """The uuid of each domain in `xl vm-list`, keyed by domid, without Domain-0.

    Raises:
        ReadError: a row is not `UUID DOMID NAME`.

    Source: tools/xl/xl_list.c, Xen 4.17.
    """
    header, *lines = text.splitlines() or [""]
    if not header.startswith("UUID"):
        raise ReadError(f"xl vm-list: no header in {text[:80]!r}")
    uuids = {}
    for line in lines:
        match = _UUID_ROW.fullmatch(line)
        if match is None:
            raise ReadError(f"xl vm-list: cannot read the row {line[:120]!r}")
        if match["domid"] != "0":
            uuids[int(match["domid"])] = match["uuid"]
    return uuids


LIST_LONG = ("xl", "list", "--long")


def parse_list_long(text: str) -> Mapping[int, SavedDomain]:
    """The saved configurations in `xl list --long`, keyed by domid, without Domain-0.

    Keys with default values are absent in this JSON, unknown ones are ignored. A domain that is being
    created or dying is missing here with exit status 0: whether one exists is said by `xl list` alone.

    Raises:
        ReadError: not a JSON array, or a value of another type than libxl writes.

    Source: tools/libs/light/libxl_types.idl, Xen 4.17.
    """
    try:
        entries = json.loads(text)
    except ValueError as exc:
        hint = ' (is output_format="sxp" set in /etc/xen/xl.conf?)' if text.lstrip().startswith("(") else ""
        raise ReadError(f"xl list --long: not JSON{hint}") from exc
    if not isinstance(entries, list):
        raise ReadError("xl list --long: not an array")
    domains = {}
    for entry in entries:
        try:
            domid = entry["domid"]
            if domid != 0:
                domains[domid] = _saved_domain(domid, entry["config"])
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise ReadError(f"xl list --long: an entry is not as expected: {exc!r}") from exc
    return domains


def _saved_domain(domid: int, config: Mapping[str, Any]) -> SavedDomain:
    created, built = config["c_info"], config["b_info"]
    kind = created["type"]
    variant = built.get(f"type.{kind}", {})
    vfbs = config.get("vfbs", [])
    vnc = next((vfb["vnc"] for vfb in vfbs if vfb.get("vnc", {}).get("enable") == "True"), None)
    if kind == "hvm" and variant.get("vnc", {}).get("enable") == "True":
        vnc = variant["vnc"]
    return SavedDomain(
        domid=domid,
        name=created.get("name", ""),
        uuid=created["uuid"],
        type=kind,
        memory_mib=built.get("target_memkb", 0) // 1024,
        max_memory_mib=built.get("max_memkb", 0) // 1024,
        vcpus=len(built.get("avail_vcpus", [])) or 1,
        max_vcpus=built.get("max_vcpus", 0) or 1,
        kernel=built.get("kernel", ""),
        ramdisk=built.get("ramdisk", ""),
        cmdline=built.get("cmdline", ""),
        bootloader=built.get("bootloader", ""),
        vifs=tuple(_saved_vif(nic) for nic in config.get("nics", [])),
        disks=tuple(_saved_disk(disk) for disk in config.get("disks", [])),
        vnc=None if vnc is None else SavedVnc(vnc.get("listen", ""), vnc.get("display", 0)),
        serial=variant.get("serial", ""),
        on_poweroff=config.get("on_poweroff", "destroy"),
        on_reboot=config.get("on_reboot", "destroy"),
        on_crash=config.get("on_crash", "destroy"),
    )


def _saved_vif(nic: Mapping[str, Any]) -> SavedVif:
    rate = nic.get("rate_bytes_per_interval")
    return SavedVif(
        index=nic["devid"],
        mac=nic["mac"].lower(),
        bridge=nic.get("bridge", ""),
        interface=nic.get("ifname", ""),
        script=nic.get("script", ""),
        rate=(rate, nic.get("rate_interval_usecs", 0)) if rate else None,
    )


def _saved_disk(disk: Mapping[str, Any]) -> SavedDisk:
    return SavedDisk(
        vdev=disk["vdev"],
        path=disk.get("pdev_path", ""),
        format=disk.get("format", ""),
        writable=bool(disk.get("readwrite", 0)),
        cdrom=bool(disk.get("is_cdrom", 0)),
    )


INFO = ("xl", "info")


@dataclass(frozen=True, slots=True)
class HypervisorInfo:
    """What `xl info` says of the machine."""

    version: str
    total_memory_mib: int
    free_memory_mib: int


def parse_info(text: str) -> HypervisorInfo:
    """The version and memory in `xl info`; outstanding claims are taken off the free memory.

    Raises:
        ReadError: a line that we use is missing or no number.
    """
    values = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())
    }
    try:
        return HypervisorInfo(
            version=values["xen_version"],
            total_memory_mib=int(values["total_memory"]),
            free_memory_mib=int(values["free_memory"]) - int(values.get("outstanding_claims", "0")),
        )
    except (KeyError, ValueError) as exc:
        raise ReadError(f"xl info: {exc!r}") from exc


def read_domains(
    runner: Runner,
) -> tuple[tuple[DomainRow, ...], Mapping[int, str], Mapping[int, SavedDomain]]:
    """The rows, uuids and saved configurations of all domUs.

    Raises:
        ReadError: a command failed or printed something else.
    """
    return (
        parse_list(read(runner, LIST, timeout_s=LIST_TIMEOUT_S)),
        parse_vm_list(read(runner, VM_LIST, timeout_s=LIST_TIMEOUT_S)),
        parse_list_long(read(runner, LIST_LONG, timeout_s=LIST_TIMEOUT_S)),
    )
