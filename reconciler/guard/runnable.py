"""Commands with their input as one text that a shell can run without Python: what takes a change back, or loads a guard.

    # run nft -f -
    ... its standard input ...
    # end

A line that starts with `# run ` begins a command, and so does one with `# try `, for a command that may fail; `# end` is
the last line, and a text without it was cut short. reconciler/guard/revert.sh runs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from reconciler.guard.binding import Step

_RUN, _TRY, _END = "# run ", "# try ", "# end"
_BEGINS = re.compile(rf"^({_RUN}|{_TRY})", re.MULTILINE)
# A word that a shell splits off at blanks and takes for nothing else.
_WORD = re.compile(r"[A-Za-z0-9_./=:-]+")


def runnable(steps: Iterable[Step]) -> str:
    """The steps as such a text.

    Raises:
        ValueError: a word of a command, or its input, would be read back as something else.
    """
    text = ""
    for step in steps:
        body = step.stdin if step.stdin.endswith("\n") or not step.stdin else f"{step.stdin}\n"
        marked = any(line.startswith((_RUN, _TRY)) or line == _END for line in body.split("\n"))
        if marked or not all(_WORD.fullmatch(word) for word in step.argv):
            raise ValueError(f"{' '.join(step.argv)}: cannot be written down for a shell")
        text += f"{_TRY if step.optional else _RUN}{' '.join(step.argv)}\n{body}"
    return f"{text}{_END}\n"


def steps_of(text: str) -> tuple[Step, ...]:
    """The steps of such a text.

    Raises:
        ValueError: it is none, or was cut short.
    """
    before, *marked = _BEGINS.split(text.removesuffix(f"{_END}\n"))
    if before or not text.endswith(f"\n{_END}\n" if marked else f"{_END}\n"):
        raise ValueError("no text of commands, or not the whole")
    found = []
    for mark, section in zip(marked[::2], marked[1::2], strict=True):
        command, _, body = section.partition("\n")
        found.append(Step(tuple(command.split(" ")), body, optional=mark == _TRY))
    return tuple(found)
