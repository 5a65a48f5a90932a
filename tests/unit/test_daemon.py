"""What wakes the daemon."""

from __future__ import annotations

import logging
import queue
from pathlib import Path

import pytest
from watchdog.events import FileModifiedEvent, FileMovedEvent, FileOpenedEvent, FileSystemEvent

from reconciler.cli.act import KeyValues
from reconciler.watch import Nudge, folders


def test_a_branch_is_watched_where_its_reference_is_written_and_packed(tmp_path: Path) -> None:
    for folder in (".git/refs/heads/release", "hosts"):
        (tmp_path / folder).mkdir(parents=True)
    git = tmp_path / ".git"

    assert folders(tmp_path, "main", "dom0-a") == (git, git / "refs/heads")
    assert folders(tmp_path, "release/1", "dom0-a") == (git, git / "refs/heads/release")


def test_a_bare_repository_is_watched_like_the_folder_in_a_checkout(tmp_path: Path) -> None:
    for folder in ("refs/heads", "objects"):
        (tmp_path / folder).mkdir(parents=True)

    assert folders(tmp_path, "main", "dom0-a") == (tmp_path, tmp_path / "refs/heads")


def test_a_worktree_is_watched_for_the_files_of_this_host_and_those_that_all_share(tmp_path: Path) -> None:
    for folder in (".git", "hosts/dom0-a/domus", "hosts/dom0-b/domus", "networks", "docs"):
        (tmp_path / folder).mkdir(parents=True)

    found = {str(each.relative_to(tmp_path)) for each in folders(tmp_path, "WORKTREE", "dom0-a")}

    assert found == {"networks", "hosts", "hosts/dom0-a", "hosts/dom0-a/domus"}


def test_a_link_is_never_followed(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/refs").symlink_to("/")
    (tmp_path / "hosts").symlink_to("/etc")

    assert folders(tmp_path, "main", "dom0-a") == (tmp_path / ".git",)
    assert folders(tmp_path, "tmp", "dom0-a") == (tmp_path / ".git",)
    assert folders(tmp_path, "WORKTREE", "xen") == ()


def test_a_mirror_that_was_never_fetched_is_nothing_to_watch(tmp_path: Path) -> None:
    assert folders(tmp_path / "mirror", "main", "dom0-a") == ()


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (FileModifiedEvent("/r/refs/heads/main"), "modified /r/refs/heads/main"),
        (FileMovedEvent("/r/packed-refs.lock", "/r/packed-refs"), "moved /r/packed-refs"),
        (FileModifiedEvent("/r/refs/heads/main.lock"), None),
        (FileModifiedEvent("/r/index"), None),
        (FileOpenedEvent("/r/refs/heads/main"), None),
    ],
)
def test_a_write_wakes_it_and_our_own_reading_does_not(event: FileSystemEvent, reason: str | None) -> None:
    reasons: queue.SimpleQueue[str] = queue.SimpleQueue()

    Nudge(reasons, Path("/r")).on_any_event(event)

    assert (None if reasons.empty() else reasons.get()) == reason


def test_a_log_line_is_a_sentence_and_then_its_values() -> None:
    record = logging.LogRecord("reconciler", logging.INFO, "", 0, "pass finished", (), None)
    bare = KeyValues().format(record)
    record.revision, record.failed = "c0ffee", 0

    assert bare == "info: pass finished"
    assert KeyValues().format(record) == "info: pass finished revision=c0ffee failed=0"
