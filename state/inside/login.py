"""How a guest's files say what waits for a login where. Pure.

What comes out of a guest's files is of a narrow alphabet: names of devices and of files, numbers, and a line only where it is
made of letters that mean nothing to a terminal or a shell.

Source: inittab(5), init(5) of Upstart 0.3 and 1.5, systemd-getty-generator(8), busybox's init.c (1.36), OpenRC's agetty guide.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Protocol

from state.inside.getty import Getty, Login
from state.inside.image import SpoiltError

_DEVICE = re.compile(r"(?:/dev/)?((?:tty[A-Za-z]{0,4}|hvc|xvc)[0-9]{1,3}|console)", re.ASCII)
_PROGRAM = re.compile(r"(?:/[A-Za-z0-9_.-]+)*/?(?:[a-z]{0,3}getty|login|sulogin|sh|ash|bash)", re.ASCII)
_PLAIN = re.compile(r"[A-Za-z0-9:/ _.,=+-]{1,120}", re.ASCII)
_IDENT = re.compile(r"[A-Za-z0-9]{0,6}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9@_.-]{1,64}", re.ASCII)
# Blanks of one line: behind each of many line ends it would look through all that follow.
_MANUAL = re.compile(r"^[ \t]*manual[ \t]*$", re.MULTILINE)
_STARTS_AGAIN = frozenset({"respawn", "askfirst", "ondemand"})
# Of each kind of file so many are read; systems have about a dozen.
_MOST_FILES, _MOST_GETTYS = 100, 32
_GENERATORS = tuple(
    f"{folder}/systemd/system-generators/systemd-getty-generator"
    for folder in ("/lib", "/usr/lib", "/usr/local/lib", "/etc")
)
_UNIT_FOLDERS = ("/etc/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system")
_UNIT = re.compile(r"(?:serial-|console-|container-)?getty@?(?P<device>[A-Za-z0-9]*)\.service", re.ASCII)
_SERVICE = re.compile(r"a?getty\.(?P<device>[A-Za-z0-9]{1,10})", re.ASCII)


class Files(Protocol):
    """The files of a guest, as state.inside.ext_files reads them."""

    def text(self, path: str) -> str | None:
        """A plain file's text."""

    def names(self, path: str) -> tuple[str, ...]:
        """The names in a folder."""

    def exists(self, path: str) -> bool:
        """Whether something is there."""

    def leads_to(self, path: str) -> str | None:
        """Where a symbolic link says that it leads."""


def is_system(files: Files) -> bool:
    """Whether a file system is the root of a system, and not its /boot or /home.

    Raises:
        SpoiltError: it is spoilt.
    """
    return files.exists("/etc/passwd") or files.exists("/etc/inittab")


def read_login(volume: str, files: Files) -> Login:
    """How the system in these files of a volume lets people in; with the reason where that cannot be read."""
    try:
        init = _init(files)
        gettys, automatic = _gettys(files, init)
        securetty = files.text("/etc/securetty")
        return Login(
            volume,
            init,
            gettys=tuple(gettys)[:_MOST_GETTYS],
            automatic=automatic,
            securetty=None if securetty is None else parse_securetty(securetty),
        )
    except SpoiltError as exc:
        return Login(volume, "unknown", why=str(exc))


def _init(files: Files) -> str:
    """Which init it has: by where /sbin/init leads, then by the files that only one kind has."""
    folders = [each for each in ("/sbin", "/usr/sbin") if (target := files.leads_to(f"{each}/init"))]
    target = files.leads_to(f"{folders[0]}/init") or "" if folders else ""
    for word, init in (
        ("systemd", "systemd"),
        ("busybox", "busybox"),
        ("openrc", "openrc"),
        ("upstart", "upstart"),
    ):
        if word in target:
            return init
    if files.exists("/sbin/initctl") and any(name.endswith(".conf") for name in files.names("/etc/init")):
        return "upstart"
    if files.names("/etc/event.d"):
        return "event.d"
    if files.exists("/etc/inittab"):
        return "openrc" if files.exists("/etc/runlevels") else "sysvinit"
    return "unknown"


def _gettys(files: Files, init: str) -> tuple[Iterator[Getty], bool]:
    """What waits for logins, and whether a getty comes by itself where the console is."""
    match init:
        case "systemd":
            return _units(files), any(files.exists(each) for each in _GENERATORS)
        case "upstart":
            # CentOS 6 starts serial.conf with the device of the console, told by udev.
            serial = files.text("/etc/init/serial.conf") or ""
            return _jobs(files, "/etc/init", ".conf"), "fedora.serial-console-available" in serial
        case "event.d":
            return _jobs(files, "/etc/event.d", ""), False
        case _:
            inittab = parse_inittab(files.text("/etc/inittab") or "", busybox=init == "busybox")
            return _with_services(files, inittab), False


def _with_services(files: Files, inittab: Iterable[Getty]) -> Iterator[Getty]:
    """Those of inittab, and OpenRC's services agetty.DEVICE."""
    yield from inittab
    for level in ("sysinit", "boot", "default"):
        for name in files.names(f"/etc/runlevels/{level}")[:_MOST_FILES]:
            match = _SERVICE.fullmatch(name)
            if match is not None:
                yield Getty(f"/etc/runlevels/{level}/{name}", 0, match["device"])


def _units(files: Files) -> Iterator[Getty]:
    masked = {
        name
        for name in files.names(_UNIT_FOLDERS[0])[:_MOST_FILES]
        if files.leads_to(f"{_UNIT_FOLDERS[0]}/{name}") == "/dev/null"
    }
    for folder in _UNIT_FOLDERS:
        for name in files.names(f"{folder}/getty.target.wants")[:_MOST_FILES]:
            match = _UNIT.fullmatch(name)
            if match is not None and name not in masked:
                device = match["device"] or ("console" if name.startswith("console") else "")
                if _DEVICE.fullmatch(device):
                    yield Getty(f"{folder}/getty.target.wants/{name}", 0, device)


def _jobs(files: Files, folder: str, suffix: str) -> Iterator[Getty]:
    for name in files.names(folder)[:_MOST_FILES]:
        if not name.endswith(suffix) or _NAME.fullmatch(name) is None:
            continue
        override = files.text(f"{folder}/{name.removesuffix(suffix)}.override") if suffix else None
        manual = override is not None and _MANUAL.search(override)
        if not manual:
            yield from parse_job(files.text(f"{folder}/{name}") or "", f"{folder}/{name}")


def parse_inittab(untrusted_text: str, *, busybox: bool = False) -> Iterator[Getty]:
    """What waits for logins in the runlevel that the system starts in.

    `busybox`: the first field is the device, and no runlevel counts.
    """
    rows = [*enumerate(untrusted_text.splitlines(), 1)]
    split = [(number, row.strip(), row.strip().split(":", 3)) for number, row in rows]
    entries = [each for each in split if len(each[2]) == 4 and not each[1].startswith("#")]  # noqa: PLR2004
    default = next((fields[1] for _, _, fields in entries if fields[2] == "initdefault"), "")
    for number, row, (ident, levels, action, process) in entries:
        counts = busybox or not levels or not default or default[:1] in levels
        device = _device(process, ident if busybox else "")
        if action in _STARTS_AGAIN and counts and device is not None:
            yield Getty(
                "/etc/inittab",
                number,
                device,
                ident if _IDENT.fullmatch(ident) else "",
                row if _PLAIN.fullmatch(row) else "",
            )


def parse_job(untrusted_text: str, file: str) -> Iterator[Getty]:
    """What waits for logins in a job of Upstart, of /etc/init or /etc/event.d, that starts by itself."""
    if re.search(r"^start on\b", untrusted_text, re.MULTILINE) is None or _MANUAL.search(untrusted_text):
        return
    for number, row in enumerate(untrusted_text.splitlines(), 1):
        words = row.split(None, 1)
        device = _device(words[1], "") if len(words) == 2 and words[0] in {"exec", "respawn"} else None  # noqa: PLR2004
        if device is not None:
            yield Getty(
                file, number, device, untrusted_text=row.strip() if _PLAIN.fullmatch(row.strip()) else ""
            )


def _device(command: str, ident: str) -> str | None:
    """On what device a command waits for a login; None where it does not."""
    words = command.lstrip("+-@").split()
    if words[:1] == ["exec"]:
        words = words[1:]
    if not words or _PROGRAM.fullmatch(words[0].lstrip("-")) is None:
        return None
    for word in (*words[1:], ident):
        match = _DEVICE.fullmatch(word)
        if match is not None:
            return match[1]
    return None


def parse_securetty(untrusted_text: str) -> tuple[str, ...]:
    """The devices on which root may log in, as far as they are consoles."""
    rows = (row.strip() for row in untrusted_text.splitlines())
    found = {match[1] for row in rows if (match := _DEVICE.fullmatch(row)) is not None}
    return tuple(sorted(found))
