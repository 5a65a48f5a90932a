"""A xenstore client with watches, for the players.

The project's own reader is not used: the simulation must not share its mistakes.

Source: xen/include/public/io/xs_wire.h of Xen 4.17; xenstored's socket of Debian 12.
"""

import socket
import struct
from collections import deque

SOCKET = "/run/xenstored/socket"
HEADER = struct.Struct("=IIII")  # type, request id, transaction id, length
DIRECTORY, READ, WATCH, WRITE, RM, SET_PERMS, WATCH_EVENT, ERROR, DIRECTORY_PART = (
    1,
    2,
    4,
    11,
    13,
    14,
    15,
    16,
    22,
)
ANSWER_S = 30.0  # xenstored answers in microseconds; a silent one must not hang a test for ever


class XenstoreError(Exception):
    """xenstored refused; the message is its errno name and the path."""


class Xenstore:
    """One connection to xenstored; watch events collect in `events` as (path, token)."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(ANSWER_S)
        self._socket.connect(SOCKET)
        self.events: deque[str] = deque()

    def fileno(self) -> int:
        """For select: readable when a watch event waits."""
        return self._socket.fileno()

    def read(self, path: str) -> str | None:
        """The value, or None where there is no such node."""
        try:
            return self._ask(READ, path.encode() + b"\0").decode("utf-8", "backslashreplace")
        except XenstoreError as exc:
            if str(exc).startswith("ENOENT"):
                return None
            raise

    def list(self, path: str) -> tuple[str, ...]:
        """The names of the children, none where there is no such node."""
        try:
            names = self._ask(DIRECTORY, path.encode() + b"\0")
        except XenstoreError as exc:
            if str(exc).startswith("ENOENT"):
                return ()
            if str(exc).startswith("E2BIG"):
                names = self._list_in_parts(path)
            else:
                raise
        return tuple(name.decode() for name in names.split(b"\0") if name)

    def _list_in_parts(self, path: str) -> bytes:
        names, offset = b"", 0
        while not names.endswith(b"\0\0"):
            part = self._ask(DIRECTORY_PART, path.encode() + b"\0" + str(offset).encode() + b"\0")
            names += part.split(b"\0", 1)[1]  # before it: the generation of the node
            offset = len(names)
        return names

    def write(self, path: str, value: str) -> None:
        """Writes the node, creating it with its parent's permissions."""
        self._ask(WRITE, path.encode() + b"\0" + value.encode())

    def set_permissions(self, path: str, permissions: tuple[str, ...]) -> None:
        """As xenstore-chmod: ("n0", "r5")."""
        self._ask(SET_PERMS, b"\0".join([path.encode(), *(p.encode() for p in permissions)]) + b"\0")

    def watch(self, path: str) -> None:
        """Starts a watch; it fires once at once."""
        self._ask(WATCH, path.encode() + b"\0" + b"w\0")

    def collect(self) -> None:
        """Takes the one message that made the socket readable into `events`."""
        kind, _, payload = self._receive()
        if kind == WATCH_EVENT:
            self._queue(payload)

    def _queue(self, payload: bytes) -> None:
        self.events.append(payload.split(b"\0", 1)[0].decode("utf-8", "backslashreplace"))

    def _ask(self, kind: int, payload: bytes) -> bytes:
        self._socket.sendall(HEADER.pack(kind, 1, 0, len(payload)) + payload)
        while True:
            answered, _, answer = self._receive()
            if answered == WATCH_EVENT:
                self._queue(answer)
            elif answered == ERROR:
                raise XenstoreError(f"{answer.rstrip(bytes(1)).decode()}: {payload!r}")
            else:
                return answer

    def _receive(self) -> tuple[int, int, bytes]:
        kind, request, _, length = HEADER.unpack(self._exactly(HEADER.size))
        return kind, request, self._exactly(length)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = self._socket.recv(size - len(data))
            if not chunk:
                raise XenstoreError("xenstored closed the connection")
            data += chunk
        return data
