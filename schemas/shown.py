"""Values and names as messages quote them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

SHOWN_LIMIT = 60
_LISTED = 5


def shown(value: object) -> str:
    """A value as error messages quote it: one line of ASCII, cut where it is long."""
    if isinstance(value, str):
        # A letter that only looks like another is to be seen.
        return ascii(str(value[:SHOWN_LIMIT])) + "..." * (len(value) > SHOWN_LIMIT)
    return "a map" if isinstance(value, dict) else "a list" if isinstance(value, list) else repr(value)


def listed(names: Iterable[str]) -> str:
    """The first few of what there is, for messages: a repository may have thousands of them."""
    first = tuple(islice(names := iter(names), _LISTED))
    more = sum(1 for _ in names)
    return (", ".join(first) or "none") + (f" and {more} more" if more else "")
