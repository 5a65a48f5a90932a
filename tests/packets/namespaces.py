"""Anonymous network namespaces: they have no name in the file system and vanish with the last descriptor."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from state.run import Completed, HostRunner

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


class Namespace:
    """A network namespace of its own, and a Runner whose commands run inside it.

    Raises:
        OSError: not root, or the kernel lacks network namespaces.
    """

    def __init__(self) -> None:
        made: list[int | OSError] = []
        thread = threading.Thread(target=self._make, args=(made,))
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise made[0]
        self.fd: int = made[0]
        self._runner = HostRunner()

    @staticmethod
    def _make(made: list[int | OSError]) -> None:
        # In a thread that ends here: the rest of the process stays where it is.
        try:
            _checked(_libc.unshare(CLONE_NEWNET), "unshare")
            made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        except OSError as exc:
            made.append(exc)

    @property
    def path(self) -> str:
        """A file name that other processes can open it by."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def close(self) -> None:
        """Lets go of it; the kernel removes it with all its devices and rules."""
        os.close(self.fd)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread inside the namespace: sockets made meanwhile belong to it, /proc/sys/net is its own."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _checked(_libc.setns(self.fd, CLONE_NEWNET), "setns")
            try:
                yield
            finally:
                _checked(_libc.setns(home, CLONE_NEWNET), "setns back")
        finally:
            os.close(home)

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        timeout_s: float = 15.0,
        environment: Mapping[str, str] | None = None,
    ) -> Completed:
        """See Runner; the command starts inside the namespace."""
        with self.inside():
            return self._runner.run(argv, stdin=stdin, timeout_s=timeout_s, environment=environment)

    def must(self, *argv: str, stdin: str = "") -> str:
        """The stdout of a command that has to succeed."""
        completed = self.run(argv, stdin=stdin)
        assert completed.rc == 0, f"{completed}\n{completed.stderr}\n{stdin[:2000]}"
        return completed.stdout

    def sysctl(self, values: Mapping[str, int]) -> None:
        """Settings by their path under /proc/sys/net.

        Raises:
            OSError: the kernel has no such setting.
        """
        with self.inside():
            for name, value in values.items():
                Path("/proc/sys/net", name).write_text(f"{int(value)}\n")
