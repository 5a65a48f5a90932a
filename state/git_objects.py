"""A commit's files, straight from git's object store. Runs in the unprivileged child only.

GitPython is imported here and nowhere else. It starts git with constant arguments, and data only behind
`--end-of-options` or on standard input: no work tree, no attributes, no hooks, no replaced objects.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, BinaryIO

import git

from schemas.diagnostic import Diagnostic
from schemas.layout import BYTES_LIMIT, FILE_COUNT_LIMIT, FILE_LIMIT_BYTES, FOLDERS, TOO_MANY, shown_path
from state.commit import Commit, GitError, Listing

# A branch, a tag, a commit id, or one of their ancestors (`main~2`); never a search or the reflog.
REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,200}([~^][0-9]{0,4}){0,4}", re.ASCII)
_TREE_LINE = re.compile(
    rb"(?P<mode>[0-9]{6}) (?P<type>[a-z]+) (?P<sha>[0-9a-f]{40}|[0-9a-f]{64})\t(?P<path>.+)", re.DOTALL
)
_BLOB_HEADER = re.compile(rb"(?P<sha>[0-9a-f]{40,64}) blob (?P<size>[0-9]{1,18})\n")
_NO_FILES = {
    b"120000": "a symbolic link",
    b"160000": "a submodule",
    b"100755": "executable",
}
_FORMAT = "%H%x00%P%x00%an <%ae>%x00%cn <%ce>%x00%cI%x00%s"


COMMIT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)
# Names that git itself gives no file, and that only a crafted tree has.
_NO_NAMES = frozenset({b"", b".", b"..", b".git"})
_TAGS_LIMIT = 4  # a tag of a tag is seldom, one of that a joke
# A few kilobytes packed can be ten thousand million files, or one commit of a gigabyte: what git says is read no
# further than this, and no commit or tag is opened that is larger.
_LISTING_LIMIT_BYTES = FILE_COUNT_LIMIT * 150
_OBJECT_LIMIT_BYTES = 10**6


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
    raise GitError("not a git repository")


def list_commit(repository: str, revision: str) -> Listing:
    """What the commit consists of; no file is read yet.

    Raises:
        GitError: git refuses; its own words are in the message.
    """
    if REVISION.fullmatch(revision) is None:
        raise GitError(f"{revision!r} is no revision (expected a branch, a tag or a commit id)")
    with _opened(repository, revision) as repo:
        return _listing(repo, revision)


def read_blobs(repository: str, blobs: Mapping[str, int]) -> Mapping[str, bytes]:
    """The contents by id, through one process; `blobs` are the sizes by id.

    Raises:
        GitError: one of them is missing, no blob, or of another size.
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
        raise GitError(_words(exc) or f"{revision!r} is no commit of it") from exc
    except (git.InvalidGitRepositoryError, git.NoSuchPathError) as exc:
        raise GitError("not a git repository") from exc


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
    except (git.InvalidGitRepositoryError, git.NoSuchPathError) as exc:
        raise GitError(f"{folder}: not a git repository") from exc


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
    # Without -l: git would look every entry up, and a bomb has one blob ten thousand million times.
    listing = _beginning(
        repo, ["git", "ls-tree", "-r", "-t", "-z", "--full-tree", "--end-of-options", sha, *FOLDERS]
    )
    entries, problems = _entries(listing)
    sizes = _sizes(repo, {blob for _, blob in entries})
    wanted, too_large = _small(entries, sizes)
    return Listing(commit, wanted, sizes, (*problems, *too_large))


def _commit_id(repo: git.Repo, revision: str) -> str:
    """The commit that a revision names. A branch wins: git alone would let a tag of the same name shadow it.

    Raises:
        GitError: there is none, or it is larger than any that somebody wrote.
    """
    names = [f"refs/heads/{revision}", revision]
    for _ in range(_TAGS_LIMIT):
        found = [line.split(" ") for line in _answer(repo, names, "--batch-check").decode().splitlines()]
        sha, kind, size = next((each for each in found if len(each) == 3), ("", "", "0"))  # noqa: PLR2004
        if int(size) > _OBJECT_LIMIT_BYTES:
            raise GitError(f"{kind} {sha} has {size} bytes (expected at most {_OBJECT_LIMIT_BYTES})")
        if kind == "commit":
            return sha
        if kind != "tag":
            break
        names = [_text(repo, ["git", "cat-file", "tag", sha]).partition("\n")[0].removeprefix("object ")]
    if not _text(repo, ["git", "for-each-ref", "--count=1"]):
        raise GitError(f"nothing is committed yet: no branch, tag or commit {revision!r}")
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


def _sizes(repo: git.Repo, blobs: AbstractSet[str]) -> Mapping[str, int]:
    checked = _answer(repo, blobs, "--batch-check", "--buffer").splitlines(keepends=True) if blobs else []
    headers = (match for line in checked if (match := _BLOB_HEADER.fullmatch(line)))
    sizes = {match["sha"].decode(): int(match["size"]) for match in headers}
    if sizes.keys() != blobs:
        raise GitError(f"git cat-file: no blob {min(blobs ^ sizes.keys())}")
    return sizes


def _small(
    entries: Sequence[tuple[str, str]], sizes: Mapping[str, int]
) -> tuple[Mapping[str, str], Sequence[Diagnostic]]:
    """Blob ids by path of what is small enough to be read, and what is wrong with the others."""
    small = {path: blob for path, blob in entries if sizes[blob] <= FILE_LIMIT_BYTES}
    if sum(sizes[blob] for blob in small.values()) > BYTES_LIMIT:
        return {}, [TOO_MANY]
    return small, [
        Diagnostic(path, 1, 1, "DG1006", f"{sizes[blob]} bytes (expected at most {FILE_LIMIT_BYTES})")
        for path, blob in entries
        if path not in small
    ]


def _entries(listing: bytes) -> tuple[list[tuple[str, str]], list[Diagnostic]]:
    """(path, blob id) of the plain files, and what is wrong with the other entries."""
    lines = listing.split(b"\0")[:-1]
    if len(listing) > _LISTING_LIMIT_BYTES or len(lines) > 2 * FILE_COUNT_LIMIT:  # folders among them
        return [], [TOO_MANY]
    wanted: list[tuple[str, str]] = []
    problems: list[Diagnostic] = []
    known: set[bytes] = set()
    folders = {b""}
    for line in lines:
        match = _TREE_LINE.fullmatch(line)
        if match is None:
            raise GitError(f"git ls-tree: cannot read {line[:80]!r}")
        raw = match["path"]
        around, _, name = raw.rpartition(b"/")
        if name not in _NO_NAMES and (name == b"README.md" or b"/." in b"/" + raw):
            continue
        problem = _oddity(match, twice=raw in known, astray=around not in folders)
        known.add(raw)
        if match["type"] == b"tree":
            folders.add(raw)
        elif problem is None:
            wanted.append((shown_path(raw), match["sha"].decode()))
        if problem is not None:
            problems.append(Diagnostic(shown_path(raw), 1, 1, "DG1504", problem))
    if len(wanted) > FILE_COUNT_LIMIT:
        return [], [TOO_MANY]
    return wanted, problems


def _oddity(entry: re.Match[bytes], *, twice: bool, astray: bool) -> str | None:
    """What keeps an entry from being a file or a folder of files.

    git writes no tree with a name twice, or one that is no name; a crafted one could show one file to people and
    another to us. `astray`: it lies in no folder, so there is a slash in its name.
    """
    if entry["path"].rpartition(b"/")[2] in _NO_NAMES or astray:
        return "a name that git gives no file (expected none with '/' in it, and not '.', '..' or '.git')"
    if twice:
        return "twice in its folder (expected one file of a name)"
    if entry["type"] == b"tree":
        return None
    if entry["mode"] != b"100644":
        what = _NO_FILES.get(entry["mode"], f"mode {entry['mode'].decode()}")
        return f"{what} (expected a plain file)"
    return None


def _blobs(repo: git.Repo, blobs: Mapping[str, int]) -> Mapping[str, bytes]:
    answer = _answer(repo, blobs, "--batch", "--buffer")
    contents = {}
    position = 0
    for blob, size in blobs.items():
        header = f"{blob} blob {size}\n".encode()
        if not answer.startswith(header, position):
            raise GitError(f"git cat-file: {answer[position : position + 100]!r} instead of {blob}")
        begin = position + len(header)
        position = begin + size + 1
        if answer[position - 1 : position] != b"\n":
            raise GitError(f"git cat-file: {blob} was cut, or is followed by something else")
        contents[blob] = answer[begin : position - 1]
    return contents


def _answer(repo: git.Repo, names: Iterable[str], *options: str) -> bytes:
    """What `git cat-file` says of these, asked through a pipe: this process may write no file at all."""
    read_end, write_end = os.pipe()
    request = "".join(f"{name}\n" for name in names).encode()

    def feed() -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(write_end, "wb") as pipe:
            pipe.write(request)

    feeder = threading.Thread(target=feed, daemon=True)
    with os.fdopen(read_end, "rb") as stdin:
        feeder.start()
        answer = _bytes(repo, ["git", "cat-file", *options], stdin)
    feeder.join()
    return answer


def _beginning(repo: git.Repo, argv: list[str]) -> bytes:
    """What a git command prints, up to a byte more than the limit: then it is ended."""
    process: Any = repo.git.execute(argv, as_process=True)
    answer: bytes = process.stdout.read(_LISTING_LIMIT_BYTES + 1)
    if len(answer) > _LISTING_LIMIT_BYTES:
        process.proc.kill()
        process.proc.wait()
    else:
        process.wait()
    return answer


def _text(repo: git.Repo, argv: list[str]) -> str:
    return _bytes(repo, argv).decode("utf-8", "backslashreplace")


def _bytes(repo: git.Repo, argv: list[str], stdin: BinaryIO | None = None) -> bytes:
    answer: Any = repo.git.execute(argv, istream=stdin, stdout_as_string=False, strip_newline_in_stdout=False)
    return bytes(answer)
