"""The complete guard as commands, for a host of which nothing is known but its bridges. Pure."""

from __future__ import annotations

from typing import Literal

from reconciler.guard import iptables, nftables
from reconciler.guard.binding import Guard, Step
from reconciler.guard.nftables_rules import TABLE
from state.nft import Features

Backend = Literal["nftables", "iptables"]


def steps(guard: Guard, backend: Backend = "nftables") -> tuple[Step, ...]:
    """Commands that load the guard, in order; running them twice is harmless.

    The last ones close every port of the managed bridges that is not known, and need a kernel that can
    match a frame's bridge by name.
    """
    if backend == "iptables":
        return (*iptables.full(guard), *(_hands_over(bridge.name) for bridge in guard.bridges))
    base = Step(nftables.LOAD, nftables.full(guard, Features(ibrname=False)))
    closing = f"add rule {TABLE} prerouting meta ibrname @bridges goto refused_unknown\n"
    return base, Step(nftables.LOAD, closing, optional=True)


def _hands_over(bridge: str) -> Step:
    """What iptables sees nothing without; a kernel without br_netfilter takes it all the same."""
    switches = ("nf_call_iptables", "1", "nf_call_ip6tables", "1")
    return Step(("ip", "link", "set", "dev", bridge, "type", "bridge", *switches))
