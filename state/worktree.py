"""The specification files of a checkout as they lie there, committed or not. Runs in the unprivileged child only."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator

from schemas.diagnostic import Diagnostic
from schemas.layout import (
    BYTES_LIMIT,
    FILE_COUNT_LIMIT,
    FILE_LIMIT_BYTES,
    FOLDERS,
    GROUND_COUNT_LIMIT,
    TOO_MANY,
    shown_path,
)
from state.commit import ChangedError

# hosts/HOST/domus is the deepest folder that means something; this bounds the recursion.
FOLDER_DEPTH = 3
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class _TooManyError(Exception):
    """There are more files or bytes than any repository has."""


# So much is kept in memory from the first reading; what comes behind it is read again when it is wanted, and must be the
# same. Of 10,000 domUs nothing is read twice.
_KEPT_BYTES = 64 * 10**6


class Worktree:
    """A checkout as it was at one time. `digest` is that of its content, `worktree:HEX`; `files` are paths, in order.

    Symbolic links are never followed, and hidden files and README.md are left out.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._kept: dict[str, bytes] = {}
        self._digests: dict[str, bytes] = {}
        found: list[Diagnostic] = []
        try:
            self._take_in(_files(root, found))
        except _TooManyError:
            self._kept, self._digests = {}, {}
            found.append(TOO_MANY)
        self.problems = tuple(found)
        self.files = sorted(self._digests)
        digest = hashlib.sha256()
        for path in self.files:
            digest.update(f"{path}\0".encode() + self._digests[path])
        self.digest = f"worktree:{digest.hexdigest()}"

    def _take_in(self, files: Iterable[tuple[str, bytes]]) -> None:
        total = 0
        for path, data in files:
            total += len(data)
            if total > BYTES_LIMIT or len(self._digests) == FILE_COUNT_LIMIT:
                raise _TooManyError
            self._digests[path] = hashlib.sha256(data).digest()
            if total <= _KEPT_BYTES:
                self._kept[path] = data

    def read(self, files: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """These files with their contents.

        Raises:
            ChangedError: one is another than it was.
        """
        for path in files:
            yield path, self._kept[path] if path in self._kept else self._again(path)

    def _again(self, path: str) -> bytes:
        *folders, name = path.split("/")
        data = None
        with contextlib.ExitStack() as opened, contextlib.suppress(OSError):
            folder = os.open(self._root, _FOLDER)
            opened.callback(os.close, folder)
            for each in folders:
                folder = os.open(each, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                opened.callback(os.close, folder)
            data = _read(folder, name, path, [])
        if data is None or hashlib.sha256(data).digest() != self._digests[path]:
            raise ChangedError(f"{path} changed while it was read")
        return data


def _files(root: str, problems: list[Diagnostic]) -> Iterator[tuple[str, bytes]]:
    """The files below the known folders with their contents, in order of their paths.

    Every folder is opened from the descriptor of the one around it: a link on the way is never followed, not
    even one that is put there meanwhile.
    """
    top = os.open(root, _FOLDER)
    try:
        for name in FOLDERS:
            yield from _below(top, name, name, problems)
    finally:
        os.close(top)


def _below(parent: int, name: str, shown: str, problems: list[Diagnostic]) -> Iterator[tuple[str, bytes]]:
    try:
        folder = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
    except FileNotFoundError:
        return
    except OSError as exc:
        problems.append(Diagnostic(shown, 1, 1, "DG1504", f"{_why(exc, parent, name)} (expected a folder)"))
        return
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        if len(entries) > (FILE_COUNT_LIMIT if name == "domus" else GROUND_COUNT_LIMIT):
            raise _TooManyError  # before any of them is read
        for entry in entries:
            path = f"{shown}/{shown_path(os.fsencode(entry.name))}"
            folder_here = entry.is_dir(follow_symlinks=False)
            if entry.name.startswith(".") or (entry.name == "README.md" and not folder_here):
                continue
            if not folder_here:
                data = _read(folder, entry.name, path, problems)
                if data is not None:
                    yield path, data
            elif path.count("/") >= FOLDER_DEPTH:
                problems.append(Diagnostic(path, 1, 1, "DG1501", "a folder (expected a file or nothing)"))
            else:
                yield from _below(folder, entry.name, path, problems)
    finally:
        os.close(folder)


def _read(folder: int, name: str, shown: str, problems: list[Diagnostic]) -> bytes | None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=folder)
    except OSError as exc:
        problems.append(
            Diagnostic(shown, 1, 1, "DG1504", f"{_why(exc, folder, name)} (expected a plain file)")
        )
        return None
    try:
        found = os.fstat(descriptor)
        problem = _oddity(found)
        if problem is None:
            return os.read(descriptor, found.st_size + 1)
    except OSError as exc:
        problem = "DG1504", f"{exc.strerror} (expected a plain file)"
    finally:
        os.close(descriptor)
    problems.append(Diagnostic(shown, 1, 1, *problem))
    return None


def _oddity(found: os.stat_result) -> tuple[str, str] | None:
    """What keeps something that was opened from being a specification: (code, message)."""
    if not stat.S_ISREG(found.st_mode):
        return "DG1504", "a pipe or a device (expected a plain file)"
    if found.st_mode & stat.S_IXUSR:  # committed, it would have mode 100755, and no host would take it
        return "DG1504", "executable (expected a plain file; chmod a-x)"
    if found.st_size > FILE_LIMIT_BYTES:
        return "DG1006", f"{found.st_size} bytes (expected at most {FILE_LIMIT_BYTES})"
    return None


def _why(exc: OSError, folder: int, name: str) -> str:
    """Why something cannot be opened: for a link the system has other words, and each time others."""
    with contextlib.suppress(OSError):
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            return "a symbolic link"
    return str(exc.strerror)
