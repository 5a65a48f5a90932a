"""What wakes the daemon."""

from __future__ import annotations

import logging
import queue
from pathlib import Path

import pytest
from watchdog.events import FileModifiedEvent, FileOpenedEvent, FileSystemEvent

from reconciler.cli.act import KeyValues
from reconciler.daemon import _Nudge, watched


def test_a_checkout_is_watched_for_commits_and_for_edited_files(tmp_path: Path) -> None:
    for folder in (".git/refs", "hosts", "networks", "docs"):
        (tmp_path / folder).mkdir(parents=True)

    assert watched(tmp_path) == (tmp_path / ".git/refs", tmp_path / "hosts", tmp_path / "networks")


def test_a_bare_repository_is_watched_for_commits_alone(tmp_path: Path) -> None:
    for folder in ("refs", "objects"):
        (tmp_path / folder).mkdir()

    assert watched(tmp_path) == (tmp_path / "refs",)


def test_a_mirror_that_was_never_fetched_is_nothing_to_watch(tmp_path: Path) -> None:
    assert watched(tmp_path / "mirror") == ()


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (FileModifiedEvent("/r/refs/heads/main"), "modified /r/refs/heads/main"),
        (FileModifiedEvent("/r/refs/heads/main.lock"), None),
        (FileOpenedEvent("/r/refs/heads/main"), None),
    ],
)
def test_a_write_wakes_it_and_our_own_reading_does_not(event: FileSystemEvent, reason: str | None) -> None:
    reasons: queue.SimpleQueue[str] = queue.SimpleQueue()

    _Nudge(reasons).on_any_event(event)

    assert (None if reasons.empty() else reasons.get()) == reason


def test_a_log_line_is_a_sentence_and_then_its_values() -> None:
    record = logging.LogRecord("reconciler", logging.INFO, "", 0, "pass finished", (), None)
    bare = KeyValues().format(record)
    record.revision, record.failed = "c0ffee", 0

    assert bare == "info: pass finished"
    assert KeyValues().format(record) == "info: pass finished revision=c0ffee failed=0"
