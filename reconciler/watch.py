"""Which folders mean something new when they change, and the reason that wakes the daemon. It never reads a file."""

from __future__ import annotations

import queue
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler

# Reading makes events too, and our own reading must not wake us.
_WRITES = frozenset({"created", "modified", "moved", "deleted"})
_KIND_FOLDERS = ("networks", "profiles")


class Nudge(FileSystemEventHandler):
    """Puts a reason on the queue for every change that can mean a new commit or an edited file."""

    def __init__(self, reasons: queue.SimpleQueue[str], git: Path) -> None:
        self._reasons, self._git = reasons, git

    def on_any_event(self, event: FileSystemEvent) -> None:
        """See FileSystemEventHandler."""
        path = Path(str(event.dest_path or event.src_path))
        # Beside its references git writes locks, indexes and logs there, which say nothing.
        noise = path.suffix == ".lock" or (path.parent == self._git and path.name != "packed-refs")
        if event.event_type in _WRITES and not noise:
            self._reasons.put(f"{event.event_type} {path}")


def git_folder(repository: Path) -> Path:
    """Where the references are: `.git` in a checkout, the repository itself when it is bare."""
    inner = repository / ".git"
    return inner if inner.is_dir() else repository


def folders(repository: Path, revision: str, host: str) -> tuple[Path, ...]:
    """The folders to watch, none of them with what is below it.

    The repository may belong to somebody who is not root: a link is never followed, and how many folders there are
    does not depend on what he makes. `revision` is a branch, or WORKTREE for the files of a checkout.
    """
    git = git_folder(repository)
    if revision == "WORKTREE":
        hosts = repository / "hosts"
        found = [*(repository / name for name in _KIND_FOLDERS), hosts, hosts / host, hosts / host / "domus"]
    else:
        found = [git, (git / "refs/heads" / revision).parent]
    return tuple(folder for folder in found if folder.is_dir() and not _linked(folder, repository))


def _linked(folder: Path, repository: Path) -> bool:
    """Whether a symbolic link stands between the repository and the folder."""
    between = [folder, *folder.parents]
    return any(each.is_symlink() for each in between[: between.index(repository)])
