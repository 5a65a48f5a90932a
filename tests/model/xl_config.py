"""xl.cfg texts read back: exactly the grammar that is ever written here, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.model.answer import Refused

_KEYS = frozenset(
    {
        "name",
        "uuid",
        "type",
        "memory",
        "maxmem",
        "vcpus",
        "maxvcpus",
        "kernel",
        "ramdisk",
        "cmdline",
        "bootloader",
        "disk",
        "vif",
        "vfb",
        "on_poweroff",
        "on_reboot",
        "on_crash",
    }
)
_VALUE = re.compile(r'"(?P<text>[^"\\]*)"|(?P<number>[0-9]+)|\[(?P<items>(?:\s*"[^"\\]*",?)*\s*)\]')
_ASSIGNMENT = re.compile(r"(?P<key>[a-z_]+) = ")
_RATE = re.compile(
    r"(?P<count>[0-9]+)(?P<scale>[KMG]?)(?P<unit>[bB])/s(?:@(?P<interval>[0-9]+)(?P<per>us|ms|s))?"
)
_SCALE = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3}
_MICROSECONDS = {"us": 1, "ms": 1000, "s": 1000**2}
# libxlu's own when a rate names none.
_INTERVAL_US = 50_000


@dataclass(frozen=True, slots=True)
class NicConfig:
    """A vif of a configuration; `ifname` "" is the kernel's own name."""

    mac: str
    bridge: str = "xenbr0"
    ifname: str = ""
    script: str = ""
    ip: str = ""
    rate: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class DiskConfig:
    """A disk of a configuration."""

    vdev: str
    path: str
    format: str
    writable: bool
    cdrom: bool


@dataclass(frozen=True, slots=True)
class DomainConfig:
    """What a domain is made from. What a file does not say has libxl's own default."""

    name: str
    uuid: str
    memory_mib: int
    type: str = "pv"
    max_memory_mib: int = 0
    vcpus: int = 1
    max_vcpus: int = 1
    kernel: str = ""
    ramdisk: str = ""
    cmdline: str = ""
    bootloader: str = ""
    disks: tuple[DiskConfig, ...] = ()
    nics: Mapping[int, NicConfig] = field(default_factory=dict)
    vnc: tuple[str, int, str] | None = None  # where it listens, its display, its password
    on_poweroff: str = "destroy"
    on_reboot: str = "restart"
    on_crash: str = "destroy"


def parse_config(text: str) -> DomainConfig:
    """The configuration that a file's text describes.

    Raises:
        Refused: xl would not take it.
        AssertionError: it says something that is never written here.
    """
    values = _assignments(text)
    texts = {key: value for key, value in values.items() if isinstance(value, str)}
    numbers = {key: value for key, value in values.items() if isinstance(value, int)}
    lists = {key: value for key, value in values.items() if isinstance(value, list)}
    return DomainConfig(
        name=texts["name"],
        uuid=texts["uuid"],
        memory_mib=numbers["memory"],
        type=texts.get("type", "pv"),
        max_memory_mib=numbers.get("maxmem", numbers["memory"]),
        vcpus=numbers.get("vcpus", 1),
        max_vcpus=numbers.get("maxvcpus", numbers.get("vcpus", 1)),
        kernel=texts.get("kernel", ""),
        ramdisk=texts.get("ramdisk", ""),
        cmdline=texts.get("cmdline", ""),
        bootloader=texts.get("bootloader", ""),
        disks=tuple(_disk(each) for each in lists.get("disk", [])),
        nics={index: parse_nic(each.split(",")) for index, each in enumerate(lists.get("vif", []))},
        vnc=_vnc(lists.get("vfb", [])),
        on_poweroff=texts.get("on_poweroff", "destroy"),
        on_reboot=texts.get("on_reboot", "restart"),
        on_crash=texts.get("on_crash", "destroy"),
    )


def _assignments(text: str) -> dict[str, str | int | list[str]]:
    values: dict[str, str | int | list[str]] = {}
    rest = "\n".join(line for line in text.splitlines() if not line.startswith("#")).strip()
    while rest:
        key = _ASSIGNMENT.match(rest)
        value = None if key is None else _VALUE.match(rest, key.end())
        if key is None or value is None:
            raise Refused(f"config parsing error near `{rest.splitlines()[0]}'")
        if key["key"] not in _KEYS or key["key"] in values:
            raise AssertionError(f"never written: {rest.splitlines()[0]}")
        values[key["key"]] = _value(value)
        rest = rest[value.end() :].lstrip("\n")
    return values


def _value(match: re.Match[str]) -> str | int | list[str]:
    if match["text"] is not None:
        return match["text"]
    return int(match["number"]) if match["number"] is not None else re.findall(r'"([^"]*)"', match["items"])


def parse_nic(arguments: Sequence[str]) -> NicConfig:
    """A vif as `key=value` parts, in xl.cfg and for `xl network-attach` alike."""
    parts = dict(each.split("=", 1) for each in arguments)
    rate = parts.pop("rate", None)
    nic = NicConfig(
        mac=parts.pop("mac"),
        bridge=parts.pop("bridge", "xenbr0"),
        ifname=parts.pop("vifname", ""),
        script=parts.pop("script", ""),
        ip=parts.pop("ip", ""),
        rate=None if rate is None else _rate(rate),
    )
    if parts:
        raise Refused(f"Invalid parameter `{next(iter(parts))}'.")
    return nic


def _rate(text: str) -> tuple[int, int]:
    match = _RATE.fullmatch(text)
    if match is None:
        raise Refused(f"Invalid rate `{text}'")
    bits = int(match["count"]) * _SCALE[match["scale"]]
    interval = (
        _INTERVAL_US if match["interval"] is None else int(match["interval"]) * _MICROSECONDS[match["per"]]
    )
    bytes_per_s = bits // 8 if match["unit"] == "b" else bits
    return bytes_per_s * interval // 1000**2, interval


def _disk(text: str) -> DiskConfig:
    head, _, target = text.partition("target=")
    parts = dict(each.split("=", 1) for each in head.rstrip(",").split(","))
    return DiskConfig(
        vdev=parts["vdev"],
        path=target,
        format=parts["format"],
        writable=parts["access"] == "rw",
        cdrom=parts.get("devtype") == "cdrom",
    )


def _vnc(vfbs: list[str]) -> tuple[str, int, str] | None:
    if not vfbs:
        return None
    parts = dict(each.split("=", 1) for each in vfbs[0].split(","))
    return parts["vnclisten"], int(parts["vncdisplay"]), parts.get("vncpasswd", "")
