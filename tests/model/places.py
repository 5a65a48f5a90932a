"""The two dom0s that the contract is checked against: the one in memory, and the simulated one with the real tools."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from state.files import Files, HostFiles
from state.observed import Domain, Interest, Observed, observe
from state.run import HostRunner, Runner
from tests.dom0.guest import Guest
from tests.dom0.toolstack import wait_until
from tests.model.host import Host, make_host

MIB = 1 << 20


class Place(Protocol):
    """What the contract needs of a dom0: commands, files, and guests that do something by themselves."""

    @property
    def runner(self) -> Runner: ...

    @property
    def files(self) -> Files: ...

    def write(self, path: str, text: str) -> None:
        """Write a file, executable."""

    def make_image(self, path: str) -> None:
        """Make a disk image of a mebibyte."""

    def guest(self, name: str, act: str) -> None:
        """Let the guest reboot, power off or crash by itself."""

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Until it is so."""


@dataclass(slots=True)
class Memory:
    """The dom0 in memory."""

    host: Host

    @property
    def runner(self) -> Runner:
        return self.host

    @property
    def files(self) -> Files:
        return self.host.files

    def write(self, path: str, text: str) -> None:
        self.host.files.write(path, text, 0o755)

    def make_image(self, path: str) -> None:
        self.host.files.make_image(path, MIB)

    def guest(self, name: str, act: str) -> None:
        toolstack = self.host.toolstack
        domain = next(each for each in toolstack.domains.values() if each.name == name)
        {"reboot": toolstack.reboot, "poweroff": toolstack.power_off, "crash": toolstack.crash}[act](domain)

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        if not condition():
            self.host.toolstack.settle()
        assert condition(), what


@dataclass(slots=True)
class Simulated:
    """The simulated dom0: real xl, xenstored, nft, ip and bridge."""

    runner: Runner
    files: Files

    def write(self, path: str, text: str) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        target.chmod(0o755)

    def make_image(self, path: str) -> None:
        with Path(path).open("wb") as file:
            file.truncate(MIB)

    def guest(self, name: str, act: str) -> None:
        guest = Guest(name)
        guest.wait_booted()
        {"reboot": guest.reboot, "poweroff": guest.poweroff, "crash": guest.crash}[act]()

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        wait_until(condition, what)


def make_memory() -> Place:
    return Memory(make_host())


def make_simulated() -> Place:
    return Simulated(HostRunner(), HostFiles())


def seen(place: Place) -> Observed:
    """All that domgit sees of the place, through its own parsers."""
    return observe(place.runner, place.files, Interest())


def domain_of(place: Place, name: str) -> Domain | None:
    """The living domain of that name."""
    return next((each for each in seen(place).domains if each.name == name and not each.dying), None)
