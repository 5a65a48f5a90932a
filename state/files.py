"""What lies in dom0's file system: our files, disk images, and who else holds an image. Reads only."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import stat
import struct
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from state.inside import MODULE
from state.run import ReadError
from state.statx import identity

USERDATA = "/var/lib/xen"
# linux/loop.h: struct loop_info64 begins with the device and the inode of the file, and the device that it is itself.
# Of a plain file that is the one it lies on once more, or 0: kernels differ.
_LOOP_GET_STATUS64, _LOOP_INFO_BYTES, _LOOP_INFO = 0x4C05, 232, struct.Struct("=QQQ")
_MAKERS = frozenset({"create", "restore", "migrate-receive"})
# Real and effective. A process calls itself what it likes: else whoever has an account in dom0 could keep a VPS down.
_ROOT = re.compile(r"^Uid:\t0\t0\t", re.MULTILINE)
_MOUNT_FIELDS = 10  # without the optional ones
# Configuration files are a few kilobytes; what is larger under our names is not ours.
TEXT_LIMIT_BYTES = 1024 * 1024
# A file of another encoding differs from ours and is replaced, it is no reason to stop: its bytes survive as they are.
ENCODING = ("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class FileStat:
    """Identity and size of what a path leads to, symbolic links followed."""

    kind: Literal["file", "block", "other"]
    device: int
    inode: int
    size_bytes: int

    @property
    def identity(self) -> str:
        """`device:inode`, the same by whatever path the file is reached."""
        return f"{self.device}:{self.inode}"


class Files(Protocol):
    """The reading side of a file system: the machine's, or a fake host's."""

    def read_text(self, path: str) -> str | None:
        """The file's text, None when there is none.

        Raises:
            ReadError: it cannot be read, is larger than a configuration file, or is no text.
        """

    def stat(self, path: str) -> FileStat | None:
        """What is there; None when nothing is, or a folder above is missing.

        Raises:
            ReadError: an I/O error: not knowing is not the same as absent.
        """

    def names(self, folder: str) -> tuple[str, ...]:
        """The names in a folder, sorted; none when there is no such folder."""

    def holders(self, paths: Iterable[str]) -> Mapping[str, str]:
        """Who has one of these images in use, as `process 812 (qemu)` or `loop0`, for those that are held."""

    def monitors(self) -> Collection[str]:
        """The configuration path of each living `xl create`, `restore` or `migrate-receive` of root's, "" without one.

        Each makes one domain, and watches over it from then on.
        """


def folder_of(path: str) -> str:
    """The folder that a path lies in: `/srv/xen/images` of `/srv/xen/images/vm01.img`."""
    return path.rpartition("/")[0] or "/"


def digest(text: str | None) -> str:
    """`sha256:` of a text, "" for a file that is not there."""
    return "" if text is None else "sha256:" + hashlib.sha256(text.encode(*ENCODING)).hexdigest()


def parse_mounts(text: str) -> tuple[tuple[str, str], ...]:
    """(device as MAJOR:MINOR, mount point) of each line in /proc/self/mountinfo.

    Raises:
        ReadError: a line has not got so many fields.

    Source: proc(5), Linux 6.1.
    """
    rows = [line.split(" ") for line in text.removesuffix("\n").split("\n") if text]
    short = next((row for row in rows if len(row) < _MOUNT_FIELDS), None)
    if short is not None:
        raise ReadError(f"/proc/self/mountinfo: cannot read the line {' '.join(short)[:120]!r}")
    return tuple((row[2], row[4]) for row in rows)


class HostFiles:
    """This machine's files. `root` shifts every path, for tests."""

    def __init__(self, root: str = "") -> None:
        self._root = root

    def _at(self, path: str) -> Path:
        return Path(self._root + path)

    def read_text(self, path: str) -> str | None:
        """See Files."""
        try:
            with self._at(path).open("rb") as stream:
                data = stream.read(TEXT_LIMIT_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            raise ReadError(f"{path}: {exc.strerror}") from exc
        if len(data) > TEXT_LIMIT_BYTES:
            raise ReadError(f"{path}: larger than {TEXT_LIMIT_BYTES} bytes")
        return data.decode(*ENCODING)

    def stat(self, path: str) -> FileStat | None:
        """See Files."""
        try:
            found = self._at(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            raise ReadError(f"{path}: {exc.strerror}") from exc
        if stat.S_ISREG(found.st_mode):
            return FileStat("file", found.st_dev, found.st_ino, found.st_size)
        if stat.S_ISBLK(found.st_mode):
            return FileStat("block", found.st_rdev, 0, self._block_size(path))
        return FileStat("other", found.st_dev, found.st_ino, found.st_size)

    def _block_size(self, path: str) -> int:
        try:
            descriptor = os.open(self._at(path), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as exc:
            raise ReadError(f"{path}: {exc.strerror}") from exc
        try:
            return os.lseek(descriptor, 0, os.SEEK_END)
        finally:
            os.close(descriptor)

    def names(self, folder: str) -> tuple[str, ...]:
        """See Files."""
        try:
            return tuple(sorted(entry.name for entry in os.scandir(self._at(folder))))
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError as exc:
            raise ReadError(f"{folder}: {exc.strerror}") from exc

    def holders(self, paths: Iterable[str]) -> Mapping[str, str]:
        """See Files. Mounts, device-mapper, loop devices and open file descriptors, by device and inode."""
        there = {path: found for path in paths if (found := self.stat(path)) is not None}
        if not there:
            return {}
        wanted = {found.identity: path for path, found in there.items()}
        held = self._block_holders({path: found for path, found in there.items() if found.kind == "block"})
        for name in self.names("/sys/block"):
            backing = self.read_text(f"/sys/block/{name}/loop/backing_file")
            if backing is not None and (identity := self._backing(name, backing.rstrip("\n"))) in wanted:
                held[wanted[identity]] = f"/dev/{name}"
        for process in self._processes():
            for identity in self._open_files(process):
                if identity in wanted and wanted[identity] not in held and not self._looks(process):
                    held[wanted[identity]] = f"process {process}{self._called(f'/proc/{process}/comm')}"
        return held

    def _looks(self, process: str) -> bool:
        """Whether it is one of our own that look into disks: those have them open for reading, for a moment.

        A process calls itself what it likes, but none that is not root has a guest's disk open unless root gave it that.
        """
        try:
            argv = self._at(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
            owner = self._at(f"/proc/{process}/status").read_text("utf-8", "replace")
        except OSError:
            return True  # it ended while we looked, and an ended process holds nothing
        return argv[-4:] == [b"-P", b"-m", MODULE.encode(), b""] and _ROOT.search(owner) is None

    def _called(self, path: str) -> str:
        """` (NAME)` from a file of the kernel's that holds a name, printable or left out; nothing without one."""
        try:
            name = (self.read_text(path) or "").strip()
        except ReadError:
            return ""  # it ended while we looked
        return f" ({''.join(each for each in name if each.isprintable())})" if name else ""

    def _backing(self, name: str, path: str) -> str | None:
        """The identity of a loop device's file. The path may be another mount namespace's, so the device is asked."""
        try:
            descriptor = os.open(self._at(f"/dev/{name}"), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            found = self.stat(
                path
            )  # a device that nobody can open: what its path leads to here is the best guess
            return None if found is None else found.identity
        try:
            device, inode, itself = _LOOP_INFO.unpack_from(
                fcntl.ioctl(descriptor, _LOOP_GET_STATUS64, bytes(_LOOP_INFO_BYTES))
            )
        except OSError:
            return None  # let go meanwhile
        finally:
            os.close(descriptor)
        return f"{device}:{inode}" if itself in {0, device} else f"{itself}:0"

    def _block_holders(self, blocks: Mapping[str, FileStat]) -> dict[str, str]:
        """Which of these block devices, or of their partitions, are mounted here, or are part of another device."""
        held = {}
        numbers: dict[str, str] = {}
        for path, each in blocks.items():
            whole = f"{os.major(each.device)}:{os.minor(each.device)}"
            numbers |= dict.fromkeys((whole, *self._partitions(whole)), path)
        for number, path in numbers.items():
            above = self.names(f"/sys/dev/block/{number}/holders")
            if above:
                held[path] = f"/dev/{above[0]}{self._called(f'/sys/block/{above[0]}/dm/name')}"
        for device, place in parse_mounts(self.read_text("/proc/self/mountinfo") or "") if numbers else ():
            if device in numbers:
                held[numbers[device]] = f"the mount {place}"
        return held

    def _partitions(self, number: str) -> Iterable[str]:
        """The device numbers of a disk's partitions: folders in its own that begin with its name."""
        folder = f"/sys/dev/block/{number}"
        disk = self._at(folder).resolve().name
        for name in self.names(folder):
            found = self.read_text(f"{folder}/{name}/dev") if name.startswith(disk) else None
            if found is not None:
                yield found.strip()

    def _processes(self) -> tuple[str, ...]:
        return tuple(name for name in self.names("/proc") if name.isdecimal() and int(name) != os.getpid())

    def _open_files(self, process: str) -> Iterable[str]:
        try:
            descriptors = list(os.scandir(self._at(f"/proc/{process}/fd")))
        except OSError:
            return  # it ended while we looked, and an ended process holds nothing
        for descriptor in descriptors:
            try:
                found = identity(descriptor.path)
            except OSError:
                continue  # closed while we looked
            if found is not None:
                yield found

    def monitors(self) -> Collection[str]:
        """See Files."""
        found: list[str] = []
        for process in self._processes():
            try:
                # Who runs it first: nothing else of a stranger's process is looked at.
                if not _ROOT.search(self._at(f"/proc/{process}/status").read_text("utf-8", "replace")):
                    continue
                line = self._at(f"/proc/{process}/cmdline").read_bytes()
            except OSError:
                continue  # ended while we looked
            argv = line.decode("utf-8", "replace").split("\0")
            if argv[0].rsplit("/", 1)[-1] == "xl" and not _MAKERS.isdisjoint(argv):
                found.append(
                    next((each for each in argv if each.startswith("/") and each.endswith(".cfg")), "")
                )
        return tuple(sorted(found))
