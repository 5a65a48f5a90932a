"""The unprivileged child: reads a repository, checks all of it, and hands canonical JSON to its parent.

Started by state.spec_child as `python -m state.spec_reader`, with a request on standard input and the answer on
standard output. It alone parses YAML and runs git; whatever a hostile repository does to it stays in it.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import sys
from pathlib import Path

from state.commit import ChangedError, GitError
from state.confined import MEMORY_LIMIT_BYTES, confine
from state.git_apart import GitApart
from state.request import Request


def main() -> None:
    """Answer one request: its first line says what is wanted, the rest is what earlier readings found."""
    gc.disable()  # nothing here is freed before the end, and looking for what could be takes half of the time
    wanted, remembered = json.loads(sys.stdin.readline()), sys.stdin.read()
    keep_capabilities = bool(wanted.pop("read_everything"))
    request = Request(**wanted)
    git = None
    if request.revision != "WORKTREE":
        git = GitApart(request.repository, keep_capabilities=keep_capabilities)
        git.ask("list_commit", request.revision or "HEAD")
        git.ask("ground")
        if not remembered:
            git.ask("domus")
    from state.reading import Checked  # noqa: PLC0415  # the models, while git is at work

    checked_by = _rules()
    confine(keep_capabilities=keep_capabilities)
    try:
        checked = Checked(request, git, remembered, checked_by)
        answer = checked.answer()
    except (GitError, ChangedError) as exc:
        answer = {"error": str(exc)}
    except MemoryError:
        answer = {
            "error": f"more than {MEMORY_LIMIT_BYTES // 2**20} MiB are needed to check it (expected fewer values)"
        }
    sys.stdout.write(json.dumps(answer, separators=(",", ":")))
    sys.stdout.flush()
    os._exit(
        0
    )  # to take a fleet's worth of objects apart one by one would take as long as to check some hundreds


def _rules() -> str:
    """A digest of the code that checks."""
    here = Path(__file__).parent
    read_with = [here / name for name in ("yaml_reader.py", "reading.py", "checked.py")]
    digest = hashlib.sha256()
    for path in [*sorted((here.parent / "schemas").glob("*.py")), *read_with]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
