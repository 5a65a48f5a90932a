"""What libxl must have understood of a domU, written down from the specification's own words. Knows nothing of how it is rendered."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from schemas.address import Address
from tests.round_trips.dice import Words, parse_memory

Json = dict[str, Any]
_PVGRUB = {"pv": "/usr/lib/grub-xen/grub-x86_64-xen.bin", "pvh": "/usr/lib/grub-xen/grub-i386-xen_pvh.bin"}
_FACTORS = {"us": 1, "ms": 1000, "s": 10**6, "": 1, "K": 10**3, "M": 10**6, "G": 10**9}
SCRIPT = "vif-domgit"


def expected_config(bare: Json, metadata: Words, spec: Words, password: str | None) -> Json:
    """The whole configuration: that of `bare`, a domain of the type of which nothing is said, with what the words say."""
    config = copy.deepcopy(bare)
    created, built = config["c_info"], config["b_info"]
    created["name"] = metadata["name"]
    created["uuid"] = (
        metadata.get("uuid") or str(uuid5(NAMESPACE_URL, f"domgit:{metadata['name']}"))
    ).lower()
    memory, vcpus = parse_memory(spec["memory"]), spec.get("vcpus", 1)
    built["target_memkb"] = memory * 1024
    built["max_memkb"] = parse_memory(spec.get("maxMemory", spec["memory"])) * 1024
    built["max_vcpus"], built["avail_vcpus"] = spec.get("maxVcpus", vcpus), [*range(vcpus)]
    boot = spec["boot"]
    installing = boot.get("phase") == "install"
    way = boot["install" if installing else "run"]
    kernel = _PVGRUB[spec["type"]] if "firmware" in way else way.get("kernel")
    for key in ("ramdisk", "cmdline", "bootloader"):
        _put(built, key, way.get(key))
    _put(built, "kernel", kernel)
    disks = [_disk(disk) for disk in spec.get("disks", ())]
    if installing and "cdrom" in way:
        disks.append(
            {"pdev_path": way["cdrom"], "vdev": "hdc", "format": "raw", "removable": 1, "is_cdrom": 1}
        )
    _put(config, "disks", disks)
    _put(config, "nics", [expected_nic(index, vif) for index, vif in enumerate(spec.get("vifs", ()))])
    vnc = spec.get("console", {}).get("vnc")
    if spec["type"] == "hvm":
        built["type.hvm"]["serial"] = "pty"
        # Said, because libxl gives an HVM guest a server on the first free display when nothing is said.
        built["type.hvm"]["vnc"] = {"enable": "False"} if vnc is None else _vnc(vnc, password)
    elif vnc is not None:
        config["vfbs"] = [{"devid": 0, "vnc": _vnc(vnc, password), "sdl": {}}]
        config["vkbs"] = [{"devid": 0}]
    config["on_poweroff"] = "preserve"
    config["on_reboot"] = "preserve" if installing else "restart"
    crash = spec.get("onCrash", "restart")
    # An installer is never started again by its own end.
    crash = "preserve" if installing and crash == "restart" else crash
    _put(config, "on_crash", None if crash == "destroy" else crash)  # libxl's own, and so left out
    return config


def addresses(vif: Words) -> set[Address]:
    """The addresses and prefixes of a vif."""
    texts = (each["address"] if isinstance(each, Mapping) else each for each in vif.get("ips", ()))
    return {ip_network(text) for text in texts}


def _put(where: Json, key: str, value: Any) -> None:
    """The value, or no key at all: libxl leaves out what is empty."""
    where.pop(key, None)
    if value:
        where[key] = value


def _disk(disk: Words) -> Json:
    writable = {"readwrite": 1} if disk.get("access", "rw") == "rw" else {}
    return {
        "pdev_path": disk["path"],
        "vdev": disk["vdev"],
        "format": disk.get("format", "raw"),
        **writable,
    }


def expected_nic(index: int, vif: Words) -> Json:
    """Its addresses are for people alone, and compared by who asks."""
    nic = {"devid": index, "mac": vif["mac"].lower(), "bridge": vif["bridge"], "script": SCRIPT}
    if "name" in vif:
        nic["ifname"] = vif["name"]
    if "rate" in vif:
        nic |= _rate(vif["rate"])
    return nic


def _rate(text: str) -> Json:
    match = re.fullmatch(r"(\d+)([KMG]?)([bB])/s(?:@(\d+)([mu]?s))?", text)
    assert match is not None
    bytes_per_s = int(match[1]) * _FACTORS[match[2]] // (8 if match[3] == "b" else 1)
    micros = int(match[4]) * _FACTORS[match[5]] if match[4] else 50_000
    return {"rate_bytes_per_interval": bytes_per_s * micros // 10**6, "rate_interval_usecs": micros}


def _vnc(vnc: Words, password: str | None) -> Json:
    listen = ip_address(vnc["listen"])
    found: Json = {"enable": "True", "findunused": "False"}
    if listen.version == 4:
        found["listen"] = str(listen)
        _put(found, "display", vnc["display"])
    else:
        # QEMU is handed this as it is: an address with colons has its display behind it.
        found["listen"] = f"[{listen}]:{vnc['display']}"
    _put(found, "passwd", password)
    return found
