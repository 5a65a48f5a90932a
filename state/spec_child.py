"""Starts the unprivileged child that reads a repository, and hands on what it answers.

Nothing here needs the models of the specifications: `domgit validate` waits for the child and for little else.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from schemas.diagnostic import Diagnostic
from state.request import Request
from state.run import CLEAN_ENVIRONMENT, ReadError, Runner
from state.writers import check_writers

READ_TIMEOUT_S = 120.0
# Only what is named here reaches git. Protected configuration (command scope) cannot be overridden by a
# repository's own; what executes something or follows a pointer elsewhere is off.
_GIT_CONFIGURATION = {
    "safe.directory": "*",  # ownership is checked before; see state.writers
    "safe.bareRepository": "explicit",
    "protocol.allow": "never",
    "uploadpack.packObjectsHook": "",
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.pager": "cat",
    "core.attributesFile": "/dev/null",
    "core.alternateRefsCommand": "",
    "core.bigFileThreshold": "1m",
    "log.showSignature": "false",
    "diff.external": "",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "credential.helper": "",
    "gpg.program": "/bin/false",
    "gpg.ssh.program": "/bin/false",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said about a whole repository. `hosts` are the names of the hosts that could be read."""

    files: int
    hosts: tuple[str, ...]
    valid: bool
    diagnostics: tuple[Diagnostic, ...]


def check_repository(runner: Runner, *, repository: str, revision: str | None) -> Verdict:
    """The verdict on a repository at `revision` (a branch, tag or commit id, or WORKTREE).

    Raises:
        ReadError: it cannot be read, or the child handed over what no repository can say.
    """
    answer = ask(runner, Request(repository, revision))
    try:
        return verdict(answer)
    except (KeyError, TypeError, ValueError, RecursionError) as exc:
        raise ReadError(f"the reader handed over what no repository can say: {exc!r:.500}") from exc


def verdict(answer: Mapping[str, Any]) -> Verdict:
    """The verdict in an answer.

    Raises:
        KeyError, TypeError, ValueError: the answer is not of the agreed shape.
    """
    return Verdict(
        files=number(answer["files"]),
        hosts=texts(answer["hosts"]),
        valid=bool(answer["valid"]),
        diagnostics=diagnostics(answer["diagnostics"]),
    )


def diagnostics(rows: list[list[Any]]) -> tuple[Diagnostic, ...]:
    """Diagnostics as the child writes them, one list of fields each.

    Raises:
        TypeError, ValueError: they are not of the agreed shape.
    """
    return tuple(_diagnostic(*row) for row in rows)


def _diagnostic(*row: Any) -> Diagnostic:
    file, line, column, code, message, address, severity = row
    if severity not in {"error", "warning"}:
        raise ValueError(f"{severity!r:.80} is no severity")
    return Diagnostic(
        file=None if file is None else text(file),
        line=None if line is None else number(line),
        column=None if column is None else number(column),
        code=text(code),
        message=text(message),
        address=None if address is None else text(address),
        severity=severity,
    )


def text(value: object) -> str:
    """A text of an answer.

    Raises:
        TypeError: it is none.
        ValueError: it holds half a character, which no file can.
    """
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.80} is no text")
    value.encode()
    return value


def texts(value: object) -> tuple[str, ...]:
    """A list of texts in an answer.

    Raises:
        TypeError, ValueError: it is none.
    """
    if not isinstance(value, list):
        raise TypeError(f"{value!r:.80} is no list")
    return tuple(text(each) for each in value)


def number(value: object) -> int:
    """A whole number of an answer.

    Raises:
        TypeError: it is none.
    """
    if type(value) is not int:
        raise TypeError(f"{value!r:.80} is no number")
    return value


def ask(runner: Runner, request: Request, memory: str = "") -> Mapping[str, Any]:
    """The child's answer about a repository, as state.spec_reader describes it; nothing in it is checked yet.

    Raises:
        ReadError: the repository cannot be read.
    """
    repository = request.repository
    try:
        path = Path(repository).resolve()
        owner = path.stat()
    except (OSError, RuntimeError) as exc:  # links in a circle are a RuntimeError to pathlib
        raise ReadError(f"{repository}: no such folder") from exc
    if not stat.S_ISDIR(owner.st_mode):
        raise ReadError(f"{repository}: no such folder")
    prefix: list[str] = []
    keeps = False
    if os.geteuid() == 0:
        try:
            check_writers(repository, owner.st_uid, request.revision)
        except (OSError, ValueError) as exc:  # what root wrote there names no path
            raise ReadError(f"{repository}: {exc}") from exc
        prefix, keeps = _privileges(owner)
    wanted = {**asdict(request), "repository": str(path), "read_everything": keeps}
    completed = runner.run(
        [*prefix, sys.executable, "-P", "-m", "state.spec_reader"],
        stdin=f"{json.dumps(wanted)}\n{memory}",
        timeout_s=READ_TIMEOUT_S,
        # A packed kilobyte can be a tree or a commit of a gigabyte: git allocates no such piece.
        environment={**git_environment(), "GIT_ALLOC_LIMIT": "64m"},
    )
    if completed.rc == -signal.SIGXCPU:
        raise ReadError(f"{repository}: it takes more than a minute of processor time to check")
    if completed.rc != 0:
        raise ReadError(
            f"reading {repository}: the reader ended with exit status {completed.rc}: {completed.stderr.strip()[-400:]}"
        )
    try:
        answer = json.loads(completed.stdout)
    except (ValueError, RecursionError) as exc:
        raise ReadError(f"reading {repository}: the reader's answer is no JSON") from exc
    if not isinstance(answer, dict):
        raise ReadError(f"reading {repository}: the reader's answer is no object")
    if "error" in answer:
        raise ReadError(f"{repository}: {answer['error']}")
    return answer


def git_environment(
    configuration: Mapping[str, str] | None = None, *, protocol: str = ""
) -> Mapping[str, str]:
    """The whole environment of a process that runs git; `configuration` adds to what is always set."""
    settings = {**_GIT_CONFIGURATION, **(configuration or {})}
    environment = {
        **CLEAN_ENVIRONMENT,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "SSH_ASKPASS": "/bin/false",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_ALLOW_PROTOCOL": protocol,
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_CEILING_DIRECTORIES": "/",
        "GIT_PYTHON_REFRESH": "error",
        "GIT_PYTHON_GIT_EXECUTABLE": "git",
        "PYTHONSAFEPATH": "1",
        "PYDANTIC_DISABLE_PLUGINS": "__all__",  # nothing that another distribution brings runs where YAML is read
        "PYTHONDONTWRITEBYTECODE": "1",
        "GIT_CONFIG_COUNT": str(len(settings)),
        # -P keeps the current folder out of the import path; our own packages are wherever this file is.
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
    }
    for number, (key, value) in enumerate(settings.items()):
        environment[f"GIT_CONFIG_KEY_{number}"] = key
        environment[f"GIT_CONFIG_VALUE_{number}"] = value
    return environment


def _privileges(owner: os.stat_result) -> tuple[list[str], bool]:
    """How root starts the child so that it can read the repository and do nothing else, and whether it keeps that right.

    As the repository's owner, without any capability; for root's own repositories that is root with reading
    everything as the only one. Nobody with that capability would not do: git asks access(2), which leaves
    capabilities out for everybody but root.
    """
    return as_user(owner.st_uid, owner.st_gid), owner.st_uid == 0


def as_user(user: int, group: int) -> list[str]:
    """The start of an argv that runs a child of root's as somebody else, with the right to read everything.

    The child needs that to import our packages from a folder that only root can enter, and drops it right after.
    """
    return [
        "setpriv",
        f"--reuid={user}",
        f"--regid={group}",
        "--clear-groups",
        "--no-new-privs",
        "--inh-caps=-all,+dac_read_search",
        "--ambient-caps=-all,+dac_read_search",
        "--bounding-set=-all,+dac_read_search",
        "--",
    ]
