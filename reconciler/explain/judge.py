"""What the guard does with one frame from one port: the rules' answer, and what they never see. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.explain.headers import entered, headers
from reconciler.explain.selectors import values
from reconciler.explain.walk import Ruleset, Way
from reconciler.guard.binding import Guard
from state.nft import Features

# What the bridge itself drops before any rule: see headers.entered. No counter of ours has it.
BRIDGE = "bridge"


@dataclass(frozen=True, slots=True)
class Judge:
    """A guard's answers. `features` are those of the kernel that would load it."""

    guard: Guard
    features: Features
    _rules: Ruleset

    @classmethod
    def of(cls, guard: Guard, features: Features) -> Judge:
        """The judge of a guard.

        Raises:
            NotUnderstood: a rule has something in it that is not known.
        """
        return cls(guard, features, Ruleset.of(guard, features))

    def way(self, frame: bytes, *, port: str, bridge: str) -> Way:
        """What becomes of a frame of at least 14 bytes that comes in by a port of a bridge."""
        match entered(frame, lldp_forwarded=self._locks(port)):
            case "dropped":
                return Way("drop", BRIDGE)
            case "unseen":
                return Way("pass", "")
            case base:
                found = headers(frame)
                return self._rules.way(base, values(found, port, bridge, self._rules.raw))

    def _locks(self, port: str) -> bool:
        """Whether the second layer is on that port, and with it the forwarding of LLDP's group: see guard.port_lock."""
        return any(
            each.interface == port and each.mode == "enforce" and not each.emulated
            for each in self.guard.bindings
        )
