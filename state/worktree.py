"""The specification files of a checkout as they lie there, committed or not. Runs in the unprivileged child only."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping

from schemas.diagnostic import Diagnostic
from schemas.fleet import BYTES_LIMIT, FILE_COUNT_LIMIT, TOO_MANY
from schemas.layout import FOLDERS, shown_path
from state.yaml_reader import FILE_LIMIT_BYTES

# hosts/HOST/domus is the deepest folder that means something; this bounds the recursion.
FOLDER_DEPTH = 3


def read_worktree(root: str) -> tuple[str, Mapping[str, bytes], tuple[Diagnostic, ...]]:
    """A digest of the content as `worktree:HEX`, the files by path, and what cannot be read as one.

    Symbolic links are never followed, and hidden files and README.md are left out.
    """
    contents: dict[str, bytes] = {}
    problems: list[Diagnostic] = []
    total = 0
    for path, data in _files(root, problems):
        contents[path] = data
        total += len(data)
        if total > BYTES_LIMIT or len(contents) > FILE_COUNT_LIMIT:
            problems.append(TOO_MANY)
            return f"worktree:{hashlib.sha256().hexdigest()}", {}, tuple(problems)
    digest = hashlib.sha256()
    for path, data in sorted(contents.items()):
        digest.update(f"{path}\0{len(data)}\0".encode())
        digest.update(data)
    return f"worktree:{digest.hexdigest()}", contents, tuple(problems)


def _files(root: str, problems: list[Diagnostic]) -> Iterator[tuple[str, bytes]]:
    """The files below the known folders with their contents, in order of their paths.

    Every folder is opened from the descriptor of the one around it: a link on the way is never followed, not
    even one that is put there meanwhile.
    """
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in FOLDERS:
            yield from _below(top, name, name, problems)
    finally:
        os.close(top)


def _below(parent: int, name: str, shown: str, problems: list[Diagnostic]) -> Iterator[tuple[str, bytes]]:
    try:
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except FileNotFoundError:
        return
    except OSError as exc:
        problems.append(Diagnostic(shown, 1, 1, "DG1504", f"{_why(exc, parent, name)} (expected a folder)"))
        return
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
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
    with os.fdopen(descriptor, "rb") as stream:
        found = os.fstat(descriptor)
        mode = found.st_mode
        if not stat.S_ISREG(mode):
            problems.append(Diagnostic(shown, 1, 1, "DG1504", "a pipe or a device (expected a plain file)"))
            return None
        if mode & stat.S_IXUSR:  # committed, it would have mode 100755, and no host would take it
            problems.append(
                Diagnostic(shown, 1, 1, "DG1504", "executable (expected a plain file; chmod a-x)")
            )
            return None
        data = stream.read(FILE_LIMIT_BYTES + 1) if found.st_size <= FILE_LIMIT_BYTES else b""
    size = max(found.st_size, len(data))
    if size > FILE_LIMIT_BYTES:
        message = f"{size} bytes (expected at most {FILE_LIMIT_BYTES})"
        problems.append(Diagnostic(shown, 1, 1, "DG1006", message))
        return None
    return data


def _why(exc: OSError, folder: int, name: str) -> str:
    """Why something cannot be opened: for a link the system has other words, and each time others."""
    with contextlib.suppress(OSError):
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            return "a symbolic link"
    return str(exc.strerror)
