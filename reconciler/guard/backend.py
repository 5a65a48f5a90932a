"""Which backend a host's guard is loaded with, and the way there from whatever is loaded. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_network
from typing import Literal

from reconciler.guard import iptables, nftables
from reconciler.guard.binding import Binding, Bridge, Guard, LogLimit, Move, Step, What
from reconciler.guard.runnable import runnable
from state.iptables_guard import VARIANTS
from state.nft import Features, LoadedTable, Loader

Wanted = Literal["auto", "nftables", "iptables"]
# In the order of preference: what iptables' kind is, the host decides.
_LOADERS: Mapping[Wanted, tuple[Loader, ...]] = {
    "auto": ("nftables", "iptables-nft", "iptables-legacy"),
    "nftables": ("nftables",),
    "iptables": ("iptables-nft", "iptables-legacy"),
}


def chosen(wanted: Wanted, features: Features) -> Loader | None:
    """What the guard is to be loaded with; None where nothing of what is wanted works here."""
    return next((each for each in _LOADERS[wanted] if each in features.backends), None)


@cache
def programs(wanted: Wanted) -> Mapping[Loader, str]:
    """Shell programs that load a guard with everything in it, for trying each of these in a network namespace of its own."""
    return {each: _program(_full(each, _TRIED, Features(ibrname=False))) for each in _LOADERS[wanted]}


@cache
def loaders() -> frozenset[tuple[str, ...]]:
    """Every command that loads rules, of whatever backend."""
    return frozenset(
        step.argv for each in _LOADERS["auto"] for step in _full(each, _TRIED, Features(ibrname=False))
    )


@dataclass(frozen=True, slots=True)
class Calls:
    """The commands that have bridges hand their frames to iptables, and those that take that back."""

    on: tuple[Step, ...] = ()
    off: tuple[Step, ...] = ()


def move(
    by: Loader,
    loaded: Collection[LoadedTable],
    guard: Guard,
    features: Features,
    calls: Calls = Calls(),  # frozen
) -> Move:
    """What brings a kernel to this guard: loaded with the one backend, and nothing left of the other.

    That one goes last. While both are there each of them drops what it would drop alone. Two variants of iptables have one
    ebtables and the same sets: of the one that goes, what the other one has as well is left.
    """
    own = next((each for each in loaded if each.by == by), None)
    others = [each for each in loaded if each.by != by]
    beside = by in VARIANTS and any(each.by in VARIANTS for each in others)
    first = _move(by, own, guard, features, beside=beside)
    gone = [step for each in others for step in _removal(each, beside=beside)]
    back = [step for each in others for step in _reload(each, guard, features)]
    what: What = "rules" if others else first.what
    return Move((*first.steps, *calls.on, *gone), (*back, *calls.off, *first.undo), what)


def _move(by: Loader, own: LoadedTable | None, guard: Guard, features: Features, *, beside: bool) -> Move:
    variant = VARIANTS.get(by)
    if variant is None:
        return nftables.move(own, guard, features)
    steps, what = iptables.transition(own, guard, variant=variant, ibrname=features.ibrname)
    back = iptables.undo(own, guard, variant=variant, ibrname=features.ibrname, beside=beside)
    return Move(steps, back if steps else (), what or "elements")


def _full(by: Loader, guard: Guard, features: Features) -> tuple[Step, ...]:
    variant = VARIANTS.get(by)
    if variant is None:
        return (Step(nftables.LOAD, nftables.full(guard, features)),)
    return iptables.full(guard, variant=variant, ibrname=features.ibrname)


def _removal(loaded: LoadedTable, *, beside: bool) -> tuple[Step, ...]:
    variant = VARIANTS.get(loaded.by)
    if variant is None:
        return (Step(nftables.LOAD, nftables.UNLOADED),)
    return iptables.remove(loaded, variant=variant, beside=beside)


def _reload(loaded: LoadedTable, guard: Guard, features: Features) -> tuple[Step, ...]:
    """What loads again what was bound, with the rules that this version would have for it."""
    variant = VARIANTS.get(loaded.by)
    if variant is None:
        return (Step(nftables.LOAD, nftables.full(guard, features, loaded.elements)),)
    return iptables.reload(loaded, variant=variant)


def binding_text(by: Loader, binding: Binding) -> str:
    """What adds one binding to a loaded guard: a script of nft, or commands as reconciler.guard.runnable writes them."""
    variant = VARIANTS.get(by)
    if variant is None:
        return nftables.binding_script(binding)
    return runnable(iptables.binding_steps(binding, variant=variant))


def _program(steps: tuple[Step, ...]) -> str:
    """A shell program that runs the steps, of which no input has the mark in it."""
    return "".join(_command(step) for step in steps)


def _command(step: Step) -> str:
    on_failure = "true" if step.optional else "exit 1"
    return f"{' '.join(step.argv)} <<'DOMGIT' || {on_failure}\n{step.stdin}DOMGIT\n"


def _tried() -> Iterator[Binding]:
    for number, mode in ((1, "enforce"), (2, "audit")):
        addresses = (f"192.0.2.{number}/32", f"198.51.100.{16 * number}/28", f"2001:db8::{number}/128", f"2001:db8:{number}::/64")  # fmt: skip
        yield Binding(
            f"vm0{number}",
            f"00:00:5e:00:53:0{number}",
            tuple(ip_network(each) for each in addresses),
            f"00000000-0000-0000-0000-00000000000{number}",
            0,
            "audit" if mode == "audit" else "enforce",
            emulated=True,
        )


_TRIED = Guard(
    bridges=(Bridge("xenbr0", ("eth0",)),),
    bindings=tuple(_tried()),
    unknown_vifs="drop",
    log=LogLimit("domgit: ", "debug", 15, "minute"),
    closed=("vm03",),
    alone=True,
)
