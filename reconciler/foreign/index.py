"""The rules of a long chain that can concern a class of frames, found without looking at all of them. Pure.

A rule is looked up by a value that it asks for and the class has: a port, an address, a MAC. Hand-written rule sets
have some rules for each guest; those of the others are never touched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from reconciler.foreign.match import Domain, Fields, Truth, holds, single
from state.netfilter import Chain, Masked, Named, Rule, Verdict, Within

# Shorter chains are looked through.
_SHORT = 16
# Best first: what tells guests apart.
_KEYS = (
    "physin", "physout", "iif", "oif", "saddr4", "daddr4", "saddr6", "daddr6", "arp_saddr", "arp_daddr", "smac",
    "dmac", "arp_smac", "arp_dmac",
)  # fmt: skip
# A rule that asks for more values than these is looked at every time.
_MOST_KEYS = 8
# Of so many rules in one chain that each drop a part of the same class, more than these hardly say anything new.
_LONG = 512
_MOST_ALIKE = 8
# These change on the way of one frame.
_CHANGING = frozenset({"mark", "ctmark", "ctstate"})
Key = tuple[int, int] | str  # an aligned block of numbers as (bits below, bits above), or a name


class Index:
    """The rules of one chain by what they ask for."""

    def __init__(self, chain: Chain) -> None:
        self._rules = chain.rules
        self._by_known: dict[frozenset[str], _Keyed] = {}

    def candidates(self, fields: Fields) -> Iterator[Rule]:
        """The rules that can concern frames with these fields, in their order."""
        if len(self._rules) <= _SHORT:
            return iter(self._rules)
        known = frozenset(name for name in _KEYS if single(fields.get(name)) is not None)
        keyed = self._by_known.get(known)
        if keyed is None:
            keyed = self._by_known[known] = _Keyed(self._rules, known)
        return keyed.candidates(fields)


class _Keyed:
    """The index for classes that have one value each in the `known` fields."""

    def __init__(self, rules: tuple[Rule, ...], known: frozenset[str]) -> None:
        self._rules = rules
        self._places: dict[str, defaultdict[Key, list[int]]] = {name: defaultdict(list) for name in known}
        self._shifts: dict[str, set[int]] = {name: set() for name in known}
        self._rest: list[int] = []
        self._kept: dict[tuple[tuple[str, Domain], ...], list[int]] = {}
        order = [name for name in _KEYS if name in known]
        for at, rule in enumerate(rules):
            keys = _keys(rule, order)
            if keys is None:
                self._rest.append(at)
                continue
            name, blocks = keys
            for block in blocks:
                self._places[name][block].append(at)
                if not isinstance(block, str):
                    self._shifts[name].add(block[0])

    def candidates(self, fields: Fields) -> Iterator[Rule]:
        found = set[int]()
        for name, places in self._places.items():
            value = single(fields.get(name))
            if isinstance(value, str):
                found.update(places.get(value, ()))
            elif value is not None:
                for shift in self._shifts[name]:
                    found.update(places.get((shift, value >> shift), ()))
        rest = self._rest if len(self._rest) <= _SHORT else self._concerned(fields)
        if not found:
            return (self._rules[at] for at in rest)
        return (self._rules[at] for at in sorted([*rest, *found]))

    def _concerned(self, fields: Fields) -> list[int]:
        """Of the rules that are not looked up, those that can concern this class, whatever guest it is of.

        Of many that only drop a part of it, some: more of the same changes no verdict.
        """
        stable = {
            name: each for name, each in fields.items() if name not in self._places and name not in _CHANGING
        }
        key = tuple(stable.items())
        kept = self._kept.get(key)
        if kept is None:
            alike = 0
            kept = self._kept[key] = []
            for at in self._rest:
                rule = self._rules[at]
                truth, whole = _truth(rule, stable)
                if truth is Truth.SOME and whole and rule.steps[-1] == Verdict("drop"):
                    alike += len(self._rest) > _LONG
                    if alike > _MOST_ALIKE:
                        continue
                if truth is not Truth.NO:
                    kept.append(at)
        return kept


def _truth(rule: Rule, stable: Fields) -> tuple[Truth, bool]:
    """What those conditions of a rule come to that ask for stable fields alone, and whether these are all it has."""
    every, whole = Truth.ALL, True
    for step in rule.steps:
        if isinstance(step, Within | Named | Masked) and step.field in stable:
            truth = holds(step, stable)[0]
            if truth is Truth.NO:
                return Truth.NO, True
            every = max(every, truth)
        elif not isinstance(step, Verdict):
            whole = False
    return every, whole


def _keys(rule: Rule, order: list[str]) -> tuple[str, list[Key]] | None:
    asked = {step.field: step for step in rule.steps if isinstance(step, Within | Named) and not step.negated}
    for name in order:
        step = asked.get(name)
        if step is None:
            continue
        blocks: list[Key] | None
        if isinstance(step, Named):
            blocks = None if any(each.endswith("*") for each in step.patterns) else [*step.patterns]
        else:
            blocks = _blocks(step)
        if blocks is not None and len(blocks) <= _MOST_KEYS:
            return name, blocks
    return None


def _blocks(step: Within) -> list[Key] | None:
    """The ranges as aligned blocks; None where one of them is none."""
    found: list[Key] = []
    for low, high in step.ranges:
        size = high - low + 1
        if size & (size - 1) or low & (size - 1):
            return None
        found.append((size.bit_length() - 1, low >> (size.bit_length() - 1)))
    return found
