"""A managed file that is written or taken away, as a change. Pure; what it is for is said by who asks."""

from __future__ import annotations

from reconciler.plan import Change, Phase
from reconciler.step import RemoveFile, WriteFile
from state.files import digest


def file_written(path: str, found: str | None, text: str, mode: int) -> Change:
    """The change that makes a file's text `text`; `found` is the present one, None when there is none."""
    return Change(
        address=f"file.{path}",
        actions=("create",) if found is None else ("update",),
        cause="intentional",
        impact="none",
        phase=Phase.PREPARE,
        steps=(WriteFile(path, text, mode),),
        fingerprint=((f"file:{path}", digest(found)),),
        before={} if found is None else {"digest": digest(found)},
        after={"digest": digest(text)},
        counts=(f"file.{path}",),
        inverse=(RemoveFile(path),) if found is None else (WriteFile(path, found, mode),),
        layer=("file",),
    )


def file_removed(path: str, found: str | None) -> Change:
    """The change that takes a file away."""
    return Change(
        address=f"file.{path}",
        actions=("delete",),
        cause="intentional",
        impact="none",
        phase=Phase.PREPARE,
        steps=(RemoveFile(path),),
        fingerprint=((f"file:{path}", digest(found)),),
        before={"digest": digest(found)},
        after={},
        counts=(f"file.{path}",),
        layer=("file",),
    )
