"""The specification files of a checkout as they lie there, committed or not. Runs in the unprivileged child only."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from schemas.diagnostic import Diagnostic
from schemas.fleet import BYTES_LIMIT, FILE_COUNT_LIMIT
from schemas.layout import FOLDERS
from state.yaml_reader import FILE_LIMIT_BYTES


def read_worktree(root: str) -> tuple[str, Mapping[str, bytes], tuple[Diagnostic, ...]]:
    """A digest of the content as `worktree:HEX`, the files by path, and what cannot be read as one.

    Symbolic links are never followed, and hidden files and README.md are left out.
    """
    contents: dict[str, bytes] = {}
    problems: list[Diagnostic] = []
    total = 0
    for path in sorted(_walk(Path(root), problems)):
        data = _read(Path(root) / path, path, problems)
        if data is None:
            continue
        contents[path] = data
        total += len(data)
        if total > BYTES_LIMIT or len(contents) > FILE_COUNT_LIMIT:
            problems.append(
                Diagnostic(
                    None,
                    None,
                    None,
                    "DG1505",
                    "too many files or bytes (expected at most 200,000 files, 256 MB)",
                )
            )
            return "worktree:", {}, tuple(problems)
    digest = hashlib.sha256()
    for path, data in sorted(contents.items()):
        digest.update(f"{path}\0{len(data)}\0".encode())
        digest.update(data)
    return f"worktree:{digest.hexdigest()}", contents, tuple(problems)


def _walk(root: Path, problems: list[Diagnostic]) -> Iterator[str]:
    folders = [root / name for name in FOLDERS]
    while folders:
        folder = folders.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except FileNotFoundError:
            continue
        except OSError as exc:
            problems.append(
                Diagnostic(
                    str(folder.relative_to(root)), None, None, "DG1504", f"{exc.strerror} (expected a folder)"
                )
            )
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "README.md":
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
            else:
                yield str(Path(entry.path).relative_to(root))


def _read(path: Path, shown: str, problems: list[Diagnostic]) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        problems.append(Diagnostic(shown, 1, 1, "DG1504", f"{exc.strerror} (expected a plain file)"))
        return None
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            problems.append(Diagnostic(shown, 1, 1, "DG1504", "no plain file"))
            return None
        data = stream.read(FILE_LIMIT_BYTES + 1)
    if len(data) > FILE_LIMIT_BYTES:
        problems.append(Diagnostic(shown, 1, 1, "DG1006", f"more than {FILE_LIMIT_BYTES} bytes"))
        return None
    return data
