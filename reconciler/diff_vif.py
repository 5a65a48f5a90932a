"""A domU's vifs: wanted against live. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.guard import port_lock
from reconciler.plan import Cause, Change, Impact, Phase
from reconciler.render_xl import vif_arguments
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


def diff_vifs(domu: DomU, domain: Domain, observed: Observed, before: DomU | None) -> Iterator[Change]:
    """The changes that make a living domain's vifs those of its specification, by index.

    `before` is the specification that was last applied: a vif that differs from git although git has not
    changed was changed by somebody else.
    """
    wanted = {vif.index: vif for vif in domu.vifs}
    live = {vif.index: vif for vif in domain.vifs}
    for index in sorted(wanted.keys() | live.keys()):
        vif, there = wanted.get(index), live.get(index)
        cause: Cause = "corrective" if before is not None and _vif(before, index) == vif else "intentional"
        if vif is None and there is not None:
            yield _change(
                domu, domain, observed, index, cause, actions="delete", early=(_detach(domain, there),)
            )
        elif vif is not None and there is None:
            yield _change(
                domu, domain, observed, index, cause, actions="create", vif=vif, steps=(_attach(domain, vif),)
            )
        elif vif is not None and there is not None:
            yield from _diff_vif(domu, domain, observed, vif, there, cause)


def _diff_vif(
    domu: DomU, domain: Domain, observed: Observed, vif: Vif, there: BackendVif, cause: Cause
) -> Iterator[Change]:
    port = observed.ports.get(there.interface)
    # A vif whose hotplug script failed stays behind in xenstore, unbridged: it must go before it can come.
    broken = port is None or there.hotplug_status == "error"
    same = (there.mac, there.bridge, there.interface) == (
        vif.mac,
        vif.bridge,
        interface_of(vif, domain.domid),
    )
    if broken or not same or (port is not None and port.bridge != vif.bridge):
        yield _change(
            domu,
            domain,
            observed,
            vif.index,
            "corrective" if broken and same else cause,
            actions="replace",
            vif=vif,
            early=(_detach(domain, there),),
            steps=(_attach(domain, vif),),
        )
        return
    if there.rate != vif.rate:
        yield _change(
            domu,
            domain,
            observed,
            vif.index,
            cause,
            actions="update",
            vif=vif,
            steps=(_set_rate(there, vif),),
        )
    steps = _lock_steps(observed, vif, there)
    if steps:
        address = f"domu.{domu.name}.vif.{vif.index}"
        yield Change(
            address=address,
            actions=("update",),
            cause="corrective",
            impact="none",
            phase=Phase.CHANGE,
            steps=steps,
            fingerprint=(_identity(observed, domu), _fact(observed, f"port:{there.interface}")),
            before={
                "port": fact(observed, f"port:{there.interface}"),
                "up": observed.links[there.interface].up,
            },
            after={"port": f"{vif.bridge} locked=True learning=False {vif.mac}", "up": True},
            counts=(f"domu.{domu.name}",),
            expect=((f"port:{there.interface}", f"{vif.bridge} locked=True learning=False {vif.mac}"),),
            layer=("guard",),
            reason="port_unlocked",
            uuid=domu.uuid,
            domid=domain.domid,
            order=1,
        )


def _lock_steps(observed: Observed, vif: Vif, there: BackendVif) -> tuple[Step, ...]:
    """What the port lacks of the second, netfilter-free layer, and of being up."""
    if vif.guard == "audit":
        return ()
    steps: list[Step] = []
    if fact(observed, f"port:{there.interface}") != f"{vif.bridge} locked=True learning=False {vif.mac}":
        steps += [Run(argv) for argv in port_lock.lock(there.interface, vif.mac)]
    if not observed.links[there.interface].up:
        steps.append(Run(("ip", "link", "set", "dev", there.interface, "up")))
    return tuple(steps)


def _change(
    domu: DomU,
    domain: Domain,
    observed: Observed,
    index: int,
    cause: Cause,
    *,
    actions: str,
    vif: Vif | None = None,
    early: tuple[Step, ...] = (),
    steps: tuple[Step, ...] = (),
) -> Change:
    there = next((each for each in domain.vifs if each.index == index), None)
    key = f"vif:{domu.uuid}:{index}"
    impact: Impact = "link" if early else "none"
    phase = Phase.REMOVE if not steps else Phase.ADD if actions in {"create", "replace"} else Phase.CHANGE
    return Change(
        address=f"domu.{domu.name}.vif.{index}",
        actions={
            "create": ("create",),
            "delete": ("delete",),
            "replace": ("delete", "create"),
            "update": ("update",),
        }[actions],  # type: ignore[arg-type]  # the literals above are the actions
        cause=cause,
        impact=impact,
        phase=phase,
        early=early,
        steps=steps,
        fingerprint=(_identity(observed, domu), _fact(observed, key)),
        before={} if there is None else _shown(there.mac, there.bridge, there.interface, there.rate),
        after={} if vif is None else _shown(vif.mac, vif.bridge, interface_of(vif, domain.domid), vif.rate),
        counts=(f"domu.{domu.name}",),
        expect=((key, "" if vif is None else _expected(vif, domain.domid)),),
        reason="replace_because_cannot_update" if actions == "replace" else None,
        uuid=domu.uuid,
        domid=domain.domid,
    )


def _shown(mac: str, bridge: str, port: str, rate: tuple[int, int] | None) -> dict[str, object]:
    shown: dict[str, object] = {"mac": mac, "bridge": bridge, "port": port}
    if rate is not None:
        shown["rate"] = f"{rate[0]} bytes per {rate[1]} us"
    return shown


def _expected(vif: Vif, domid: int) -> str:
    rate = "-" if vif.rate is None else f"{vif.rate[0]}/{vif.rate[1]}"
    return f"{vif.mac} {vif.bridge} {interface_of(vif, domid)} {rate}"


def _identity(observed: Observed, domu: DomU) -> tuple[str, str]:
    return _fact(observed, f"domain:{domu.uuid}")


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
