"""The hands: does the steps of a change on this host, one at a time, and says what each command answered."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, assert_never

from reconciler import durable, ledger
from reconciler.ledger import MAKING, Ledger
from reconciler.step import CreateImage, Remember, RemoveFile, Run, Step, StopDomain, WriteFile, commands
from state import xl
from state.run import Completed, ReadError, Runner, read

# xl waits 60 s for a paravirtualised guest to acknowledge before it gives up.
SHUTDOWN_TIMEOUT_S = 75.0
DESTROY_TIMEOUT_S = 40.0
_POLL_S = 0.25
# A monitor sleeps 2 s between the old and the new domain of a guest that reboots, and starting it takes its time.
REBOOT_GAP_S = 6.0


class ApplyError(Exception):
    """One action refused; the next pass plans again."""


class Disk(Protocol):
    """The writing side of a file system: the machine's, or a fake host's."""

    def write(self, path: str, text: str, mode: int) -> None:
        """Replace a file, whole and durable."""

    def remove(self, path: str) -> None:
        """Remove a file, durably; one that is gone already is fine."""

    def create_image(
        self, path: str, size_bytes: int, *, sparse: bool, before_linking: Callable[[str], None]
    ) -> str:
        """Make an image that was not there, and its identity. `before_linking` gets the identity before the name exists.

        Raises:
            FileExistsError: something has that name; it is not touched.
        """


class HostDisk:
    """This machine's file system. Secrets are put into configuration files here and nowhere else."""

    def __init__(self, secrets: Callable[[str], str]) -> None:
        self._secrets = secrets

    def write(self, path: str, text: str, mode: int) -> None:
        """See Disk."""
        durable.write_whole(Path(path), self._secrets(text), mode=mode)

    def remove(self, path: str) -> None:
        """See Disk."""
        durable.remove(Path(path))

    def create_image(
        self, path: str, size_bytes: int, *, sparse: bool, before_linking: Callable[[str], None]
    ) -> str:
        """See Disk. The image has no name until it has its size: a full disk leaves nothing behind."""
        folder = Path(path).parent
        if not folder.is_dir():  # never made: where a mount is missing, the disk would land on dom0's own
            raise FileNotFoundError(errno.ENOENT, f"there is no folder {folder}")
        descriptor = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            if sparse:
                os.ftruncate(descriptor, size_bytes)
            else:
                os.posix_fallocate(descriptor, 0, size_bytes)
            os.fsync(descriptor)
            found = os.fstat(descriptor)
            identity = f"{found.st_dev}:{found.st_ino}"
            before_linking(identity)
            # EEXIST rather than a lost image. Without a dir_fd Python calls link(2), which links the symlink itself.
            os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)
        finally:
            os.close(descriptor)
        durable.sync_folder(folder)
        return identity


@dataclass(slots=True)
class Hands:
    """What executing needs: commands, files, the ledger, and a way to wait."""

    runner: Runner
    disk: Disk
    ledger_path: Path | None
    ledger: Ledger
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic

    def remember(self, uuid: str, fact: str, value: str) -> None:
        """Keep one fact, on disk before anything goes on."""
        self.ledger = ledger.remember(self.ledger, uuid, fact, value)
        if self.ledger_path is not None:
            ledger.save(self.ledger_path, self.ledger)

    def execute(self, step: Step) -> tuple[Completed, ...]:
        """Do one step, and what its commands answered.

        Raises:
            ApplyError: it was refused or ended in a way that is not success; what it did is for the next pass to see.
        """
        try:
            match step:
                case Run():
                    return (self._run(step),)
                case WriteFile():
                    self.disk.write(step.path, step.text, step.mode)
                case RemoveFile():
                    self.disk.remove(step.path)
                case CreateImage():
                    self._create_image(step)
                case StopDomain():
                    return self._stop(step)
                case Remember():
                    self.remember(step.uuid, step.fact, step.value)
                case _:
                    assert_never(step)
        except OSError as exc:
            raise ApplyError(f"{' '.join(commands(step)[0])}: {exc.strerror or exc}") from exc
        except ReadError as exc:
            raise ApplyError(str(exc)) from exc
        return ()

    def _run(self, step: Run) -> Completed:
        completed = self.runner.run(step.argv, stdin=step.stdin, timeout_s=step.timeout_s)
        if completed.rc != 0 and not step.optional:
            raise ApplyError(str(completed))
        return completed

    def _create_image(self, step: CreateImage) -> None:
        def before_linking(identity: str) -> None:
            self.remember(step.uuid, "disk", f"{step.path}={MAKING}{identity}")

        identity = self.disk.create_image(
            step.path, step.size_bytes, sparse=step.sparse, before_linking=before_linking
        )
        self.remember(step.uuid, "disk", f"{step.path}={identity}")

    def _stop(self, step: StopDomain) -> tuple[Completed, ...]:
        """Ask, wait, and destroy what has shut down or would not: each time only the domain with that uuid."""
        domid = self._alive(step.uuid)
        if domid is None:
            return ()
        if step.domid is not None and domid != step.domid:
            raise ApplyError(f"{step.uuid} is domain {domid} now, planned against {step.domid}")
        done = [self.runner.run(("xl", "shutdown", str(domid)), timeout_s=SHUTDOWN_TIMEOUT_S)]
        deadline = self.monotonic() + step.grace_s
        left: int | None = domid
        while self.monotonic() < deadline and not self._has_shut_down(domid):
            if self._alive(step.uuid) != domid:
                left = self._came_back(step.uuid)
                break
            self.sleep(_POLL_S)
        if left is not None and self._alive(step.uuid) == left:
            done.append(self._run(Run(("xl", "destroy", str(left)), timeout_s=DESTROY_TIMEOUT_S)))
            # xl says 0 whether or not a domain is gone afterwards; one that is dying has let go of its vifs.
            if any(row.domid == left and not row.dying for row in self._rows()):
                raise ApplyError(f"domain {left} is still there after xl destroy")
        return tuple(done)

    def _came_back(self, uuid: str) -> int | None:
        """The domain of a guest that rebooted instead of shutting down, once its monitor has started it; None if none comes."""
        deadline = self.monotonic() + REBOOT_GAP_S
        while self.monotonic() < deadline:
            domid = self._alive(uuid)
            if any(row.domid == domid and not row.paused for row in self._rows()):
                return domid
            self.sleep(_POLL_S)
        return self._alive(uuid)

    def _alive(self, uuid: str) -> int | None:
        """The living domain with that uuid. One that cannot die has it too, for as long as something maps its memory."""
        uuids = xl.parse_vm_list(read(self.runner, xl.VM_LIST, timeout_s=xl.LIST_TIMEOUT_S))
        dying = {row.domid for row in self._rows() if row.dying}
        return next((domid for domid, each in uuids.items() if each == uuid and domid not in dying), None)

    def _has_shut_down(self, domid: int) -> bool:
        return any(row.domid == domid and row.shutdown is not None for row in self._rows())

    def _rows(self) -> tuple[xl.DomainRow, ...]:
        return xl.parse_list(read(self.runner, xl.LIST, timeout_s=xl.LIST_TIMEOUT_S))
