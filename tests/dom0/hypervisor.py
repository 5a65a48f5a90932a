"""The hypervisor's memory as the players see it: the file that hypervisor.c keeps, in the same format, under flock."""

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tests.dom0 import KICK, STATE, VIRQ, Dom0Error

DYING, HVM, SHUTDOWN, PAUSED, BLOCKED, RUNNING = 1, 2, 4, 8, 0x10, 0x20  # XEN_DOMINF_*
POWEROFF, REBOOT, SUSPEND, CRASH = 0, 1, 2, 3  # SHUTDOWN_*
PAGES_PER_MIB = 256
DOM0_MIB = 1024
CPUS = 8


@dataclass(frozen=True, slots=True)
class Domain:
    """One line of the file."""

    domid: int
    uuid: str
    flags: int
    pages: int
    max_pages: int
    online_vcpus: int
    max_vcpus: int
    cpu_time: int
    weight: int
    cap: int

    @property
    def runs(self) -> bool:
        """Whether its kernel gets to run: not paused, dying or shut down."""
        return not self.flags & (PAUSED | DYING | SHUTDOWN)


def _parse(line: str) -> Domain:
    domid, uuid, flags, *rest = line.split()
    return Domain(int(domid), uuid, int(flags, 16), *map(int, rest))


def _text(domain: Domain) -> str:
    d = domain
    numbers = (d.pages, d.max_pages, d.online_vcpus, d.max_vcpus, d.cpu_time, d.weight, d.cap)
    return f"{d.domid} {d.uuid} {d.flags:x} {' '.join(map(str, numbers))}\n"


def initialise(memory_mib: int) -> None:
    """A machine with this much memory, on which only Domain-0 runs.

    Raises:
        Dom0Error: the memory is not enough for Domain-0.
    """
    if memory_mib <= DOM0_MIB:
        raise Dom0Error(f"--memory {memory_mib}: Domain-0 alone has {DOM0_MIB} MiB")
    pages = DOM0_MIB * PAGES_PER_MIB
    dom0 = Domain(0, "0" * 32, RUNNING, pages, pages, CPUS, CPUS, 0, 256, 0)
    STATE.write_text(f"host {memory_mib * PAGES_PER_MIB} {CPUS} 1\n{_text(dom0)}", "ascii")
    for fifo in (VIRQ, KICK):
        os.mkfifo(fifo)


def domains() -> dict[int, Domain]:
    """All domains but Domain-0."""
    with STATE.open("r", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        return {d.domid: d for d in map(_parse, file.readlines()[1:]) if d.domid}


def change(domid: int, update: Callable[[Domain], Domain]) -> bool:
    """Whether the domain was there to be changed."""
    with STATE.open("r+", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        header, *lines = file.readlines()
        known = [_parse(line) for line in lines]
        if not any(d.domid == domid for d in known):
            return False
        file.seek(0)
        file.write(header + "".join(_text(update(d) if d.domid == domid else d) for d in known))
        file.truncate()
        file.flush()
    return True


def shut_down(domid: int, reason: int) -> None:
    """What SCHEDOP_shutdown does: the domain stands still until the toolstack acts on its reason."""

    def stopped(domain: Domain) -> Domain:
        return replace(domain, flags=(domain.flags & HVM) | SHUTDOWN | reason << 16)

    if change(domid, stopped):
        raise_signal(VIRQ)


def raise_signal(fifo: Path) -> None:
    """A byte for whoever reads the FIFO; none if nobody does."""
    try:
        descriptor = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(descriptor, b"!")
    finally:
        os.close(descriptor)
