"""A real guest as tests in the real dom0 meet it: the same names as tests/dom0/guest.py, driven by its console.

Runs in the emulated dom0, and needs nothing but tests.dom0's toolstack: a paravirtualised Linux has tests/xen/guest/agent.c
at the other end of the pty that xenconsoled made for it.
"""

from __future__ import annotations

import os
import secrets
import selectors
import shlex
import subprocess
import termios
import time
import tty
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from tests.dom0.toolstack import node, run

# dom0's own address on xenbr0, and what a guest's configuration file says of its kernel: values as they stand there.
ADDRESS = "172.16.39.2"
KERNEL, RAMDISK = "/srv/xen/vmlinuz", "/srv/xen/initrd.img"
CMDLINE = "root=/dev/xvda ro console=hvc0 quiet"
BOOT: Mapping[str, str] = {"kernel": f'"{KERNEL}"', "ramdisk": f'"{RAMDISK}"', "cmdline": f'"{CMDLINE}"'}
# Emulated, and on a machine that does other things too.
COMMAND_S = 60.0
BOOT_S = 180.0
ALIVE_S = 4.0
POLL_S = 1.0  # looking takes half a second of the one processor, which the guest needs
FAILED = 256  # from here on a status is an errno of the agent's
SOON = "(sleep 0.1; {}) >/dev/null 2>&1 &"  # behind the answer


class GuestError(Exception):
    """The guest cannot do that now; says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the agent said: a status, and lines of bytes."""

    status: int
    lines: tuple[bytes, ...]


class Guest:
    """The operating system of the domU with this name, over all its domids."""

    # By name, since tests make a Guest wherever they need one: the domid that is on its way out.
    _leaving: dict[str, int] = {}  # noqa: RUF012  # shared on purpose

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def domid(self) -> int:
        """That of the domain of this name that lives now.

        Raises:
            GuestError: there is none.
        """
        done = run("xl", "domid", self.name)
        if done.returncode != 0:
            raise GuestError(f"no domain {self.name!r}")
        return int(done.stdout)

    @property
    def boots(self) -> int:
        """How often it has come up with this disk."""
        said = self.run(["sed", "-n", "s/^boots //p", "/run/settings"]).stdout
        return int(said)

    def configure(
        self,
        addresses: Sequence[str],
        *,
        gateway: str | Sequence[str] = (),
        routes: Sequence[tuple[str, str]] = (),
        device: str = "eth0",
    ) -> None:
        """Sets the device's addresses (with prefix length), gateways and routes for now and all later boots.

        Raises:
            GuestError: it did not take them.
        """
        gateways = (gateway,) if isinstance(gateway, str) else tuple(gateway)
        drop, lines = [f"^address {device} "], [f"address {device} {address}" for address in addresses]
        if gateways:
            drop.append("^gateway ")
            lines += [f"gateway {each}" for each in gateways]
        if routes:
            drop.append("^route ")
            lines += [f"route {destination} {via}" for destination, via in routes]
        self._settle(drop, lines)
        self._shell("network")

    def ignore_shutdown(self, ignore: bool = True, *, deaf: bool = False) -> None:
        """Makes it acknowledge a shutdown request and go on (deaf: not even acknowledge), or obey again.

        Linux acknowledges one request in a boot: whoever has ignored one is deaf from then on, and obeys none.
        """
        self._settle(["^shutdown "], [f"shutdown {'ignore' if ignore else 'obey'}"])
        if deaf:
            self._shell("agent node control/shutdown poweroff")

    def _settle(self, drop: Sequence[str], lines: Sequence[str]) -> None:
        patterns = " ".join(f"-e {shlex.quote(pattern)}" for pattern in drop)
        text = shlex.quote("\n".join(lines) + "\n") if lines else "''"
        self._shell(
            f"{{ grep -v {patterns} /run/settings; printf %s {text}; }} >/run/settings.new"
            " && mv /run/settings.new /run/settings && { agent store </run/settings || :; }"
        )

    def reboot(self) -> None:
        """Reboots it from inside; returns at once.

        Raises:
            GuestError: it does not run. Same for poweroff and crash.
        """
        self._end("reboot -f")

    def poweroff(self) -> None:
        """Powers it off from inside; returns at once."""
        self._end("poweroff -f")

    def crash(self) -> None:
        """Lets its kernel panic; returns at once."""
        self._end("echo c >/proc/sysrq-trigger")

    def _end(self, command: str) -> None:
        domid = self.domid
        self._shell(SOON.format(command))
        Guest._leaving[self.name] = domid

    @property
    def runs(self) -> bool:
        """Whether it is up, network and all; no longer from the moment it starts to reboot or stop."""
        try:
            domid = self.domid
            if Guest._leaving.get(self.name) == domid:
                return False
            return self._ask("sh", b"true".hex(), timeout_s=ALIVE_S).status == 0
        except GuestError:
            return False

    def wait_booted(self, timeout_s: float = BOOT_S) -> None:
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
        """A command's end in the guest, whatever its exit status; its stderr is in its stdout.

        Raises:
            GuestError: it did not end in time, or there is no guest.
        """
        answer = self._ask("sh", shlex.join(argv).encode().hex(), timeout_s=timeout_s)
        return subprocess.CompletedProcess(argv, answer.status, b"".join(answer.lines).decode(), "")

    def ping(self, address: str, timeout_s: float = 2.0) -> bool:
        """Whether the address answers an echo request in time; asks again and again until then."""
        family = "-6" if ":" in address else "-4"
        once = shlex.join(["ping", family, "-c", "1", "-W", "1", address])
        tries = max(1, round(timeout_s))
        command = f"for try in $(seq {tries}); do {once} && exit 0; sleep 0.1; done; exit 1"
        answer = self._ask("sh", command.encode().hex(), timeout_s=COMMAND_S + 2 * timeout_s)
        return answer.status == 0

    # ---- frames ----

    def send(self, frame: bytes, device: str = "eth0") -> None:
        """Sends one Ethernet frame as it is, forged or not.

        Raises:
            OSError: there is no such device, or it is down.
        """
        self._must("send", device, frame.hex())

    def send_all(self, frames: Sequence[bytes], device: str = "eth0") -> None:
        """Sends frames one behind the other, without a pause for the answer to each.

        Raises:
            OSError: one was not taken, for instance because it is shorter than an Ethernet header.
        """
        for answer in self._ask_all(
            [("send", device, frame.hex()) for frame in frames], len(frames) + COMMAND_S
        ):
            _checked(answer, f"{self.name}: send")

    def packet_socket(self, device: str = "eth0", containing: bytes = b"") -> Ear:
        """What receives, from now on, every frame that arrives at the device and has these bytes in it.

        Raises:
            OSError: there is no such device.
        """
        self._must("listen", device, containing.hex())
        return Ear(self, device)

    def heard(self, device: str = "eth0") -> tuple[bytes, ...]:
        """The frames that came since the device was listened at, or last asked."""
        return self._must("heard", device).lines

    @contextmanager
    def repeating(self, frame: bytes, every_ms: int, device: str = "eth0") -> Iterator[None]:
        """The same frame sent again and again meanwhile; see `sent`."""
        self._must("repeat", str(every_ms), device, frame.hex())
        try:
            yield
        finally:
            self.sent = int(self._must("quiet").lines[0])

    def _must(self, verb: str, *words: str) -> Answer:
        return _checked(self._ask(verb, *words, timeout_s=COMMAND_S), f"{self.name}: {verb}")

    # ---- console ----

    def _shell(self, command: str) -> None:
        answer = self._ask("sh", command.encode().hex(), timeout_s=COMMAND_S)
        if answer.status != 0:
            raise GuestError(f"guest {self.name!r}: {command}: exit status {answer.status}: {answer.lines!r}")

    def _ask(self, verb: str, *words: str, timeout_s: float) -> Answer:
        """The answer to one request; see _ask_all."""
        return self._ask_all([(verb, *words)], timeout_s)[0]

    def _ask_all(self, requests: Sequence[Sequence[str]], timeout_s: float) -> list[Answer]:
        """The answers to requests that are sent one behind the other.

        Raises:
            GuestError: there is no such guest, or it does not answer in time.
        """
        path = node(f"/local/domain/{self.domid}/console/tty")
        if not path:
            raise GuestError(f"guest {self.name!r} has no console")
        tag = secrets.token_hex(4)
        # The line before may have been cut short.
        text = "\n" + "".join(
            " ".join([f"{tag}.{number}", *words]) + "\n" for number, words in enumerate(requests)
        )
        try:
            terminal = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as exc:
            raise GuestError(f"guest {self.name!r}: {path}: {exc}") from exc
        try:
            tty.setraw(terminal)
            return _converse(terminal, text.encode(), (tag, len(requests)), time.monotonic() + timeout_s)
        except (OSError, termios.error, TimeoutError) as exc:
            raise GuestError(f"guest {self.name!r}: {requests[0][0]}: {exc or 'no answer'}") from exc
        finally:
            os.close(terminal)


def _checked(answer: Answer, what: str) -> Answer:
    if answer.status >= FAILED:
        raise OSError(answer.status - FAILED, os.strerror(answer.status - FAILED), what)
    return answer


def _converse(terminal: int, pending: bytes, asked: tuple[str, int], deadline: float) -> list[Answer]:
    """Sends requests while it reads: neither side waits for the other's buffer to empty."""
    (tag, count), rest = asked, b""
    answers: list[Answer] = []
    lines: list[bytes] = []
    with selectors.DefaultSelector() as ready:
        ready.register(terminal, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while (left := deadline - time.monotonic()) > 0:
            for _, events in ready.select(left):
                if events & selectors.EVENT_WRITE:
                    pending = pending[os.write(terminal, pending[:512]) :]
                    if not pending:
                        ready.modify(terminal, selectors.EVENT_READ)
                if events & selectors.EVENT_READ:
                    rest += os.read(terminal, 1 << 16)
            *whole, rest = rest.split(b"\n")
            for line in whole:
                text = line.strip().decode("ascii", "replace")
                mark = f"@{tag}.{len(answers)}"
                if text.startswith(f"{mark}+"):
                    lines.append(bytes.fromhex(text.partition("+")[2]))
                elif text.startswith(f"{mark}="):
                    answers.append(Answer(int(text.partition("=")[2]), tuple(lines)))
                    lines = []
            if len(answers) == count:
                return answers
    raise TimeoutError


class Ear:
    """Frames that a guest receives, as a socket gives them."""

    def __init__(self, guest: Guest, device: str) -> None:
        self._guest, self._device = guest, device
        self._timeout_s: float | None = None
        self._frames: deque[bytes] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def settimeout(self, seconds: float | None) -> None:
        """How long recv waits; None: for ever."""
        self._timeout_s = seconds

    def send(self, frame: bytes) -> None:
        """See Guest.send."""
        self._guest.send(frame, self._device)

    def recv(self, size: int) -> bytes:
        """The next frame, cut at this size.

        Raises:
            TimeoutError: none came in time.
        """
        deadline = None if self._timeout_s is None else time.monotonic() + self._timeout_s
        while not self._frames:
            self._frames += self._guest.heard(self._device)
            if not self._frames and deadline is not None and time.monotonic() > deadline:
                raise TimeoutError("no frame")
        return self._frames.popleft()[:size]

    def close(self) -> None:
        """Nothing: the agent keeps its own socket until it is asked to listen anew."""
