"""Work shared out among this machine's processors, by forks of the unprivileged child. Runs there only.

No pool of a library fits: multiprocessing's want a semaphore, which is a file, and the child may write none.
"""

from __future__ import annotations

import itertools
import marshal
import os
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
# A fork of this process takes about 5 ms, as long as some fifty documents.
LEAST_SHARE = 200
MOST_PROCESSES = 8


def shared_out(work: Callable[[list[T]], list[Any]], items: list[T]) -> list[Any]:
    """`work` of all items, in their order; its results are plain values: tuples, text, numbers, None.

    What another process leaves undone, this one does: whatever stopped it, stops this one as well.
    """
    count = min(len(os.sched_getaffinity(0)), MOST_PROCESSES, len(items) // LEAST_SHARE) or 1
    edges = [len(items) * number // count for number in range(count + 1)]
    parts = [items[low:high] for low, high in itertools.pairwise(edges)]
    helpers = [_started(work, part) for part in parts[1:]]
    results = work(parts[0])
    for part, (process, descriptor) in zip(parts[1:], helpers, strict=True):
        with os.fdopen(descriptor, "rb") as pipe:
            answer = pipe.read()
        _, status = os.waitpid(process, 0)
        results += marshal.loads(answer) if status == 0 else work(part)  # noqa: S302  # from our own fork
    return results


def _started(work: Callable[[list[T]], list[Any]], part: list[T]) -> tuple[int, int]:
    """The process that does a part, and where its results will be read."""
    read_end, write_end = os.pipe()
    process = os.fork()
    if process == 0:
        status = 1
        try:
            with os.fdopen(write_end, "wb") as pipe:
                pipe.write(marshal.dumps(work(part)))
            status = 0
        finally:
            os._exit(status)
    os.close(write_end)
    return process, read_end
