"""What verbs work with: this dom0, and what a repository wants of it."""

from __future__ import annotations

import os
import pwd
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler.cli import options
from reconciler.cli.options import Target, demand
from reconciler.cli.output import Failed
from reconciler.config import DEFAULT, Config
from reconciler.durable import write_whole
from reconciler.execute import ApplyError, HostDisk
from reconciler.guard_trial import Safety
from reconciler.guard_watchdog import HostWatchdog
from reconciler.journal import JournalError
from reconciler.only_writer import BusyError
from reconciler.reconcile import DefectError, Dom0
from reconciler.review import StaleError
from reconciler.secret import revealed
from state import location
from state.files import HostFiles
from state.mirror import Remote, fetch
from state.reach import HostProber
from state.run import TOOL_LIMIT_BYTES, HostRunner, ReadError
from state.source import Reading, read_repository


@contextmanager
def told() -> Iterator[None]:
    """Turns errors into what the user is told, with the exit status of each kind."""
    try:
        with options.told():
            yield
    except (JournalError, BusyError, ApplyError, DefectError) as exc:
        raise Failed(str(exc)) from exc
    except StaleError as exc:
        raise Failed(f"stale plan: {exc}", 3) from exc


def read(where: Target, *, fresh: bool = False, applied: str | None = None) -> Reading:
    """What a verb works on, as read_target has it.

    Raises:
        Failed: it cannot be read, or no repository or no host is named.
    """
    demand(where)
    with told():
        return read_target(where, fresh=fresh, applied=applied)


def read_target(where: Target, *, fresh: bool = False, applied: str | None = None) -> Reading:
    """The repository at the target's revision; `fresh` fetches a remote one first, otherwise it is as last fetched.

    What was checked before is not checked again; what is checked now is remembered when `fresh`, and only then: a
    plan writes nothing. `applied` is the commit that Reading.descends is to be about.

    Raises:
        ReadError: it cannot be read, or has no such host.
    """
    runner, url = HostRunner(), where.repository or ""
    folder = location.local_path(url)
    if folder is None:
        folder = str(where.config.paths.mirror)
        if fresh:
            fetch(runner, Remote(url, where.config.branch, folder))
        elif not Path(folder).exists():
            raise ReadError(
                f"{url}: never fetched (expected `domgit apply` or `domgit run` once: they fetch)"
            )
    memory, revision = _memory(where.config.paths.memory), where.revision or where.config.branch
    try:
        reading = read_repository(
            runner, repository=folder, revision=revision, host=where.host, applied=applied, memory=memory
        )
    except ReadError as exc:
        if where.revision is None and str(exc).endswith(f"no branch, tag or commit {revision!r}"):
            raise ReadError(
                f"{exc} (expected --rev, or repo.branch in {where.config.file or DEFAULT})"
            ) from exc
        raise
    if fresh and reading.memory not in {None, memory}:
        write_whole(where.config.paths.memory, str(reading.memory), mode=0o600)
    if where.host not in reading.hosts and not _spoilt(reading, str(where.host)):
        raise ReadError(
            f"no host {where.host!r} in the repository (have {', '.join(reading.hosts) or 'none'}{_named(where)})"
        )
    return reading


def _named(where: Target) -> str:
    """Which file named the host; nothing where the command line did."""
    file = where.config.file
    return f"; host in {file} names it" if file is not None and where.host == where.config.host else ""


def _memory(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""  # not there, not ours to read, or damaged: then everything is checked anew


def _spoilt(reading: Reading, host: str) -> bool:
    """Whether the host is there, and its own file is what is wrong."""
    return any(
        each.severity == "error" and (each.file or "").startswith(f"hosts/{host}/")
        for each in reading.diagnostics
    )


def local_path(where: Target) -> str:
    """The folder with the repository's objects: itself when it is local, the mirror when it is remote.

    Raises:
        Failed: the repository's URL is of no kind that is used.
    """
    with told():
        return location.local_path(where.repository or "") or str(where.config.paths.mirror)


def dom0(config: Config, repository: str | None = None) -> Dom0:
    """This host, for real. `repository` is where it is fetched from, for verbs that change the host.

    Raises:
        Failed: we are not root, or the repository's URL is of no kind that is used.
    """
    if os.geteuid() != 0:
        raise Failed("this needs root: it reads xl, xenstore and nftables of this dom0")
    secrets, runner = config.paths.secrets, HostRunner(TOOL_LIMIT_BYTES)
    with told():
        server = None if repository is None else location.server(repository)
    return Dom0(
        runner=runner,
        files=HostFiles(),
        disk=HostDisk(lambda text: revealed(text, secrets)),
        paths=config.paths,
        sleep=time.sleep,
        monotonic=time.monotonic,
        safety=Safety(HostProber(), HostWatchdog(runner), config.guard_revert_s, server),
        grace_s=config.shutdown_grace_s,
    )


def who() -> str:
    """Who acts, for the journal."""
    try:
        own = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        own = str(os.geteuid())
    return f"{os.environ.get('SUDO_USER') or own}@{socket.gethostname()}"
