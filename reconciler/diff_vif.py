"""A domU's vifs: wanted against live. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from reconciler.guard import port_lock
from reconciler.plan import Actions, Cause, Change, Phase
from reconciler.render_xl import vif_arguments
from reconciler.scope import Situation
from reconciler.step import Run, Step
from state.desired import DomU, Vif
from state.facts import fact
from state.observed import Domain, Observed
from state.xenstore import BACKEND_VIF, BackendVif

# libxl waits 10 s for a backend, 40 s for a hotplug script and as long again to give up.
ATTACH_TIMEOUT_S = 100.0


def interface_of(vif: Vif, domid: int) -> str:
    """The name of a vif's port in dom0 when it belongs to the domain `domid`."""
    return vif.name or f"vif{domid}.{vif.index}"


def emulates(domu: DomU, domain: Domain | None) -> bool:
    """Whether a domU's vifs have emulated twins: now, or from its next reboot on."""
    live = None if domain is None or domain.saved is None else domain.saved.type
    return "hvm" in {domu.type, live}


@dataclass(frozen=True, slots=True)
class _Slot:
    """One devid of one living domain, with what wants it and what has it."""

    domu: DomU
    domain: Domain
    observed: Observed
    index: int
    cause: Cause
    applied: Vif | None

    @property
    def there(self) -> BackendVif | None:
        return next((vif for vif in self.domain.vifs if vif.index == self.index), None)

    def change(
        self,
        actions: Actions,
        *,
        vif: Vif | None = None,
        early: tuple[Step, ...] = (),
        steps: tuple[Step, ...] = (),
    ) -> Change:
        there, key = self.there, f"vif:{self.domu.uuid}:{self.index}"
        return Change(
            address=f"domu.{self.domu.name}.vif.{self.index}",
            actions=actions,
            cause=self.cause,
            impact="link" if early else "none",
            phase=Phase.REMOVE if not steps else Phase.ADD if "create" in actions else Phase.CHANGE,
            early=early,
            steps=steps,
            fingerprint=(_fact(self.observed, f"domain:{self.domu.uuid}"), _fact(self.observed, key)),
            before={} if there is None else _shown(there.mac, there.bridge, there.interface, there.rate),
            after={}
            if vif is None
            else _shown(vif.mac, vif.bridge, interface_of(vif, self.domain.domid), vif.rate),
            counts=(f"domu.{self.domu.name}",),
            expect=((key, "" if vif is None else _expected(vif, self.domain.domid)),),
            reason="replace_because_cannot_update" if early and steps else None,
            uuid=self.domu.uuid,
            domid=self.domain.domid,
        )


def diff_vifs(domu: DomU, domain: Domain, observed: Observed, before: DomU | None) -> Iterator[Change]:
    """The changes that make a living domain's vifs those of its specification, by index.

    `before` is the specification that was last applied: a vif that differs from git although git has not
    changed was changed by somebody else.
    """
    wanted = {vif.index: vif for vif in domu.vifs}
    for index in wanted.keys() | {vif.index for vif in domain.vifs}:
        vif = wanted.get(index)
        applied = None if before is None else _vif(before, index)
        cause: Cause = "corrective" if before is not None and applied == vif else "intentional"
        slot = _Slot(domu, domain, observed, index, cause, applied)
        there = slot.there
        if there is None:
            if vif is not None:
                yield slot.change(("create",), vif=vif, steps=(_attach(domain, vif),))
        elif vif is None:
            yield slot.change(("delete",), early=(_detach(domain, there),))
        else:
            yield from _diff_vif(slot, vif, there)


def plugged_back(change: Change, situation: Situation) -> Change | None:
    """For a blocked attachment, that of the same vif as it was last applied, if the loaded guard still binds that one.

    It was taken away for a change of the guard that was taken back itself: the guest would have no network until git
    changes. None where it is another attachment, or could not come up.
    """
    observed = situation.observed
    before, domain = situation.applied.get(change.uuid or ""), observed.by_uuid.get(change.uuid or "")
    if change.reason != "guard_blocked" or change.actions != ("create",) or before is None or domain is None:
        return None
    vif = next((vif for vif in before.vifs if change.part == f".vif.{vif.index}"), None)
    if vif is None or vif.bridge not in observed.links:
        return None
    port = interface_of(vif, domain.domid)
    members = frozenset() if observed.guard is None else observed.guard.elements.get("own_mac", frozenset())
    if f'"{port}" . {vif.mac}' not in members or port in observed.links:
        return None
    slot = _Slot(before, domain, observed, vif.index, "corrective", vif)
    back = slot.change(("create",), vif=vif, steps=(_attach(domain, vif),))
    return replace(back, address=change.address, counts=change.counts, reason="plugged_back")


def _diff_vif(slot: _Slot, vif: Vif, there: BackendVif) -> Iterator[Change]:
    observed, domain = slot.observed, slot.domain
    port = observed.ports.get(there.interface)
    same = (there.mac, there.bridge, there.interface) == (
        vif.mac,
        vif.bridge,
        interface_of(vif, domain.domid),
    )
    # A vif whose hotplug script failed stays behind in xenstore, unbridged: it must go before it can come.
    if port is None or port.bridge != vif.bridge or there.hotplug_status == "error" or not same:
        if same:
            slot = replace(slot, cause="corrective")
        change = slot.change(
            ("delete", "create"), vif=vif, early=(_detach(domain, there),), steps=(_attach(domain, vif),)
        )
        # A port on no bridge has no network to lose.
        yield replace(change, impact="none") if port is None else change
        return
    limit = (_set_rate(there, vif),) if there.rate != vif.rate else ()
    # Two ports of an HVM guest share one MAC, which one locked port would keep from the other.
    twins = emulates(slot.domu, domain)
    lock = _twin_steps(observed, vif, there) if twins else _lock_steps(observed, vif, there)
    if not limit and not lock:
        return
    change = slot.change(("update",), vif=vif, steps=(*limit, *lock))
    if lock:
        key, wanted = f"port:{there.interface}", _locked(vif, twins=twins)
        up = observed.links[there.interface].up
        unchanged = slot.applied is not None and slot.applied.guard == vif.guard
        change = replace(
            change,
            cause=change.cause if limit or not unchanged else "corrective",
            fingerprint=(*change.fingerprint, _fact(observed, key)),
            before={**change.before, "lock": fact(observed, key), "up": up},
            after={**change.after, "lock": wanted, "up": True},
            expect=change.expect if twins else (*change.expect, (key, wanted)),
            layer=("guard",) if not limit else ("live", "guard"),
            reason="port_unlocked" if vif.guard == "enforce" else "port_locked",
        )
    yield change


def _locked(vif: Vif, *, twins: bool = False) -> str:
    """The fact of a port that is as it should be."""
    if vif.guard == "audit" or twins:
        marked = vif.guard == "enforce"
        return f"{vif.bridge} locked=False learning=True lldp={marked} group={marked} "
    return f"{vif.bridge} locked=True learning=False lldp=True group=True {vif.mac}"


def _twin_steps(observed: Observed, vif: Vif, there: BackendVif) -> tuple[Step, ...]:
    """What the two ports of an HVM guest lack: no lock, but the guard must know them, and see frames to LLDP's group."""
    enforced = vif.guard == "enforce"
    wrong = {f"lldp={not enforced}", f"group={not enforced}"}
    return tuple(
        Run(port_lock.mark(name) if enforced else port_lock.unmark(name))
        for name in (there.interface, f"{there.interface}-emu")
        if wrong & {*fact(observed, f"port:{name}").split()}
    )


def _lock_steps(observed: Observed, vif: Vif, there: BackendVif) -> tuple[Step, ...]:
    """What the port lacks of the second, netfilter-free layer, and of being up; an audited one has no such layer."""
    steps: list[Step] = []
    port = observed.ports[there.interface]
    if vif.guard == "audit":
        pinned = vif.mac in observed.pinned.get(port.name, ())
        marked = "group=True" in fact(observed, f"port:{port.name}")
        if port.locked or not port.learning or pinned or marked:
            steps += [Run(argv) for argv in port_lock.unlock(port.name, vif.mac, pinned=pinned)]
    elif fact(observed, f"port:{there.interface}") != _locked(vif):
        steps += [Run(argv) for argv in port_lock.lock(there.interface, vif.mac)]
    if not observed.links[there.interface].up:
        steps.append(Run(("ip", "link", "set", "dev", there.interface, "up")))
    return tuple(steps)


def _shown(mac: str, bridge: str, port: str, rate: tuple[int, int] | None) -> dict[str, object]:
    shown: dict[str, object] = {"mac": mac, "bridge": bridge, "port": port}
    if rate is not None:
        shown["rate"] = f"{rate[0]} bytes per {rate[1]} us"
    return shown


def _expected(vif: Vif, domid: int) -> str:
    rate = "-" if vif.rate is None else f"{vif.rate[0]}/{vif.rate[1]}"
    return f"{vif.mac} {vif.bridge} {interface_of(vif, domid)} {rate}"


def _fact(observed: Observed, key: str) -> tuple[str, str]:
    return key, fact(observed, key)


def _vif(domu: DomU, index: int) -> Vif | None:
    return next((vif for vif in domu.vifs if vif.index == index), None)


def _detach(domain: Domain, vif: BackendVif) -> Run:
    return Run(("xl", "network-detach", str(domain.domid), str(vif.index)), timeout_s=ATTACH_TIMEOUT_S)


def _attach(domain: Domain, vif: Vif) -> Run:
    argv = ("xl", "network-attach", str(domain.domid), f"devid={vif.index}", *vif_arguments(vif))
    return Run(argv, timeout_s=ATTACH_TIMEOUT_S)


def _set_rate(there: BackendVif, vif: Vif) -> Run:
    # xl has no command for it; netback watches this node and changes its credit at once.
    path = f"{BACKEND_VIF}/{there.domid}/{there.index}/rate"
    if vif.rate is None:
        return Run(("xenstore-rm", path))
    return Run(("xenstore-write", path, f"{vif.rate[0]},{vif.rate[1]}"))
