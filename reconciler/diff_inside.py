"""What there is to know of the insides of guests' disks: nothing that a plan would change. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.disk_record import Filled
from reconciler.disk_use import size_text
from reconciler.login import login_words
from reconciler.plan import Note
from reconciler.scope import Situation


def inside_notes(situation: Situation) -> Iterator[Note]:
    """Whose file systems are nearly full, and whose console lets nobody in, as of the last look."""
    if situation.looked is None:
        return
    wanted = [domu for domu in situation.desired.domus if domu.boot is not None and domu.boot.phase == "run"]
    for domu in wanted:
        login = situation.looked.login_of(domu.uuid)
        words = None if login is None else login_words(domu, login)
        if words is not None:
            yield Note(f"domu.{domu.name}", *words)
    names = {domu.uuid: domu.name for domu in situation.desired.domus if domu.state != "absent"}
    percent = situation.desired.host.disks.warn_percent
    for each in situation.looked.of(names):
        if each.over(percent):
            yield Note(f"domu.{names[each.uuid]}", "disk_full", _full(each, percent))


def _full(each: Filled, percent: int) -> str:
    said = []
    if each.used_percent >= percent:
        left = f"{size_text(each.available_bytes)} of {size_text(each.size_bytes)} left"
        days = "" if each.full_in_days is None else f", full in {each.full_in_days} days if it goes on so"
        said.append(f"{each.used_percent}% full ({left}{days})")
    if each.inodes_percent is not None and each.inodes_percent >= percent:
        said.append(f"{each.inodes_percent}% of its inodes are used ({each.inodes_free} left)")
    return f"{each.volume} ({each.kind}): {'; '.join(said)}; disks.warnAt is {percent}%"
