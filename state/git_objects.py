"""A commit's files, straight from git's object store. Runs in the unprivileged child only.

GitPython is imported here and nowhere else. It starts git with constant arguments, and data only behind
`--end-of-options` or on standard input: no work tree, no attributes, no hooks, no replaced objects.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import git

from schemas.diagnostic import Diagnostic
from schemas.fleet import BYTES_LIMIT, FILE_COUNT_LIMIT
from schemas.layout import FOLDERS, shown_path
from state.yaml_reader import FILE_LIMIT_BYTES

# A branch, a tag, a commit id, or one of their ancestors (`main~2`); never a search or the reflog.
REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,200}([~^][0-9]{0,4}){0,4}", re.ASCII)
_TREE_LINE = re.compile(
    rb"(?P<mode>[0-9]{6}) (?P<type>[a-z]+) (?P<sha>[0-9a-f]{40}|[0-9a-f]{64}) +(?P<size>[0-9]{1,18}|-)\t(?P<path>.+)",
    re.DOTALL,
)
_BLOB_HEADER = re.compile(rb"(?P<sha>[0-9a-f]{40,64}) blob (?P<size>[0-9]{1,18})\n")
_NO_FILES = {
    b"120000": "a symbolic link",
    b"160000": "a submodule",
    b"100755": "executable",
}
_FORMAT = "%H%x00%P%x00%an <%ae>%x00%cn <%ce>%x00%cI%x00%s"


COMMIT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)


class GitError(Exception):
    """The repository cannot be read, or the revision does not exist."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Where a reading comes from."""

    revision: str
    parents: tuple[str, ...] = ()
    author: str = ""
    committer: str = ""
    committed_at: str = ""
    subject: str = ""


def git_folder(repository: str) -> str:
    """The folder with the objects: the repository itself when it is bare.

    Raises:
        GitError: there is no repository.
    """
    root = Path(repository)
    inner = root / ".git"
    if inner.is_dir():
        return str(inner)
    if inner.is_file():
        target = inner.read_text(encoding="utf-8").strip().removeprefix("gitdir: ")
        return str((root / target).resolve())
    if (root / "HEAD").is_file() and (root / "objects").is_dir():
        return str(root)
    raise GitError(f"{repository}: not a git repository")


@dataclass(frozen=True, slots=True)
class Listing:
    """A commit, the ids of its specification files by path, and what cannot be one."""

    commit: Commit
    blobs: Mapping[str, str]
    problems: tuple[Diagnostic, ...]


def list_commit(repository: str, revision: str) -> Listing:
    """What the commit consists of; no file is read yet.

    Raises:
        GitError: git refuses; its own words are in the message.
    """
    if REVISION.fullmatch(revision) is None:
        raise GitError(f"{revision!r} is no revision (expected a branch, a tag or a commit id)")
    with _opened(repository, revision) as repo:
        return _listing(repo, revision)


def read_blobs(repository: str, blobs: Collection[str]) -> Mapping[str, bytes]:
    """The contents by id, through one process.

    Raises:
        GitError: one of them is missing, or no blob.
    """
    if not blobs:
        return {}
    with _opened(repository, "") as repo:
        return _blobs(repo, blobs)


@contextlib.contextmanager
def _opened(repository: str, revision: str) -> Iterator[git.Repo]:
    folder = git_folder(repository)
    os.environ["GIT_DIR"] = folder
    try:
        with git.Repo(folder, expand_vars=False) as repo:
            yield repo
    except git.CommandError as exc:
        raise GitError(_words(exc) or f"{revision!r} is no commit of {repository}") from exc
    except (git.InvalidGitRepositoryError, git.NoSuchPathError) as exc:
        raise GitError(f"{repository}: not a git repository") from exc


def run_git(folder: str, argv: list[str]) -> str:
    """What one git command prints, for the fetching child. `argv` is constant but for what stands behind `--`.

    Raises:
        GitError: it ends with another exit status than 0; git's own words are in the message.
    """
    os.environ["GIT_DIR"] = folder
    try:
        with git.Repo(folder, expand_vars=False) as repo:
            return _text(repo, argv).strip()
    except git.CommandError as exc:
        raise GitError(_words(exc) or f"git ended with exit status {exc.status}") from exc


def _words(exc: git.CommandError) -> str:
    # GitPython wraps what git said in quotes and a label of its own.
    return str(exc.stderr).strip().removeprefix("stderr:").strip().strip("'").strip()


def _listing(repo: git.Repo, revision: str) -> Listing:
    sha = _commit_id(repo, revision)
    said = _text(
        repo, ["git", "log", "-1", "--no-show-signature", f"--format={_FORMAT}", "--end-of-options", sha]
    )
    parts = said.split("\0")
    if len(parts) != _FORMAT.count("%x00") + 1:
        raise GitError(f"git log: cannot read {said[:80]!r}")
    commit_id, parents, author, committer, when, subject = parts
    commit = Commit(commit_id, tuple(parents.split()), author, committer, when, subject.strip())
    listing = _bytes(
        repo, ["git", "ls-tree", "-r", "-l", "-z", "--full-tree", "--end-of-options", sha, *FOLDERS]
    )
    wanted, problems = _entries(listing)
    return Listing(commit, dict(wanted), tuple(problems))


def _commit_id(repo: git.Repo, revision: str) -> str:
    """The commit that a revision names. A branch wins: git alone would let a tag of the same name shadow it.

    Raises:
        GitError: there is none.
    """
    ask = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options"]
    for name in (f"refs/heads/{revision}", revision):
        try:
            return _text(repo, [*ask, f"{name}^{{commit}}"]).strip()
        except git.CommandError:
            continue
    raise GitError(f"no branch, tag or commit {revision!r}")


def descends(repository: str, old: str, new: str) -> bool | None:
    """Whether `new` has `old` in its history; None when `old` is not a commit that this repository has.

    Raises:
        GitError: `old` is no commit id, or git refuses.
    """
    if COMMIT_ID.fullmatch(old) is None or COMMIT_ID.fullmatch(new) is None:
        raise GitError(f"{old!r} is no commit id")
    folder = git_folder(repository)
    os.environ["GIT_DIR"] = folder
    with git.Repo(folder, expand_vars=False) as repo:
        try:
            _text(repo, ["git", "cat-file", "-e", f"{old}^{{commit}}"])
        except git.CommandError:
            return None
        try:
            _text(repo, ["git", "merge-base", "--is-ancestor", "--end-of-options", old, new])
        except git.CommandError as exc:
            if exc.status == 1:
                return False
            raise GitError(f"git merge-base: {_words(exc)}") from exc
    return True


def _entries(listing: bytes) -> tuple[list[tuple[str, str]], list[Diagnostic]]:
    """(path, blob id) of the files worth reading, and what is wrong with the others."""
    wanted: list[tuple[str, str]] = []
    problems: list[Diagnostic] = []
    total = 0
    known: set[str] = set()
    lines = listing.split(b"\0")[:-1]
    if len(lines) > FILE_COUNT_LIMIT:
        return [], [
            Diagnostic(
                None, None, None, "DG1505", f"{len(lines)} files (expected at most {FILE_COUNT_LIMIT})"
            )
        ]
    for line in lines:
        match = _TREE_LINE.fullmatch(line)
        if match is None:
            raise GitError(f"git ls-tree: cannot read {line[:80]!r}")
        path = shown_path(match["path"])
        hidden = any(part.startswith(".") for part in path.split("/")) or path.endswith("/README.md")
        if hidden:
            continue
        if (
            path in known
        ):  # git writes no such tree; a crafted one could show one file to people and one to us
            problems.append(
                Diagnostic(path, 1, 1, "DG1504", "twice in its folder (expected one file of a name)")
            )
            continue
        known.add(path)
        if match["mode"] != b"100644":
            what = _NO_FILES.get(match["mode"], f"mode {match['mode'].decode()}")
            problems.append(Diagnostic(path, 1, 1, "DG1504", f"{what} (expected a plain file)"))
            continue
        if match["size"] == b"-":
            raise GitError(f"git ls-tree: {path} is a file without a size")
        size = int(match["size"])
        total += size
        if size > FILE_LIMIT_BYTES:
            problems.append(
                Diagnostic(path, 1, 1, "DG1006", f"{size} bytes (expected at most {FILE_LIMIT_BYTES})")
            )
            continue
        wanted.append((path, match["sha"].decode()))
    if total > BYTES_LIMIT:
        return [], [
            Diagnostic(None, None, None, "DG1505", f"{total} bytes in all (expected at most {BYTES_LIMIT})")
        ]
    return wanted, problems


def _blobs(repo: git.Repo, blobs: Collection[str]) -> Mapping[str, bytes]:
    answer = _answer(repo, "".join(f"{blob}\n" for blob in blobs).encode())
    contents = {}
    position = 0
    for blob in blobs:
        header = _BLOB_HEADER.match(answer, position)
        if header is None or header["sha"].decode() != blob:
            raise GitError(f"git cat-file: {answer[position : position + 100]!r} instead of {blob}")
        end = header.end() + int(header["size"])
        if answer[end : end + 1] != b"\n":
            raise GitError(f"git cat-file: {blob} was cut, or is followed by something else")
        contents[blob] = answer[header.end() : end]
        position = end + 1
    return contents


def _answer(repo: git.Repo, request: bytes) -> bytes:
    """What `git cat-file --batch` says to a request, fed through a pipe: this process may write no file at all."""
    read_end, write_end = os.pipe()

    def feed() -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(write_end, "wb") as pipe:
            pipe.write(request)

    feeder = threading.Thread(target=feed, daemon=True)
    with os.fdopen(read_end, "rb") as stdin:
        feeder.start()
        answer = _bytes(repo, ["git", "cat-file", "--batch", "--buffer"], stdin)
    feeder.join()
    return answer


def _text(repo: git.Repo, argv: list[str]) -> str:
    return _bytes(repo, argv).decode("utf-8", "backslashreplace")


def _bytes(repo: git.Repo, argv: list[str], stdin: BinaryIO | None = None) -> bytes:
    answer: Any = repo.git.execute(argv, istream=stdin, stdout_as_string=False, strip_newline_in_stdout=False)
    return bytes(answer)
