"""Guests as tests and humans meet them; works inside a simulated dom0 only.

In a shell: `guest` lists them, `guest NAME reboot|poweroff|crash`, `guest NAME ignore-shutdown [obey|ignore|deaf]`,
`guest NAME address ADDRESS/PREFIX...`, `guest NAME ping ADDRESS`, `guest NAME sh`.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from tests.dom0 import GUESTS, PLAYERS_SOCKET
from tests.dom0.guests import SHUTDOWN_BEHAVIOURS, Settings, file_name, read_settings, write_settings
from tests.dom0.namespace import COMMAND_S, Namespace

ANSWER_S = 60.0
POLL_S = 0.01


class GuestError(Exception):
    """The guest cannot do that now; says why."""


class Guest:
    """The operating system of the domU with this name, over all its domids."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def netns(self) -> str:
        """Its network namespace, there from its first start on."""
        return f"guest-{file_name(self.name)}"

    @property
    def settings(self) -> Settings:
        """What is on its disk."""
        return read_settings(self.name)

    @property
    def boots(self) -> int:
        """How often it has come up, network and all."""
        return self.settings.boots

    @property
    def network(self) -> Namespace:
        """Where to run commands and send frames as this guest."""
        return Namespace(self.netns)

    def configure(
        self,
        addresses: Sequence[str],
        *,
        gateway: str | Sequence[str] = (),
        routes: Sequence[tuple[str, str]] = (),
        device: str = "eth0",
    ) -> None:
        """Sets the device's addresses (with prefix length), gateways and routes for now and all later boots."""
        before = self.settings
        gateways = (gateway,) if isinstance(gateway, str) else tuple(gateway)
        after = replace(
            before,
            addresses={**before.addresses, device: tuple(addresses)},
            gateways=gateways or before.gateways,
            routes=tuple(routes) or before.routes,
            installed=True,
        )
        write_settings(self.name, after)
        self._ask("apply")

    def ignore_shutdown(self, ignore: bool = True, *, deaf: bool = False) -> None:
        """Makes it acknowledge shutdown requests and go on (deaf: not even acknowledge), or obey again."""
        behaviour = "obey" if not ignore else "deaf" if deaf else "ignore"
        write_settings(self.name, replace(self.settings, shutdown=behaviour))

    def reboot(self) -> None:
        """Reboots it from inside.

        Raises:
            GuestError: it does not run. Same for poweroff and crash.
        """
        self._ask("reboot")

    def poweroff(self) -> None:
        """Powers it off from inside."""
        self._ask("poweroff")

    def crash(self) -> None:
        """Lets its kernel panic."""
        self._ask("crash")

    @property
    def runs(self) -> bool:
        """Whether it is up, network and all; no longer from the moment it starts to reboot or stop."""
        try:
            self._ask("running")
        except GuestError:
            return False
        return True

    def wait_booted(self, timeout_s: float = 60.0) -> None:
        """Until it is up, network and all; right after reboot(), that is the next boot.

        Raises:
            GuestError: it was not in time.
        """
        deadline = time.monotonic() + timeout_s
        while not self.runs:
            if time.monotonic() > deadline:
                raise GuestError(f"guest {self.name!r} does not run after {timeout_s:g} s")
            time.sleep(POLL_S)

    def run(self, argv: Sequence[str], *, timeout_s: float = COMMAND_S) -> subprocess.CompletedProcess[str]:
        """See Namespace.run."""
        return self.network.run(argv, timeout_s=timeout_s)

    def send(self, frame: bytes, device: str = "eth0") -> None:
        """See Namespace.send."""
        self.network.send(frame, device)

    def packet_socket(self, device: str = "eth0") -> socket.socket:
        """See Namespace.packet_socket."""
        return self.network.packet_socket(device)

    def ping(self, address: str, timeout_s: float = 2.0) -> bool:
        """See Namespace.ping."""
        return self.network.ping(address, timeout_s)

    def _ask(self, verb: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_S)
            connection.connect(str(PLAYERS_SOCKET))
            with connection.makefile("rw", encoding="utf-8") as stream:
                stream.write(json.dumps({"name": self.name, "verb": verb}) + "\n")
                stream.flush()
                answer = json.loads(stream.readline())
        if answer:
            raise GuestError(answer)


def _sh(guest: Guest, arguments: Sequence[str]) -> int:
    command = list(arguments) or [os.environ.get("SHELL", "/bin/sh")]
    return subprocess.run(["ip", "netns", "exec", guest.netns, *command], check=False).returncode


def _behave(guest: Guest, arguments: Sequence[str]) -> int:
    behaviour = arguments[0] if arguments else "ignore"
    if behaviour not in SHUTDOWN_BEHAVIOURS:
        raise GuestError(f"unknown behaviour {behaviour!r} (expected {', '.join(SHUTDOWN_BEHAVIOURS)})")
    guest.ignore_shutdown(behaviour != "obey", deaf=behaviour == "deaf")
    return 0


def _ping(guest: Guest, arguments: Sequence[str]) -> int:
    answers = [guest.ping(address) for address in arguments]
    for address, answered in zip(arguments, answers, strict=True):
        print(f"{address}: {'answers' if answered else 'no answer'}")
    return 0 if all(answers) else 1


def main(argv: Sequence[str]) -> int:
    """Exit status 0, 1 with one line, 2 for usage."""
    if not argv:
        for path in sorted(GUESTS.glob("*.json")):
            settings = read_settings(path.stem)
            addresses = " ".join(a for values in settings.addresses.values() for a in values)
            print(f"{path.stem:20} {settings.boots:3} boots  {addresses}")
        return 0
    guest, verb, arguments = Guest(argv[0]), argv[1] if len(argv) > 1 else "", argv[2:]
    try:
        match verb:
            case "reboot" | "poweroff" | "crash":
                getattr(guest, verb)()
            case "address":
                guest.configure(arguments)
            case "ignore-shutdown":
                return _behave(guest, arguments)
            case "ping":
                return _ping(guest, arguments)
            case "sh":
                return _sh(guest, arguments)
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except (GuestError, OSError) as exc:
        print(f"guest: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
