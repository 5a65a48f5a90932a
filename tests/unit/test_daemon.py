"""What wakes the daemon, and what it leaves for monitoring."""

from __future__ import annotations

import json
import logging
import queue
import subprocess
import sys
from pathlib import Path

import pytest
from watchdog.events import FileModifiedEvent, FileMovedEvent, FileOpenedEvent, FileSystemEvent

from reconciler.cli.act import KeyValues
from reconciler.daemon import Daemon, Watched
from reconciler.watch import Nudge, folders
from tests.model.strategies import desired_of
from tests.model.world import make_world, reading_of


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


def test_the_outcome_of_a_pass_names_what_is_blocked_and_what_waits_each_with_its_reason(
    tmp_path: Path,
) -> None:
    world = make_world(tmp_path)
    world.host.files.make_image("/srv/xen/images/vm01.img", 8 << 20)
    disk = {"vdev": "xvda", "path": "/srv/xen/images/vm01.img", "size": "8MiB"}
    spec = {"type": "pv", "memory": "64MiB", "boot": {"run": {"kernel": "/srv/xen/vmlinuz"}}}
    host = {"mode": "enforce", "bridges": [{"name": "xenbr0", "uplinks": ["eth0"]}]}
    documents = {
        "hosts/dom0-a/host.yaml": ("Host", "dom0-a", host),
        "hosts/dom0-a/domus/vm01.yaml": ("DomU", "vm01", {**spec, "disks": [disk]}),
        "hosts/dom0-a/domus/vm02.yaml": ("DomU", "vm02", {**spec, "mode": "report"}),
    }
    desired = desired_of(
        {
            path: json.dumps(
                {"apiVersion": "domgit/v1", "kind": kind, "metadata": {"name": name}, "spec": content}
            )
            for path, (kind, name, content) in documents.items()
        }
    )
    daemon = Daemon(world.dom0, lambda _: reading_of(desired), 60.0, Watched(tmp_path, "main", "dom0-a"))

    result = daemon.once()
    status = json.loads(world.paths.status.read_text(encoding="utf-8"))

    refused = "/srv/xen/images/vm01.img exists already and was not made for this domU: set `adopt: true` if it is its disk"
    watched = "only watched (mode: report): `domgit apply` does it"
    assert result.exit_code == 4
    assert (status["converged"], status["up_to_date"]) == (False, False)
    assert status["blocked"] == [
        {"address": "domu.vm01.disk.xvda", "why": refused},
        {"address": "domu.vm01", "why": refused},
    ]
    assert status["waits"] == [
        {"address": "file./etc/xen/vm02.cfg", "why": watched},
        {"address": "domu.vm02", "why": watched},
    ]
    assert status["failed"] == status["removes"] == status["staged"] == status["notes"] == []


WITHOUT_WATCHES = """
import logging, os, resource, signal, sys
from pathlib import Path
from types import SimpleNamespace
from reconciler.daemon import Daemon, Watched
from state.run import ReadError

def read(applied):
    os.kill(os.getpid(), signal.SIGTERM)
    raise ReadError("the one pass of this test")

logging.basicConfig(level=logging.INFO)
dom0 = SimpleNamespace(last=lambda: None, monotonic=lambda: 0.0, restorer=lambda: None)
daemon = Daemon(dom0, read, 60.0, Watched(Path(sys.argv[1]), "main", "dom0-a"))
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))  # an inotify is a descriptor
daemon.forever()
"""


def test_without_watches_left_the_passes_go_on(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_WATCHES, tmp_path],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )

    said = [line.split(":", 2)[2] for line in done.stderr.splitlines()]
    assert said == [
        "commits wake nobody, the interval does",
        "changes of rules and ports wake nobody, the interval does",
        "pass starting",
        "pass put off",
    ]
