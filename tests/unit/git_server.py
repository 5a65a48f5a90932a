"""A real git server over TLS for tests, and the mirror that is fetched from it."""

from __future__ import annotations

import os
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from state.mirror import Remote
from tests.unit.fleets import domu, host, network

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
    stall: threading.Event | None = (
        None  # while there is one, half of an answer to a fetch is sent, and the rest when it is set
    )
    stalled = threading.Event()  # somebody waits for the rest

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
        if Backend.stall is not None and self.command == "POST" and b"packfile" in content:
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            Backend.stalled.set()
            Backend.stall.wait()
            return
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

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

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
