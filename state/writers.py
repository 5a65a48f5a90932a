"""Who else could write a repository that is root's: what root reads as root, nobody else may have written."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from schemas.layout import FOLDERS
from state.run import ReadError

_ALTERNATES_DEPTH = 6  # git itself follows no more: alternates of alternates of ...
_HOOKS = "hooks"  # nothing is executed from there, and links in it are common
_ACL = "system.posix_acl_access"


def check_writers(repository: str, owner: int, revision: str | None) -> None:
    """Refuse a repository that somebody could exchange, and one of root's that somebody else could have written.

    Of one of root's everything counts that a reading can come to: the folders above, the whole git folder (git
    does not hold an object's content against its id when it reads it) and, for WORKTREE, the files themselves.

    Raises:
        ReadError: somebody else owns a part of it, or can write it; the message names the part.
    """
    if owner != 0:
        _check_exchange(Path(repository))
        return
    top = _check_way(Path(repository))
    _check(top)
    inner = top / ".git"
    if os.path.lexists(inner):
        _check_git_folder(inner, top)
    elif (top / "objects").exists():
        _check_git_folder(top, top)
    if revision == "WORKTREE":
        for folder in (top / name for name in FOLDERS):
            if folder.is_dir() and not folder.is_symlink():
                _check(folder)
                _check_below(folder, links=True)  # the reader follows none


def _check_exchange(path: Path) -> None:
    """Somebody else's repository: it must only not be anybody's to put another one in its place."""
    for passed in _passed(path):
        mode = passed.lstat().st_mode
        if stat.S_ISDIR(mode) and mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise ReadError(
                f"{passed}: everybody can exchange what lies in it (mode {stat.S_IMODE(mode):o}, expected 755 or less)"
            )


def _check_git_folder(path: Path, top: Path) -> None:
    folder = _check_way(path)
    _check(folder)
    if folder.is_file():  # a linked work tree
        named = folder.read_text(encoding="utf-8", errors="replace").strip().removeprefix("gitdir: ")
        folder = _check_way(top / named)
        _check(folder)
    _check_below(folder, but=_HOOKS)
    common = folder
    if (folder / "commondir").is_file():
        named = (folder / "commondir").read_text(encoding="utf-8", errors="replace").strip()
        common = _check_way(folder / named)
        _check(common)
        _check_below(common, but=_HOOKS)
    _check_alternates(common / "objects", _ALTERNATES_DEPTH)


def _check_alternates(objects: Path, depth: int) -> None:
    """The object folders that this one says to look into, which lie anywhere."""
    listed = objects / "info" / "alternates"
    if not depth or not listed.is_file():
        return
    for line in listed.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        if line.startswith('"'):
            raise ReadError(f"{listed}: a path in quotes (expected one without, as `git clone` writes it)")
        if line and not line.startswith("#") and (objects / line).is_dir():
            other = _check_way(objects / line)
            _check(other)
            _check_below(other)
            _check_alternates(other, depth - 1)


def _check_way(path: Path) -> Path:
    """The path without links, once nobody but root can exchange anything on the way to it."""
    for passed in _passed(path):
        _check(passed, sticky=True)
    return path.resolve()


def _passed(path: Path) -> Iterator[Path]:
    """Every folder in which a name is looked up on the way to `path`, and every link that is followed."""
    at, rest = Path("/"), list(path.absolute().parts[1:])
    while rest:
        name = rest.pop(0)
        if name == "..":
            at = at.parent
            continue
        yield at
        step = at / name
        if step.is_symlink():
            yield step
            target = step.readlink()
            at, rest = Path("/") if target.is_absolute() else at, [*target.parts, *rest]
        else:
            at = step


def _check_below(folder: Path, *, but: str | None = None, links: bool = False) -> None:
    """Everything in a folder that was checked; what goes away meanwhile is not there."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name == but:
                continue
            path = Path(entry.path)
            if entry.is_symlink() and not links:
                raise ReadError(f"{path}: a symbolic link (expected none in a git folder of root's)")
            with contextlib.suppress(FileNotFoundError):  # git repack, in between
                _check(path, entry.stat(follow_symlinks=False))
                if entry.is_dir(follow_symlinks=False):
                    _check_below(path, links=links)


def _check(path: Path, found: os.stat_result | None = None, *, sticky: bool = False) -> None:
    """One file or folder. `sticky`: others may write the folder as long as they can exchange nothing of root's."""
    found = found or path.lstat()
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != 0:
        raise ReadError(f"{path}: uid {found.st_uid} owns it (expected root, as the repository is root's)")
    if stat.S_ISLNK(found.st_mode) or (sticky and mode & stat.S_ISVTX):
        return
    if mode & stat.S_IWOTH or (mode & stat.S_IWGRP and (found.st_gid != 0 or _has_acl(path))):
        raise ReadError(
            f"{path}: others can write it (mode {mode:o}, group {found.st_gid}; expected {mode & ~0o022:o}, as the repository is root's)"
        )


def _has_acl(path: Path) -> bool:
    """Whether the bits of the group stand for an access control list, which may name anybody."""
    try:
        return _ACL in os.listxattr(path, follow_symlinks=False)
    except OSError:  # a file system without any
        return False
