"""Fetching from a real git server over TLS into a mirror, as somebody who is not root; and which URLs are never used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from state.location import local_path
from state.mirror import Fetched, Remote, fetch
from state.run import HostRunner, ReadError
from state.source import read_repository
from tests.unit.fleets import domu
from tests.unit.git_server import Backend, Server, git
from tests.unit.repositories import reachable

pytestmark = pytest.mark.git


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(reachable(tmp_path_factory.mktemp("server")))
    yield found
    found.close()


def test_a_fetched_branch_is_read_from_the_mirror_as_last_fetched(server: Server) -> None:
    first = git(server.work, "rev-parse", "HEAD")

    assert fetch(HostRunner(), server.remote()) == Fetched(first, changed=True)
    assert fetch(HostRunner(), server.remote()) == Fetched(first, changed=False)

    second = server.commit(domu("vm02", "mac: 00:16:3e:7c:1f:6f"))
    mirror = server.remote().mirror
    before = read_repository(HostRunner(), repository=mirror, revision="main", host="dom0-a")
    assert fetch(HostRunner(), server.remote()) == Fetched(second, changed=True)
    after = read_repository(HostRunner(), repository=mirror, revision="main", host="dom0-a", applied=first)

    assert (before.revision, after.revision, after.descends) == (first, second, True)


def test_a_forced_push_is_fetched_and_known_not_to_descend(server: Server) -> None:
    first = server.commit({})
    fetch(HostRunner(), server.remote())
    git(server.work, "reset", "--quiet", "--hard", "HEAD~1")
    other = server.commit({"README.md": "other\n"})

    assert fetch(HostRunner(), server.remote()) == Fetched(other, changed=True)
    reading = read_repository(
        HostRunner(), repository=server.remote().mirror, revision="main", host=None, applied=first
    )
    assert reading.descends is False


@pytest.mark.skipif(os.geteuid() != 0, reason="the mirror is given away: needs root")
def test_root_does_not_fetch_nor_own_what_was_fetched(server: Server) -> None:
    fetch(HostRunner(), server.remote())

    owners = {path.stat().st_uid for path in Path(server.remote().mirror).rglob("*")}
    assert owners
    assert 0 not in owners


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a folder of root's: needs root")
def test_a_mirror_that_belongs_to_somebody_else_is_left_alone(server: Server) -> None:
    Path(server.remote().mirror).mkdir()

    with pytest.raises(ReadError, match="belongs to uid 0"):
        fetch(HostRunner(), server.remote())


def test_what_a_killed_fetch_left_behind_stops_no_later_one(server: Server) -> None:
    fetch(HostRunner(), server.remote())
    mirror = Path(server.remote().mirror)
    owner = mirror.stat()
    for left in ("refs/heads/main.lock", "packed-refs.lock", "shallow.lock", "objects/pack/tmp_pack_x"):
        (mirror / left).write_bytes(b"")
        os.chown(mirror / left, owner.st_uid, owner.st_gid)
    second = server.commit({})

    assert fetch(HostRunner(), server.remote()) == Fetched(second, changed=True)
    assert list(mirror.rglob("tmp_pack_*")) == []


def test_a_mirror_has_no_configuration_of_its_own(server: Server) -> None:
    fetch(HostRunner(), server.remote())
    marker = server.folder / "executed"
    config = Path(server.remote().mirror) / "config"
    config.write_text(f"[core]\n\tbare = true\n\tfsmonitor = touch {marker}\n\tsshCommand = touch {marker}\n")

    fetch(HostRunner(), server.remote())

    assert "touch" not in config.read_text()
    assert not marker.exists()


def test_a_server_that_fails_once_is_asked_again(server: Server) -> None:
    Backend.failures = 1

    assert fetch(HostRunner(), server.remote()).changed


def test_a_server_that_stays_down_is_a_read_error_and_the_mirror_stays(server: Server) -> None:
    first = fetch(HostRunner(), server.remote()).revision
    Backend.failures = 1000

    with pytest.raises(ReadError, match="503"):
        fetch(HostRunner(), server.remote(), attempts=2)

    mirror = server.remote().mirror
    assert read_repository(HostRunner(), repository=mirror, revision="main", host=None).revision == first


def test_a_refused_login_is_said_as_such_and_not_tried_again(server: Server) -> None:
    with pytest.raises(ReadError, match="authentication failed"):
        fetch(HostRunner(), server.remote("private"))

    assert Backend.requests <= 2


@pytest.mark.parametrize("branch", ["gone", "--upload-pack=touch /tmp/x", "a..b", "", "refs:x", "-x", "a b"])
def test_a_branch_that_is_none_is_a_read_error(server: Server, branch: str) -> None:
    with pytest.raises(ReadError):
        fetch(HostRunner(), server.remote(branch=branch))


def test_a_server_with_an_unknown_certificate_is_refused(server: Server) -> None:
    remote = server.remote()

    with pytest.raises(ReadError, match="certificate"):
        fetch(HostRunner(), Remote(remote.url, remote.branch, remote.mirror, user="nobody"), attempts=1)


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c id", "fd::17", "http://example.org/x", "git://example.org/x", "ftp://example.org/x",
        "--upload-pack=id", "https://user:secret@example.org/x", "https://user@example.org/x",
        "https://example.org/x?y", "https://example.org/$(id)", "https://example.org/a b", "ssh://-oProxyCommand=id/x",
        "ssh://git@example.org/-x", "file://other/srv/x", "https://example.org/x\n", "https:///x",
    ],
)  # fmt: skip
def test_what_could_start_something_or_leak_is_no_url(url: str) -> None:
    with pytest.raises(ReadError) as caught:
        local_path(url)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "ssh://git@example.org/vps.git",
        "https://example.org:8443/a/b.git",
        "git@example.org:a/b.git",
        "ssh://example.org:22/~x/y",
    ],
)
def test_remote_urls_are_fetched(url: str) -> None:
    assert local_path(url) is None


@pytest.mark.parametrize(
    ("url", "path"),
    [("/srv/git/x", "/srv/git/x"), ("file:///srv/a%20b", "/srv/a b"), ("./a:b", "./a:b"), ("x", "x")],
)
def test_paths_are_read_in_place(url: str, path: str) -> None:
    assert local_path(url) == path
    with pytest.raises(ReadError, match="read in place"):
        fetch(HostRunner(), Remote(url, "main"))


@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root fetches as himself")
def test_without_the_user_that_fetches_nothing_is_fetched(tmp_path: Path) -> None:
    remote = Remote("ssh://git@192.0.2.1/x.git", "main", str(tmp_path / "mirror"), user="no-such-user")

    with pytest.raises(ReadError, match="no user 'no-such-user' to fetch as"):
        fetch(HostRunner(), remote)

    assert not (tmp_path / "mirror").exists()
