"""Tables of the nftables in memory: sets, maps and chains, copied whole for every transaction."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_network

from tests.model.answer import Refused

_NO_SUCH = "Error: Could not process rule: No such file or directory"
_EXISTS = "Error: Could not process rule: File exists"
_BUSY = "Error: Could not process rule: Device or resource busy"
_REFERENCE = re.compile(r"(?:@(?P<set>[a-z]\w+)|(?:goto|jump) (?P<chain>\w+))")
_PAYLOAD = re.compile(r"@(?:th|nh|ll),\d+,\d+")


@dataclass(frozen=True, slots=True)
class Set:
    """A set, or a map to verdicts: its declaration line by line, and its elements with what they map to."""

    kind: str
    declaration: tuple[str, ...]
    elements: Mapping[str, str] = field(default_factory=dict)

    @property
    def interval(self) -> bool:
        return "flags interval" in self.declaration


@dataclass(slots=True)
class Table:
    """One table of the bridge family. A chain's first line is its hook, if it is a base chain."""

    sets: dict[str, Set] = field(default_factory=dict)
    chains: dict[str, list[str]] = field(default_factory=dict)

    def copy(self) -> Table:
        return Table(dict(self.sets), {name: list(lines) for name, lines in self.chains.items()})

    # ---- what a script does ----

    def declare_set(self, name: str, kind: str, declaration: tuple[str, ...]) -> None:
        there = self.sets.get(name)
        if there is not None and (there.kind, there.declaration) != (kind, declaration):
            raise Refused(_EXISTS)
        self.sets.setdefault(name, Set(kind, declaration))

    def add_chain(self, name: str, hook: str | None) -> None:
        lines = self.chains.setdefault(name, [] if hook is None else [hook])
        if hook is not None and lines[:1] != [hook]:
            raise Refused(_EXISTS)

    def flush_chain(self, name: str) -> None:
        self.chains[name] = [line for line in self._chain(name)[:1] if line.startswith("type ")]

    def flush_set(self, name: str) -> None:
        self.sets[name] = replace(self._set(name), elements={})

    def add_rule(self, chain: str, rule: str, *, first: bool = False) -> None:
        lines = self._chain(chain)
        rule = rule.replace("ether type ip igmp type", "igmp type")  # as nft lists it, and reads it back
        for match in _REFERENCE.finditer(_PAYLOAD.sub("", rule)):
            if match["set"] and match["set"] not in self.sets:
                raise Refused(_NO_SUCH)
            if match["chain"]:
                self._chain(match["chain"])
        behind_hook = 1 if lines and lines[0].startswith("type ") else 0
        lines.insert(behind_hook if first else len(lines), rule)

    def add_element(self, name: str, element: str) -> None:
        """One element; the same one again is fine, one that contradicts or overlaps another is refused."""
        there = self._set(name)
        if "flags timeout" in there.declaration:
            # An element that is there keeps its time.
            key, _, option = element.partition(" timeout ")
            self.sets[name] = replace(
                there, elements={key: f"timeout {option}" if option else "", **there.elements}
            )
            return
        key, _, verdict = element.partition(" : ")
        if verdict.startswith("goto "):
            self._chain(verdict.removeprefix("goto "))
        if there.elements.get(key, verdict) != verdict:
            raise Refused(_EXISTS)
        if (
            there.interval
            and key not in there.elements
            and any(_overlap(key, each) for each in there.elements)
        ):
            raise Refused(_EXISTS)
        self.sets[name] = replace(there, elements={**there.elements, key: verdict})

    def delete_element(self, name: str, key: str) -> None:
        there = self._set(name)
        if key not in there.elements:
            if there.interval and any(_overlap(key, each) for each in there.elements):
                # The kernel takes whichever interval the first value lies in.
                raise AssertionError(f"deleting {key} from {name} would take away another interval")
            raise Refused(_NO_SUCH)
        self.sets[name] = replace(there, elements={k: v for k, v in there.elements.items() if k != key})

    def delete_block(self, kind: str, name: str) -> None:
        """A chain without rules, or a set with all that is in it, that nothing refers to."""
        if kind == "chain":
            busy = any(not line.startswith("type ") for line in self._chain(name)) or any(
                verdict in {f"goto {name}", f"jump {name}"}
                for each in self.sets.values()
                for verdict in each.elements.values()
            )
        else:
            busy = False
            self._set(name)
        referred = {
            match["chain"] if kind == "chain" else match["set"]
            for lines in self.chains.values()
            for line in lines
            for match in _REFERENCE.finditer(_PAYLOAD.sub("", line))
        }
        if busy or name in referred:
            raise Refused(_BUSY)
        del (self.chains if kind == "chain" else self.sets)[name]

    def _set(self, name: str) -> Set:
        if name not in self.sets:
            raise Refused("Error: No such file or directory")
        return self.sets[name]

    def _chain(self, name: str) -> list[str]:
        if name not in self.chains:
            raise Refused(_NO_SUCH)
        return self.chains[name]

    # ---- what `nft -s list table` prints ----

    def listing(self, name: str) -> str:
        blocks = [*self._listed_sets(), *self._listed_chains()]
        return f"table bridge {name} {{\n" + "\n".join(blocks) + "}\n"

    def _listed_sets(self) -> Iterator[str]:
        for name, each in self.sets.items():
            text = f"\t{each.kind} {name} {{\n" + "".join(f"\t\t{line}\n" for line in each.declaration)
            if each.elements:
                members = [_member(*item) for item in each.elements.items()]
                text += "\t\telements = { " + ",\n\t\t\t     ".join(members) + " }\n"
            yield text + "\t}\n"

    def _listed_chains(self) -> Iterator[str]:
        for name, lines in self.chains.items():
            yield f"\tchain {name} {{\n" + "".join(f"\t\t{_listed(line)}\n" for line in lines) + "\t}\n"


def _member(key: str, what: str) -> str:
    return f"{key}{' ' if what.startswith('timeout ') else ' : '}{what}" if what else key


def _listed(rule: str) -> str:
    """A rule as nft 1.0.6 lists it: two of ours are shown otherwise than they were read."""
    if rule.startswith("igmp type"):
        return f"ether type ip {rule}"
    return rule.replace("meta l4proto 51 @th,0,8 {", "ah nexthdr {")


def _overlap(one: str, other: str) -> bool:
    """Whether two keys of an interval set hold a value in common: equal but for the last part, whose ranges meet."""
    prefix, _, value = one.rpartition(" . ")
    other_prefix, _, other_value = other.rpartition(" . ")
    if prefix != other_prefix:
        return False
    (first, last), (other_first, other_last) = _range(value), _range(other_value)
    return first <= other_last and other_first <= last


def _range(value: str) -> tuple[int, int]:
    if value.startswith("0x"):
        first, _, last = value.partition("-")
        return int(first, 16), int(last or first, 16)
    network = ip_network(value)
    return int(network.network_address), int(network.broadcast_address)
