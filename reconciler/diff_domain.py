"""Whether a domU runs: started, stopped, adopted, cleaned up after its customer's poweroff. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.diff_config import is_of
from reconciler.hotplug import template_path
from reconciler.ledger import Owned
from reconciler.plan import Cause, Change, Note, Phase
from reconciler.render_xl import config_path
from reconciler.step import Remember, RemoveFile, Run, Step, StopDomain
from schemas.address import address_text
from state.desired import DomU
from state.facts import fact
from state.observed import Domain, Observed

# A hotplug script may take 40 s, a bootloader 120 s; an `xl create` that is killed midway leaves a paused half.
CREATE_TIMEOUT_S = 200.0


@dataclass(frozen=True, slots=True)
class Life:
    """One domU's situation: what is wanted, what lives, what the ledger knows, what was last applied.

    `others` are the names of every other running domain, now and earlier.
    """

    domu: DomU
    domain: Domain | None
    owned: Owned | None
    before: DomU | None
    observed: Observed
    grace_s: float
    others: tuple[frozenset[str], ...] = ()

    @property
    def monitored(self) -> bool:
        """Whether a monitor of this domU lives although the domU does not run.

        A monitor is known by the file it was started with, and a rename leaves it that: one that another running
        domain may have under one of its names is taken for that one's.
        """
        known = {self.domu.name, self.owned and self.owned.name, self.before and self.before.name}
        paths = {config_path(name) for name in known if name}
        others = sum(1 for names in self.others if known & names)
        if self.owned is None and len(self.observed.monitors) > len(self.others):
            return True  # started by hand, under whatever name: one of them may be about to bring it back
        return sum(1 for path in self.observed.monitors if path in paths) > others

    @property
    def address(self) -> str:
        """`domu.NAME`."""
        return f"domu.{self.domu.name}"

    def fact(self, kind: str, rest: str | None = None) -> tuple[str, str]:
        """A fact of this domU with its present value, for fingerprints."""
        key = f"{kind}:{self.domu.uuid if rest is None else rest}"
        return key, fact(self.observed, key)


def diff_life(life: Life) -> Iterator[Change | Note]:
    """The change to whether the domU runs, if any, and what there is to know about it."""
    domu, domain = life.domu, life.domain
    stranger = _stranger(life)
    if stranger is not None:
        yield _blocked(life, "name_taken", stranger)
        return
    if domain is not None and domain.dying:
        yield Note(life.address, "dying", f"domain {domain.domid} is still being torn down")
    elif domain is not None and domain.shutdown is not None:
        yield from _after_shutdown(life, domain)
    elif domain is not None:
        yield from _alive(life, domain)
    elif domu.state == "running":
        yield from _start(life)


def _alive(life: Life, domain: Domain) -> Iterator[Change | Note]:
    if life.owned is not None and domain.paused and domain.saved is None and not life.monitored:
        # An `xl create` that was killed: no guest was ever in it, and nothing brings it to its end.
        half = {"state": "half made", "domid": domain.domid}
        yield _destroyed(life, domain, before=half, after={"state": "halted"}, reason="half_made")
        if life.domu.state == "running":
            yield _create(life, cause="corrective")
        return
    if life.owned is None:
        yield _adopt(life, domain)
    elif life.owned.powered_off:
        yield _switched_on(life, domain)
    if life.domu.state == "halted":
        yield _stop(life, domain)


def _stranger(life: Life) -> str | None:
    """Why the name cannot be used: a living domain that is another one has it."""
    holder = fact(life.observed, f"name:{life.domu.name}")
    if holder in {"", life.domu.uuid}:
        return None
    return f"a domain of this name lives with another uuid ({holder}; git says {life.domu.uuid})"


def _start(life: Life) -> Iterator[Change | Note]:
    domu, owned, observed = life.domu, life.owned, life.observed
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
        yield _blocked(life, "disk_in_use", f"its disk is in use: {', '.join(held)}")
        return
    display = _display_holder(life)
    if display is not None:
        yield _blocked(life, "display_in_use", display)
        return
    if domu.memory_mib > observed.free_memory_mib:
        yield _blocked(
            life, "capacity", f"needs {domu.memory_mib} MiB, {observed.free_memory_mib} MiB are free"
        )
        return
    yield _create(life, cause="corrective" if _ran_before(life) else "intentional")


def _display_holder(life: Life) -> str | None:
    """Why its VNC server could not start: a running guest keeps its display until its own reboot, whatever git says."""
    vnc = life.domu.vnc
    for domain in life.observed.domains:
        theirs = None if domain.saved is None else domain.saved.vnc
        if (
            vnc is not None
            and theirs is not None
            and domain.uuid != life.domu.uuid
            and theirs.display == vnc.display
        ):
            return f"VNC display {vnc.display} is in use by {domain.name} until its next own reboot"
    return None


def _create(life: Life, *, cause: Cause) -> Change:
    domu = life.domu
    steps: list[Step] = [*_ours(domu)]
    if life.owned is not None and life.owned.powered_off:
        steps.append(Remember(domu.uuid, "powered-off", "no"))
    steps.append(Run(("xl", "create", "-q", "-f", config_path(domu.name)), timeout_s=CREATE_TIMEOUT_S))
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
        impact="none",
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
        },
        counts=(life.address,),
        inverse=(StopDomain(domu.uuid, None, life.grace_s),),
        expect=((f"domain:{domu.uuid}", "*"), *vifs),
        reason="domain_not_running" if cause == "corrective" else None,
        uuid=domu.uuid,
        order=1,
    )


def _ours(domu: DomU) -> tuple[Step, ...]:
    """What the ledger is to know of a domU from its first moment."""
    owned = Remember(domu.uuid, "owned", domu.name)
    return (owned, Remember(domu.uuid, "protect", "yes")) if domu.protect else (owned,)


def _ran_before(life: Life) -> bool:
    return life.owned is not None and life.before is not None and life.before.state == "running"


def _after_shutdown(life: Life, domain: Domain) -> Iterator[Change | Note]:
    """A domain that has shut down but is still there: its monitor's business while it lives, then ours."""
    domu = life.domu
    if domain.shutdown in {"suspend", "soft-reset", "unknown"}:
        what = f"domain {domain.domid} is suspended ({domain.shutdown}): left to whoever saves or moves it"
        yield Note(life.address, "suspended", what)
        return
    preserved = domain.saved is not None and domain.saved.on_poweroff == "preserve"
    by_customer = domain.shutdown == "poweroff"
    if life.monitored and not (by_customer and preserved):
        yield Note(
            life.address,
            "shutting_down",
            f"domain {domain.domid} has shut down ({domain.shutdown}): its monitor acts",
        )
        return
    if domain.shutdown in {"crash", "watchdog"} and domu.on_crash == "preserve":
        yield Note(
            life.address,
            "crashed",
            f"domain {domain.domid} crashed and is kept as evidence (onCrash: preserve)",
        )
        return
    if life.owned is None:
        yield _blocked(life, "unmanaged", f"domain {domain.domid} has shut down and was never managed here")
        return
    starts = domu.state == "running" and not (by_customer and domu.after_poweroff == "stay")
    # Where git wants it halted, it may be our own shutdown that was cut short; what it wants next is then not his.
    stays_off = by_customer and domu.state == "running" and not starts
    yield _destroyed(
        life,
        domain,
        Remember(domu.uuid, "powered-off", "yes" if stays_off else "no"),
        before={"state": f"shut down ({domain.shutdown})", "domid": domain.domid},
        after={"state": "halted", "by": "customer" if by_customer else "guest"},
        reason="powered_off" if by_customer else "domain_not_running",
    )
    if starts:
        yield _create(life, cause="corrective")


def _destroyed(
    life: Life,
    domain: Domain,
    *first: Step,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    reason: str,
) -> Change:
    """The end of a domain in which no guest runs any more, or never did."""
    return Change(
        address=life.address,
        actions=("update",),
        cause="corrective",
        impact="none",
        phase=Phase.REMOVE,
        steps=(*first, Run(("xl", "destroy", str(domain.domid)), timeout_s=40.0)),
        fingerprint=(life.fact("domain"),),
        before=before,
        after=after,
        counts=(life.address,),
        expect=((f"domain:{life.domu.uuid}", ""),),
        reason=reason,
        uuid=life.domu.uuid,
        domid=domain.domid,
    )


def _adopt(life: Life, domain: Domain) -> Change:
    domu = life.domu
    return Change(
        address=life.address,
        actions=("adopt",),
        cause="intentional",
        impact="none",
        phase=Phase.PREPARE,
        steps=_ours(domu),
        fingerprint=(life.fact("domain"),),
        before={"domid": domain.domid},
        after={"uuid": domu.uuid},
        counts=(life.address,),
        inverse=(Remember(domu.uuid, "released"),),
        reason="domain_unmanaged",
        uuid=domu.uuid,
        domid=domain.domid,
    )


def _switched_on(life: Life, domain: Domain) -> Change:
    """Somebody has started it by hand since its customer switched it off: from now on it is to run again."""
    domu = life.domu
    return Change(
        address=life.address,
        actions=("update",),
        cause="corrective",
        impact="none",
        phase=Phase.PREPARE,
        steps=(Remember(domu.uuid, "powered-off", "no"),),
        fingerprint=(life.fact("domain"),),
        before={"powered_off": True},
        after={"powered_off": False},
        counts=(life.address,),
        layer=("stored",),
        reason="started_by_hand",
        uuid=domu.uuid,
        domid=domain.domid,
        order=1,
    )


def _stop(life: Life, domain: Domain) -> Change:
    domu = life.domu
    return Change(
        address=life.address,
        actions=("update",),
        cause="corrective" if life.before is not None and life.before.state == "halted" else "intentional",
        impact="restart",
        phase=Phase.REMOVE,
        steps=(StopDomain(domu.uuid, domain.domid, life.grace_s),),
        fingerprint=(life.fact("domain"),),
        before={"state": "running"},
        after={"state": "halted"},
        counts=(life.address,),
        inverse=(Run(("xl", "create", "-q", "-f", config_path(domu.name)), timeout_s=CREATE_TIMEOUT_S),),
        expect=((f"domain:{domu.uuid}", ""),),
        uuid=domu.uuid,
        domid=domain.domid,
    )


def diff_tombstone(life: Life) -> Iterator[Change | Note]:
    """The removal of a domU whose file says `state: absent`. Its disks are kept where they are."""
    domu, domain, owned = life.domu, life.domain, life.owned
    if owned is None:
        if domain is not None:
            yield _blocked(life, "unmanaged", f"domain {domain.domid} is not managed here: adopt it first")
        return
    if domain is None and life.monitored:
        # Let go now, it would come back as nobody's.
        yield Note(life.address, "rebooting", "no domain, but its monitor lives: it is rebooting")
        return
    steps: list[Step] = []
    if domain is not None:
        steps.append(StopDomain(domu.uuid, domain.domid, life.grace_s))
    paths = sorted({config_path(domu.name), config_path(owned.name)})
    steps += [RemoveFile(path) for path in paths if is_of(life.observed.files[path], domu)]
    vifs = (*domu.vifs, *(() if life.before is None else life.before.vifs))
    templates = sorted({template_path(domu, vif) for vif in vifs})
    steps += [RemoveFile(path) for path in templates if life.observed.files.get(path) is not None]
    steps.append(Remember(domu.uuid, "released"))
    kept = sorted(owned.disks)
    yield Change(
        address=life.address,
        actions=("delete",),
        cause="intentional",
        impact="none" if domain is None else "restart",
        phase=Phase.REMOVE,
        steps=tuple(steps),
        fingerprint=(life.fact("domain"),),
        before={"state": "running" if domain is not None else "halted", "disks": kept},
        after={"state": "absent", "disks": f"{len(kept)} kept where they are"},
        counts=(life.address,),
        expect=((f"domain:{domu.uuid}", ""),),
        reason="tombstone",
        uuid=domu.uuid,
        domid=None if domain is None else domain.domid,
    )


def _blocked(life: Life, reason: str, why: str) -> Change:
    return Change(
        address=life.address,
        actions=("create",) if life.domain is None else ("update",),
        cause="intentional",
        impact="none",
        phase=Phase.CHANGE,
        steps=(),
        fingerprint=(),
        before={},
        after={},
        counts=(life.address,),
        reason=reason,
        blocked=why,
        uuid=life.domu.uuid,
    )
