"""One rule of an nftables listing: its matches and statements, in order. argv and the listing's blocks: state.nft_rules.

Source: nft(8), nftables 1.0.6, `nft -s list table`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from state.iptables_options import ALL32
from state.netfilter import (
    Condition,
    CopyMark,
    Leave,
    Rewrite,
    Rule,
    SetMark,
    Sometimes,
    Step,
    Unknown,
    Untrack,
    Verdict,
    Within,
    number,
)
from state.nft_matches import (
    COMPARISONS,
    Elements,
    Strange,
    Words,
    read_match,
    read_members,
    read_selector,
    split_members,
    tokens,
    tuples,
    unquoted,
)
from state.nft_words import SELECTORS, Selector, Selectors

_ANY_MARK = Within("mark", ((0, ALL32),))  # as every frame has one
_ADDRESSES = frozenset({"saddr4", "daddr4", "saddr6", "daddr6"})


@dataclass(slots=True)
class RuleReader:
    """Reads the rules of one table. `sets` are its named sets and maps, `selectors` what a match may ask for."""

    sets: Elements
    selectors: Selectors = field(default_factory=lambda: SELECTORS)
    steps: list[Step] = field(default_factory=list)
    # By header, the places of what must not equal one value there.
    unlike: dict[str, list[int]] = field(default_factory=dict)

    def rules(self, text: str) -> tuple[Rule, ...]:
        """The rule as it is carried out; one with a verdict map is several, of which a frame takes at most one."""
        words, self.steps, self.unlike = Words(tokens(text)), [], {}
        branches: list[tuple[Condition, Verdict]] = []
        try:
            while words.peek():
                branches += self._next(words)
        except (Strange, ValueError, KeyError, IndexError):
            self.steps += [Unknown(" ".join(words.all[words.at :]) or text), Verdict("ask")]
        self._merged()
        if not branches:
            return (Rule(text, _in_order(self.steps, text)),)
        return tuple(
            Rule(text, _in_order([*self.steps, condition, verdict], text)) for condition, verdict in branches
        )

    def _merged(self) -> None:
        """What nft 1.0.6 may have made one comparison of, which is then met by a frame that differs in either field.

        It does so with fields of a header that lie side by side, other than addresses, and lists them as if it had not.
        """
        for places in self.unlike.values():
            if len(places) > 1:
                for place in places:
                    self.steps[place] = Unknown("several != of one header")

    def _next(self, words: Words) -> Iterator[tuple[Condition, Verdict]]:
        """The next match or statement; what it yields are the branches of a verdict map."""
        statement = self._statement(words)
        if statement is not None:
            self.steps += statement
            return
        header, start = words.peek(), words.at
        selectors = [read_selector(words, self.selectors)]
        while words.skip("."):
            selectors.append(read_selector(words, self.selectors))
        for each in selectors:
            self.steps += each.implies
        if words.skip("vmap"):
            yield from _branches(selectors, read_members(words, self.sets))
        elif len(selectors) > 1:
            negated = words.skip("!=")
            self.steps.append(
                tuples(selectors, split_members(read_members(words, self.sets)), negated=negated)
            )
        else:
            found = read_match(selectors[0], start, words, self.sets)
            if _unlike_one(found) and selectors[0].field not in _ADDRESSES:
                self.unlike.setdefault(header, []).append(len(self.steps))
            self.steps.append(found)

    def _statement(self, words: Words) -> Sequence[Step] | None:  # noqa: C901, PLR0912  # one case a statement
        start = words.at
        match words.take():
            case "accept" | "drop" | "return" as kind:
                return (Verdict(kind),)
            case "continue":
                return ()
            case "jump" | "goto" as kind if words.peek() != "{":
                return (Verdict(kind, words.take()),)
            case "reject":
                words.at = len(words.all)
                return (Verdict("drop"),)
            case "queue" | "synproxy":
                words.at = len(words.all)
                return (Verdict("ask"),)
            case "comment":
                words.take()
                return ()
            case "counter":
                words.skip("name") and words.take()
                return ()
            case "log":
                _skip_log(words)
                return ()
            case "limit":
                return (_limit(words),)
            case "quota":
                return (_quota(words),)
            case "notrack":
                return (Untrack(),)
            case "flow":
                words.skip("add") and words.take()
                return ()  # what it means is said of its table, where the flowtable's devices are listed
            case "snat" | "masquerade":
                words.at = len(words.all)
                return (Rewrite("source", ends=True),)
            case "dnat" | "redirect" | "tproxy":
                words.at = len(words.all)
                return (Rewrite("destination", ends=True),)
            case "fwd" | "dup" as mode:
                return _leave(mode, words)
            case "add" | "update" | "delete" if words.peek().startswith("@"):
                words.take()
                return _dynamic(words.braced())
            case "xt":
                return _xt(words)
            case (
                "meta"
                | "ct"
                | "ip"
                | "ip6"
                | "ether"
                | "arp"
                | "tcp"
                | "udp"
                | "th"
                | "icmp"
                | "icmpv6"
                | "vlan"
            ):
                words.at = start
                return self._setting(words)
            case _:
                words.at = start
                return None

    def _setting(self, words: Words) -> Sequence[Step] | None:  # noqa: C901  # one case a field
        """`meta mark set …`, `ether saddr set …` and their like; None when it is a match."""
        start = words.at
        left = [words.take()]
        while words.peek() != "set" and len(left) < 4:  # noqa: PLR2004  # `tcp option maxseg size set`
            word = words.peek()
            if not word or word in COMPARISONS or word == "count":
                break
            left.append(words.take())
        if left == ["ct"] and words.skip("count"):
            over = words.skip("over")
            words.take()
            return (Sometimes(rarely=over),)
        if not words.skip("set"):
            words.at = start
            return None
        match left:
            case ["meta", "mark"]:
                return _mark_set("mark", words)
            case ["ct", "mark"]:
                return _mark_set("ctmark", words)
            case ["ether" | "ip" | "ip6" | "arp", "saddr", *_]:
                words.take()
                return (Rewrite("source", ends=False),)
            case ["ether" | "ip" | "ip6" | "arp", "daddr", *_] | ["meta", "pkttype"]:
                words.take()
                return (Rewrite("destination", ends=False),)
            case ["meta", "broute"]:
                return (Leave("broute"),) if words.take() != "0" else ()
            case ["meta", "priority" | "nftrace"] | ["ct", "helper" | "zone" | "label" | "event"]:
                words.take()
                return ()
            case ["ip" | "ip6", "dscp" | "ecn" | "ttl" | "hoplimit"] | ["tcp", "option", *_]:
                words.skip("rt", "mtu") or words.take()
                return ()
            case _:
                raise Strange


def _branches(selectors: Sequence[Selector], members: Sequence[str]) -> Iterator[tuple[Condition, Verdict]]:
    """The conditions and verdicts of a verdict map."""
    for member in split_members(members, with_value=True):
        at = member.index(":")
        verdict = member[at + 1 :]
        kind = verdict[0]
        if kind == "continue":
            continue
        yield tuples(selectors, [member[:at]], negated=False), Verdict(_kind(kind), *verdict[1:2])


def _in_order(steps: Sequence[Step], text: str) -> tuple[Step, ...]:
    """The steps of a rule, as long as it asks first and acts then: what it asks after that is not worked out."""
    acted = False
    for at, step in enumerate(steps):
        if isinstance(step, SetMark | CopyMark | Untrack | Rewrite | Leave):
            acted = True
        elif acted and not isinstance(step, Verdict) and step != _ANY_MARK:
            return (*steps[:at], Unknown(text), Verdict("ask"))
    return tuple(steps)


def _unlike_one(condition: Condition) -> bool:
    """Whether it is a comparison with one value, and a frame must not have that."""
    match condition:
        case Within(_, ((low, high),), True):
            return low == high
        case _:
            return False


def _kind(word: str) -> Literal["accept", "drop", "return", "jump", "goto"]:
    match word:
        case "accept" | "drop" | "return" | "jump" | "goto":
            return word
        case _:
            raise Strange


def _limit(words: Words) -> Sometimes:
    if words.skip("name"):
        words.take()
        return Sometimes()
    words.skip("rate")
    over = words.skip("over")
    words.take()
    if "bytes/" in words.peek():
        words.take()
    if words.skip("burst"):
        words.take()
        words.take()
    return Sometimes(rarely=over)


def _quota(words: Words) -> Sometimes:
    if words.skip("name"):
        words.take()
        return Sometimes()
    over = words.skip("over")
    words.take()
    words.take()
    if words.skip("used"):
        words.take()
        words.take()
    return Sometimes(rarely=over)


def _skip_log(words: Words) -> None:
    while words.peek() in {"prefix", "level", "group", "snaplen", "queue-threshold", "flags"}:
        words.take()
        words.take()
        while words.skip(",") or words.peek() in {"sequence", "options"}:
            words.take()


def _mark_set(name: Literal["mark", "ctmark"], words: Words) -> Sequence[Step]:
    """A mark from a number, from itself and a mask, or from the other mark."""
    own = {"mark": ("meta", "mark"), "ctmark": ("ct", "mark")}
    other: Literal["mark", "ctmark"] = "ctmark" if name == "mark" else "mark"
    if words.skip(*own[other]):
        take = number(words.take()) if words.skip("&") else ALL32
        if words.peek() in {"&", "|", "^"}:
            raise Strange
        # Where there is no connection, the rule ends here.
        return (Within(other, ((0, ALL32),)), CopyMark(name, 0, take))
    if words.skip(*own[name]):
        keep = number(words.take()) if words.skip("&") else ALL32
        if words.skip("|"):
            bits = number(words.take())
            return (Within(name, ((0, ALL32),)), SetMark(name, keep & ~bits, bits))
        flip = number(words.take()) if words.skip("^") else 0
        return (Within(name, ((0, ALL32),)), SetMark(name, keep, flip))
    if words.peek()[:1].isdecimal():
        return (SetMark(name, 0, number(words.take())),)
    raise Strange  # from a map, a hash, a number generator


def _leave(mode: Literal["fwd", "dup"], words: Words) -> Sequence[Step]:
    words.skip("ip") or words.skip("ip6")
    if not words.skip("to"):
        raise Strange
    to = words.take()
    return (Leave(mode, unquoted(words.take() if words.skip("device") else to)),)


def _dynamic(inside: Sequence[str]) -> Sequence[Step]:
    """What is written into a set on the way; a limit in it decides whether the rule goes on."""
    if "limit" in inside:
        return (Sometimes(rarely="over" in inside),)
    if "ct" in inside and "count" in inside:
        return (Sometimes(rarely="over" in inside),)
    return ()


def _xt(words: Words) -> Sequence[Step]:
    """What iptables loaded and nft cannot show."""
    kind, name = words.take(), words.take().strip('"')
    return (Unknown(f"xt {kind} {name}"),) if kind == "match" else (Verdict("ask"),)
