"""The end of a domain: by git's word, its customer's, a crash or a tombstone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from reconciler.diff_config import is_of
from reconciler.diff_start import CREATE_TIMEOUT_S, create
from reconciler.installing import Installation, is_installer
from reconciler.ledger import Owned
from reconciler.life import Life, blocked_life
from reconciler.plan import Change, Note, Phase
from reconciler.render_xl import config_path
from reconciler.step import Remember, RemoveFile, Run, Step, StopDomain
from state.observed import Domain, Observed

# No guest runs any more in a domain that shut down for one of these; one that is suspended is somebody's to resume.
_ENDED = frozenset({"poweroff", "reboot", "crash", "watchdog"})


def after_shutdown(life: Life, domain: Domain) -> Iterator[Change | Note]:
    """A domain that has shut down but is still there: its monitor's business while it lives, then ours."""
    domu = life.domu
    if domain.shutdown in {"suspend", "soft-reset", "unknown"}:
        what = f"domain {domain.domid} is suspended ({domain.shutdown}): left to whoever saves or moves it"
        yield Note(life.address, "suspended", what)
        return
    # Nobody's customer has it yet: an installer that powers its machine off is done.
    by_customer = domain.shutdown == "poweroff" and not is_installer(domain)
    if _monitor_acts(life, domain):
        yield Note(
            life.address,
            "shutting_down",
            f"domain {domain.domid} has shut down ({domain.shutdown}): its monitor acts",
        )
        return
    found = life.installation
    if found is not None and found.stage == "crashed":
        return  # evidence, until a human has seen it; see diff_installation
    if domain.shutdown in {"crash", "watchdog"} and domu.on_crash == "preserve":
        yield Note(
            life.address,
            "crashed",
            f"domain {domain.domid} crashed and is kept as evidence (onCrash: preserve)",
        )
        return
    if life.owned is None:
        yield blocked_life(
            life, "unmanaged", f"domain {domain.domid} has shut down and was never managed here"
        )
        return
    if found is not None and found.stage == "ended" and is_installer(domain):
        yield from _installed(life, domain, found)
        return
    stays = life.waits or (by_customer and domu.after_poweroff == "stay")
    starts = domu.state == "running" and not stays
    # Where git wants it halted, it may be our own shutdown that was cut short; what it wants next is then not his.
    # One that git has not put to run yet is nobody's customer's, whoever has started it.
    stays_off = domu.state == "running" and by_customer and domu.after_poweroff == "stay" and not life.waits
    yield destroyed(
        life,
        domain,
        Remember(domu.uuid, "powered-off", "yes" if stays_off else "no"),
        before={"state": f"shut down ({domain.shutdown})", "domid": domain.domid},
        after={"state": "halted", "by": "customer" if by_customer else "guest"},
        reason="powered_off" if by_customer else "domain_not_running",
    )
    if starts:
        yield create(life, cause="corrective")


def _monitor_acts(life: Life, domain: Domain) -> bool:
    """Whether the monitor of a domain that has shut down does something about it: a poweroff it may leave to us."""
    preserved = domain.saved is not None and domain.saved.on_poweroff == "preserve"
    return life.monitored and not (domain.shutdown == "poweroff" and preserved)


def _installed(life: Life, domain: Domain, found: Installation) -> Iterator[Change]:
    """The end of an installer that has done its work: noted first, so that it is never started over what it installed."""
    yield destroyed(
        life,
        domain,
        Remember(life.domu.uuid, "install", found.record),
        before={"phase": f"install, shut down ({domain.shutdown})", "domid": domain.domid},
        after={"phase": "run" if found.advances else "installed: waits for `boot.phase: run`"},
        reason="installed",
    )
    if found.advances:
        yield create(life, cause="intentional")


def destroyed(
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
        steps=(*first, _destroy(domain)),
        fingerprint=(life.fact("domain"),),
        before=before,
        after=after,
        counts=(life.address,),
        expect=((f"domain:{life.domu.uuid}", ""),),
        reason=reason,
        uuid=life.domu.uuid,
        domid=domain.domid,
    )


def _destroy(domain: Domain) -> Run:
    return Run(("xl", "destroy", str(domain.domid)), timeout_s=40.0)


def stop(life: Life, domain: Domain) -> Change:
    """The shutdown of a running domU that git wants halted."""
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
            yield blocked_life(
                life, "unmanaged", f"domain {domain.domid} is not managed here: adopt it first"
            )
        return
    if domain is None and life.monitored:
        # Let go now, it would come back as nobody's.
        yield Note(life.address, "rebooting", "no domain, but its monitor lives: it is rebooting")
        return
    steps: list[Step] = []
    over = domain is not None and domain.shutdown in _ENDED and not _monitor_acts(life, domain)
    if domain is not None:
        # Asked to shut down, one that has already would not answer until the grace is over.
        steps.append(_destroy(domain) if over else StopDomain(domu.uuid, domain.domid, life.grace_s))
    paths = sorted({config_path(domu.name), config_path(owned.name)})
    steps += [RemoveFile(path) for path in paths if is_of(life.observed.files[path], domu.uuid)]
    steps += [RemoveFile(path) for path in life.templates.values()]
    steps.append(Remember(domu.uuid, "released"))
    kept = sorted(owned.disks)
    yield Change(
        address=life.address,
        actions=("delete",),
        cause="intentional",
        impact="none" if domain is None or over else "restart",
        phase=Phase.REMOVE,
        steps=tuple(steps),
        fingerprint=(life.fact("domain"),),
        before={"state": "halted" if domain is None or over else "running", "disks": kept},
        after={"state": "absent", "disks": f"{len(kept)} kept where they are"},
        counts=(life.address,),
        expect=((f"domain:{domu.uuid}", ""),),
        reason="tombstone",
        uuid=domu.uuid,
        domid=None if domain is None else domain.domid,
    )


def forgotten(uuid: str, owned: Owned, *, host: str, observed: Observed, templates: Iterable[str]) -> Change:
    """The release of a domU that is placed on another host now, and has ended here. Its disks are kept where they are.

    Whoever starts it here by hand from then on gets no network: neither the guard nor a template binds it.
    """
    address, path = f"domu.{owned.name}", config_path(owned.name)
    files = [path] if is_of(observed.files[path], uuid) else []
    return Change(
        address=address,
        actions=("forget",),
        cause="intentional",
        impact="none",
        phase=Phase.REMOVE,
        steps=(*(RemoveFile(each) for each in (*files, *templates)), Remember(uuid, "released")),
        fingerprint=((f"domain:{uuid}", ""),),
        before={"placed on": "this host", "disks": sorted(owned.disks)},
        after={"placed on": host, "disks": f"{len(owned.disks)} kept where they are"},
        counts=(address,),
        expect=((f"domain:{uuid}", ""),),
        reason="moved",
        uuid=uuid,
    )
