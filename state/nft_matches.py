"""What a listed nftables rule asks of a frame: its words one after the other, as conditions.

Source: nft(8), nftables 1.0.6, `nft -s list table`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from state.iptables_options import flags_of
from state.netfilter import Condition, Masked, Named, Ranges, Tuples, Unknown, Within, merged
from state.nft_words import OTHERS, SELECTORS, Selector, Selectors

_TOKEN = re.compile(r'"[^"]*"|@(?:ll|nh|th|ih),\d+,\d+|[{},]|[^\s{},]+')
COMPARISONS = frozenset({"==", "!=", "<", ">", "<=", ">=", "!"})
# Two names for one kind of packet.
_TYPES = {"unicast": "host"}
_MOST = 2**128  # above every number that a field holds
_END_OF_ELEMENT = frozenset({"timeout", "expires", "comment", "counter", "limit", ":"})
Elements = Mapping[str, Sequence[str]]  # of each named set or map: the words between its braces


def tokens(text: str) -> list[str]:
    """The words of a listed rule; a quoted string is one, with its quotes."""
    return _TOKEN.findall(text)


class Strange(Exception):  # noqa: N818  # no error: a listing that this reader does not understand
    """What follows is not understood."""


@dataclass(slots=True)
class Words:
    """What is left of a rule."""

    all: Sequence[str]
    at: int = 0

    def peek(self, ahead: int = 0) -> str:
        """The word that comes next, or later; "" behind the end."""
        where = self.at + ahead
        return self.all[where] if where < len(self.all) else ""

    def take(self) -> str:
        """The next word.

        Raises:
            Strange: there is none.
        """
        word = self.peek()
        if not word:
            raise Strange
        self.at += 1
        return word

    def skip(self, *words: str) -> bool:
        """Whether these words come next; they are then taken."""
        if tuple(self.all[self.at : self.at + len(words)]) != words:
            return False
        self.at += len(words)
        return True

    def braced(self) -> list[str]:
        """The words between the brace that comes next and its end.

        Raises:
            Strange: there is no brace, or no end.
        """
        if self.take() != "{":
            raise Strange
        depth, found = 1, list[str]()
        while True:
            word = self.take()
            depth += {"{": 1, "}": -1}.get(word, 0)
            if depth == 0:
                return found
            found.append(word)


def read_selector(words: Words, selectors: Selectors = SELECTORS) -> Selector:
    """The left side of a match; `selectors` are those whose field is known.

    Raises:
        Strange: it is none whose end is known.
    """
    for count in (3, 2, 1):
        found = selectors.get(tuple(words.all[words.at : words.at + count]))
        if found is not None:
            words.at += count
            return found
    first, second = words.peek(), words.peek(1)
    if first == "fib":
        return _fib(words)
    if first.startswith("@") and "," in first:
        words.take()
        return Selector("")
    # `ct original ip saddr`, `meta time`: not known, but where they end is.
    count = OTHERS.get(first, 0)
    if first == "ct" and second in {"original", "reply"} and words.peek(2) in {"ip", "ip6"}:
        count = 4
    if not count or (first, second) == ("tcp", "option"):
        raise Strange
    words.at += count
    return Selector("")


def read_members(words: Words, sets: Elements) -> list[str]:
    """The words of a set, anonymous or named.

    Raises:
        Strange: it is none, or not one of this table.
    """
    if words.peek() == "{":
        return words.braced()
    name = words.take()
    if not name.startswith("@") or name[1:] not in sets:
        raise Strange
    return list(sets[name[1:]])


def read_match(left: Selector, start: int, words: Words, sets: Elements) -> Condition:
    """The condition of a match whose left side began at `start`.

    Raises:
        Strange: its right side is not understood.
    """
    mask = left.number(words.take())[0] if words.skip("&") else None
    operator = words.take() if words.peek() in COMPARISONS else ""
    if words.peek() == "{" or words.peek().startswith("@"):
        members = split_members(read_members(words, sets))
        values = [member[0] for member in members]
        if any(len(member) > 1 for member in members) or operator not in {"", "!="}:
            raise Strange
        operator = operator or "=="
    else:
        values = [words.take()]
        while words.skip(","):
            values.append(words.take())
        if words.skip("/"):
            return _flagged(left, values, operator, words)
    if not left.field:
        return Unknown(" ".join(words.all[start : words.at]))
    return _condition(left, values, operator, mask)


def split_members(words: Sequence[str], *, with_value: bool = False) -> list[list[str]]:
    """The members of a set, each as its parts; what is said of a member besides is left out."""
    members: list[list[str]] = [[]]
    ended = False
    for word in words:
        if word == ",":
            members.append([])
            ended = False
        elif with_value and word == ":":
            members[-1].append(word)
            ended = False
        elif word in _END_OF_ELEMENT:
            ended = True
        elif not ended and word != ".":
            members[-1].append(word)
    return [member for member in members if member]


def _condition(selector: Selector, values: list[str], operator: str, mask: int | None) -> Condition:
    negated = operator == "!="
    if selector.kind in {"name", "word"}:
        return Named(selector.field, tuple(_TYPES.get(value, unquoted(value)) for value in values), negated)
    ranges = merged(selector.number(value) for value in values)
    low, high = (ranges[0][0], ranges[-1][1]) if ranges else (0, 0)
    if mask is not None:
        if operator not in {"==", "!="} or low != high:
            raise Strange
        return Masked(selector.field, mask, low, negated)
    if selector.kind == "bits" and operator in {"", "!"}:
        bits = sum({selector.number(value)[0] for value in values})
        return Masked(selector.field, bits, 0, operator == "")
    match operator:
        case "" | "==" | "!=":
            return Within(selector.field, ranges, negated)
        case "!":
            return Within(selector.field, ranges, negated=True)
        case "<":
            return Within(selector.field, ((low, _MOST),), negated=True)
        case "<=":
            return Within(selector.field, ((high + 1, _MOST),), negated=True)
        case ">":
            return Within(selector.field, ((high + 1, _MOST),))
        case _:
            return Within(selector.field, ((low, _MOST),))


def tuples(selectors: Sequence[Selector], members: Sequence[Sequence[str]], *, negated: bool) -> Condition:
    """One field, or several together, and the members that they must, or must not, be one of.

    Raises:
        Strange: a member has more or fewer parts than there are fields.
    """
    if any(not each.field for each in selectors):
        return Unknown(" . ".join(each.field or "?" for each in selectors))
    if len(selectors) == 1:
        return _condition(selectors[0], [member[0] for member in members], "!=" if negated else "==", None)
    found: list[tuple[Ranges | tuple[str, ...], ...]] = []
    for member in members:
        if len(member) != len(selectors):
            raise Strange
        found.append(tuple(_value(*each) for each in zip(selectors, member, strict=True)))
    return Tuples(tuple(each.field for each in selectors), tuple(found), negated)


def _value(selector: Selector, text: str) -> Ranges | tuple[str, ...]:
    return (unquoted(text),) if selector.kind in {"name", "word"} else (selector.number(text),)


def unquoted(text: str) -> str:
    """A name without the quotes that it is listed in."""
    return text.strip('"')


def _flagged(selector: Selector, values: list[str], operator: str, words: Words) -> Condition:
    """`tcp flags syn / fin,syn,rst,ack`."""
    of = [words.take()]
    while words.skip(","):
        of.append(words.take())
    if selector.kind != "bits" or operator not in {"", "==", "!="}:
        raise Strange
    return Masked(selector.field, flags_of(",".join(of)), flags_of(",".join(values)), operator == "!=")


def _fib(words: Words) -> Selector:
    """`fib saddr . iif oif missing` is a question to dom0's routes; `fib daddr type local` one to its addresses."""
    words.take()
    keys = [words.take()]
    while words.skip("."):
        keys.append(words.take())
    if words.take() == "type" and keys[0] in {"saddr", "daddr"} and "iif" not in keys and "oif" not in keys:
        return Selector(f"{keys[0]}_type", "word")
    return Selector("")
