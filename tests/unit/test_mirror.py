"""Fetching from a real git server over TLS into a mirror, as somebody who is not root; and which URLs are never used."""

from __future__ import annotations

import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from state.mirror import Fetched, Remote, fetch, local_path
from state.run import HostRunner, ReadError
from state.source import read_repository
from tests.unit.fleets import domu, host, network

pytestmark = pytest.mark.git

FILES = {**host(), **network("a", "172.16.39.0/24", "172.16.39.1"), **domu("vm01", "mac: 00:16:3e:7c:1f:6e")}
GIT = ["git", "-c", "user.name=Ann", "-c", "user.email=ann@example.org"]


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run([*GIT, "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


class Backend(BaseHTTPRequestHandler):
    """git's own CGI program, as a web server starts it."""

    root: Path
    failures = 0  # how many requests are answered with 503 before the server comes to itself
    requests = 0

    def do_GET(self) -> None:
        Backend.requests += 1
        if Backend.failures > 0:
            Backend.failures -= 1
            self.send_error(503)
            return
        path, _, query = self.path.partition("?")
        if path.startswith("/private"):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type") or "",
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding") or "",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol") or "",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, env=environment, capture_output=True, check=False
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        """Says nothing; tests look at what arrives."""


class Server:
    """A repository behind https, and the mirror that is fetched from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work = folder / "work"
        self.work.mkdir()
        git(self.work, "init", "--quiet", "--initial-branch=main")
        self.commit(FILES)
        self.ca = folder / "ca.pem"
        key = folder / "key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(self.ca)],
            check=True, capture_output=True,
        )  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.ca, key)
        Backend.root, Backend.failures, Backend.requests = folder, 0, 0
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Backend)
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def commit(self, files: dict[str, str]) -> str:
        for name, text in files.items():
            (self.work / name).parent.mkdir(parents=True, exist_ok=True)
            (self.work / name).write_text(text)
        git(self.work, "add", "--all")
        git(self.work, "commit", "--quiet", "--allow-empty", "-m", "change")
        return git(self.work, "rev-parse", "HEAD")

    def remote(self, path: str = "work/.git", branch: str = "main") -> Remote:
        return Remote(
            url=f"https://localhost:{self.http.server_port}/{path}",
            branch=branch,
            mirror=str(self.folder / "mirror.git"),
            ca=str(self.ca),
            user="nobody",
        )


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    for each in (folder, *folder.parents):
        if str(each).startswith("/tmp/"):
            each.chmod(0o755)  # pytest makes them 0700, and who fetches is not us
    found = Server(folder)
    yield found
    found.http.shutdown()
    found.http.server_close()


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
