"""Finds a port's rules by its name in steps that grow with the name and not with the number of ports. Pure.

iptables and ebtables have no map from names to chains, only `NAME` and `PREFIX+`. A chain a prefix, each with a rule for
every way on, makes a trie of them: a frame meets the rules of a few chains instead of one rule for every vif.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby

# What the tools take as it stands: a name that ends with `+` would be a prefix, and blanks and quotes end a word.
_MATCHABLE = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,14}")


def matchable(name: str) -> bool:
    """Whether a rule can mean the port of that name, and no other."""
    return _MATCHABLE.fullmatch(name) is not None


def nodes(names: Iterable[str], prefix: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    """The trie of these names as (prefix, what its chain asks for), the root "" first.

    What is asked for is a whole name, or `PREFIX+`, which another node follows. Of what one chain asks for at most one
    fits a name: so the order in a chain means nothing, and no name is taken for another that it begins with.
    """
    ordered = sorted(set(names))
    asked, deeper = list[str](), list[tuple[str, list[str]]]()
    for letter, group in groupby(ordered, key=lambda name: name[len(prefix) : len(prefix) + 1]):
        members = list(group)
        if len(members) == 1:
            asked += members
            continue
        begin = _common(members[0], members[-1], len(prefix) + len(letter))
        asked.append(f"{begin}+")
        deeper.append((begin, members))
    yield prefix, tuple(asked)
    for begin, members in deeper:
        yield from nodes(members, begin)


def _common(first: str, last: str, at_least: int) -> str:
    """What the first and the last of sorted names begin with, and so all between them."""
    end = at_least
    while end < min(len(first), len(last)) and first[end] == last[end]:
        end += 1
    return first[:end]
