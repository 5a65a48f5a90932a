"""A dom0 that is held to the contract: what differs between a simulated and a real one, and what a test types on either.

Everything is looked at through the product's own runner and parsers, so that these are held to the contract as well.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from uuid import UUID, uuid5

from state import xenstore, xl
from state.files import HostFiles
from state.links import Network, read_network
from state.observed import Domain, observe_domains
from state.run import Completed, HostRunner, TornError
from state.xl import DomainRow, SavedDomain

IMAGES, CONFIGURATIONS = Path("/srv/xen"), Path("/etc/xen")
UUID_SPACE = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
IMAGE_BYTES = 1 << 20
MEMORY_MIB, MAX_MEMORY_MIB = 96, 160  # the least that a real Linux starts in
# libxl kills a script after 40 s, and gives up on a guest that does not answer after 60 s.
COMMAND_S, LIBXL_LONGEST_S = 20.0, 60.0
POLL_S = 0.02
# A line of `xenstore-ls -f -p`.
_NODE = re.compile(r'(?P<path>/[^ ]*) = ".*"\s+\((?P<permissions>[^()]*)\)')


class Guest(Protocol):
    """The operating system of a domU with a name, over all its domids; tests.dom0.guest.Guest is one."""

    def wait_booted(self, timeout_s: float = 60.0) -> None:
        """Until it is up, so that all else here can be asked of it."""

    def reboot(self) -> None:
        """Reboots it from inside; returns at once, as poweroff and crash do."""

    def poweroff(self) -> None:
        """Powers it off from inside."""

    def crash(self) -> None:
        """Lets its kernel panic."""

    def ignore_shutdown(self, ignore: bool = True) -> None:
        """Makes it acknowledge shutdown requests and go on, or obey again."""

    def configure(self, addresses: Sequence[str], *, device: str = "eth0") -> None:
        """Sets the device's addresses, with prefix length; a real guest has forgotten them at its next boot."""

    def send(self, frame: bytes, device: str = "eth0") -> None:
        """Sends one Ethernet frame as it is."""

    def ping(self, address: str, timeout_s: float = 2.0) -> bool:
        """Whether the address answers in time."""


class Machine(Protocol):
    """What differs from one kind of dom0 to the other."""

    @property
    def slower(self) -> float:
        """How many times longer than the simulation it takes for anything that is not a timer of the toolstack's."""

    @property
    def boot(self) -> Mapping[str, str]:
        """The keys by which a PV guest boots, kernel first among them, with values as they stand in the file."""

    @property
    def address(self) -> str:
        """dom0's own IPv4 address on xenbr0, in a /24 of which guests may have .150 to .199."""

    def guest(self, name: str) -> Guest:
        """The guest of the domU with this name, which need not run."""

    def undying(self, domid: int) -> AbstractContextManager[None]:
        """While it is entered, the domain does not go away when it is destroyed: something has its memory mapped."""


@dataclass(slots=True)
class Host:
    """A dom0 and the domUs that were made on it for tests."""

    machine: Machine
    runner: HostRunner = field(default_factory=HostRunner)
    files: HostFiles = field(default_factory=HostFiles)
    names: set[str] = field(default_factory=set)

    def run(self, *argv: str) -> Completed:
        """The command's end, whatever its exit status."""
        return self.runner.run(argv, timeout_s=LIBXL_LONGEST_S + COMMAND_S * self.machine.slower)

    def xl(self, *arguments: object) -> Completed:
        """See run."""
        return self.run("xl", *map(str, arguments))

    def wait(self, condition: Callable[[], object], what: str, timeout_s: float = COMMAND_S) -> None:
        """Until it is so; what came or went while it was looked at is looked at again. Slower hosts get more time.

        Raises:
            TimeoutError: it was not in time.
        """
        deadline = time.monotonic() + timeout_s * self.machine.slower
        while not self._holds(condition):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {timeout_s * self.machine.slower:g} s")
            time.sleep(POLL_S)

    @staticmethod
    def _holds(condition: Callable[[], object]) -> bool:
        try:
            return bool(condition())
        except TornError:
            return False

    # ---- making domUs ----

    def write(self, name: str, number: int, **changes: str) -> Path:
        """A configuration of a PV domU with one disk and one vif, and its empty image.

        `changes` are values as they stand in the file, by key; "" leaves a key out.
        """
        self.names.add(name)
        IMAGES.mkdir(parents=True, exist_ok=True)
        image = self.image(name)
        values = {
            "name": f'"{name}"',
            "uuid": f'"{uuid_of(name)}"',
            "type": '"pv"',
            **self.machine.boot,
            "memory": str(MEMORY_MIB),
            "maxmem": str(MAX_MEMORY_MIB),
            "vcpus": "1",
            "maxvcpus": "2",
            "disk": f'["format=raw,vdev=xvda,access=rw,target={image}"]',
            "vif": f'["vifname={name},mac={mac_of(number)},bridge=xenbr0"]',
            **changes,
        }
        path = CONFIGURATIONS / f"{name}.cfg"
        path.write_text("".join(f"{key} = {value}\n" for key, value in values.items() if value), "utf-8")
        return path

    def image(self, name: str) -> Path:
        """A disk image of that name, made if there is none."""
        path = IMAGES / f"{name}.img"
        if not path.exists():
            with path.open("wb") as file:
                file.truncate(IMAGE_BYTES)
        return path

    def create(self, name: str, number: int, *options: str, **changes: str) -> int:
        """The domid of a new domU; see write.

        Raises:
            AssertionError: xl refused.
        """
        done = self.xl("create", "-q", *options, "-f", self.write(name, number, **changes))
        assert done.rc == 0, done.stderr
        return self.domid(name)

    def create_all(self, wanted: Mapping[str, tuple[int, Mapping[str, str]]]) -> Mapping[str, int]:
        """Several at once, each as name: (number, changes), up and running; their domids by name."""
        with ThreadPoolExecutor() as pool:
            made = {
                name: pool.submit(self.create, name, number, **changes)
                for name, (number, changes) in wanted.items()
            }
        domids = {name: each.result() for name, each in made.items()}
        for name in wanted:
            self.boot(name)
        return domids

    def boot(self, name: str) -> Guest:
        """The guest, up."""
        guest = self.machine.guest(name)
        guest.wait_booted(COMMAND_S * self.machine.slower)
        return guest

    def script(self, name: str, text: str) -> Path:
        """A hotplug script."""
        path = IMAGES / name
        IMAGES.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n", "utf-8")
        path.chmod(0o755)
        return path

    def destroy_all(self) -> None:
        """Destroys what was made here, and removes its files."""
        for row in self.rows().values():
            if any(row.name == name or row.name.startswith(f"{name}-") for name in self.names):
                self.xl("destroy", row.domid)
        for name in self.names:
            for path in (CONFIGURATIONS / f"{name}.cfg", IMAGES / f"{name}.img"):
                path.unlink(missing_ok=True)
        self.names.clear()

    # ---- looking at them ----

    def rows(self) -> Mapping[int, DomainRow]:
        """`xl list` by domid."""
        return {row.domid: row for row in xl.read_rows(self.runner)}

    def domid(self, name: str) -> int:
        """The domid of the living domain of that name.

        Raises:
            AssertionError: there is none, or more than one.
        """
        found = [row.domid for row in self.rows().values() if row.name == name and not row.dying]
        assert len(found) == 1, f"{name}: {found}"
        return found[0]

    def state(self, domid: int) -> str:
        """The six letters in `xl list`, "" when it is not there."""
        rows = (line.split() for line in self.xl("list").stdout.splitlines()[1:])
        return next((row[-2] for row in rows if row[-5] == str(domid)), "")

    def size(self, domid: int) -> tuple[int, int]:
        """MiB of memory and online vcpus in `xl list`."""
        memory, vcpus = self.xl("list", domid).stdout.split()[-4:-2]
        return int(memory), int(vcpus)

    def uuids(self) -> Mapping[int, str]:
        """`xl vm-list`."""
        return xl.read_uuids(self.runner)

    def saved(self, domid: int) -> SavedDomain | None:
        """What `xl list --long` has of it."""
        return xl.read_saved(self.runner).get(domid)

    def vifs(self, domid: int) -> Mapping[int, xenstore.BackendVif]:
        """Its vifs in xenstore by their index."""
        return {vif.index: vif for vif in xenstore.read_vifs(self.runner, [domid])}

    def domain(self, domid: int) -> Domain | None:
        """All that the product knows of it."""
        return next(
            (each for each in observe_domains(self.runner, self.files)[0] if each.domid == domid), None
        )

    def network(self) -> Network:
        """Links, ports of bridges, and dom0's addresses."""
        return read_network(self.runner, self.files)

    def monitors(self, name: str) -> int:
        """How many processes watch over domains that were made from this name's file."""
        return list(self.files.monitors()).count(f"{CONFIGURATIONS}/{name}.cfg")

    def node(self, path: str) -> str | None:
        """A xenstore node's value, None without one."""
        done = self.run("xenstore-read", path)
        return done.stdout.rstrip("\n") if done.rc == 0 else None

    def nodes(self, path: str) -> frozenset[str]:
        """The names below a xenstore node; none where there is no such node."""
        done = self.run("xenstore-list", path)
        return frozenset(done.stdout.split("\n")[:-1]) if done.rc == 0 else frozenset()

    def permissions(self, path: str) -> Mapping[str, str]:
        """Who may do what with the nodes below a path, as `n0,r7`, by their path from there on."""
        text = self.run("xenstore-ls", "-f", "-p", path).output()
        found = (_NODE.fullmatch(line) for line in text.splitlines())
        return {match["path"].removeprefix(f"{path}/"): match["permissions"] for match in found if match}

    def userdata(self, domid: int) -> frozenset[str]:
        """The kinds of files that libxl keeps of a domain."""
        names = (name.split(".") for name in self.files.names("/var/lib/xen"))
        return frozenset(
            parts[3] for parts in names if parts[0] == "userdata-d" and parts[1:2] == [str(domid)]
        )

    def loops(self, image: Path) -> int:
        """How many loop devices there are on an image."""
        return self.run(
            "losetup", "--noheadings", "--output", "NAME", "--associated", str(image)
        ).stdout.count("\n")


def uuid_of(name: str) -> str:
    """The uuid of the domU of that name."""
    return str(uuid5(UUID_SPACE, name))


def mac_of(number: int) -> str:
    """The MAC address of the domU with that number."""
    return f"00:16:3e:7c:1f:{number:02x}"


def domids_in_order(rows: Mapping[int, DomainRow], name: str) -> Iterator[int]:
    """The domids of all domains of that name."""
    return (domid for domid, row in sorted(rows.items()) if row.name == name)
