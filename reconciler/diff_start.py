"""A domU that is to run and does not: started, or left alone with the reason. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.installing import started
from reconciler.life import Life, blocked_life
from reconciler.plan import Cause, Change, Note, Phase
from reconciler.render_xl import config_path
from reconciler.step import Remember, Run, Step, StopDomain
from schemas.address import address_text
from state.desired import DomU

# A hotplug script may take 40 s, a bootloader 120 s; an `xl create` that is killed midway leaves a paused half.
CREATE_TIMEOUT_S = 200.0


def start(life: Life) -> Iterator[Change | Note]:
    """The creation of a domU that does not run, or why it is not started."""
    domu, owned, observed = life.domu, life.owned, life.observed
    found = life.installation
    if life.waits or (found is not None and found.stage == "interrupted" and not life.monitored):
        return  # see diff_installation
    if owned is not None and owned.powered_off and domu.after_poweroff == "stay":
        yield Note(
            life.address, "powered_off", "its customer switched it off: left off (afterPoweroff: stay)"
        )
        return
    if life.monitored:
        # The monitor sleeps two seconds between the old and the new domain of a rebooting guest.
        yield Note(life.address, "rebooting", "no domain, but its monitor lives: it is rebooting")
        return
    held = sorted(
        f"{disk.path} by {observed.holders[disk.path]}"
        for disk in domu.disks
        if disk.path in observed.holders and disk.writable
    )
    if held:
        yield blocked_life(life, "disk_in_use", f"its disk is in use: {', '.join(held)}")
        return
    display = _display_holder(life)
    if display is not None:
        yield blocked_life(life, "display_in_use", display)
        return
    if domu.memory_mib > observed.free_memory_mib:
        yield blocked_life(
            life, "capacity", f"needs {domu.memory_mib} MiB, {observed.free_memory_mib} MiB are free"
        )
        return
    yield create(life, cause="corrective" if _ran_before(life) else "intentional")


def _display_holder(life: Life) -> str | None:
    """Why its VNC server could not start: a running guest keeps its display until its own reboot, whatever git says."""
    vnc = life.domu.vnc
    if vnc is None:
        return None
    for domain in life.observed.domains:
        theirs = None if domain.saved is None else domain.saved.vnc
        if theirs is not None and theirs.display == vnc.display:
            return f"VNC display {vnc.display} is in use by {domain.name} until its next own reboot"
    return None


def create(life: Life, *, cause: Cause) -> Change:
    """The creation itself."""
    domu = life.domu
    steps: list[Step] = [*ours(domu)]
    if life.owned is not None and life.owned.powered_off:
        steps.append(Remember(domu.uuid, "powered-off", "no"))
    anew = life.installation is not None and life.installation.anew
    if anew:
        steps.append(Remember(domu.uuid, "install", ""))
    steps.append(Run(("xl", "create", "-q", "-f", config_path(domu.name)), timeout_s=CREATE_TIMEOUT_S))
    known = started(domu, life.owned)
    if known is not None:
        # Behind it: one that did not start has installed nothing, and may be tried again.
        steps.append(Remember(domu.uuid, "install", known))
    vifs = tuple(
        (
            f"vif:{domu.uuid}:{vif.index}",
            f"{vif.mac} {vif.bridge} {vif.name} "
            + ("-" if vif.rate is None else f"{vif.rate[0]}/{vif.rate[1]}"),
        )
        for vif in domu.vifs
        if vif.name is not None
    )
    return Change(
        address=life.address,
        actions=("create",),
        cause=cause,
        impact="data" if anew else "none",
        phase=Phase.ADD,
        steps=tuple(steps),
        # Not what is now but what must be when it starts: the remains of a crash are cleaned up before.
        fingerprint=((f"domain:{domu.uuid}", ""), (f"name:{domu.name}", "")),
        before={},
        after={
            "uuid": domu.uuid,
            "memory": f"{domu.memory_mib}MiB",
            "vcpus": domu.vcpus,
            "ips": [address_text(address) for vif in domu.vifs for address in vif.addresses],
            **_phase(life),
        },
        counts=(life.address,),
        inverse=(StopDomain(domu.uuid, None, life.grace_s),),
        expect=((f"domain:{domu.uuid}", "*"), *vifs),
        reason="domain_not_running" if cause == "corrective" else None,
        uuid=domu.uuid,
        order=1,
    )


def _phase(life: Life) -> dict[str, str]:
    """What a reviewer is to know of a start that is an installer's: what comes when that has ended."""
    boot, found = life.domu.boot, life.installation
    if boot is None or boot.phase != "install" or found is None:
        return {}
    return {"phase": "install, then run by itself" if found.advances else "install, then halted"}


def ours(domu: DomU) -> tuple[Step, ...]:
    """What the ledger is to know of a domU from its first moment."""
    owned = Remember(domu.uuid, "owned", domu.name)
    return (owned, Remember(domu.uuid, "protect", "yes")) if domu.protect else (owned,)


def _ran_before(life: Life) -> bool:
    return life.owned is not None and life.before is not None and life.before.state == "running"
