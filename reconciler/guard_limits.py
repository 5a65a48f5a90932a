"""What no change of the guard may do to those who are there: cut off dom0, everybody, or an uplink. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from reconciler import __version__
from reconciler.guard.binding import Guard
from reconciler.plan import Change, Note, digest_of
from reconciler.reverted import Kind, Reverted
from reconciler.scope import Situation
from reconciler.way_out import closed_way, lost_uplink, lost_uplinks
from state.facts import ports_of, vif_ports


def refusal(
    situation: Situation, guard: Guard, strangers: Collection[str], closes: Collection[str]
) -> str | None:
    """Why a change to this guard is not done; `closes` are the ports that it would cut off."""
    observed = situation.observed
    if strangers:
        where = "; ".join(_inside(situation, strangers))
        ports = f"{', '.join(strangers)}: a port that is no vif and no declared uplink would be cut off"
        return f"{ports} (declare it in host.yaml, or take it off the bridge{where and f': {where}'})"
    free = {uplink: bridge.name for bridge in guard.bridges for uplink in bridge.uplinks}
    for binding in guard.bindings:
        if binding.interface in free:
            return (
                f"{binding.interface}: a vif of one of our domUs, and a declared uplink of {free[binding.interface]} "
                "(take it out of `uplinks`: what comes in there would be nobody's)"
            )
    return _let_go(situation) or closed_way(observed, guard) or _too_many(situation, closes)


def _let_go(situation: Situation) -> str | None:
    """A bridge that host.yaml no longer names while vifs of ours are on it: renamed there alone, or forgotten."""
    last, observed = situation.last, situation.observed
    guarded = set() if last is None else {name for name, _ in last.host.bridges}
    if observed.guard is not None:
        guarded |= {member.strip('"') for member in observed.guard.elements.get("bridges", ())}
    gone = guarded - {name for name, _ in situation.desired.host.bridges}
    there = sorted(
        vif.interface
        for domain in observed.domains
        if domain.uuid in situation.ledger and not domain.dying
        for vif in domain.vifs
        if vif.bridge in gone
    )
    if not there:
        return None
    return (
        f"{', '.join(sorted(gone))} is no longer in host.yaml, and {', '.join(there)} would be there unguarded "
        "(name it again, until they are on another bridge)"
    )


def _inside(situation: Situation, strangers: Collection[str]) -> Iterator[str]:
    """What of the declared uplinks is inside one of these ports: a bond, or what a VLAN stands on."""
    for bridge, uplinks in situation.desired.host.bridges:
        there = ports_of(situation.observed, bridge)
        if not {*there}.isdisjoint(strangers):
            yield from (
                lost_uplink(situation.observed, bridge, each) for each in uplinks if each not in there
            )


def _too_many(situation: Situation, closes: Collection[str]) -> str | None:
    """A vif that is cut off is a vif detached, and one commit must not do that to everybody at once.

    Where unknown vifs were dropped on these bridges before, the kernel has dropped them by itself since they came: then
    closing them by name cuts off nobody, and a table that somebody has flushed must come back.
    """
    host, last, observed = situation.desired.host, situation.last, situation.observed
    if last is not None and (last.host.unknown_vifs, last.host.bridges) == ("drop", host.bridges):
        return None
    vifs = vif_ports(observed)
    total = sum(port in vifs for bridge, _ in host.bridges for port in ports_of(observed, bridge))
    allowed = max(1, total * host.limits.detach_percent // 100)
    if len(closes) <= allowed:
        return None
    return (
        f"{len(closes)} vifs that stand in no file would be cut off at once, limits.detach allows {allowed} "
        "(give them files, or say `unknownVifs: report`)"
    )


def uplink_notes(situation: Situation) -> Iterator[Note]:
    """Declared uplinks that are none."""
    host, observed = situation.desired.host, situation.observed
    for bridge, problem in lost_uplinks(host, observed):
        yield Note(f"bridge.{bridge}", "uplink_missing", problem)
    vifs = vif_ports(observed)
    for bridge, uplinks in host.bridges:
        for uplink in uplinks:
            if uplink in vifs:
                yield Note(
                    f"port.{uplink}",
                    "uplink_is_a_vif",
                    f"a declared uplink of {bridge}, and a vif: whoever has it may send as anybody",
                )


def kind_of(change: Change) -> Kind:
    """How much of the table a change of the guard replaces."""
    if "create" in change.actions:
        return "table"
    return "elements" if change.inverse else "rules"


def attempt(situation: Situation, change: Change) -> str:
    """A digest of what a change of the guard tries: the same until git, or this program, wants something else.

    Nothing that a guest could change enters it, such as the number of its domain: he could else have a change that
    cuts everybody off tried again and again.
    """
    desired = situation.desired
    vifs = [(domu.uuid, domu.state, domu.type, repr(domu.vifs)) for domu in desired.domus]
    return digest_of([kind_of(change), repr(desired.host), sorted(vifs), sorted(desired.held), __version__])


def not_again(change: Change, situation: Situation) -> Reverted | None:
    """The attempt of the same that had to be taken back, if there was one.

    One that was cut short says nothing, since domgit may have ended for any reason. Where two were, it may be this change.
    """
    tried = attempt(situation, change)
    same = [each for each in situation.reverted if each.attempt == tried]
    judged = [each for each in same if not each.unjudged]
    return judged[0] if judged else same[-1] if len(same) > 1 else None
