"""What `nft -s list table` lists of others' tables, as rules: argv and parser side by side.

Source: nft(8), nftables 1.0.6.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from state.netfilter import ChainDraft, Hook, Table, finished
from state.nft_matches import tokens
from state.nft_statements import RuleReader
from state.nft_words import priority

_TABLE = re.compile(r"table (?P<family>\w+) (?P<name>\S+) \{")
_BLOCK = re.compile(r"\t(?P<kind>\w+(?: \w+)?) (?P<name>\S+) \{")
_HOOK = re.compile(
    r"type (?P<kind>\w+) hook (?P<place>\w+)"
    r"(?: device (?P<device>\"[^\"]*\"|[\w.@-]+)| devices = \{ (?P<devices>[^}]*) \})?"
    r" priority (?P<priority>[^;]+);(?: policy (?P<policy>\w+);)?"
)
_DEVICES = re.compile(r"devices = \{ (?P<devices>[^}]*) \}")


def list_table(family: str, name: str) -> tuple[str, ...]:
    """The command that lists a table without what moves by itself."""
    return ("nft", "-s", "list", "table", family, name)


@dataclass(slots=True)
class _Block:
    """A set, a chain or another part of a table, its lines without their indentation."""

    kind: str
    name: str
    lines: list[str] = field(default_factory=list)


def parse_table(text: str) -> Table:
    """The table in `nft -s list table FAMILY NAME`.

    Raises:
        ValueError: it is no such listing, or was cut short.
    """
    first, _, body = text.partition("\n")
    head = _TABLE.fullmatch(first)
    if head is None or not text.endswith("\n}\n"):
        raise ValueError(f"unexpected text {text[:80]!r}")
    family, name = head["family"], head["name"]
    blocks, dormant = _blocks(body)
    sets = {block.name: _elements(block) for block in blocks if block.kind in {"set", "map"}}
    reader = RuleReader(sets)
    drafts = {}
    for block in blocks:
        if block.kind == "chain":
            drafts[block.name] = draft = ChainDraft()
            for line in _joined(block.lines):
                if line.startswith("type "):
                    draft.hook = _hook(family, line, dormant=dormant)
                    draft.policy = "policy drop"
                elif not line.startswith("comment "):
                    draft.rules += reader.rules(line)
    offloaded = [
        device
        for block in blocks
        if block.kind == "flowtable" and not dormant
        for device in _devices(" ".join(block.lines))
    ]
    return finished(f"nft table {family} {name}", f"foreign.{family}.{name}", drafts, offloaded)


def _blocks(body: str) -> tuple[list[_Block], bool]:
    blocks: list[_Block] = []
    inside, dormant = False, False
    for line in body.splitlines():
        match = None if inside else _BLOCK.fullmatch(line)
        if match is not None:
            blocks.append(_Block(match["kind"], match["name"]))
            inside = True
        elif line == "\t}":
            inside = False
        elif inside:
            blocks[-1].lines.append(line.strip())
        elif line.strip().startswith("flags "):
            dormant = "dormant" in line
    return blocks, dormant


def _joined(lines: list[str]) -> Iterator[str]:
    """The lines of a chain, an inner chain in braces on the line of its rule."""
    depth, held = 0, list[str]()
    for line in lines:
        if not line:
            continue
        words = tokens(line)
        depth += words.count("{") - words.count("}")
        held.append(line)
        if depth <= 0:
            yield " ".join(held)
            depth, held = 0, []
    if held:
        yield " ".join(held)


def _elements(block: _Block) -> list[str]:
    """The words between the braces of a set's elements."""
    words = tokens(" ".join(block.lines))
    for at, word in enumerate(words):
        if word == "elements" and words[at + 1 : at + 3] == ["=", "{"]:
            return words[at + 3 : len(words) - 1 - words[::-1].index("}")]
    return []


def _hook(family: str, line: str, *, dormant: bool) -> Hook | None:
    """Where a base chain hangs.

    Raises:
        ValueError: its line is not understood.
    """
    match = _HOOK.match(line)
    if match is None:
        raise ValueError(f"unexpected text {line!r}")
    if dormant:
        return None
    device = match["device"]
    devices = (device.strip('"'),) if device else _split(match["devices"] or "")
    return Hook(
        family,
        match["place"],
        priority(family, match["priority"]),
        match["kind"],
        match["policy"] == "drop",
        devices,
    )


def _devices(text: str) -> tuple[str, ...]:
    match = _DEVICES.search(text)
    return () if match is None else _split(match["devices"])


def _split(text: str) -> tuple[str, ...]:
    return tuple(each.strip().strip('"') for each in text.split(",") if each.strip())
