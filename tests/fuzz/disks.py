"""What guests' disks hold, and what the process says that has read one."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache

from state.inside.disk import read_disk
from state.inside.getty import Getty, Login
from state.inside.login import parse_inittab, parse_job, parse_securetty
from state.inside.system import find_login
from state.inside.volume import Disk
from state.insides import Inside, parse_answer
from tests.disks.kept import CASES, PAGE, names, pages
from tests.disks.pages import Pages
from tests.disks.systems import SYSTEMS
from tests.fuzz.conform import conforms
from tests.fuzz.target import Target, demand

# What lies further in a kept disk than an input is long.
_DENSE_BYTES = 192 * 1024
_SIZE = 1 << 40


@cache
def _disks() -> Sequence[bytes]:
    """The beginnings of the kept disks."""
    found = []
    for name in names():
        kept = pages(json.loads((CASES / f"{name}.json").read_text(encoding="utf-8")))
        data = bytearray(_DENSE_BYTES)
        for at, page in kept.items():
            if at + PAGE <= _DENSE_BYTES:
                data[at : at + PAGE] = page
        found.append(bytes(data))
    return found


def _disk(data: bytes) -> object:
    """A disk of a tebibyte that begins so: it is told of, whatever it is, and the parent takes what is told."""
    dense = {at: data[at : at + PAGE].ljust(PAGE, b"\0") for at in range(0, len(data), PAGE)}
    disk, volumes = read_disk(Pages(_SIZE, dense))
    conforms(disk, Disk)
    login = find_login(volumes)
    conforms(login, Login | None)
    said = {"disk": asdict(disk), "block": False, "changed_s": 0, "login": login and asdict(login)}
    demand(
        parse_answer(json.dumps(said)) == Inside(disk, block=False, changed_s=0, login=login),
        "it is not taken",
    )
    return disk


@cache
def _answers() -> Sequence[bytes]:
    said = []
    for data in _disks():
        disk, volumes = read_disk(
            Pages(_SIZE, {at: data[at : at + PAGE] for at in range(0, len(data), PAGE)})
        )
        login = find_login(volumes) or Login("1", "sysvinit", (Getty("/etc/inittab", 3, "hvc0", "h0", "x"),))
        said.append({"disk": asdict(disk), "block": True, "changed_s": 5, "login": asdict(login)})
    return [json.dumps(each).encode() for each in (*said, {"error": "No such file or directory"})]


def _answer(data: bytes) -> object:
    found = parse_answer(data.decode("ascii", "replace"))
    conforms(found, Inside | str)
    return found


@cache
def _texts() -> Sequence[bytes]:
    texts = (text for files in SYSTEMS.values() for text in files.values() if "\n" in text)
    return [text.encode() for text in texts]


def _text(data: bytes) -> object:
    """A file of a guest's as any of those that say who waits for logins; what comes out is plain."""
    text = data.decode("ascii", "replace")
    found = [
        *itertools.chain(
            parse_inittab(text), parse_inittab(text, busybox=True), parse_job(text, "/etc/init/x.conf")
        )
    ]
    conforms(found, list[Getty])
    for getty in found:
        shown = f"{getty.device}{getty.ident}{getty.untrusted_text}"
        demand(shown.isascii() and shown.isprintable(), "letters that mean something to a terminal")
    conforms(parse_securetty(text), tuple[str, ...])
    return found


def targets() -> tuple[Target, ...]:
    """A target for each."""
    wrong = (LookupError, TypeError, ValueError, RecursionError)
    return (
        Target("disk", _disks, _disk, (), weight=0.3),
        Target("disk-answer", _answers, _answer, wrong, structured=True),
        Target("login-files", _texts, _text, (), weight=0.5),
    )
