"""What the guard does with one frame from one port: the rules' answer, and what they never see. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.explain.headers import entered, headers
from reconciler.explain.selectors import values
from reconciler.explain.walk import Chains, Ruleset, Way
from reconciler.guard import nftables
from reconciler.guard.binding import Guard
from reconciler.guard.nftables_rules import SETS, chains
from state.nft import Features

# What the bridge itself drops before any rule: see headers.entered. No counter of ours has it.
BRIDGE = "bridge"
# Keys that begin with the name of an interface, which is compared with a frame's port or its bridge.
_BY_NAME = frozenset(each.name for each in SETS if each.key.startswith(("type ifname", "typeof iifname")))


@dataclass(frozen=True, slots=True)
class Judge:
    """A guard's answers. Rules are read once for each port, with what the sets hold of it: thousands of others stay unread."""

    guard: Guard
    _written: Chains
    _elements: nftables.Elements
    _read: dict[tuple[str, str], Ruleset] = field(default_factory=dict)

    @classmethod
    def of(cls, guard: Guard, features: Features) -> Judge:
        """The judge of a guard as it would be loaded into a kernel with these features.

        Raises:
            NotUnderstood: a rule has something in it that is not known.
        """
        judge = cls(guard, chains(guard, features), nftables.elements(guard))
        judge._rules("", "")
        return judge

    def way(self, frame: bytes, *, port: str, bridge: str) -> Way:
        """What becomes of a frame of at least 14 bytes that comes in by a port of a bridge."""
        match entered(frame, lldp_forwarded=self._locks(port)):
            case "dropped":
                return Way("drop", BRIDGE)
            case "unseen":
                return Way("pass", "")
            case base:
                rules = self._rules(port, bridge)
                return rules.way(base, values(headers(frame), port, bridge, rules.raw))

    def _rules(self, port: str, bridge: str) -> Ruleset:
        found = self._read.get((port, bridge))
        if found is None:
            found = self._read[port, bridge] = Ruleset.read(self._written, self._elements_of(port, bridge))
        return found

    def _elements_of(self, port: str, bridge: str) -> Mapping[str, frozenset[str]]:
        names = {f'"{port}"', f'"{bridge}"'}
        return {
            name: frozenset(each for each in members if each.partition(" ")[0] in names)
            if name in _BY_NAME
            else members
            for name, members in self._elements.items()
        }

    def _locks(self, port: str) -> bool:
        """Whether the second layer is on that port, and with it the forwarding of LLDP's group: see guard.port_lock."""
        return any(
            each.interface == port and each.mode == "enforce" and not each.emulated
            for each in self.guard.bindings
        )
