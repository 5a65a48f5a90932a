"""The players' process: wakes on xenstore, on the hypervisor and on requests, and lets the players look.

Runs inside, as a child of process 1; writes /var/log/xen/players.log.
"""

import json
import logging
import os
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.dom0 import INSIDE, KICK, PLAYERS_SOCKET
from tests.dom0.guests import Guests
from tests.dom0.xenstore import Xenstore

log = logging.getLogger("players")

READY = INSIDE / "players.ready"
LOG = Path("/var/log/xen/players.log")
REQUEST_S = 5.0

Thing = tuple[str, int, str]  # vif, vbd or domain; domid; device id or node


class KeysFormatter(logging.Formatter):
    """`time message key=value ...`: every key given as `extra` is shown."""

    _standard = frozenset(vars(logging.makeLogRecord({})))

    def format(self, record: logging.LogRecord) -> str:
        """The line, with a traceback below it if there is one."""
        extra = {
            k: v
            for k, v in vars(record).items()
            if k not in self._standard and k not in {"message", "asctime"}
        }
        return super().format(record) + "".join(f" {key}={value}" for key, value in extra.items())


def play() -> int:
    """Plays until killed; an exit status if something goes so wrong that it cannot."""
    detach_output()
    handler = logging.StreamHandler()
    handler.setFormatter(KeysFormatter("%(asctime)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        Players().loop()
    except BaseException:  # the one place that must not lose the reason why nothing moves any more
        log.exception("players end")
    return 1


def detach_output() -> None:
    """The command's terminal and pipes are not ours."""
    output = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)


class Players:
    """The event loop."""

    def __init__(self) -> None:
        self._xenstore = Xenstore()
        self._guests = Guests(self._xenstore)
        self._kick = os.open(KICK, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(PLAYERS_SOCKET))
        self._listener.listen(64)
        self._xenstore.watch("/local/domain")

    def loop(self) -> None:
        """Never returns."""
        READY.touch()
        while True:
            self._wait()
            while select.select([self._xenstore], [], [], 0)[0]:
                self._xenstore.collect()
            # a transaction fires for each node it wrote: look once at each thing, in order of first mention
            paths = dict.fromkeys(self._xenstore.events)
            self._xenstore.events.clear()
            for thing in dict.fromkeys(thing for path in paths for thing in self._things(path)):
                self._attempt(self._look, thing)

    def _wait(self) -> None:
        """Until xenstore has events; serves the other sources meanwhile."""
        while not self._xenstore.events:
            ptys = {ours for ours, _ in self._guests.console.ptys.values()}
            sources: list[Any] = [self._xenstore, self._kick, self._listener, *ptys]
            ready = select.select(sources, [], [])[0]
            for descriptor in ptys.intersection(ready):
                os.read(descriptor, 4096)  # typed by a human; nobody in the guest reads it
            if self._kick in ready:
                os.read(self._kick, 4096)
                self._attempt(self._guests.sync)
            if self._listener in ready:
                self._attempt(self._answer)
            if self._xenstore in ready:
                return

    def _things(self, path: str) -> Iterator[Thing]:
        """What a watch event is about; a removed folder is about all that was in it."""
        words = path.split("/")[3:]  # after /local/domain
        if words[:2] == ["0", "backend"]:
            if len(words) > 4 and words[3].isdigit() and words[4].isdigit():
                yield words[2], int(words[3]), words[4]
            else:
                for kind, keys in (("vif", self._guests.netback.vifs), ("vbd", self._guests.blkback.held)):
                    yield from ((kind, domid, str(device)) for domid, device in keys)
        elif len(words) > 1 and words[0].isdigit() and words[0] != "0":
            yield "domain", int(words[0]), "console" if words[1] == "console" else "/".join(words[1:])

    def _look(self, kind: str, domid: int, what: str) -> None:
        if kind == "vif":
            self._guests.look_at_vif((domid, int(what)))
        elif kind == "vbd":
            self._guests.blkback.look((domid, int(what)))
        elif kind == "domain":
            self._guests.look_at_domain(domid, what)

    def _answer(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            connection.settimeout(REQUEST_S)
            with connection.makefile("rw", encoding="utf-8") as stream:
                request = json.loads(stream.readline())
                stream.write(json.dumps(self._guests.command(request["name"], request["verb"])) + "\n")

    def _attempt(self, action: Callable[..., None], arguments: tuple[Any, ...] = ()) -> None:
        try:
            action(*arguments)
        except Exception:  # one broken device must not stop the others; the log has the whole story
            log.exception("player failed")
