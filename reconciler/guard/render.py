"""The complete guard as commands, for a host of which nothing is known but its bridges. Pure."""

from __future__ import annotations

from reconciler.guard import nftables
from reconciler.guard.binding import Guard, Step
from reconciler.guard.nftables_rules import TABLE
from state.nft import Features


def steps(guard: Guard) -> tuple[Step, ...]:
    """Commands that load the guard, in order; running them twice is harmless.

    The second one closes every port of the managed bridges that is not known, and needs a kernel that can
    match a frame's bridge by name.
    """
    base = Step(nftables.LOAD, nftables.full(guard, Features(ibrname=False)))
    closing = f"add rule {TABLE} prerouting meta ibrname @bridges goto refused_unknown\n"
    return base, Step(nftables.LOAD, closing, optional=True)
