"""What waits for a login where in a guest's system, as values."""

from __future__ import annotations

from dataclasses import dataclass

INITS = ("systemd", "upstart", "event.d", "sysvinit", "busybox", "openrc", "unknown")


@dataclass(frozen=True, slots=True)
class Getty:
    """Something that waits for a login on a device, again and again.

    `line` counts from 1; 0 where the file's name alone says it. `untrusted_text` is the line, "" where it is not of plain
    letters; `ident` is inittab's.
    """

    file: str
    line: int
    device: str
    ident: str = ""
    untrusted_text: str = ""


@dataclass(frozen=True, slots=True)
class Login:
    """How a system lets people in on its console.

    `volume` is where the system lies, as its disk's volumes are named. `init` is what starts everything, one of INITS. `automatic`: a getty
    comes by itself wherever the kernel has its console. `securetty` are the devices on which root may log in; None: there
    is no such list. `why`: it could not be read.
    """

    volume: str
    init: str
    gettys: tuple[Getty, ...] = ()
    automatic: bool = False
    securetty: tuple[str, ...] | None = None
    why: str = ""
