"""What was last applied to this host, whole: what a spoilt commit falls back to, and what drift is measured against."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from reconciler.durable import write_whole
from reconciler.plan import Source
from reconciler.scope import Scope
from reconciler.sealed import opened, sealed
from state.desired import Desired, DomU, Host
from state.run import ReadError


@dataclass(frozen=True, slots=True)
class LastGood:
    """A desired state and the commit it came from.

    `left` are the uuids of those of its domUs that git had lost by then: orphans, and those that moved away.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    source: Source
    desired: Desired
    left: tuple[str, ...] = ()

    @property
    def specified(self) -> Desired:
        """What git said: what stands in for it must not bring back a domU that git had lost and somebody has ended."""
        return replace(
            self.desired, domus=tuple(domu for domu in self.desired.domus if domu.uuid not in self.left)
        )


_ADAPTER: TypeAdapter[LastGood] = TypeAdapter(LastGood)


def load(path: Path) -> LastGood | None:
    """What was last applied; None on a host where nothing ever was.

    Raises:
        ReadError: the file is damaged, so that nothing can be told of drift or of orphans' addresses.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise ReadError(f"{path}: {exc.strerror}") from exc
    try:
        return _ADAPTER.validate_json(opened(data), strict=True)
    except ValidationError as exc:
        raise ReadError(f"{path}: damaged: {exc.error_count()} values are not what was written") from exc
    except ValueError as exc:
        raise ReadError(f"{path}: damaged: {exc}") from exc


def save(path: Path, last: LastGood) -> None:
    """Write it, whole and durable."""
    write_whole(path, sealed(_ADAPTER.dump_python(last, mode="json")), mode=0o600)


def advanced(
    last: LastGood | None,
    desired: Desired,
    source: Source,
    found: Scope,
    unsettled: Iterable[str],
    *,
    addressed: bool = False,
) -> LastGood:
    """What counts as last applied after a pass: git's specification, except for objects that could not get there.

    `unsettled` are the names of domUs of which something failed or is withheld: they keep what they had. One that
    never got there is kept as one that does not run, if the guard has its bindings, and else not at all.
    Orphans and held-back domUs keep theirs too; a tombstone that was carried out is forgotten. `addressed`: the guard
    is as git wants it, so that what their vifs may send from is git's already, whatever else waits. If it is not, what
    host.yaml says of it is not applied either: a commit that would cut off everybody stays a change in the next pass.
    """
    before = {} if last is None else {domu.uuid: domu for domu in last.desired.domus}
    behind = set(unsettled)
    kept: dict[str, DomU] = {domu.uuid: domu for domu in found.retained}
    for domu in (*found.wanted, *found.tombstones):
        if domu.name in behind:
            follows = addressed and domu.state != "absent"
            if domu.uuid not in before and follows:
                kept[domu.uuid] = replace(domu, state="halted")
            elif domu.uuid in before:
                kept[domu.uuid] = _addressed(before[domu.uuid], domu) if follows else before[domu.uuid]
        elif domu.state != "absent":
            kept[domu.uuid] = domu
    domus = tuple(sorted(kept.values(), key=lambda domu: domu.name))
    host = (
        desired.host if addressed else _unguarded(None if last is None else last.desired.host, desired.host)
    )
    specified = {domu.uuid for domu in desired.domus}
    left = tuple(sorted(domu.uuid for domu in found.retained if domu.uuid not in specified))
    return LastGood(source, replace(desired, host=host, domus=domus, held=(), diagnostics=()), left)


def _unguarded(before: Host | None, wanted: Host) -> Host:
    """The host as wanted, its guard as it was; where nothing was ever applied, none."""
    if before is None:
        return replace(wanted, bridges=(), unknown_vifs="report")
    return replace(
        wanted,
        bridges=before.bridges,
        unknown_vifs=before.unknown_vifs,
        guard_backend=before.guard_backend,
        log_prefix=before.log_prefix,
        log_level=before.log_level,
        log_count=before.log_count,
        log_per=before.log_per,
    )


def _addressed(before: DomU, wanted: DomU) -> DomU:
    """What was applied, with git's addresses; those of another bridge come with the replug that brings the vif there."""
    addresses = {(vif.index, vif.bridge): vif.addresses for vif in wanted.vifs}
    vifs = tuple(
        replace(vif, addresses=addresses.get((vif.index, vif.bridge), vif.addresses)) for vif in before.vifs
    )
    return replace(before, vifs=vifs)
