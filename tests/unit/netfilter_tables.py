"""ebtables, iptables, ip6tables and ipset that keep what restore commands put into them, and refuse what the real ones refuse."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field

from reconciler.guard.binding import Step
from state.iptables_guard import parse
from state.nft import LoadedTable

_BUILTIN: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "ebtables": {"filter": ("INPUT", "FORWARD", "OUTPUT"), "nat": ("PREROUTING", "OUTPUT", "POSTROUTING")},
    "iptables": {"raw": ("PREROUTING", "OUTPUT")},
    "ip6tables": {"raw": ("PREROUTING", "OUTPUT")},
}


class RefusedError(Exception):
    """What a tool says no to; nothing of the command was done."""


@dataclass(slots=True)
class FakeTables:
    """Chains by tool and table, and sets; each restore command takes one table, all of it or nothing."""

    chains: dict[tuple[str, str], dict[str, list[str]]] = field(
        default_factory=lambda: {
            (tool, table): {name: [] for name in names}
            for tool, tables in _BUILTIN.items()
            for table, names in tables.items()
        }
    )
    sets: dict[str, tuple[str, set[str]]] = field(default_factory=dict)
    ibrname: bool = False  # whether the kernel can match a frame's bridge

    def apply(self, steps: Iterable[Step]) -> None:
        """Commands in order.

        Raises:
            RefusedError: one that may not fail did.
        """
        for step in steps:
            try:
                self.run(step)
            except RefusedError:
                if not step.optional:
                    raise

    def run(self, step: Step) -> None:
        """One command."""
        if step.argv[0] == "ipset":
            self._ipset(step)
            return
        tool = step.argv[0].partition("-")[0]
        head, *lines, end = step.stdin.splitlines()
        table = deepcopy(self.chains[tool, head.removeprefix("*")])
        if end != "COMMIT":
            raise RefusedError(end)
        for line in lines:
            if "--logical-in" in line and not self.ibrname:
                raise RefusedError(line)
            self._line(table, line)
        self._references(table)
        self.chains[tool, head.removeprefix("*")] = table

    @staticmethod
    def _line(table: dict[str, list[str]], line: str) -> None:
        words = line.split(" ", 2)
        match words:
            case [chain, *_] if chain.startswith(":"):
                table[chain[1:]] = []
            case ["-A", chain, rule]:
                table[chain].append(rule)
            case ["-I", chain, rule]:
                number, _, text = rule.partition(" ")
                if number != "1":
                    raise RefusedError(line)
                table[chain].insert(0, text)
            case ["-D", chain, rule] if rule in table[chain]:
                table[chain].remove(rule)
            case ["-X", chain] if table.get(chain) == []:
                del table[chain]
            case _:
                raise RefusedError(line)

    def _references(self, table: Mapping[str, list[str]]) -> None:
        for rules in table.values():
            for rule in rules:
                target = rule.rpartition(" ")[2]
                if target.startswith("domgit") and target not in table:
                    raise RefusedError(f"no chain {target}")
                if "--match-set" in rule and rule.split("--match-set ")[1].split()[0] not in self.sets:
                    raise RefusedError(f"no set in {rule}")

    def _ipset(self, step: Step) -> None:
        lines = step.stdin.splitlines() if step.argv[1] == "restore" else [" ".join(step.argv[1:])]
        for line in lines:
            match line.split():
                case ["create", name, kind, "family", family, *_]:
                    self.sets.setdefault(name, (f"{kind} family {family}", set()))
                case ["add", name, member]:
                    self.sets[name][1].add(member)
                case ["del", name, member]:
                    self.sets[name][1].discard(member)
                case ["flush", name]:
                    self.sets[name][1].clear()
                case ["swap", one, other]:
                    self.sets[one], self.sets[other] = self.sets[other], self.sets[one]
                case ["destroy", name] if name in self.sets and not self._used(name):
                    del self.sets[name]
                case _:
                    raise RefusedError(line)

    def _used(self, name: str) -> bool:
        return any(
            f"--match-set {name} " in rule
            for table in self.chains.values()
            for rules in table.values()
            for rule in rules
        )

    def saved(self, tool: str) -> str:
        """What the tool's save command prints."""
        if tool == "ipset":
            return "".join(
                f"create {name} {kind} hashsize 1024 maxelem 1048576\n"
                + "".join(f"add {name} {member}\n" for member in members)
                for name, (kind, members) in self.sets.items()
            )
        text = ""
        for (of, table), chains in self.chains.items():
            if of != tool:
                continue
            bridge = tool == "ebtables"
            text += f"# Generated by {tool}-save v1.8.9 on Fri Nov 27 00:00:00 2026\n*{table}\n"
            for name in chains:
                policy = "ACCEPT" if name in _BUILTIN[of][table] else "RETURN" if bridge else "-"
                text += f":{name} {policy}\n" if bridge else f":{name} {policy} [0:0]\n"
            text += "".join(f"-A {name} {rule}\n" for name, rules in chains.items() for rule in rules)
            text += ("" if bridge else "COMMIT\n") + "# Completed on Fri Nov 27 00:00:00 2026\n"
        return text

    def texts(self) -> dict[str, str]:
        """What all save commands print, by tool."""
        return {tool: self.saved(tool) for tool in ("ebtables", "iptables", "ip6tables", "ipset")}

    def loaded(self) -> LoadedTable | None:
        """What is read of our guard."""
        return parse(**self.texts())
