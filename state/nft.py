"""What nftables says: our table, and what this kernel can do. argv and parser side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from state.run import ReadError, Runner

TABLE = "bridge domgit"
LIST_TABLE = ("nft", "-s", "list", "table", "bridge", "domgit")
LIST_TABLES = ("nft", "list", "tables")
PROBE = ("nft", "-c", "-f", "-")
_ELEMENTS = re.compile(r"\t\telements = \{(?P<members>[^}]*)\}\n")
_BLOCK = re.compile(r"\t(?P<kind>set|map|chain) (?P<name>\w+) \{\n(?P<body>.*?)\n?\t\}\n", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Features:
    """What the kernel can do that kernels may lack."""

    ibrname: bool


@dataclass(frozen=True, slots=True)
class LoadedTable:
    """Our table as it is in the kernel: elements by set, counters left out, and the rest as normalised text."""

    elements: Mapping[str, frozenset[str]]
    rules: str

    def __repr__(self) -> str:
        """The same text for the same table, whatever order the kernel listed it in."""
        return f"LoadedTable({sorted((name, sorted(members)) for name, members in self.elements.items())}, {self.rules!r})"


def parse_table(text: str) -> LoadedTable:
    """The table in `nft -s list table bridge domgit`.

    Raises:
        ReadError: the text is no listing of that table, or one that was cut short.

    Source: nft(8), nftables 1.0.6.
    """
    # A block's end is indented, the table's is not.
    if not text.startswith(f"table {TABLE} {{") or not text.endswith("\n}\n"):
        raise ReadError(f"nft list table: unexpected text {text[:80]!r}")
    elements: dict[str, frozenset[str]] = {}
    for block in _BLOCK.finditer(text):
        if block["kind"] == "chain":
            continue
        match = _ELEMENTS.search(block["body"] + "\n")
        members = re.sub(r"\s+", " ", match["members"]).strip() if match else ""
        # Counters come and go with traffic: they are read by who wants them, not compared.
        if not block["name"].startswith("count_"):
            elements[block["name"]] = frozenset(each.strip() for each in members.split(",") if each.strip())
    return LoadedTable(elements, normalised_rules(text))


def normalised_rules(text: str) -> str:
    """A listing without elements, its blocks in name order, blanks folded: equal for equal rules."""
    bare = _ELEMENTS.sub("", text)
    blocks = {}
    for block in _BLOCK.finditer(bare):
        lines = [re.sub(r"\s+", " ", line).strip() for line in block["body"].splitlines()]
        blocks[f"{block['kind']} {block['name']}"] = [line for line in lines if line]
    # Whatever is no block of a kind we know was not put there by us.
    rest = _BLOCK.sub("", bare).replace(f"table {TABLE} {{", "").replace("}", "").split()
    return repr((sorted(blocks.items()), rest))


def read_table(runner: Runner) -> LoadedTable | None:
    """Our table; None when it is not loaded.

    Raises:
        ReadError: nft failed in any other way.
    """
    completed = runner.run(LIST_TABLE)
    if completed.rc == 0:
        return parse_table(completed.stdout)
    if "No such file or directory" in completed.stderr:
        return None
    raise ReadError(str(completed))


def probe_features(runner: Runner) -> Features:
    """What this kernel can do: asked, not inferred from its version.

    Raises:
        ReadError: nft cannot even be asked about what every kernel with the bridge family has.
    """
    if _refuses(runner, "iifname x drop"):
        raise ReadError("nft: this kernel has no bridge family")
    return Features(ibrname=not _refuses(runner, "meta ibrname x drop"))


def _refuses(runner: Runner, rule: str) -> bool:
    script = (
        f"table bridge domgit_probe {{ chain c {{ type filter hook prerouting priority 0; {rule}; }}; }}\n"
    )
    return runner.run(PROBE, stdin=script).rc != 0
