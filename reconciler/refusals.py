"""Reading what the guard has refused, and telling monitoring: the shell around violations, tally and metrics."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping

from reconciler import tally
from reconciler.durable import write_whole
from reconciler.guard.loaded import bound
from reconciler.metrics import metrics_text
from reconciler.reconcile import Dom0
from reconciler.violations import Moment, Owner, packets
from state.drops import read_drops
from state.observed import interfaces, observe_domains
from state.run import ReadError

log = logging.getLogger(__name__)
# What a vif without a name of its own is called: only the host knows whose that is just now.
_UNNAMED = re.compile(r"vif[0-9]+\.[0-9]+")


def moment(dom0: Dom0) -> Moment:
    """Now."""
    return Moment(dom0.now(), dom0.monotonic())


def owners(dom0: Dom0, ports: Collection[str]) -> Mapping[str, Owner]:
    """Whose the ports are, as last applied here; those of unnamed vifs as the host has them.

    Raises:
        ReadError: the record or the host cannot be read.
    """
    last = dom0.last()
    domus = () if last is None else last.desired.domus
    found = {
        vif.name: Owner(domu.name, vif.index) for domu in domus for vif in domu.vifs if vif.name is not None
    }
    if any(_UNNAMED.match(port) for port in ports):
        domains, _ = observe_domains(dom0.runner, dom0.files, dom0.sleep)
        by_domid = {domain.domid: domain.name for domain in domains}
        for name, vif in interfaces(domains).items():
            found.setdefault(name, Owner(by_domid[vif.domid], vif.index))
    return found


def publish(dom0: Dom0, *, unless_within_s: float = 0.0) -> None:
    """Remember what is counted now, and put it where monitoring finds it; nothing where that was done so recently.

    Nothing of a pass fails with it.
    """
    now = moment(dom0)
    before = tally.load(dom0.paths.tally, now.uptime_s)
    if before is not None and now.uptime_s - before.uptime_s < unless_within_s:
        return
    try:
        drops = read_drops(dom0.runner, dom0.files)
        whose = {} if drops is None else owners(dom0, drops.counts.keys())
        text = metrics_text(drops, whose, taken_s=now.time.timestamp())
        write_whole(dom0.paths.metrics, text)
        if drops is not None:
            look = tally.taken(
                before,
                bound(drops.table),
                packets(drops),
                time=dom0.timestamp(),
                uptime_s=now.uptime_s,
            )
            tally.save(dom0.paths.tally, look)
    except (ReadError, OSError) as exc:
        log.warning("refusals not told", extra={"error": str(exc)})
