"""The unprivileged child that fetches: one branch of one remote into a bare mirror, then it ends.

Started by state.mirror as `python -m state.fetcher`, with the environment that state.mirror made. Git is
run with constant arguments, the URL behind `--`, and no configuration of a clone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from state.commit import GitError
from state.confined import confine
from state.git_objects import COMMIT_ID, run_git

# Texts of 10,000 VPSs with years of history pack into far less; a bomb stops here, not when the disk is full.
PACK_LIMIT_BYTES = 1024**3
# Written anew each time: a mirror has no settings of its own that could start something.
_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n"
# What git says when the next attempt may go better. All else is for a human.
_TRANSIENT = re.compile(
    r"another fetch is at work|timed out|timeout|Connection (refused|reset|closed)|Could not resolve|Temporary failure|early EOF|hung up|"
    r"unable to access.*(50[0234]|Failed to connect|Empty reply|Recv failure)|Network is unreachable|No route to host",
    re.IGNORECASE,
)
_NO_PASSWORD = re.compile(
    r"terminal prompts disabled|could not read Username|Permission denied|Authentication failed"
)


def main() -> None:
    """Answer one request."""
    request = json.load(sys.stdin)
    confine(keep_capabilities=False, file_limit_bytes=PACK_LIMIT_BYTES)
    try:
        answer = fetch_into(Path(request["mirror"]), url=request["url"], branch=request["branch"])
    except (GitError, OSError) as exc:
        answer = {"error": str(exc), "transient": _TRANSIENT.search(str(exc)) is not None}
    json.dump(answer, sys.stdout)


def fetch_into(mirror: Path, *, url: str, branch: str) -> Mapping[str, Any]:
    """The branch's commit after the fetch, and whether it was another before.

    Raises:
        GitError: git refuses, or another fetch is at work; the mirror is as it was.
    """
    lock = os.open(mirror / "domgit.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        raise GitError("another fetch is at work") from exc
    try:
        _prepare(mirror, branch)
        before = _tip(mirror, branch)
        if (
            before is None
        ):  # there is none, or a power cut left one that leads nowhere, and git would stop at it
            (mirror / "refs" / "heads" / branch).unlink(missing_ok=True)
        _fetch(mirror, url, branch)
        after = _tip(mirror, branch)
    finally:
        os.close(lock)
    if after is None:
        raise GitError(f"no branch {branch!r}")
    return {"revision": after, "changed": after != before}


def _prepare(mirror: Path, branch: str) -> None:
    """An empty repository if there is none; leftovers of a fetch that was killed go: we hold the lock.

    So does all that a mirror does not need and that may be half written: what is missing is fetched again.
    """
    for folder in ("objects/pack", "objects/info", "refs/heads"):
        (mirror / folder).mkdir(parents=True, exist_ok=True)
    for pattern in ("*.lock", "refs/**/*.lock", "objects/**/*.lock", "objects/**/tmp_*"):
        for left in mirror.glob(pattern):
            if left.name != "domgit.lock":
                left.unlink(missing_ok=True)
    for needless in (
        "packed-refs",
        "shallow",
        "info/grafts",
        "objects/info/alternates",
        "objects/info/commit-graph",
    ):
        (mirror / needless).unlink(missing_ok=True)
    wanted = mirror / "refs" / "heads" / branch
    for ref in sorted(mirror.glob("refs/**/*"), reverse=True):  # folders behind what is in them
        if ref.is_dir() and ref != mirror / "refs" / "heads":
            with contextlib.suppress(OSError):
                ref.rmdir()  # one that was followed before may be in the way: main/x of main
        elif ref.is_file() and (
            ref != wanted or COMMIT_ID.fullmatch(ref.read_text("ascii", "replace").strip()) is None
        ):
            ref.unlink()
    (mirror / "config").write_text(_CONFIG, encoding="utf-8")
    (mirror / "HEAD").write_text("ref: refs/heads/none\n", encoding="utf-8")


def _tip(mirror: Path, branch: str) -> str | None:
    try:
        found = run_git(
            str(mirror), ["git", "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}^{{commit}}"]
        )
    except GitError:
        return None
    return found if COMMIT_ID.fullmatch(found) else None


def _fetch(mirror: Path, url: str, branch: str) -> None:
    # Full history: ancestry has to be known, and shallow clones leave locks of their own.
    options = [
        "--no-tags",
        "--no-recurse-submodules",
        "--no-write-fetch-head",
        "--refmap=",
        "--no-auto-gc",
        "--atomic",
    ]
    refspec = f"+refs/heads/{branch}:refs/heads/{branch}"
    try:
        run_git(str(mirror), ["git", "fetch", "--quiet", *options, "--", url, refspec])
    except GitError as exc:
        if _NO_PASSWORD.search(str(exc)):
            raise GitError(f"authentication failed: {str(exc).splitlines()[0]}") from exc
        raise


if __name__ == "__main__":
    main()
