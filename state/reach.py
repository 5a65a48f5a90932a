"""Whether somebody answers: asked on the wire with frames of our own, past dom0's neighbour table and firewall.

What the neighbour table says may be minutes old, and `ping` may be filtered on either side. An ARP request or a
neighbour solicitation is answered by whoever has the address: nobody's packets would get there otherwise.
"""

from __future__ import annotations

import errno
import select
import socket
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Protocol, Self

from state import frames
from state.run import ReadError, Runner

Ip = IPv4Address | IPv6Address
# A request or its answer may be lost, and a bridge that was just changed may need a moment.
ASK_AGAIN_AFTER_S = 0.25
RESOLVE_TIMEOUT_S = 3.0
_LONGEST = 2048
_NOBODY = "65534"


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An address on the link of a device; `source` is the address of ours to ask from, None where there is none."""

    device: str
    address: Ip
    source: Ip | None = None

    def __str__(self) -> str:
        """For people."""
        return f"{self.address} on {self.device}"


@dataclass(frozen=True, slots=True)
class Server:
    """A TCP server, by each of its addresses: one that can be reached is enough."""

    name: str
    port: int
    addresses: tuple[Ip, ...]

    def __str__(self) -> str:
        """For people."""
        return f"{self.name} port {self.port}"


Target = Neighbour | Server


class Prober(Protocol):
    """What asks: the wire below, or a fake host's."""

    def answering(self, targets: Iterable[Target], within_s: float) -> frozenset[Target]:
        """Those that answer; returns as soon as all have, or when the time is over."""


class HostProber:
    """Asks from this machine."""

    def answering(self, targets: Iterable[Target], within_s: float) -> frozenset[Target]:
        """See Prober. What cannot even be asked, such as on a device that is down, does not answer."""
        deadline = time.monotonic() + within_s
        answered: set[Target] = set()
        with ExitStack() as stack:
            asked = [stack.enter_context(each) for target in targets for each in _questions(target)]
            left = asked
            while left and time.monotonic() < deadline:
                for each in left:
                    each.ask()
                again = min(deadline, time.monotonic() + ASK_AGAIN_AFTER_S)
                while left and (rest := again - time.monotonic()) > 0:
                    answered |= {each.target for each in _ready(left, rest) if each.answered()}
                    left = [each for each in asked if each.target not in answered]
        return frozenset(answered)


class _Question:
    """One address of a target, with the socket on which its answer comes, if there is one."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.socket: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()

    def drop(self) -> None:
        """No socket any more."""
        if self.socket is not None:
            self.socket.close()
        self.socket = None

    def ask(self) -> None:
        """Send the question, once more if need be."""
        raise NotImplementedError

    def answered(self) -> bool:
        """Whether what has come in is the answer."""
        raise NotImplementedError


class _Asked(_Question):
    """A neighbour, asked by ARP or by neighbour discovery."""

    def __init__(self, target: Neighbour) -> None:
        super().__init__(target)
        self._neighbour = target

    def ask(self) -> None:
        to, whence = self._neighbour.address, self._neighbour.source
        try:
            if self.socket is None:
                protocol = frames.ARP if to.version == 4 else frames.IPV6  # noqa: PLR2004  # the protocol's version
                self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
                self.socket.bind((self._neighbour.device, protocol))
            mac = self.socket.getsockname()[4]
            if isinstance(to, IPv4Address):
                self.socket.send(frames.request(mac, whence if isinstance(whence, IPv4Address) else None, to))
            else:
                own = whence if isinstance(whence, IPv6Address) else None
                self.socket.send(frames.solicitation(mac, own, to))
        except OSError:
            self.drop()  # no such device, or it is down: nobody answers there

    def answered(self) -> bool:
        answers = frames.answer_of_arp if self._neighbour.address.version == 4 else frames.answer_of_nd  # noqa: PLR2004  # same
        try:
            while self.socket is not None:
                if answers(self.socket.recv(_LONGEST)) == self._neighbour.address:
                    return True
        except BlockingIOError:
            pass  # that was all
        except OSError:
            self.drop()
        return False


class _Connecting(_Question):
    """A server, asked for a connection that is closed as soon as it stands: not a byte is sent or read."""

    def __init__(self, target: Server, address: Ip) -> None:
        super().__init__(target)
        self._to = (str(address), target.port)
        self._family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6

    def ask(self) -> None:
        if self.socket is None:
            self.socket = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            if self.socket.connect_ex(self._to) not in {0, errno.EINPROGRESS}:
                self.drop()

    def answered(self) -> bool:
        error = (
            errno.ENOTCONN
            if self.socket is None
            else self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        )
        self.drop()
        # A refusal has come all the way, too.
        return error in {0, errno.ECONNREFUSED}


def _questions(target: Target) -> tuple[_Question, ...]:
    if isinstance(target, Neighbour):
        return (_Asked(target),)
    return tuple(_Connecting(target, address) for address in target.addresses)


def _ready(questions: Iterable[_Question], within_s: float) -> list[_Question]:
    """Those on whose socket something has happened, as soon as there is one."""
    by_socket = {each.socket: each for each in questions if each.socket is not None}
    reading = [key for key, each in by_socket.items() if isinstance(each, _Asked)]
    writing = [key for key, each in by_socket.items() if isinstance(each, _Connecting)]
    readable, writable, _ = select.select(reading, writing, [], within_s)
    return [by_socket[each] for each in (*readable, *writable)]


def resolve_name(runner: Runner, name: str) -> tuple[Ip, ...]:
    """The addresses of a server, each once, in the resolver's order; none where it cannot be told.

    The answers of DNS servers are read by a child without any right.
    """
    as_nobody = ("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--no-new-privs")
    try:
        done = runner.run((*as_nobody, "--", "getent", "ahosts", name), timeout_s=RESOLVE_TIMEOUT_S)
        return parse_ahosts(done.stdout) if done.rc == 0 else ()
    except ReadError:
        return ()


def parse_ahosts(text: str) -> tuple[Ip, ...]:
    """The addresses in `getent ahosts NAME`, each once.

    Raises:
        ReadError: the text is no such list.

    Source: getent(1), glibc 2.36.
    """
    try:
        found = (ip_address(line.split()[0].partition("%")[0]) for line in text.splitlines() if line.strip())
        return tuple(dict.fromkeys(found))
    except ValueError as exc:
        raise ReadError(f"getent: {exc}") from exc
