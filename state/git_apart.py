"""git in a process of its own: it lists a commit and reads its files while the one that asks still imports the models.

A fork of the unprivileged child, as confined as that one. Runs there only.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, TypeVar

from schemas.layout import TOO_MANY, ground_and_domus
from state.commit import Commit, GitError, Listing
from state.confined import confine

T = TypeVar("T")
Batch = list[tuple[str, bytes]]  # files with their contents, some megabytes of them
# The first one is there soon, so that nobody waits until all are read; the later ones are larger, since each costs a fork.
_FIRST_BATCH_BYTES, _LAST_BATCH_BYTES = 10**6, 32 * 10**6
_PIPE_BYTES = 2**20  # as much as anybody may ask for (pipe(7))


class GitApart:
    """Answers questions about one repository in the order in which they were asked; each answer comes in parts.

    Questions: `list_commit REVISION` (a Listing), `ground` and `domus` (batches of the files of the commit listed
    before that are no domUs, or are), `contents FILES` (batches of these), `descends OLD NEW` (True, False or None).
    """

    def __init__(self, repository: str, *, keep_capabilities: bool) -> None:
        asked, self._questions = _pipe()
        self._answers, told = _pipe()
        self._process = os.fork()
        if self._process == 0:
            self._questions.close()
            self._answers.close()
            _serve(repository, asked, told, keep_capabilities=keep_capabilities)
        asked.close()
        told.close()

    def ask(self, question: str, *about: object) -> None:
        """Ask, and go on: whoever asks for less than a page never waits here."""
        pickle.dump((question, about), self._questions)
        self._questions.flush()

    def answer(self) -> Iterator[Any]:
        """The parts of the next answer.

        Raises:
            GitError: git refuses; its own words are in the message.
            MemoryError: there is more than the process may hold.
        """
        while True:
            try:
                kind, part = pickle.load(self._answers)  # noqa: S301  # from our own fork
            except EOFError:
                self._died()
            if kind == "end":
                return
            if kind == "refused":
                raise GitError(part)
            if kind == "memory":
                raise MemoryError
            yield part

    def _died(self) -> None:
        _, status = os.waitpid(self._process, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
            os.kill(os.getpid(), signal.SIGXCPU)  # whoever started us is told what it was
        raise GitError(f"reading it with git ended with status {os.waitstatus_to_exitcode(status)}")


def _pipe() -> tuple[BinaryIO, BinaryIO]:
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return os.fdopen(read_end, "rb"), os.fdopen(write_end, "wb")


def _serve(repository: str, questions: BinaryIO, answers: BinaryIO, *, keep_capabilities: bool) -> None:
    """What the fork does until nobody asks any more. Never returns."""
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1):  # whoever waits for the end of those waits for the one that asks
            os.dup2(nothing, standard)
        from state import git_objects  # noqa: PLC0415  # GitPython: the one that asks waits for nothing of it

        confine(keep_capabilities=keep_capabilities)
        served = _Served(repository, git_objects)
        work: Mapping[str, Callable[..., Iterator[object]]] = {
            "list_commit": served.list_commit,
            "ground": served.ground,
            "domus": served.domus,
            "contents": served.contents,
            "descends": served.descends,
        }
        while True:
            question, about = pickle.load(questions)  # noqa: S301  # from whoever forked us
            for said in _said(work[question](*about)):
                pickle.dump(said, answers)
                answers.flush()  # its end would wait here for the next part to be read
    except (EOFError, BrokenPipeError):
        os._exit(0)
    except BaseException:  # noqa: BLE001  # a fork must never go on as if it were its parent
        traceback.print_exc()
        os._exit(1)


def _said(parts: Iterator[object]) -> Iterator[tuple[str, object]]:
    try:
        for part in parts:
            yield "part", part
    except GitError as exc:
        yield "refused", str(exc)
    except MemoryError:
        yield "memory", None
    else:
        yield "end", None


class _Served:
    def __init__(self, repository: str, git_objects: Any) -> None:
        self._repository, self._git = repository, git_objects
        self._listing = Listing(Commit(""), {}, {}, ())
        self._ground: list[str] = []
        self._domus: list[str] = []

    def list_commit(self, revision: str) -> Iterator[Listing]:
        listing = self._git.list_commit(self._repository, revision)
        kinds = ground_and_domus(listing.blobs)
        if kinds is None:
            listing, kinds = Listing(listing.commit, {}, {}, (TOO_MANY,)), ([], [])
        self._listing, (self._ground, self._domus) = listing, kinds
        yield listing

    def ground(self) -> Iterator[Batch]:
        return self.contents(self._ground)

    def domus(self) -> Iterator[Batch]:
        return self.contents(self._domus)

    def contents(self, files: Iterable[str]) -> Iterator[Batch]:
        ids, sizes = self._listing.blobs, self._listing.sizes
        for batch in _batches(files, lambda file: sizes[ids[file]]):
            blobs = self._git.read_blobs(self._repository, {ids[file]: sizes[ids[file]] for file in batch})
            yield [(file, blobs[ids[file]]) for file in batch]

    def descends(self, old: str, new: str) -> Iterator[bool | None]:
        yield self._git.descends(self._repository, old, new)


def in_batches(files: Iterable[tuple[str, bytes]]) -> Iterator[Batch]:
    """Files with their contents, as many at a time as should be in memory."""
    return _batches(files, lambda each: len(each[1]))


def _batches(items: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """The items in their order, in lists of at most so many bytes and one item."""
    batch: list[T] = []
    total, limit = 0, _FIRST_BATCH_BYTES
    for item in items:
        batch.append(item)
        total += size(item)
        if total > limit:
            yield batch
            batch, total, limit = [], 0, min(2 * limit, _LAST_BATCH_BYTES)
    if batch:
        yield batch
