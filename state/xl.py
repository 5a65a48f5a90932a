"""What xl says of the domains: argv and parser of each reading command, side by side.

Changes nothing, except that xl itself takes and removes its lock files while it reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from state.files import digest
from state.listing import Entry, lines, parse_entries
from state.run import ReadError, Runner, TornError, read

# xl hangs for ever when xenstored does; a list of 1,000 domUs takes well under a second.
LIST_TIMEOUT_S = 15.0
# The columns behind the name, in MiB and seconds. Xen has 32,752 domids.
_ROW = re.compile(
    r"(?P<domid>0|[1-9][0-9]{0,4}) [0-9]{1,12} [0-9]{1,5} (?P<state>[r-][b-][p-][s-][-rscwS?][d-]) [0-9]{1,15}\.[0-9]"
)
_COLUMNS = 5
_UUID_ROW = re.compile(
    r"(?P<uuid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\s+(?P<domid>0|[1-9][0-9]{0,4})(?:\s.*)?", re.ASCII
)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NUMBER = re.compile(r"[0-9]{1,12}")

_LISTEN = re.compile(r"(?P<address>\[[^\]]*\]|[^:]*):(?P<display>[0-9]{1,4})")
ShutdownReason = Literal["poweroff", "reboot", "suspend", "crash", "watchdog", "soft-reset", "unknown"]
_REASONS: Mapping[str, ShutdownReason] = {
    "-": "poweroff",
    "r": "reboot",
    "s": "suspend",
    "c": "crash",
    "w": "watchdog",
    "S": "soft-reset",
}


@dataclass(frozen=True, slots=True)
class DomainRow:
    """A line of `xl list`. `shutdown` is set when the domain has shut down and waits for its monitor or us."""

    domid: int
    name: str
    paused: bool
    dying: bool
    shutdown: ShutdownReason | None


@dataclass(frozen=True, slots=True)
class SavedVif:
    """A NIC in libxl's saved configuration: what the next guest reboot gets. `backend` is the domid that serves it."""

    index: int
    mac: str
    bridge: str
    interface: str  # "" when the kernel's own name vif<domid>.<index> is used
    script: str
    rate: tuple[int, int] | None  # bytes per interval, interval in microseconds
    backend: int = 0


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
    """A VNC server. `password` is the digest of the one that it asks for, "" for none: in the clear it is kept nowhere.

    What is read is compared with host-side secrets, and has the name of the one that fits from then on.
    """

    listen: str
    display: int
    password: str = ""


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
        ReadError: the header or a row is not what xl prints, a domid stands twice, or Domain-0 is missing (an empty
            or cut list).

    Source: tools/xl/xl_list.c, Xen 4.17.
    """
    header, *rows = lines("xl list", text)
    if not header.startswith("Name ") or "State" not in header:
        raise ReadError(f"xl list: no header in {text[:80]!r}")
    found: dict[int, DomainRow] = {}
    for row in rows:
        columns = row.rsplit(None, _COLUMNS)
        match = _ROW.fullmatch(" ".join(columns[-_COLUMNS:]))
        if match is None:
            raise ReadError(f"xl list: cannot read the row {row[:120]!r}")
        domid, state = int(match["domid"]), match["state"]
        if domid in found:
            raise ReadError(f"xl list: domain {domid} stands twice")
        found[domid] = DomainRow(
            domid=domid,
            name=columns[0] if len(columns) > _COLUMNS else "",
            paused=state[2] == "p",
            dying=state[5] == "d",
            shutdown=_REASONS.get(state[4], "unknown") if state[3] == "s" else None,
        )
    if 0 not in found:
        raise ReadError("xl list: Domain-0 is missing")
    return tuple(row for domid, row in sorted(found.items()) if domid != 0)


VM_LIST = ("xl", "vm-list")


def parse_vm_list(text: str) -> Mapping[int, str]:
    """The uuid of each domain in `xl vm-list`, keyed by domid, without Domain-0.

    Raises:
        ReadError: a row is not `UUID DOMID NAME`, or a domid stands twice.

    Source: tools/xl/xl_list.c, Xen 4.17.
    """
    header, *rows = lines("xl vm-list", text)
    if not header.startswith("UUID"):
        raise ReadError(f"xl vm-list: no header in {text[:80]!r}")
    uuids: dict[int, str] = {}
    for row in rows:
        match = _UUID_ROW.fullmatch(row)
        if match is None:
            raise ReadError(f"xl vm-list: cannot read the row {row[:120]!r}")
        domid = int(match["domid"])
        if domid in uuids:
            raise ReadError(f"xl vm-list: domain {domid} stands twice")
        uuids[domid] = match["uuid"]
    return {domid: uuid for domid, uuid in uuids.items() if domid != 0}


LIST_LONG = ("xl", "list", "--long")


def parse_list_long(text: str) -> Mapping[int, SavedDomain]:
    """The saved configurations in `xl list --long`, keyed by domid, without Domain-0.

    Keys with default values are absent in this JSON, unknown ones are ignored. A domain that is being
    created or dying is missing here with exit status 0: whether one exists is said by `xl list` alone.

    Raises:
        ReadError: not a JSON array, a value of another type than libxl writes, or a domid that stands twice.

    Source: tools/libs/light/libxl_types.idl, Xen 4.17.
    """
    if text.lstrip().startswith("("):
        raise ReadError('xl list --long: not JSON (is output_format="sxp" set in /etc/xen/xl.conf?)')
    return {domid: _saved_domain(domid, config) for domid, config in _listed_long(text).items() if domid != 0}


def _listed_long(text: str) -> Mapping[int, Entry]:
    found: dict[int, Entry] = {}
    for entry in parse_entries("xl list --long", text):
        domid = entry.number("domid")
        if domid in found:
            raise ReadError(f"xl list --long: domain {domid} stands twice")
        found[domid] = entry.entry("config")
    return found


def _saved_domain(domid: int, config: Entry) -> SavedDomain:
    created, built = config.entry("c_info"), config.entry("b_info")
    kind, uuid = created.text("type"), created.text("uuid")
    if _UUID.fullmatch(uuid) is None:
        raise ReadError(f"xl list --long: domain {domid}: uuid is {uuid!r:.80}")
    variant = built.entry(f"type.{kind}")
    vnc = next((each for vfb in config.entries("vfbs") if _enabled(each := vfb.entry("vnc"))), None)
    if kind == "hvm" and _enabled(variant.entry("vnc")):
        vnc = variant.entry("vnc")
    vifs = tuple(_saved_vif(nic) for nic in config.entries("nics"))
    disks = tuple(_saved_disk(disk) for disk in config.entries("disks"))
    if len({vif.index for vif in vifs}) < len(vifs) or len({disk.vdev for disk in disks}) < len(disks):
        raise ReadError(f"xl list --long: domain {domid}: a device stands twice")
    return SavedDomain(
        domid=domid,
        name=created.text("name", ""),
        uuid=uuid,
        type=kind,
        memory_mib=built.number("target_memkb", 0) // 1024,
        max_memory_mib=built.number("max_memkb", 0) // 1024,
        vcpus=len(built.numbers("avail_vcpus")) or 1,
        max_vcpus=built.number("max_vcpus", 0) or 1,
        kernel=built.text("kernel", ""),
        ramdisk=built.text("ramdisk", ""),
        cmdline=built.text("cmdline", ""),
        bootloader=built.text("bootloader", ""),
        vifs=vifs,
        disks=disks,
        vnc=None if vnc is None else _saved_vnc(vnc),
        serial=variant.text("serial", ""),
        on_poweroff=config.text("on_poweroff", "destroy"),
        on_reboot=config.text("on_reboot", "destroy"),
        on_crash=config.text("on_crash", "destroy"),
    )


def _enabled(vnc: Entry) -> bool:
    return vnc.text("enable", "False") == "True"


def _saved_vnc(vnc: Entry) -> SavedVnc:
    listen, display = vnc.text("listen", ""), vnc.number("display", 0)
    # An address may have its display behind it; one of IPv6 always has.
    if match := _LISTEN.fullmatch(listen):
        listen, display = match["address"].strip("[]"), int(match["display"])
    password = vnc.text("passwd", "")
    return SavedVnc(listen, display, digest(password) if password else "")


def _saved_vif(nic: Entry) -> SavedVif:
    rate = nic.number("rate_bytes_per_interval", 0)
    return SavedVif(
        index=nic.number("devid"),
        mac=nic.mac("mac"),
        bridge=nic.text("bridge", ""),
        interface=nic.text("ifname", ""),
        script=nic.text("script", ""),
        rate=(rate, nic.number("rate_interval_usecs", 0)) if rate else None,
        backend=nic.number("backend_domid", 0),
    )


def _saved_disk(disk: Entry) -> SavedDisk:
    return SavedDisk(
        vdev=disk.text("vdev"),
        path=disk.text("pdev_path", ""),
        format=disk.text("format", ""),
        writable=disk.number("readwrite", 0) != 0,
        cdrom=disk.number("is_cdrom", 0) != 0,
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
    said = (line.partition(":") for line in lines("xl info", text))
    values = {key.strip(): value.strip() for key, _, value in said}
    try:
        return HypervisorInfo(
            version=values["xen_version"],
            total_memory_mib=_mib(values["total_memory"]),
            free_memory_mib=_mib(values["free_memory"]) - _mib(values.get("outstanding_claims", "0")),
        )
    except (KeyError, ValueError) as exc:
        raise ReadError(f"xl info: {exc!r}") from exc


def _mib(text: str) -> int:
    if _NUMBER.fullmatch(text) is None:
        raise ValueError(f"{text!r:.40} is no number")
    return int(text)


def read_rows(runner: Runner) -> tuple[DomainRow, ...]:
    """All domUs as the hypervisor has them.

    Raises:
        ReadError: the command failed or printed something else.
    """
    return parse_list(read(runner, LIST, timeout_s=LIST_TIMEOUT_S))


def read_uuids(runner: Runner) -> Mapping[int, str]:
    """Their uuids by domid.

    Raises:
        ReadError: the command failed or printed something else.
    """
    return parse_vm_list(read(runner, VM_LIST, timeout_s=LIST_TIMEOUT_S))


def read_saved(runner: Runner, domids: Iterable[int] | None = None) -> Mapping[int, SavedDomain]:
    """The saved configurations of these domains, of all without a list.

    Raises:
        TornError: one of these is gone.
        ReadError: a command failed or printed something else.
    """
    if domids is None:
        return parse_list_long(read(runner, LIST_LONG, timeout_s=LIST_TIMEOUT_S))
    found: dict[int, SavedDomain] = {}
    for domid in domids:
        completed = runner.run((*LIST_LONG, str(domid)), timeout_s=LIST_TIMEOUT_S)
        if completed.rc != 0 and completed.stderr.strip() == f"Error: Domain '{domid}' does not exist.":
            raise TornError(f"xl list --long: domain {domid} went while it was read")
        listed = parse_list_long(completed.output())
        if not {*listed} <= {domid}:
            raise ReadError(f"xl list --long {domid}: lists {', '.join(map(str, listed))}")
        found |= listed
    return found
