"""A domU as the text of its xl configuration file. Pure.

Only `key = "..."` and plain decimals are ever written, and every value was accepted by schemas before:
a value that could break out of its quotes is a bug there, and refused here once more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from schemas.address import address_text
from state.desired import Disk, DomU, Vif, Vnc

# libxlu strings know no raw control characters, and these two end or escape a string; schemas refuses all of them.
_UNQUOTABLE = re.compile(r'[\x00-\x1f\x7f"\\]')
# Inside vif, disk and vfb strings a comma starts the next key.
_UNSPLITTABLE = re.compile(r'[\x00-\x1f\x7f"\\,]')
HOTPLUG_SCRIPT = "vif-domgit"
# What the toolstack does when a guest reboots: that of an installer ends the phase, instead of starting it again. By
# this a living domain is known to be an installer, whatever git says by now.
ENDS = {"install": "preserve", "run": "restart"}
# A node of xenstore holds less than 4 KiB, its path included; a vif whose addresses do not fit would not start.
TOLD_LIMIT = 2048
_PLACEHOLDER_START = "@domgit-secret:"
# Stands in plans and comparisons for a password that only the written file holds.
SECRET_PLACEHOLDER = _PLACEHOLDER_START + "{}@"  # the opposite of a password


def config_path(name: str) -> str:
    """Where the configuration of the domU called `name` lies."""
    return f"/etc/xen/{name}.cfg"


def render_xl(domu: DomU) -> str:
    """The configuration file of a domU, complete, ending with a newline.

    A VNC password is written as SECRET_PLACEHOLDER; the writer puts the secret in.
    on_poweroff is `preserve`: the customer's own poweroff stays visible until it was recorded.

    Raises:
        ValueError: a value cannot be written (schemas lets none through), or the domU is a tombstone.

    Source: xl.cfg(5), tools/libs/util/libxlu_cfg_{l.l,y.y}, Xen 4.17.
    """
    boot = domu.boot
    if boot is None:
        raise ValueError(f"{domu.name}: a tombstone has no configuration")
    lines = [
        f"# Written by domgit from {domu.file}: edit that file in git, not this one.",
        _text("name", domu.name),
        _text("uuid", domu.uuid),
        _text("type", domu.type),
        f"memory = {domu.memory_mib}",
        f"maxmem = {domu.max_memory_mib}",
        f"vcpus = {domu.vcpus}",
        f"maxvcpus = {domu.max_vcpus}",
    ]
    for key, value in (
        ("kernel", boot.kernel),
        ("ramdisk", boot.ramdisk),
        ("cmdline", boot.cmdline),
        ("bootloader", boot.bootloader),
        ("firmware", boot.firmware),
    ):
        if value:
            lines.append(_text(key, value))
    lines.append(
        _list("disk", [_disk(disk) for disk in domu.disks] + ([_cdrom(boot.cdrom)] if boot.cdrom else []))
    )
    lines.append(_list("vif", [_vif(vif) for vif in domu.vifs]))
    if domu.type == "hvm":
        lines += [*_hvm_vnc(domu.vnc), _text("serial", "pty")]
    elif domu.vnc is not None:
        lines.append(_list("vfb", [",".join(f"{key}={value}" for key, value in _vnc(domu.vnc).items())]))
    lines += [
        _text("on_poweroff", "preserve"),
        _text("on_reboot", ENDS[boot.phase]),
        _text("on_crash", on_crash(domu)),
    ]
    return "\n".join(lines) + "\n"


def on_crash(domu: DomU) -> str:
    """What the toolstack does when the guest crashes; an installer is never started again by that."""
    installs = domu.boot is not None and domu.boot.phase == "install"
    return "preserve" if installs and domu.on_crash == "restart" else domu.on_crash


def vif_arguments(vif: Vif) -> tuple[str, ...]:
    """A vif as `key=value` parts, for xl.cfg and for `xl network-attach` alike.

    `ip=` is information for people; nothing enforces or compares it. What does not fit is left out of it.
    """
    arguments = [f"mac={vif.mac}", f"bridge={_part(vif.bridge)}"]
    if vif.name is not None:
        arguments.append(f"vifname={_part(vif.name)}")
    arguments.append(f"script={HOTPLUG_SCRIPT}")
    if vif.addresses:
        told = " ".join(address_text(address) for address in vif.addresses)
        arguments.append(f"ip={told if len(told) <= TOLD_LIMIT else told[:TOLD_LIMIT].rpartition(' ')[0]}")
    if vif.rate_text is not None:
        arguments.append(f"rate={_part(vif.rate_text)}")
    return tuple(arguments)


def _vif(vif: Vif) -> str:
    return ",".join(vif_arguments(vif))


def _disk(disk: Disk) -> str:
    access = "rw" if disk.writable else "ro"
    # target= takes the rest of the string, so it comes last; the format is always said, never probed.
    return f"format={_part(disk.format)},vdev={_part(disk.vdev)},access={access},target={_part(disk.path)}"


def _cdrom(path: str) -> str:
    return f"format=raw,vdev=hdc,access=ro,devtype=cdrom,target={_part(path)}"


def _vnc(vnc: Vnc) -> dict[str, str]:
    """The server by keys. libxl takes the display of an IPv6 address from behind it only: its colons look like one."""
    if ":" in vnc.listen:
        listen = {"vnclisten": f"[{_part(vnc.listen)}]:{vnc.display}"}
    else:
        listen = {"vnclisten": _part(vnc.listen), "vncdisplay": str(vnc.display)}
    secret = {} if vnc.secret is None else {"vncpasswd": SECRET_PLACEHOLDER.format(_part(vnc.secret))}
    return {"vnc": "1", **listen, "vncunused": "0", **secret}


def _hvm_vnc(vnc: Vnc | None) -> Iterator[str]:
    """The server of an HVM guest, whose `vfb` libxl does not look at. Unless told, it starts one without a password.

    Source: libxl__dm_vnc in tools/libs/light/libxl_dm.c, Xen 4.17.
    """
    for key, value in ({"vnc": "0"} if vnc is None else _vnc(vnc)).items():
        yield f"{key} = {value}" if value.isdecimal() else f'{key} = "{value}"'


def _text(key: str, value: str) -> str:
    if _UNQUOTABLE.search(value) or _PLACEHOLDER_START in value:
        raise ValueError(f"{key}: {value!r} cannot be written into an xl configuration")
    return f'{key} = "{value}"'


def _part(value: str) -> str:
    if _UNSPLITTABLE.search(value) or _PLACEHOLDER_START in value:
        raise ValueError(f"{value!r} cannot be written into a vif, disk or vfb string")
    return value


def _list(key: str, values: list[str]) -> str:
    if not values:
        return f"{key} = []"
    return f"{key} = [\n" + "".join(f'    "{value}",\n' for value in values) + "]"
