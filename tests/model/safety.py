"""What changes of the guard are tried with on the dom0 in memory: who answers there, and a watchdog on its clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import TYPE_CHECKING

from reconciler.guard.runnable import steps_of
from reconciler.guard_pending import PendingFile
from reconciler.guard_trial import Safety
from state.reach import Neighbour, Target
from tests.model.host import Host

if TYPE_CHECKING:
    from tests.model.world import Seam

REVERT_AFTER_S = 25.0


@dataclass(slots=True)
class Wire:
    """Implements `state.reach.Prober`: a gateway answers if the guard lets in what comes by the port that it is behind."""

    host: Host
    seam: Seam

    def answering(self, targets: Iterable[Target], within_s: float) -> frozenset[Target]:
        argv = ("domgit:ask",)
        self.seam.before(argv)
        found = frozenset(each for each in targets if isinstance(each, Neighbour) and self._answers(each))
        if len(found) < len([*targets]):
            self.host.toolstack.sleep(within_s)
        self.seam.after(argv)
        return found

    def _answers(self, neighbour: Neighbour) -> bool:
        link = self.host.links.by_name.get(self.host.gateways[neighbour.device])
        if link is None or not link.up or link.bridge != neighbour.device:
            return False
        verdict = self.host.nftables.verdict(link.name)
        if verdict != "goto from_guest":
            return verdict != "goto refused_unknown"
        return f'"{link.name}"' in self.host.nftables.elements("audited") or any(
            owner == f'"{link.name}"' and neighbour.address in ip_network(address)
            for name in (f"own_v{neighbour.address.version}", f"own_net{neighbour.address.version}")
            for owner, _, address in (key.split(" . ") for key in self.host.nftables.elements(name))
        )


@dataclass(slots=True)
class Watchdogs:
    """Implements `reconciler.guard_watchdog.Watchdog`: each does what reconciler/guard/revert.sh does, when it is time."""

    host: Host
    seam: Seam
    due: list[tuple[PendingFile, float]] = field(default_factory=list)

    def start(self, file: PendingFile, after_s: float) -> None:
        argv = ("domgit:watchdog", file.base.name)
        self.seam.before(argv)
        file.at("new").rename(file.at("armed"))
        self.due.append((file, self.host.toolstack.now_s + after_s))
        self.seam.after(argv)

    def wake(self) -> int:
        """Those whose time is over act; how many changes they took back."""
        taken_back = 0
        for file, at_s in [*self.due]:
            if at_s > self.host.toolstack.now_s:
                continue
            self.due.remove((file, at_s))
            if file.at("armed").exists():
                file.at("armed").rename(file.at("reverting"))
                head, _, commands = file.at("reverting").read_text(encoding="utf-8").partition("\n")
                assert head.startswith("# domgit")
                for step in steps_of(commands):
                    assert self.host.run(step.argv, stdin=step.stdin).rc == 0
                file.at("reverting").rename(file.at("reverted"))
                taken_back += 1
        return taken_back


def make_safety(host: Host, seam: Seam, watchdogs: Watchdogs) -> Safety:
    """Everything together, for one pass."""
    watchdogs.seam = seam
    return Safety(Wire(host, seam), watchdogs, REVERT_AFTER_S)
