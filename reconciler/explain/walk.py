"""The way of one frame through our own rules, as they are written for nft: read line by line, carried out in order. Pure.

Nothing is known here of what a rule is for, so that an answer cannot drift from the rules. A statement that is not understood is an
error: an answer that leaves a rule out would be worth nothing.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, assert_never

from reconciler.explain.headers import Base
from reconciler.explain.selectors import UNDERSTOOD, raw_selectors
from reconciler.foreign.match import Domain, Truth, holds, one
from reconciler.guard.nftables_rules import declarations
from state.netfilter import (
    CopyMark,
    Leave,
    Masked,
    Named,
    Rewrite,
    Rule,
    SetMark,
    Sometimes,
    Tuples,
    Unknown,
    Untrack,
    Verdict,
    Within,
)
from state.nft_matches import tokens
from state.nft_statements import RuleReader

Chains = Sequence[tuple[str, tuple[str, ...]]]
# The kernel refuses chains that go deeper (NFT_JUMP_STACK_SIZE).
_DEEPEST = 16
_BASE = re.compile(r"type filter hook \w+ priority [^;]+; policy (?P<policy>accept|drop);")
_COUNTED = re.compile(r"\bupdate @count_(?P<reason>\w+) ")
_DECLARED = re.compile(r"^\t(?:set|map) (\w+) \{$", re.MULTILINE)


class NotUnderstood(ValueError):  # noqa: N818  # read as a sentence: the rule is not understood
    """A rule has something in it that this interpreter does not know: a defect of the program."""


@dataclass(frozen=True, slots=True)
class Hop:
    """A rule that a frame met, where it stands, and where it led: `accept`, `drop`, `goto CHAIN`, ...; "" for on to the next."""

    chain: str
    rule: str
    led: str


@dataclass(frozen=True, slots=True)
class Way:
    """What becomes of a frame, and the rules that it met on the way, in order.

    `base`: the chain that it got to first, "" where none of ours saw it. `reason`: the class that it was refused under,
    and is counted as; "" when it was not. A refused frame of an audited vif passes.
    """

    verdict: Literal["pass", "drop"]
    reason: str
    base: Base | Literal[""] = ""
    hops: tuple[Hop, ...] = ()


@dataclass(frozen=True, slots=True)
class _Chain:
    policy: str
    rules: tuple[Rule, ...]


@dataclass(slots=True)
class Ruleset:
    """The rules of a guard, read. `raw`: the fields that they ask for by place.

    Raises:
        NotUnderstood: there is something in a rule that is not known here.
    """

    _chains: Mapping[str, _Chain]
    raw: tuple[str, ...]
    _hops: list[Hop] = field(default_factory=list)
    _fields: dict[str, Domain] = field(default_factory=dict)
    _mark: int = 0

    @classmethod
    def read(cls, written: Chains, elements: Mapping[str, Iterable[str]]) -> Ruleset:
        """The rules as they are written, by chain, with what their sets hold."""
        raw = raw_selectors(line for _, lines in written for line in lines)
        # What the kernel fills, and what people open for a time, is not of the bindings.
        sets = {name: list[str]() for name in _DECLARED.findall(declarations())}
        sets |= {name: tokens(", ".join(sorted(members))) for name, members in elements.items()}
        reader = RuleReader(sets, {**UNDERSTOOD, **raw})
        read = {name: _read(reader, name, lines) for name, lines in written}
        known = frozenset(each.field for each in reader.selectors.values())
        for name, chain in read.items():
            for at, rule in enumerate(chain.rules):
                where = f"chain {name}: `{rule.text}`"
                _understood(where, rule, known, read)
                if any(isinstance(step, Sometimes) for step in rule.steps) and not _idle(chain.rules[at:]):
                    raise NotUnderstood(f"{where}: a limit decides")
        return cls(read, tuple(words[0] for words in raw))

    def way(self, base: Base, fields: Mapping[str, Domain]) -> Way:
        """What becomes of a frame with these fields (see selectors.values) in a base chain."""
        self._hops, self._fields, self._mark = [], {**fields, "mark": one(0)}, 0
        verdict = self._run(base, 0) or self._chains[base].policy
        counted = (_COUNTED.search(hop.rule) for hop in self._hops)
        return Way(
            "pass" if verdict == "accept" else "drop",
            next((match["reason"] for match in counted if match), ""),
            base,
            tuple(self._hops),
        )

    def _run(self, name: str, depth: int) -> Literal["accept", "drop"] | None:
        """The verdict that a chain ends with; None where it is left by its end or by return."""
        if depth > _DEEPEST:
            raise NotUnderstood(f"chain {name}: lies deeper than the kernel follows")
        for rule in self._chains[name].rules:
            if not self._met(rule):
                continue
            verdict = self._acted(rule)
            led = "" if verdict is None else f"{verdict.kind} {verdict.chain}".strip()
            self._hops.append(Hop(name, rule.text, led))
            if verdict is None:
                continue
            match verdict.kind:
                case "accept" | "drop":
                    return verdict.kind
                case "return":
                    return None
                case "goto":
                    return self._run(verdict.chain, depth + 1)
                case "jump":
                    if ended := self._run(verdict.chain, depth + 1):
                        return ended
                case _:
                    raise NotUnderstood(f"chain {name}: `{rule.text}`: {verdict.kind}")
        return None

    def _met(self, rule: Rule) -> bool:
        """Whether the frame meets every condition of a rule; a limit never decides anything but a side effect."""
        return all(
            holds(step, self._fields)[0] is Truth.ALL
            for step in rule.steps
            if isinstance(step, Within | Named | Masked | Tuples)
        )

    def _acted(self, rule: Rule) -> Verdict | None:
        verdict = None
        for step in rule.steps:
            match step:
                case SetMark("mark", keep, flip):
                    self._mark = (self._mark & keep) ^ flip
                    self._fields["mark"] = one(self._mark)
                case Verdict():
                    verdict = step
                case _:
                    continue
        return verdict


def _read(reader: RuleReader, name: str, lines: tuple[str, ...]) -> _Chain:
    first = lines[0] if lines else ""
    policy = "" if (match := _BASE.fullmatch(first)) is None else match["policy"]
    if first.startswith("type ") and not policy:
        raise NotUnderstood(f"chain {name}: `{first}`")
    rules = [rule for line in lines[bool(policy) :] for rule in reader.rules(line) if not _empty_map(rule)]
    return _Chain(policy, tuple(rules))


def _empty_map(rule: Rule) -> bool:
    """Whether it looks into a map that holds nothing, which ends a rule, and has done nothing before."""
    return "vmap" in tokens(rule.text) and not any(isinstance(each, Verdict | SetMark) for each in rule.steps)


def _idle(rules: Sequence[Rule]) -> bool:
    """Whether nothing becomes of a frame by a rule that a limit may pass over: neither by itself, nor as it may end the chain early.

    What becomes of a frame must not hang on how many there were before.
    """
    first, *rest = ([each for each in rule.steps if isinstance(each, Verdict | SetMark)] for rule in rules)
    return not first or (first == [Verdict("return")] and all(each in ([], first) for each in rest))


def _understood(where: str, rule: Rule, known: Container[str], there: Container[str]) -> None:
    """See that a rule can be carried out exactly. `known` are the fields that a frame may have, `there` the chains.

    Raises:
        NotUnderstood: it cannot.
    """
    for step in rule.steps:
        match step:
            case Within(name) | Named(name) | Masked(name):
                understood = name in known
            case Tuples(names):
                understood = all(name in known for name in names)
            case SetMark("mark"):
                understood = True
            case Sometimes():
                understood = True  # see _idle
            case Verdict(kind, to):
                understood = kind != "ask" and (not to or to in there)
            case Unknown() | SetMark() | CopyMark() | Untrack() | Rewrite() | Leave():
                understood = False
            case _:
                assert_never(step)
        if not understood:
            raise NotUnderstood(where)
