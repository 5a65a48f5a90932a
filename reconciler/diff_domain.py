"""Whether a domU runs: started, stopped, adopted, cleaned up after its end. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from reconciler.diff_end import after_shutdown, destroyed, stop
from reconciler.diff_start import create, ours, start
from reconciler.installing import started, told
from reconciler.life import Life, blocked_life, refusal
from reconciler.plan import Change, Note, Phase
from reconciler.step import Remember
from state.facts import fact
from state.observed import Domain


def diff_life(life: Life) -> Iterator[Change | Note]:
    """The change to whether the domU runs, if any, and what there is to know about it."""
    domu, domain = life.domu, life.domain
    stranger = _stranger(life)
    if stranger is not None:
        yield blocked_life(life, "name_taken", stranger)
        return
    yield from diff_installation(life)
    if domain is not None and domain.dying:
        yield Note(life.address, "dying", f"domain {domain.domid} is still being torn down")
    elif domain is not None and life.owned is not None and life.anew:
        yield from _anew(life, domain)
    elif domain is not None and domain.shutdown is not None:
        if life.installation is not None and life.installation.stage == "crashed":
            yield from _known(life, domain)
        yield from after_shutdown(life, domain)
    elif domain is not None:
        yield from _alive(life, domain)
    elif domu.state == "running":
        yield from start(life)


def _alive(life: Life, domain: Domain) -> Iterator[Change | Note]:
    if life.owned is not None and domain.paused and domain.saved is None:
        if life.being_made:
            what = f"domain {domain.domid} is being made: left to the xl that makes it"
            yield Note(life.address, "being_made", what)
        else:
            yield from _half_made(life, domain)
            return
    if life.owned is None:
        yield _adopt(life, domain)
    elif life.owned.powered_off:
        yield _switched_on(life, domain)
    yield from _known(life, domain)
    if life.domu.state == "halted":
        yield stop(life, domain)


def diff_installation(life: Life) -> Iterator[Change | Note]:
    """What there is to know of an installation that git asks for, and where a human must act."""
    found = life.installation
    said = None if found is None or life.domu.state != "running" else told(life.domu.name, found)
    if said is None:
        return
    reason, what, acts = said
    if acts:
        yield refusal(life.domu, ("update",), reason, what)
    elif life.domain is None or life.domain.running:
        yield Note(life.address, reason, what)


def _anew(life: Life, domain: Domain) -> Iterator[Change]:
    """The end of what is there, and the installer instead: noted first, so that a pass that is cut short goes on with it."""
    again = Remember(life.domu.uuid, "install", "")
    if domain.running:
        ended = stop(life, domain)
        ended = replace(ended, steps=(again, *ended.steps), after={"state": "installed anew"}, inverse=())
    else:
        before = {"state": f"shut down ({domain.shutdown})", "domid": domain.domid}
        ended = destroyed(life, domain, again, before=before, after={"state": "installed anew"}, reason="")
    yield replace(ended, cause="intentional", impact="data", reason="reinstall")
    yield create(life, cause="intentional")


def _half_made(life: Life, domain: Domain) -> Iterator[Change]:
    """The end of what an `xl create` that was killed has left: no guest was ever in it, and nobody else ends it."""
    half = {"state": "half made", "domid": domain.domid}
    ended = destroyed(life, domain, before=half, after={"state": "halted"}, reason="half_made")
    # What libxl has saved is whole, and whoever made it may be gone already (`xl create -e`).
    yield replace(ended, fingerprint=(*ended.fingerprint, life.fact("memory")))
    if life.domu.state == "running":
        yield create(life, cause="corrective")


def _stranger(life: Life) -> str | None:
    """Why the name cannot be used: a living domain that is another one has it."""
    holder = fact(life.observed, f"name:{life.domu.name}")
    if holder in {"", life.domu.uuid}:
        return None
    return f"a domain of this name lives with another uuid ({holder}; git says {life.domu.uuid})"


def _adopt(life: Life, domain: Domain) -> Change:
    domu, found = life.domu, life.installation
    known = started(domu, None) if found is None else found.record
    noted = (Remember(domu.uuid, "install", known),) if known else ()
    return Change(
        address=life.address,
        actions=("adopt",),
        cause="intentional",
        impact="none",
        phase=Phase.PREPARE,
        steps=(*ours(domu), *noted),
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
    change = _noted(
        life, Remember(life.domu.uuid, "powered-off", "no"), {"powered_off": True}, {"powered_off": False}
    )
    return replace(
        change,
        cause="corrective",
        fingerprint=(life.fact("domain"),),
        reason="started_by_hand",
        domid=domain.domid,
    )


def _known(life: Life, domain: Domain) -> Iterator[Change]:
    """What the ledger is to know of an installation that it has not seen begin, for when the domain is gone."""
    found, owned = life.installation, life.owned
    if found is not None and owned is not None and found.record and found.record != owned.install:
        note = Remember(life.domu.uuid, "install", found.record)
        change = _noted(life, note, {"install": owned.install or "unknown"}, {"install": found.record})
        # Behind what else is noted of it in the same plan.
        yield replace(
            change, cause="corrective", fingerprint=(life.fact("domain"),), domid=domain.domid, order=3
        )


def diff_protection(life: Life) -> Iterator[Change]:
    """The change that makes the ledger know whether the domU is protected, so that it is without its file as well."""
    domu, owned = life.domu, life.owned
    if owned is not None and owned.protect != domu.protect:
        note = Remember(domu.uuid, "protect", "yes" if domu.protect else "no")
        # Behind what else is noted of it in the same plan.
        yield replace(_noted(life, note, {"protect": owned.protect}, {"protect": domu.protect}), order=1)


def _noted(life: Life, note: Remember, before: Mapping[str, Any], after: Mapping[str, Any]) -> Change:
    return Change(
        address=life.address,
        actions=("update",),
        cause="intentional",
        impact="none",
        phase=Phase.PREPARE,
        steps=(note,),
        fingerprint=(),
        before=before,
        after=after,
        counts=(life.address,),
        layer=("stored",),
        uuid=life.domu.uuid,
    )
