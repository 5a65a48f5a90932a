"""What nftables says: our table, and what this kernel can do. argv and parser side by side."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from state.run import Completed, ReadError, Runner, read

TABLE = "bridge domgit"
LIST_TABLE = ("nft", "-s", "list", "table", "bridge", "domgit")
LIST_WHOLE = ("nft", "list", "table", "bridge", "domgit")  # with what was counted
LIST_TABLES = ("nft", "list", "tables")
PROBE = ("nft", "-c", "-f", "-")
_HEAD, _END = f"table {TABLE} {{\n", "\n}\n"
_BLOCK = re.compile(r"\t(?P<kind>set|map|chain) (?P<name>[0-9A-Za-z_]{1,128}) \{")
BYPASSED = "bypassed"  # the set of what a human has opened
_BY_TRAFFIC = ("count_", "log_")
_ELEMENTS = "\t\telements = {"
# A key may be the name of an interface, and that may be anything that is no blank.
_MEMBER = re.compile(r'(?:"[^"]*"|[^",])+')
# What `nft list table` says, with exit status 1, when there is none. A library that is missing is another "No such file".
_NO_TABLE = "Error: No such file or directory\n"


Loader = Literal["nftables", "iptables-nft", "iptables-legacy"]


@dataclass(frozen=True, slots=True)
class Features:
    """What the kernel can do that kernels may lack. `backends` are those whose rules it takes."""

    ibrname: bool
    backends: frozenset[Loader] = frozenset({"nftables"})


@dataclass(frozen=True, slots=True)
class LoadedTable:
    """Our guard as it is in the kernel: elements by set, counters left out, and the rest as normalised text.

    `by` is what it was loaded with; the elements are written alike whatever that is.
    """

    elements: Mapping[str, frozenset[str]]
    rules: str
    by: Loader = "nftables"

    def __repr__(self) -> str:
        """The same text for the same guard, whatever order it was listed in.

        What a human has opened for a time is left out: that it opens or closes makes no plan stale.
        """
        members = sorted((name, sorted(each)) for name, each in self.elements.items() if name != BYPASSED)
        return f"LoadedTable({members}, {self.rules!r}, {self.by})"


def parse_table(text: str) -> LoadedTable:
    """The table in `nft -s list table bridge domgit`.

    Raises:
        ReadError: the text is no listing of that table, one that was cut short, or one with other text in it.

    Source: nft(8), nftables 1.0.6.
    """
    # A block's end is indented, the table's is not.
    if not text.startswith(_HEAD) or not text.endswith(_END):
        raise ReadError(f"nft list table: unexpected text {text[:80]!r}")
    stray = next(
        (line for line in text[len(_HEAD) : -len(_END)].split("\n") if line and line[0] != "\t"), None
    )
    if stray is not None:
        raise ReadError(f"nft list table: cannot read the line {stray[:120]!r}")
    elements = {
        block.name: block.members
        for block in _listed(text)
        # What was counted, and what may still be logged, comes and goes with traffic: it is not compared.
        if block.kind in {"set", "map"} and not block.name.startswith(_BY_TRAFFIC)
    }
    return LoadedTable(elements, normalised_rules(text))


def listed_members(text: str) -> Mapping[str, frozenset[str]]:
    """The elements of every set and map in a listing that parse_table has read, counters and what else is said of each included."""
    return {block.name: block.members for block in _listed(text) if block.kind in {"set", "map"}}


def normalised_rules(text: str) -> str:
    """A listing without elements, its blocks in name order, blanks folded: equal for equal rules."""
    blocks: dict[str, list[str]] = {}
    rest: list[str] = []
    for block in _listed(text):
        folded = [line for each in block.lines if (line := _folded(each))]
        if block.kind:
            blocks[f"{block.kind} {block.name}"] = folded
        else:
            # Whatever is no block of a kind we know was not put there by us.
            rest += [word for line in folded if (word := line.replace("}", "").strip())]
    found = [*sorted(blocks.items()), *([("", rest)] if rest else [])]
    return "".join(f"{name}\n" + "".join(f"\t{line}\n" for line in lines) for name, lines in found)


def without_elements(text: str) -> str:
    """The blocks of a listing of our table as they stand there, each set and map without what is in it.

    Raises:
        ReadError: the table has something else in it.
    """
    found = ""
    for block in _listed(text):
        if block.kind:
            found += (
                f"\t{block.kind} {block.name} {{\n" + "".join(f"{line}\n" for line in block.lines) + "\t}\n"
            )
        elif rest := " ".join(word for line in block.lines for word in line.split() if word != "}"):
            raise ReadError(f"nft list table: there is more in it: {rest[:120]!r}")
    return found


def rule_blocks(rules: str) -> Mapping[str, tuple[str, ...]]:
    """The lines of each block in normalised rules, by `chain NAME`, `set NAME` or `map NAME`; by "" those in none."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in rules.splitlines():
        if line.startswith("\t"):
            found.setdefault(name, []).append(line[1:])
        else:
            name = line
            found[name] = []
    return {name: tuple(lines) for name, lines in found.items()}


@dataclass(slots=True)
class _Listed:
    """A block of a listing, its elements apart from its other lines; `kind` "": lines that are in no block."""

    kind: str
    name: str
    lines: list[str] = field(default_factory=list)
    elements: list[str] = field(default_factory=list)

    @property
    def members(self) -> frozenset[str]:
        text = " ".join(self.elements)
        return frozenset(member for each in _MEMBER.findall(text) if (member := _folded(each)))


def _listed(text: str) -> Iterator[_Listed]:
    """The blocks of a listing, line by line, so that what it costs grows with the text and no faster."""
    block, outside, inside = None, _Listed("", ""), False
    for line in text.removeprefix(_HEAD).removesuffix("}\n").split("\n"):
        if block is None:
            if match := _BLOCK.fullmatch(line):
                block = _Listed(match["kind"], match["name"])
            else:
                outside.lines.append(line)
        elif inside or line.startswith(_ELEMENTS):
            # The last line of elements ends with the brace that closes them.
            block.elements.append(line.removeprefix(_ELEMENTS).removesuffix("}"))
            inside = not line.endswith("}")
        elif line == "\t}":
            yield block
            block = None
        else:
            block.lines.append(line)
    # One without an end is none: its lines are left over.
    outside.lines += [] if block is None else [block.kind, block.name, *block.lines, *block.elements]
    yield outside


def _folded(text: str) -> str:
    return " ".join(text.split())


def read_table(runner: Runner) -> LoadedTable | None:
    """Our table; None when it is not loaded.

    Raises:
        ReadError: nft failed in any other way.
    """
    completed = runner.run(LIST_TABLE)
    return None if is_missing(completed) else parse_table(completed.output())


def is_missing(completed: Completed) -> bool:
    """Whether nft, asked to list our table, says that there is none."""
    return completed.rc == 1 and completed.stderr.startswith(_NO_TABLE) and not completed.stdout


def read_listing(runner: Runner) -> str:
    """Our table as nft writes it, counters included.

    Raises:
        ReadError: nft failed, or listed something else, or less.
    """
    text = read(runner, LIST_WHOLE)
    parse_table(text)
    return text


def probe_features(runner: Runner) -> Features:
    """What this kernel can do: asked, not inferred from its version.

    Raises:
        ReadError: nft cannot be asked.
    """
    if _refuses(runner, "iifname x drop"):
        return Features(ibrname=False, backends=frozenset())
    return Features(ibrname=not _refuses(runner, "meta ibrname x drop"))


def _refuses(runner: Runner, rule: str) -> bool:
    """Whether the kernel lacks what a rule needs.

    Source: nft 1.0.6 says `Could not process rule: Operation not supported`, `... Protocol error` or `... No such file or
    directory` of what a kernel lacks, and other things of what is no fault of the kernel's.
    """
    script = (
        f"table bridge domgit_probe {{ chain c {{ type filter hook prerouting priority 0; {rule}; }}; }}\n"
    )
    completed = runner.run(PROBE, stdin=script)
    if completed.rc != 0 and "Could not process rule: " not in completed.stderr:
        raise ReadError(str(completed))
    return completed.rc != 0
