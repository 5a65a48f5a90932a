"""Whether a guest's own system lets anybody in where its kernel has the console, and what its customer can do. Pure.

The console is his last way in, and he finds out when he needs it. All of it is his own files' word; nothing is done about it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from state.desired import DomU
from state.inside.getty import Getty, Login

# A PV or PVH kernel has one of these, and no hardware behind the others.
_CONSOLES = ("hvc0", "xvc0", "ttyS0")
_NAMED = re.compile(r"(?:^| )console=(hvc0|xvc0|ttyS0)\b")


def offered(domu: DomU) -> str:
    """The device that the guest's kernel has its console on: as the command line that dom0 gives it says, or else `console.device`.

    Of a kernel that pygrub takes from the guest the command line is the guest's own.
    """
    boot = domu.boot
    named = _NAMED.findall(boot.cmdline) if boot is not None and not boot.bootloader else []
    return named[-1] if named else domu.console_device


def login_words(domu: DomU, login: Login) -> tuple[str, str] | None:
    """The reason of a note and its message; None where there is nothing to tell, or nothing known."""
    if domu.console_login == "ignore" or login.why or login.init == "unknown":
        return None
    device = offered(domu)
    waits = login.automatic or any(each.device in {device, "console"} for each in login.gettys)
    # Emulated hardware of an HVM guest can have several.
    absent = {*_CONSOLES} - {device} if domu.type != "hvm" else set()
    odd = [each for each in login.gettys if each.device in absent]
    barred = (
        login.securetty is not None
        and login.init != "systemd"  # whose login asks for no such list any more
        and device not in login.securetty
    )
    said = [*_said(device, odd, waits=waits, barred=barred, init=login.init)]
    if not said:
        return None
    remedy = "; ".join(_remedy(domu, device, login, odd, waits=waits, barred=barred))
    return "odd_login" if waits else "no_login", f"{'; '.join(said)}. In the guest: {remedy}"


def _said(device: str, odd: Sequence[Getty], *, waits: bool, barred: bool, init: str) -> Iterator[str]:
    if not waits:
        yield f"nothing waits for a login on {device}, where its kernel has the console"
    for each in odd:
        what = f"{_place(each)} waits on {each.device}, which this kernel does not have"
        yield (
            f'{what} (INIT: Id "{each.ident}" respawning too fast)'
            if init == "sysvinit" and each.ident
            else what
        )
    if barred:
        yield f"root may not log in on {device}: /etc/securetty does not list it"


def _place(getty: Getty) -> str:
    return f"{getty.file}:{getty.line}" if getty.line else getty.file


def _remedy(
    domu: DomU, device: str, login: Login, odd: Sequence[Getty], *, waits: bool, barred: bool
) -> Iterator[str]:
    match login.init:
        case "systemd":
            yield from (f"`systemctl disable --now serial-getty@{each.device}`" for each in odd)
            if not waits:
                yield f"`systemctl enable --now serial-getty@{device}`"
        case "upstart" | "event.d":
            yield from _jobs(domu, device, login, odd, waits=waits)
        case _:
            yield from _inittab(domu, device, login, odd, waits=waits)
    if barred:
        yield f"add the line `{device}` to /etc/securetty"
    if login.init in {"sysvinit", "openrc"} and (odd or not waits):
        yield "`telinit q`"
    if login.init == "busybox" and (odd or not waits):
        yield "`kill -HUP 1`"


def _jobs(domu: DomU, device: str, login: Login, odd: Sequence[Getty], *, waits: bool) -> Iterator[str]:
    suffix = ".conf" if login.init == "upstart" else ""
    folder = "/etc/init" if login.init == "upstart" else "/etc/event.d"
    for each in odd:
        yield f"`rm {each.file}`"
    if not waits:
        # What is there for another device is right for this one but for its name.
        model = next(iter(login.gettys), None)
        if model is None:
            yield f"make {folder}/{device}{suffix} with `start on runlevel [2345]`, `respawn` and `exec /sbin/getty {domu.console_baud} {device}`"
        else:
            yield f"`sed s/{model.device}/{device}/ {model.file} > {folder}/{device}{suffix}`"
        yield f"`initctl start {device}`" if login.init == "upstart" else f"`start {device}`"


def _inittab(domu: DomU, device: str, login: Login, odd: Sequence[Getty], *, waits: bool) -> Iterator[str]:
    lines = [each for each in odd if each.file == "/etc/inittab"]
    for each in lines:
        yield (
            f"put # before `{each.untrusted_text}`"
            if each.untrusted_text
            else f"put # before line {each.line} of /etc/inittab"
        )
    for each in odd:
        if each.file != "/etc/inittab":
            yield f"`rc-update del agetty.{each.device}`"
    if waits:
        return
    model = next((each for each in lines if each.untrusted_text), None)
    if model is not None:
        line = model.untrusted_text.replace(model.device, device)
    elif login.init == "busybox":
        line = f"{device}::respawn:/sbin/getty {domu.console_baud} {device}"
    else:
        line = f"{device}:2345:respawn:/sbin/getty {domu.console_baud} {device}"
    yield f"add the line `{line}` to /etc/inittab"
