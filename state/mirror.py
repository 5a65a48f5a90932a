"""The remote repository, fetched into a bare mirror that is then read in place: the parent's side.

The fetch is the only thing that talks to the git server. It runs as the mirror's owner, never as root, and
`plan` needs none: it reads the mirror as last fetched.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import stat
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from state.location import local_path
from state.run import ReadError, Runner
from state.spec_child import as_user, git_environment

MIRROR = "/var/lib/domgit/mirror"
USER = "domgit"
# A first fetch over a slow line; git itself gives up earlier on a line that is dead (http.lowSpeedTime, ssh).
FETCH_TIMEOUT_S = 120.0
ATTEMPTS = 3
_BRANCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,200}", re.ASCII)
_COMMIT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)
_FETCH_CONFIGURATION = {
    "protocol.ssh.allow": "always",
    "protocol.https.allow": "always",
    "core.symlinks": "false",
    "core.protectHFS": "true",
    "core.protectNTFS": "true",
    "transfer.fsckObjects": "true",
    "fetch.fsckObjects": "true",
    "fetch.recurseSubmodules": "false",
    "submodule.recurse": "false",
    "fetch.writeCommitGraph": "false",
    "transfer.bundleURI": "false",
    "http.followRedirects": "false",
    "http.sslVerify": "true",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "30",
    "http.proxy": "",
    "init.templateDir": "",
}


@dataclass(frozen=True, slots=True)
class Remote:
    """Where to fetch from and what proves who is who; files are read by the mirror's owner."""

    url: str
    branch: str
    mirror: str = MIRROR
    identity: str = "/etc/domgit/deploykey"  # ssh: our private key
    known_hosts: str = "/etc/domgit/known_hosts"  # ssh: the server's public one
    ca: str | None = None  # https: None for the system's certificates
    user: str = (
        USER  # who fetches and owns the mirror, when we are root; never one that other programs run as
    )


@dataclass(frozen=True, slots=True)
class Fetched:
    """The commit that the branch is at now, and whether that is news."""

    revision: str
    changed: bool


class _BusyError(ReadError):
    """The server or the line failed: the next attempt may not."""


def fetch(runner: Runner, remote: Remote, *, attempts: int = ATTEMPTS) -> Fetched:
    """Brings the mirror's branch to where the server's is. The mirror is made if it is not there.

    Raises:
        ReadError: the URL is none, or the server gave nothing `attempts` times; the mirror is as it was.
    """
    if local_path(remote.url) is not None:
        raise ReadError(f"{remote.url!r} is read in place, not fetched")
    if _BRANCH.fullmatch(remote.branch) is None or ".." in remote.branch:
        raise ReadError(f"{remote.branch!r} is no branch")
    prefix = _owner(Path(remote.mirror), remote.user)
    policy = Retrying(
        retry=retry_if_exception_type(_BusyError),
        stop=stop_after_attempt(attempts),
        wait=wait_random_exponential(multiplier=0.25, max=5),
        reraise=True,
    )
    return policy(_attempt, runner, prefix, remote)


def _attempt(runner: Runner, prefix: list[str], remote: Remote) -> Fetched:
    scheme = "https" if remote.url.startswith("https://") else "ssh"
    configuration = dict(_FETCH_CONFIGURATION)
    if remote.ca is not None:
        configuration["http.sslCAInfo"] = remote.ca
    completed = runner.run(
        [*prefix, sys.executable, "-P", "-m", "state.fetcher"],
        stdin=json.dumps(asdict(remote)),
        timeout_s=FETCH_TIMEOUT_S,
        environment={
            **git_environment(configuration, protocol=scheme),
            "GIT_SSH_COMMAND": _ssh(remote),
            "GIT_SSH_VARIANT": "ssh",
        },
    )
    if completed.rc != 0:
        raise ReadError(
            f"fetching {remote.url}: exit status {completed.rc}: {completed.stderr.strip()[-400:]}"
        )
    try:
        answer = json.loads(completed.stdout)
        if "error" in answer:
            kind = _BusyError if answer["transient"] else ReadError
            raise kind(f"fetching {remote.url}: {answer['error']!s:.500}")
        return _fetched(answer["revision"], changed=answer["changed"])
    except (KeyError, TypeError, ValueError, RecursionError) as exc:
        raise ReadError(f"fetching {remote.url}: the fetcher's answer cannot be read") from exc


def _fetched(revision: str, *, changed: bool) -> Fetched:
    if _COMMIT_ID.fullmatch(revision) is None or not isinstance(changed, bool):
        raise ValueError(f"{revision!r:.80} is no commit, or {changed!r:.80} no truth value")
    return Fetched(revision, changed)


def _ssh(remote: Remote) -> str:
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": _shell_safe(remote.known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "IdentitiesOnly": "yes",
        "IdentityFile": _shell_safe(remote.identity),
        "ConnectTimeout": "10",
        "ServerAliveInterval": "10",
        "ServerAliveCountMax": "3",
        "ForwardAgent": "no",
        "ClearAllForwardings": "yes",
        "PermitLocalCommand": "no",
        "ProxyCommand": "none",
    }
    return " ".join(["ssh", "-F", "/dev/null", *(f"-o{key}={value}" for key, value in options.items())])


def _shell_safe(path: str) -> str:
    """A path for GIT_SSH_COMMAND, which git hands to a shell.

    Raises:
        ReadError: it holds something that a shell or ssh would read as more than a name.
    """
    if re.fullmatch(r"/[A-Za-z0-9._/@+-]*", path, re.ASCII) is None:
        raise ReadError(f"{path!r}: no path for a key (expected letters, digits and . _ / @ + -)")
    return path


def _owner(mirror: Path, name: str) -> list[str]:
    """The start of the child's argv. As root, makes the mirror's folder and gives it to whom the child will be.

    Raises:
        ReadError: there is no such user, or the folder is root's or somebody's who is not to write there.
    """
    if os.geteuid() != 0:
        mirror.mkdir(parents=True, exist_ok=True)
        return []
    try:
        entry = pwd.getpwnam(name)
    except KeyError as exc:
        command = f"useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin {name}"
        raise ReadError(f"there is no user {name!r} to fetch as (expected: {command})") from exc
    user, group = entry.pw_uid, entry.pw_gid
    # 711: the one who fetches must get through, and has nothing to read beside the mirror.
    mirror.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
    closed = next((each for each in mirror.parents if not each.stat().st_mode & stat.S_IXOTH), None)
    if closed is not None:
        raise ReadError(f"{closed}: uid {user}, who fetches, cannot enter (expected mode 711 or more)")
    try:
        mirror.mkdir(mode=0o755)
        os.chown(mirror, user, group)
    except FileExistsError:
        pass  # its owner is checked below, whoever made it
    except OSError as exc:
        raise ReadError(f"{mirror}: {exc.strerror}") from exc
    found = mirror.lstat()
    if found.st_uid != user or mirror.is_symlink():
        raise ReadError(f"{mirror}: belongs to uid {found.st_uid} (expected {user}, who fetches)")
    return as_user(user, group)
