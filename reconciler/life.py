"""One domU's situation, and the change that says why nothing is done about it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.installing import Installation
from reconciler.ledger import Owned
from reconciler.plan import Actions, Change, Phase
from reconciler.render_xl import config_path
from state.desired import DomU
from state.facts import fact
from state.observed import Domain, Observed


@dataclass(frozen=True, slots=True)
class Life:
    """One domU's situation: what is wanted, what lives, what the ledger knows, what was last applied.

    `domu` and `before` are as their installation has come by now; see reconciler.installing. `running` are the names of every running domain, now and earlier, by uuid; `templates` the paths of its vifs'
    templates, by index.
    """

    domu: DomU
    domain: Domain | None
    owned: Owned | None
    before: DomU | None
    observed: Observed
    grace_s: float
    running: Mapping[str, frozenset[str]]
    templates: Mapping[int, str]
    installation: Installation | None = None

    @property
    def monitored(self) -> bool:
        """Whether a monitor of this domU lives although the domU does not run.

        A monitor is known by the file it was started with, and a rename leaves it that: one that another running
        domain may have under one of its names is taken for that one's.
        """
        known = {self.domu.name, self.owned and self.owned.name, self.before and self.before.name}
        paths = {config_path(name) for name in known if name}
        if self.owned is None and self._unknown_monitors:
            return True  # started by hand, under whatever name: one of them may be about to bring it back
        return sum(1 for path in self.observed.monitors if path in paths) > sum(
            1 for names in self._others if known & names
        )

    @property
    def being_made(self) -> bool:
        """Whether somebody may still be making its domain: an `xl create` of whatever file, a restore, a migration.

        All that can be told of their processes is that there are more than running domains.
        """
        return self.monitored or self._unknown_monitors

    @property
    def _others(self) -> list[frozenset[str]]:
        return [names for uuid, names in self.running.items() if uuid != self.domu.uuid]

    @property
    def _unknown_monitors(self) -> bool:
        """Whether more monitors live than the running domains of others have."""
        return len(self.observed.monitors) > len(self._others)

    @property
    def arrives(self) -> bool:
        """Whether it comes from another host: it was never here, or has been elsewhere since, as its epoch says."""
        if self.domu.moved_from is None or self.domain is not None:
            return False
        return self.owned is None or (self.before is not None and self.before.epoch < self.domu.epoch)

    @property
    def address(self) -> str:
        """`domu.NAME`."""
        return f"domu.{self.domu.name}"

    @property
    def waits(self) -> bool:
        """Whether it is installed, and nobody has said yet that it is to run."""
        return self.installation is not None and self.installation.waits

    @property
    def anew(self) -> bool:
        """Whether a human has said that its installation is to begin again."""
        return self.installation is not None and self.installation.anew and self.domu.state == "running"

    def fact(self, kind: str, rest: str | None = None) -> tuple[str, str]:
        """A fact of this domU with its present value, for fingerprints."""
        key = f"{kind}:{self.domu.uuid if rest is None else rest}"
        return key, fact(self.observed, key)


def blocked_life(life: Life, reason: str, why: str) -> Change:
    """What would be done about whether the domU runs, and is not."""
    return refusal(life.domu, ("create",) if life.domain is None else ("update",), reason, why)


def refusal(domu: DomU, actions: Actions, reason: str, why: str) -> Change:
    """A change that is listed with the reason why it is not done, and has nothing else."""
    return Change(
        address=f"domu.{domu.name}",
        actions=actions,
        cause="intentional",
        impact="none",
        phase=Phase.CHANGE,
        steps=(),
        fingerprint=(),
        before={},
        after={},
        counts=(f"domu.{domu.name}",),
        reason=reason,
        blocked=why,
        uuid=domu.uuid,
    )
