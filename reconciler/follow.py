"""Which commit a host follows: git's, or what was last applied where git has none that may be followed. Pure.

History goes forward: by itself a host never goes to a commit that does not descend from what it has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from reconciler.last_good import LastGood
from reconciler.plan import Source
from reconciler.review import StaleError
from schemas.diagnostic import Diagnostic, SpecError
from state.desired import Desired
from state.run import ReadError
from state.source import Reading


def wanted(reading: Reading, last: LastGood | None) -> tuple[Desired, Source]:
    """What a reading asks of this host; the last-good state when the commit has an error that reaches all of it.

    Raises:
        SpecError: it has one, and nothing was ever applied here.
    """
    source = Source(reading.revision, "", reading.author, reading.subject)
    if reading.desired is not None:
        return reading.desired, source
    if last is None:
        raise SpecError(reading.diagnostics)
    return replace(last.specified, diagnostics=reading.diagnostics), source


def applied_commit(last: LastGood | None) -> str | None:
    """The commit that was last applied; None for a worktree, which has no history, and where nothing was."""
    return None if last is None or last.source.revision.startswith("worktree:") else last.source.revision


def applied_revision(last: LastGood | None) -> str | None:
    """What was last applied, a commit or a worktree; None where nothing was."""
    return None if last is None else last.source.revision


def goes_back(reading: Reading, applied: str | None) -> bool:
    """Whether the commit is known, or must be feared, not to have the applied one in its history."""
    return (
        applied is not None and not reading.revision.startswith("worktree:") and reading.descends is not True
    )


def forward_only(reading: Reading, applied: str | None) -> Reading:
    """The reading, refused as a whole when its commit does not descend from the one that was last applied.

    History never goes back by itself: a branch that was reset, or another repository under the same URL, would
    take away what customers were given meanwhile. A human may still apply such a commit.
    """
    if applied is None or not goes_back(reading, applied):
        return reading
    known = "does not descend from" if reading.descends is False else "is in a history without"
    message = (
        f"{reading.revision[:12]} {known} {applied[:12]}, which was last applied (to go there: domgit apply)"
    )
    refused = Diagnostic(None, None, None, "DG1601", message)
    return replace(reading, desired=None, refused=True, diagnostics=(refused, *reading.diagnostics))


def last_applied(last: LastGood, why: str) -> Reading:
    """A reading that keeps the host at what was last applied, with the reason."""
    return Reading(
        revision=last.source.revision,
        author=last.source.author,
        subject=last.source.subject,
        committed_at="",
        files=0,
        hosts=(last.desired.host.name,),
        valid=False,
        diagnostics=(Diagnostic(None, None, None, "DG1602", why),),
        refused=True,
    )


def followed(read: Callable[[str | None], Reading], last: LastGood | None) -> Reading:
    """What git says now; what was last applied where it cannot be read, or must not be followed by itself.

    `read` gets the commit that was last applied, if any, so that Reading.descends answers. Drift is repaired all the
    same: guests depend on this host, not on the git server.

    Raises:
        ReadError: it cannot be read, and nothing was ever applied here.
    """
    applied = applied_commit(last)
    try:
        return forward_only(read(applied), applied)
    except ReadError as exc:
        if last is None:
            raise
        return last_applied(last, f"the repository cannot be read: {exc}")


def see_not_overtaken(last: LastGood | None, reading: Reading, since: str | None) -> None:
    """See that nobody was quicker: between reading and lock another commit may have come, and this one would undo it.

    Raises:
        StaleError: another commit than `since` and this one is the last that was applied.
    """
    now = applied_revision(last)
    if now not in {since, reading.revision}:
        raise StaleError(f"{now or 'nothing'} was applied since, not {since or 'nothing'} any more")
