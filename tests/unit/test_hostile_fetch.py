"""Servers and pushes that nobody wishes for: bombs, refused objects, thousands of references, and a fetch that is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from state.mirror import Fetched, fetch
from state.run import HostRunner, ReadError
from state.source import read_repository
from tests.unit.fleets import domu
from tests.unit.git_server import Backend, Server, git
from tests.unit.repositories import Repository, reachable
from tests.unit.test_hostile_git import Crafted

pytestmark = pytest.mark.git


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(reachable(tmp_path_factory.mktemp("server")))
    yield found
    found.close()


@pytest.fixture
def crafted(server: Server) -> Crafted:
    """What is pushed to the server: its own repository, taken over."""
    repository = Repository.__new__(Repository)
    repository.path = server.work
    return Crafted(repository)


def files(mirror: str, pattern: str) -> list[Path]:
    return [path for path in Path(mirror).glob(pattern) if path.is_file()]


def test_a_file_that_unpacks_to_a_hundred_times_its_size_is_fetched_packed_and_never_read(
    server: Server, crafted: Crafted
) -> None:
    crafted.with_networks(("100644", "a.yaml", crafted.put("blob", bytes(50_000_000))))
    mirror = server.remote().mirror

    fetch(HostRunner(), server.remote())
    reading = read_repository(HostRunner(), repository=mirror, revision="main", host=None)

    assert sum(path.stat().st_size for path in files(mirror, "**/*")) < 5_000_000
    assert [diagnostic.code for diagnostic in reading.diagnostics] == ["DG1006"]


def test_a_crafted_tree_is_refused_when_it_is_fetched_and_the_mirror_stays(
    server: Server, crafted: Crafted
) -> None:
    first = fetch(HostRunner(), server.remote()).revision
    mirror = server.remote().mirror
    for name in ("..", ".git", "a.yaml"):
        crafted.with_networks(("100644", "a.yaml", crafted.blob()), ("100644", name, crafted.blob()))

        with pytest.raises(ReadError, match="fsck"):
            fetch(HostRunner(), server.remote(), attempts=1)

        assert read_repository(HostRunner(), repository=mirror, revision="main", host=None).revision == first
    crafted.at("main", crafted.head)
    assert fetch(HostRunner(), server.remote()).revision == crafted.head


def test_of_twenty_thousand_references_one_is_fetched(server: Server) -> None:
    commit = git(server.work, "rev-parse", "HEAD")
    lines = [f"{commit} refs/heads/b{number}\n" for number in range(20_000)]
    lines += [f"{commit} refs/replace/{commit}\n", f"{commit} refs/tags/v1\n", f"{commit} refs/heads/main\n"]
    (server.work / ".git" / "packed-refs").write_text("# pack-refs with: sorted\n" + "".join(sorted(lines)))
    (server.work / ".git" / "refs" / "heads" / "main").unlink()

    assert fetch(HostRunner(), server.remote()).revision == commit
    mirror = Path(server.remote().mirror)
    assert [str(path.relative_to(mirror)) for path in files(str(mirror), "refs/**/*")] == ["refs/heads/main"]
    assert not (mirror / "packed-refs").exists()


def test_a_long_history_is_fetched_and_known(server: Server) -> None:
    first = git(server.work, "rev-parse", "HEAD")
    commits = "".join(
        f"commit refs/heads/main\ncommitter A <a@b> {number} +0000\ndata 1\nx\n"
        + (f"from {first}\n" if number == 1 else "")
        for number in range(1, 5001)
    )
    Repository.git(_of(server), "fast-import", "--quiet", "--force", stdin=commits.encode())
    fetch(HostRunner(), server.remote())

    reading = read_repository(
        HostRunner(), repository=server.remote().mirror, revision="main", host=None, applied=first
    )

    assert reading.descends is True


def _of(server: Server) -> Repository:
    repository = Repository.__new__(Repository)
    repository.path = server.work
    return repository


def test_a_fetch_that_is_killed_while_it_receives_is_a_read_error_and_the_next_one_goes_through(
    server: Server,
) -> None:
    first = fetch(HostRunner(), server.remote()).revision
    second = server.commit(domu("vm02", "mac: 00:16:3e:7c:1f:6f"))
    Backend.stalled.clear()
    Backend.stall = threading.Event()
    errors: list[str] = []

    def attempt() -> None:
        try:
            fetch(HostRunner(), server.remote(), attempts=1)
        except ReadError as exc:
            errors.append(str(exc))

    fetching = threading.Thread(target=attempt)
    fetching.start()
    assert Backend.stalled.wait(60)
    for process in descendants(os.getpid()):
        os.kill(process, signal.SIGKILL)
    fetching.join()
    Backend.stall.set()
    Backend.stall = None

    mirror = server.remote().mirror
    assert len(errors) == 1
    assert "Traceback" not in errors[0]
    assert read_repository(HostRunner(), repository=mirror, revision="main", host=None).revision == first
    assert fetch(HostRunner(), server.remote()) == Fetched(second, changed=True)
    assert files(mirror, "**/*.lock") == [Path(mirror) / "domgit.lock"]
    assert files(mirror, "objects/**/tmp_*") == []


def descendants(process: int) -> list[int]:
    """The processes that this one has started, and theirs."""
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


DAMAGE = {
    "an empty reference": ("refs/heads/main", b""),
    "a reference to nothing": ("refs/heads/main", b"1" * 40 + b"\n"),
    "a reference that is none": ("refs/heads/main", b"ref: refs/heads/x\n"),
    "another branch in the way": ("refs/heads/main/x", b"1" * 40 + b"\n"),
    "an empty HEAD": ("HEAD", b""),
    "garbage for packed references": ("packed-refs", b"\0\0\0"),
    "garbage for a shallow file": ("shallow", b"\0\0\0"),
    "a configuration of somebody else's": ("config", b"[core]\n\trepositoryformatversion = 99\n"),
    "alternates": ("objects/info/alternates", b"/nonexistent\n"),
    "a graph of commits": ("objects/info/commit-graph", b"CGPH"),
}


def test_what_a_power_cut_leaves_of_a_mirror_is_mended_by_the_next_fetch(server: Server) -> None:
    fetch(HostRunner(), server.remote())
    mirror = Path(server.remote().mirror)
    for what, (name, data) in DAMAGE.items():
        path = mirror / name
        if path.parent.name == "main":
            path.parent.unlink()
            path.parent.mkdir()
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        _give(mirror)
        commit = server.commit({})

        assert fetch(HostRunner(), server.remote()).revision == commit, what
    assert read_repository(HostRunner(), repository=str(mirror), revision="main", host="dom0-a").valid


@pytest.mark.parametrize("left", [0, 30])
def test_a_mirror_whose_objects_are_gone_or_cut_is_filled_again(server: Server, left: int) -> None:
    fetch(HostRunner(), server.remote())
    mirror = Path(server.remote().mirror)
    for path in [*files(str(mirror), "objects/pack/*"), *files(str(mirror), "objects/??/*")]:
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:left])
    second = server.commit({})

    assert fetch(HostRunner(), server.remote()).revision == second
    assert read_repository(HostRunner(), repository=str(mirror), revision="main", host="dom0-a").valid


def _give(mirror: Path) -> None:
    owner = mirror.stat()
    for path in mirror.rglob("*"):
        os.chown(path, owner.st_uid, owner.st_gid)


def test_a_mirror_that_is_no_folder_of_git_is_a_read_error_in_a_sentence(server: Server) -> None:
    fetch(HostRunner(), server.remote())
    objects = Path(server.remote().mirror) / "objects"
    objects.rename(objects.with_name("aside"))
    objects.write_bytes(b"")

    with pytest.raises(ReadError) as caught:
        fetch(HostRunner(), server.remote(), attempts=1)

    assert "Not a directory" in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_server_that_says_nothing_in_the_end_is_given_up(server: Server) -> None:
    """What it sends is no repository at all; git says so, and nobody waits."""
    (server.work / ".git" / "HEAD").write_text("x")
    started = time.monotonic()

    with pytest.raises(ReadError):
        fetch(HostRunner(), server.remote(), attempts=1)

    assert time.monotonic() - started < 60  # generous: it takes half a second
