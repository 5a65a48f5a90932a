"""Real git repositories for tests, made with the real git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from state.run import HostRunner
from state.source import Reading, read_repository
from tests.unit.fleets import domu, host, network

FILES = {
    **host(),
    **network("a", "172.16.39.0/24", "172.16.39.1"),
    **domu("vm01", "mac: 00:16:3e:7c:1f:6e, ips: [172.16.39.105]"),
}
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ann",
    "GIT_AUTHOR_EMAIL": "ann@example.org",
    "GIT_COMMITTER_NAME": "Carl",
    "GIT_COMMITTER_EMAIL": "carl@example.org",
}


def reachable(folder: Path) -> Path:
    """A folder of pytest's that everybody may enter, as the reading child may be somebody else."""
    for each in (folder, *folder.parents):
        if str(each).startswith("/tmp/"):
            each.chmod(0o755)  # pytest makes them 0700
    return folder


class Repository:
    """A repository in a folder that does not exist yet; see `reachable`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str, stdin: bytes | None = None) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.path), *arguments],
            input=stdin,
            env=ENVIRONMENT,
            capture_output=True,
            check=True,
        )
        return done.stdout.decode().strip()

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_text(text)

    def commit(self, files: dict[str, str], message: str = "change") -> str:
        self.write(files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def read(
        self, revision: str | None = "main", host: str | None = "dom0-a", applied: str | None = None
    ) -> Reading:
        return read_repository(
            HostRunner(), repository=str(self.path), revision=revision, host=host, applied=applied
        )
