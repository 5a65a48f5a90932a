"""The guard as it was last applied and read back from the kernel, whole, on disk: what brings it back without a pass.

One file for everybody who has to do so: the unit at boot, the daemon after a foreign flush, and the hotplug script, which
holds a vif against it. Behind its first line it is an nft script that loads the complete guard in one transaction, whatever
of it is there; or, where the guard lives in iptables, the commands that do so (reconciler/guard/runnable.py), twice: first
without the ports that are called after a domid, and behind THIS_BOOT with them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from reconciler.guard import iptables, nftables
from reconciler.guard.nftables_rules import SETS, TABLE
from reconciler.guard.runnable import runnable
from state.files import digest
from state.iptables_guard import VARIANTS
from state.nft import BYPASSED, LoadedTable, Loader, parse_table, without_elements

# Behind this line stand the ports that are called after a domid: after a reboot of the host that is somebody else's.
THIS_BOOT = "# of this boot alone"
_HEAD = re.compile(
    r"# domgit guard 3 (?P<sum>[0-9a-f]{64}) (?P<facts>boot=(?P<boot>\S*) table=(?P<table>\S+) rules=(?P<rules>\S+) "
    r"by=(?P<by>nftables|iptables-nft|iptables-legacy))"
)
_BY: Mapping[str, Loader] = {
    "nftables": "nftables",
    "iptables-nft": "iptables-nft",
    "iptables-legacy": "iptables-legacy",
}
_END = "# end\n"
_PORT = re.compile(r'# port (?P<owner>"[^"\n]+" \S+ \S+)')
_UNNAMED = re.compile(r'"vif[0-9]+\.[0-9]+(?:-emu)?"')
_STATEMENT = re.compile(rf"add element {TABLE} (?P<set>\w+) \{{ (?P<members>.*) \}}")


@dataclass(frozen=True, slots=True)
class Kept:
    """What the file says. `boot` is the boot it was written in, `table` and `rules` are digests of what was loaded `by`."""

    script: str
    boot: str
    table: str
    rules: str
    by: Loader = "nftables"

    def text(self) -> str:
        """The file. Its sum is over all that stands behind the sum, but for the last line."""
        facts = f"boot={self.boot} table={self.table} rules={self.rules} by={self.by}"
        return f"# domgit guard 3 {_sum(facts, self.script)} {facts}\n{self.script}{_END}"

    def owners(self) -> frozenset[str]:
        """Which vif of which domU each port is for, and on which bridge: `"PORT" UUID.INDEX BRIDGE`."""
        return frozenset(match["owner"] for match in _PORT.finditer(self.script))

    def elements(self) -> Mapping[str, frozenset[str]]:
        """What it puts into each set."""
        return _elements(self.script)

    def lost(self, loaded: LoadedTable) -> str | None:
        """What a table that is loaded lacks of this guard: "rules" or "elements"; None when it is all there.

        What the table has beyond it may be a binding that the hotplug script has added, and a port that is called after
        a domid may be gone with its domain: those are for a pass to judge.
        """
        if digest(loaded.rules) != self.rules:
            return "rules"
        named = _elements(self.script.partition(THIS_BOOT)[0])
        kept = all(members <= loaded.elements.get(name, frozenset()) for name, members in named.items())
        return None if kept else "elements"

    def script_beside(self, loaded: LoadedTable | None) -> str:
        """The script that brings this guard back and leaves in place whatever else its sets have by now."""
        if loaded is None:
            return self.script
        own = self.elements()
        return self.script + "".join(
            nftables.statement(
                "add",
                each.name,
                _beside(own.get(each.name, frozenset()), loaded.elements.get(each.name, frozenset())),
            )
            for each in SETS
        )


def _sum(facts: str, script: str) -> str:
    return hashlib.sha256(f"{facts}\n{script}".encode()).hexdigest()


def _beside(own: frozenset[str], loaded: frozenset[str]) -> Iterator[str]:
    """What is loaded beyond our own. A port to which somebody gave another verdict has ours: with both the kernel refuses the whole."""
    ports = {member.partition(" : ")[0] for member in own}
    return (member for member in loaded if member.partition(" : ")[0] not in ports)


def _elements(script: str) -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for match in _STATEMENT.finditer(script):
        found.setdefault(match["set"], set()).update(match["members"].split(", "))
    return {name: frozenset(members) for name, members in found.items()}


def table_digest(loaded: LoadedTable | None) -> str:
    """What a file's `table` is for a table that is loaded; "" for none."""
    return "" if loaded is None else digest(repr(loaded))


def made_from(listing: str, boot: str, owners: Iterable[str] = ()) -> Kept:
    """The file for a table that is loaded, from its listing; `owners` as Kept.owners gives them.

    Raises:
        ReadError: it is no listing of our table, or there is something else in it.
    """
    loaded = parse_table(listing)
    rules = nftables.readable(without_elements(listing))
    named, unnamed = "", ""
    for name, members in sorted(loaded.elements.items()):
        if name == BYPASSED:
            continue  # what a human has opened by now ends by itself, and would be opened anew
        of_this_boot = {member for member in members if _UNNAMED.match(member)}
        named += nftables.statement("add", name, members - of_this_boot)
        unnamed += nftables.statement("add", name, of_this_boot)
    ports = "".join(f"# port {owner}\n" for owner in sorted(owners))
    script = f"{nftables.UNLOADED}table {TABLE} {{\n{rules}}}\n{named}{ports}{THIS_BOOT}\n{unnamed}"
    return Kept(script, boot, table_digest(loaded), digest(loaded.rules))


def made_of_commands(loaded: LoadedTable, boot: str, owners: Iterable[str] = ()) -> Kept:
    """The file for a guard that is loaded with iptables; `owners` as Kept.owners gives them."""
    named, every = (
        runnable(iptables.reload(loaded, variant=VARIANTS[loaded.by], named_alone=alone)).removesuffix(_END)
        for alone in (True, False)
    )
    ports = "".join(f"# port {owner}\n" for owner in sorted(owners))
    script = f"{ports}{named}{THIS_BOOT}\n{every if every != named else ''}"
    return Kept(script, boot, table_digest(loaded), digest(loaded.rules), loaded.by)


def parse_kept(text: str) -> Kept:
    """What a file says.

    Raises:
        ValueError: it is not as it was written.
    """
    head, _, rest = text.partition("\n")
    match, script = _HEAD.fullmatch(head), rest.removesuffix(_END)
    if match is None or script == rest or _sum(match["facts"], script) != match["sum"]:
        raise ValueError("it is not as it was written")
    by: Loader = _BY[match["by"]]
    return Kept(script, match["boot"], match["table"], match["rules"], by)
