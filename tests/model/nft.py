"""`nft` in memory: the scripts that domgit writes, all or nothing, and the listing that domgit reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.model.answer import Answer, Refused, unknown
from tests.model.nft_table import Table

_NO_SUCH = "Error: Could not process rule: No such file or directory"
_TABLE = re.compile(r"table bridge (\w+)(?P<body> \{)?")
_ELEMENTS = re.compile(
    r"(?P<verb>add|delete) element bridge (?P<table>\w+) (?P<set>\w+) \{ (?P<members>.*) \}"
)
_CHAIN = re.compile(r"add chain bridge (?P<table>\w+) (?P<chain>\w+)(?: \{ (?P<hook>.*) \})?")
_RULE = re.compile(r"(?P<verb>add|insert) rule bridge (?P<table>\w+) (?P<chain>\w+) (?P<rule>.*)")
_PROBE = re.compile(
    r"table bridge \w+ \{ chain c \{ type filter hook prerouting priority 0; (?P<rule>.*); \}; \}"
)
# As a listing has them, with the set that they are of.
_ELEMENTS_LISTED = re.compile(r"\n\t\telements = \{(?P<members>[^}]*)\}")
_SET_LISTED = re.compile(
    r"\t(?:set|map) (?P<name>\w+) \{(?:(?!\n\t\}).)*?" + _ELEMENTS_LISTED.pattern, re.DOTALL
)
_BLOCK = re.compile(r"\t(?P<kind>set|map|chain) (?P<name>\w+) \{")

Tables = dict[str, Table]


@dataclass(slots=True)
class Nftables:
    """The tables of the bridge family. `ibrname`: whether this kernel can match a frame's bridge by name."""

    ibrname: bool = False
    tables: Tables = field(default_factory=dict)

    def nft(self, arguments: Sequence[str], stdin: str) -> Answer:
        """`nft ARGUMENTS`."""
        match list(arguments):
            case ["-f", "-"]:
                self._load(stdin)
            case ["-c", "-f", "-"]:
                self._probe(stdin)
            case ["list", "tables"]:
                return Answer("".join(f"table bridge {name}\n" for name in self.tables))
            case ["-s", "list", "table", "bridge", name] | ["list", "table", "bridge", name]:
                if name not in self.tables:
                    raise Refused(f"Error: No such file or directory\nlist table bridge {name}")
                return Answer(self.tables[name].listing(name))
            case ["flush", "ruleset"]:
                self.tables = {}
            case [*words] if words and words[0] in {"add", "delete", "insert"}:
                self._load(" ".join(words) + "\n")
            case _:
                raise unknown("nft", arguments)
        return Answer()

    def elements(self, set_name: str, table: str = "domgit") -> frozenset[str]:
        """The keys of a set, for those who look at the kernel without asking a tool."""
        found = self.tables.get(table)
        return (
            frozenset()
            if found is None or set_name not in found.sets
            else frozenset(found.sets[set_name].elements)
        )

    def verdict(self, port: str) -> str:
        """Where the frames of a port go: "" for a port that the guard does not know."""
        found = self.tables.get("domgit")
        ports = None if found is None else found.sets.get("ports")
        return "" if ports is None else ports.elements.get(f'"{port}"', "")

    def _probe(self, script: str) -> None:
        match = _PROBE.fullmatch(script.strip())
        if match is None:
            self._tables_after(script)
        else:
            self._supported(match["rule"])

    def _supported(self, rule: str) -> None:
        if "meta ibrname" in rule and not self.ibrname:
            raise Refused("Error: Could not process rule: Operation not supported")

    def _load(self, script: str) -> None:
        """One transaction: every statement, or none."""
        self.tables = self._tables_after(script)

    def _tables_after(self, script: str) -> Tables:
        tables = {name: table.copy() for name, table in self.tables.items()}
        lines = iter(line for line in script.splitlines() if line and not line.startswith("#"))
        for line in lines:
            match = _TABLE.fullmatch(line)
            if match is None:
                self._statement(tables, line)
            elif match["body"]:
                block = []
                while (inner := next(lines)) != "}":
                    block.append(inner)
                table = tables.setdefault(match[1], Table())
                self._block(table, _ELEMENTS_LISTED.sub("", "\n".join(block)).splitlines())
                # They may go to a chain that is listed behind them.
                for found in _SET_LISTED.finditer("\n".join(block)):
                    for member in found["members"].split(","):
                        table.add_element(found["name"], " ".join(member.split()))
            else:
                tables.setdefault(match[1], Table())
        return tables

    def _statement(self, tables: Tables, line: str) -> None:
        if match := _ELEMENTS.fullmatch(line):
            table = _table(tables, match["table"], "Error: No such file or directory")
            for member in match["members"].split(", "):
                if match["verb"] == "add":
                    table.add_element(match["set"], member)
                else:
                    table.delete_element(match["set"], member)
        elif match := _CHAIN.fullmatch(line):
            hook = None if match["hook"] is None else match["hook"].replace(" ;", ";")
            _table(tables, match["table"]).add_chain(match["chain"], hook)
        elif match := _RULE.fullmatch(line):
            self._supported(match["rule"])
            _table(tables, match["table"]).add_rule(
                match["chain"], match["rule"], first=match["verb"] == "insert"
            )
        elif match := re.fullmatch(r"flush chain bridge (\w+) (\w+)", line):
            _table(tables, match[1]).flush_chain(match[2])
        elif match := re.fullmatch(r"flush set bridge (\w+) (\w+)", line):
            _table(tables, match[1]).flush_set(match[2])
        elif match := re.fullmatch(
            r"delete (?P<kind>set|map|chain) bridge (?P<table>\w+) (?P<name>\w+)", line
        ):
            _table(tables, match["table"]).delete_block(match["kind"], match["name"])
        elif match := re.fullmatch(r"delete table bridge (\w+)", line):
            _table(tables, match[1])
            del tables[match[1]]
        else:
            raise unknown("nft -f -", [line])

    def _block(self, table: Table, lines: list[str]) -> None:
        """The inside of `table bridge NAME { ... }`; a rule in it goes behind those that are there."""
        kind = name = ""
        declaration: list[str] = []
        for line in lines:
            if match := _BLOCK.fullmatch(line):
                kind, name, declaration = match["kind"], match["name"], []
                if kind == "chain":
                    table.add_chain(name, None)
            elif line == "\t}":
                if kind != "chain":
                    table.declare_set(name, kind, tuple(declaration))
            elif kind != "chain":
                declaration.append(line.strip())
            elif line.strip().startswith("type "):
                if not table.chains[name]:
                    table.chains[name].append(line.strip())
            else:
                self._supported(line)
                table.add_rule(name, line.strip())


def _table(tables: Tables, name: str, message: str = _NO_SUCH) -> Table:
    if name not in tables:
        raise Refused(message)
    return tables[name]
