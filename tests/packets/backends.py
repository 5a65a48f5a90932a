"""The backends of the guard under the same tests: how each is loaded, changed and read, and what each cannot stop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from reconciler.guard import iptables, nftables
from reconciler.guard.binding import Guard, Step
from state.iptables_guard import Variant, read_loaded
from state.nft import Features, LoadedTable, probe_features, read_table
from tests.packets.foreign_bench import clear
from tests.packets.lab import Lab


class Backend(Protocol):
    """What loads a guard on the bench."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def leaks(self) -> Mapping[str, str]:
        """The frames that it cannot stop, by name, and why."""

    @property
    def needs_br_netfilter(self) -> bool:
        """Whether frames must pass iptables."""

    def load(self, lab: Lab, guard: Guard) -> None:
        """The whole guard, on a host of which nothing is known."""

    def change(self, lab: Lab, guard: Guard) -> None:
        """From what is loaded to this one."""

    def loaded(self, lab: Lab) -> LoadedTable | None:
        """What is loaded."""

    def finished(self, lab: Lab, guard: Guard) -> bool:
        """Whether what is loaded is this guard, and nothing is left to do."""


@dataclass(frozen=True, slots=True)
class Nftables:
    """The table of the bridge family."""

    name: str = "nftables"
    leaks: Mapping[str, str] = field(default_factory=dict)
    needs_br_netfilter: bool = False

    def load(self, lab: Lab, guard: Guard) -> None:
        """See Backend."""
        lab.load(nftables.full(guard, probe_features(lab.dom0)))

    def change(self, lab: Lab, guard: Guard) -> None:
        """See Backend."""
        script, _ = nftables.script(self.loaded(lab), guard, probe_features(lab.dom0))
        lab.load(script)

    def loaded(self, lab: Lab) -> LoadedTable | None:
        """See Backend."""
        return read_table(lab.dom0)

    def finished(self, lab: Lab, guard: Guard) -> bool:
        """See Backend."""
        script, _ = nftables.script(self.loaded(lab), guard, probe_features(lab.dom0))
        return script == ""


@dataclass(frozen=True, slots=True)
class Iptables:
    """ebtables, and one variant of iptables behind it."""

    variant: Variant
    leaks: Mapping[str, str] = field(default_factory=dict)
    needs_br_netfilter: bool = True

    @property
    def name(self) -> str:
        """As the tools are called."""
        return f"iptables-{self.variant}"

    def load(self, lab: Lab, guard: Guard) -> None:
        """See Backend."""
        run(lab, iptables.full(guard, variant=self.variant, ibrname=_features(lab).ibrname))

    def change(self, lab: Lab, guard: Guard) -> None:
        """See Backend."""
        run(lab, self.steps(lab, guard))

    def steps(self, lab: Lab, guard: Guard) -> tuple[Step, ...]:
        """The commands that a change consists of."""
        return self._transition(lab, guard)[0]

    def loaded(self, lab: Lab) -> LoadedTable | None:
        """See Backend."""
        return read_loaded(lab.dom0, self.variant)

    def finished(self, lab: Lab, guard: Guard) -> bool:
        """See Backend."""
        return self._transition(lab, guard) == ((), "")

    def _transition(self, lab: Lab, guard: Guard) -> tuple[tuple[Step, ...], iptables.Kind]:
        return iptables.transition(
            self.loaded(lab), guard, variant=self.variant, ibrname=_features(lab).ibrname
        )


IPTABLES = (Iptables("nft"), Iptables("legacy"))
BACKENDS: tuple[Backend, ...] = (Nftables(), *IPTABLES)


def run(lab: Lab, steps: Iterable[Step]) -> None:
    """Commands of which only optional ones may fail."""
    for step in steps:
        done = lab.dom0.run(step.argv, stdin=step.stdin)
        assert done.rc == 0 or step.optional, f"{done}\n{done.stderr}\n{step.stdin}"


def forget(lab: Lab) -> None:
    """No rules of any tool, and no sets."""
    clear(lab)
    for table in ("filter", "nat"):
        lab.dom0.run(["ebtables-nft", "-t", table, "-F"])
    for tool in ("iptables-legacy", "ip6tables-legacy"):
        lab.dom0.run([tool, "-t", "raw", "-X"])
    lab.dom0.must("ipset", "destroy")
    lab.dom0.must("nft", "flush", "ruleset")


def _features(lab: Lab) -> Features:
    return probe_features(lab.dom0)
