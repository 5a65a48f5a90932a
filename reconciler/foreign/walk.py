"""What becomes of a class of frames in a chain and those it leads to. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, assert_never

from reconciler.foreign.index import Index
from reconciler.foreign.match import Domain, Fields, Truth, apart, holds, one
from state.netfilter import (
    STATES,
    Chain,
    Condition,
    CopyMark,
    Hook,
    Leave,
    Masked,
    Named,
    Ranges,
    Rewrite,
    Rule,
    SetMark,
    Sometimes,
    Table,
    Tuples,
    Unknown,
    Untrack,
    Verdict,
    Within,
    merged,
)

CONDITIONS = (Within, Named, Masked, Tuples, Sometimes, Unknown)
# Chains that lead to the same ones again and again, level by level, are not followed for ever.
_MOST_RULES = 50_000
ANY_MARK: Ranges = ((0, 0xFFFFFFFF),)
# More different marks than these are not told apart any more.
_MARKS = 64
_HINTS = 16
_IP4, _IP6, _MAC, _PORT = 2**32 - 1, 2**128 - 1, 2**48 - 1, 0xFFFF
# What a new source or destination may be in, and how much of it there is.
_ENDS = {
    "source": {
        "saddr4": _IP4, "saddr6": _IP6, "smac": _MAC, "sport": _PORT, "arp_saddr": _IP4, "arp_smac": _MAC,
    },
    "destination": {
        "daddr4": _IP4, "daddr6": _IP6, "dmac": _MAC, "dport": _PORT, "arp_daddr": _IP4, "arp_dmac": _MAC,
    },
}  # fmt: skip


What = Literal["drops", "diverts", "rewrites", "copies", "leaves", "asks"]


@dataclass(frozen=True, slots=True)
class Flow:
    """A class of frames on its way. `doubt`: whether there are any is not known.

    `hints` are narrower classes that something was done to on the way, for whoever looks for an example.
    """

    fields: Fields
    doubt: bool = False
    hints: tuple[Fields, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a rule does to frames: takes them away, or changes them. `flow` is to which, `hook` where."""

    what: What
    table: Table
    chain: Chain
    rule: Rule
    flow: Flow
    hook: Hook
    to: str = ""

    @property
    def quoted(self) -> str:
        """Where the rule stands, and its text."""
        inside = f", chain {self.chain.name}" if self.table.where.startswith("nft ") else ""
        return f"{self.table.where}{inside}: `{self.rule.text}`"


@dataclass(frozen=True, slots=True)
class _Left:
    """How a chain is left: with accept, or by its end."""

    accepted: Flow | None
    returned: Flow | None


@dataclass(slots=True)
class Walker:
    """Takes classes of frames through the chains of tables, and remembers how those are best looked through."""

    _indexes: dict[int, Index] = field(default_factory=dict)
    _left: int = 0  # how many rules may still be looked at on the way through the present base chain
    _tangled: set[int] = field(default_factory=set)  # base chains that were not followed to their end

    def base(self, table: Table, chain: Chain, hook: Hook, flow: Flow, events: list[Event]) -> Flow | None:
        """What of a class passes a base chain; None when nothing does. What is done to it is added to the events."""
        place = _Place(table, hook, chain, Rule(chain.policy, ()))
        if id(chain) in self._tangled:
            return self._verdict(Verdict("ask"), place, flow, events).goes_on
        self._left = _MOST_RULES
        left = self._run(place, flow, events)
        if self._left < 0:
            self._tangled.add(id(chain))
        if left.returned is None or not hook.drops:
            return joined(left.accepted, left.returned)
        events.append(place.event("drops", left.returned))
        return left.accepted

    def _run(self, place: _Place, flow: Flow, events: list[Event]) -> _Left:
        accepted: Flow | None = None
        returned: Flow | None = None
        here: Flow | None = flow
        for rule in self._candidates(place.chain, flow):
            if here is None:
                break
            self._left -= 1
            truth, taken = _taken(rule, here)
            if truth is Truth.NO:
                continue
            done = self._act(replace(place, rule=rule), taken, events)
            if done.goes_on is taken and done.accepted is None and done.returned is None:
                continue  # nothing was done to any of them
            accepted = joined(accepted, done.accepted)
            returned = joined(returned, done.returned)
            here = joined(_rest(rule, here, truth), done.goes_on)
        return _Left(accepted, joined(returned, here))

    def _candidates(self, chain: Chain, flow: Flow) -> Iterator[Rule]:
        index = self._indexes.get(id(chain))
        if index is None:
            index = self._indexes[id(chain)] = Index(chain)
        return index.candidates(flow.fields)

    def _act(self, place: _Place, flow: Flow, events: list[Event]) -> _Done:  # noqa: C901  # one case an act
        """What the acts of a rule do with those frames that met its conditions."""
        here = flow
        for step in place.rule.steps:
            match step:
                case Within() | Named() | Masked() | Tuples() | Sometimes() | Unknown():
                    continue  # met: see _taken
                case SetMark() | CopyMark():
                    here = _marked(step, here)
                case Untrack():
                    # Where conntrack has seen it already, it is too late.
                    if here.fields.get("ctstate") == one(STATES["invalid"]):
                        here = _with(here, "ctstate", one(STATES["untracked"]))
                case Rewrite(what, ends):
                    events.append(place.event("rewrites" if what == "source" else "diverts", here))
                    here = _rewritten(what, here)
                    if ends:
                        return _Done(accepted=here if what == "source" else None)
                case Leave(mode, to):
                    events.append(replace(place.event("copies" if mode == "dup" else "leaves", here), to=to))
                    if mode != "dup":
                        return _Done()
                case Verdict():
                    return self._verdict(step, place, here, events)
                case _:
                    assert_never(step)
        return _Done(goes_on=here)

    def _verdict(self, verdict: Verdict, place: _Place, flow: Flow, events: list[Event]) -> _Done:
        match verdict.kind:
            case "accept":
                return _Done(accepted=flow)
            case "drop":
                events.append(place.event("drops", flow))
                return _Done()
            case "return":
                return _Done(returned=flow)
            case "ask":
                unsure = replace(flow, doubt=True)
                events.append(place.event("asks", unsure))
                after = _with(unsure, "mark", ANY_MARK)
                return _Done(accepted=after, goes_on=after)
            case "jump" | "goto":
                chain = place.table.chains.get(verdict.chain)
                if chain is None or chain.name in place.above or self._left < 0:
                    return self._verdict(Verdict("ask"), place, flow, events)
                above = (*place.above, place.chain.name)
                left = self._run(replace(place, chain=chain, above=above), flow, events)
                if verdict.kind == "goto":
                    return _Done(accepted=left.accepted, returned=left.returned)
                return _Done(accepted=left.accepted, goes_on=left.returned)
            case _:
                assert_never(verdict.kind)


@dataclass(frozen=True, slots=True)
class _Place:
    """A rule where it stands, and the chains that led there."""

    table: Table
    hook: Hook
    chain: Chain
    rule: Rule
    above: tuple[str, ...] = ()

    def event(self, what: What, flow: Flow) -> Event:
        return Event(what, self.table, self.chain, self.rule, flow, self.hook)


@dataclass(frozen=True, slots=True)
class _Done:
    """Where the frames of a rule are after it; none of them anywhere: they are gone."""

    accepted: Flow | None = None
    returned: Flow | None = None
    goes_on: Flow | None = None


def conditions(rule: Rule) -> tuple[Condition, ...]:
    """What a rule asks, in its order."""
    return tuple(step for step in rule.steps if isinstance(step, CONDITIONS))


def _taken(rule: Rule, flow: Flow) -> tuple[Truth, Flow]:
    """For how many frames all conditions of a rule hold, and which those are."""
    every, fields = Truth.ALL, flow.fields
    for step in rule.steps:
        if not isinstance(step, CONDITIONS):
            continue
        truth, values = holds(step, fields)
        if truth is Truth.NO:
            return Truth.NO, flow
        every = max(every, truth)
        if values is not None and isinstance(step, Within | Named | Masked):
            fields = {**fields, step.field: values}
    if every is Truth.ALL:
        return every, flow
    return every, Flow(fields, flow.doubt or every is Truth.UNKNOWN, flow.hints)


def _rest(rule: Rule, flow: Flow, truth: Truth) -> Flow | None:
    """The frames that did not meet the conditions, as far as that is worked out; None when all did."""
    match truth:
        case Truth.ALL:
            return None
        case Truth.UNKNOWN:
            return replace(flow, doubt=True)  # they may all have met them
        case _:
            left = apart(conditions(rule), flow.fields)
            return flow if left is None else _with(flow, *left)


def _rewritten(what: Literal["source", "destination"], flow: Flow) -> Flow:
    """The frames with whatever source or destination: what a rule makes of it was not read."""
    changed = {name: ((0, most),) for name, most in _ENDS[what].items() if name in flow.fields}
    return replace(flow, fields={**flow.fields, **changed})


def _with(flow: Flow, name: str, domain: Domain) -> Flow:
    return Flow({**flow.fields, name: domain}, flow.doubt, flow.hints)  # replace() costs three times as much


def _marked(act: SetMark | CopyMark, flow: Flow) -> Flow:
    """The frames with another mark. Which of them they were is remembered: a later rule may ask for the mark."""
    old = flow.fields.get(act.field)
    other = flow.fields.get("ctmark" if act.field == "mark" else "mark")
    if old is None or (isinstance(act, CopyMark) and other is None):
        return flow  # without a connection there is no mark of one
    flips = {act.flip} if isinstance(act, SetMark) else {mark & act.take for mark in _numbers(other or ())}
    kept = {mark & act.keep for mark in _numbers(old)} if act.keep else {0}
    marks = merged((each, each) for each in {left ^ right for left in kept for right in flips}) or ANY_MARK
    marked = _with(flow, act.field, marks)
    return replace(marked, hints=(*flow.hints, flow.fields)[-_HINTS:])


def _numbers(domain: Domain) -> tuple[int, ...]:
    """The numbers of a domain that has few, none of one that has many."""
    if isinstance(domain, frozenset) or sum(high - low + 1 for low, high in domain) > _MARKS:
        return ()
    return tuple(number for low, high in domain for number in range(low, high + 1))


def joined(left: Flow | None, right: Flow | None) -> Flow | None:
    """Both classes as one: each field may have the values of either."""
    if left is None or right is None or left is right:
        return right if left is None else left
    fields = left.fields
    if fields is not right.fields:
        fields = {
            name: _either(domain, right.fields[name])
            for name, domain in left.fields.items()
            if name in right.fields
        }
    hints = left.hints if left.hints == right.hints else tuple([*left.hints, *right.hints][-_HINTS:])
    return Flow(fields, left.doubt and right.doubt, hints)


def _either(left: Domain, right: Domain) -> Domain:
    if left is right or left == right:
        return left
    if isinstance(left, frozenset):
        return left | right if isinstance(right, frozenset) else left
    return left if isinstance(right, frozenset) else merged((*left, *right))
