"""The manual pages: hand-written text, with what the parser knows put in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from deb import DEB
from deb.verbs import Verb

_VERBS = '.\\" VERBS\n'


def pages(verbs: Iterable[Verb], *, version: str, epoch: int) -> dict[str, str]:
    """The pages by file name, such as domgit.1."""
    date = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d")
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted((DEB / "man").glob("*.[15]"))}
    texts["domgit.1"] = texts["domgit.1"].replace(_VERBS, "".join(_sections(verbs)))
    return {name: text.replace("@DATE@", date).replace("@VERSION@", version) for name, text in texts.items()}


def _sections(verbs: Iterable[Verb]) -> Iterator[str]:
    for verb in verbs:
        if verb.under:
            continue  # its own verbs say it
        usage = " ".join((*verb.words, "[OPTIONS]" if verb.options else "", *verb.arguments))
        yield f".SS {roff(' '.join(usage.split()))}\n{roff(verb.text)}\n"
        for option in verb.options:
            names = ", ".join(f"\\fB{roff(name)}\\fR" for name in option.names)
            argument = f" \\fI{roff(option.metavar)}\\fR" if option.metavar else ""
            # A line of its own is needed even where the parser says nothing.
            text = roff(option.text) or ("As JSON." if option.names == ("--json",) else "\\&")
            yield f".TP\n{names}{argument}\n{text}\n"


def roff(text: str) -> str:
    """Plain text as a line of roff that shows just that; what stands between backquotes becomes bold."""
    shown = text.replace("\\", "\\e").replace("-", "\\-")
    shown = re.sub(r"`([^`]*)`", r"\\fB\1\\fR", shown)
    return f"\\&{shown}" if shown.startswith((".", "'")) else shown
