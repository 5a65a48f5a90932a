"""A human opens one vif for a time, here and now: without git, without the daemon, and closed again by the kernel.

What is opened is the vif's addresses and kinds of frames, and never its MAC: the lock of its port stays, and nobody would
have to be alive to lock it again. The time is a timeout of the kernel's own: whatever is killed, it ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from reconciler.execute import ApplyError
from reconciler.guard.loaded import bound, bypassed
from reconciler.guard.nftables import LOAD, opened_script
from reconciler.reconcile import Dom0
from reconciler.violations import stamp
from state.drops import Drops, read_drops
from state.nft import BYPASSED
from state.observed import READ_AGAIN_AFTER_S, READ_ATTEMPTS
from state.run import ReadError

# Whoever needs a vif open for longer wants another binding: that is git's to say.
LONGEST_S = 24 * 3600
# As long as fits a line of `history`.
LONGEST_REASON = 200


class BypassError(Exception):
    """It cannot be done as it was asked for; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody asks for: which vif, for how long, why, and who he is."""

    vif: str
    seconds: int
    reason: str
    by: str


def open_vif(dom0: Dom0, wish: Wish) -> str:
    """Open a vif, and say until when, RFC 3339. One that is open already is open from now on for as long as this says.

    Raises:
        BypassError: there is no such vif, no guard, no reason, or the time is none.
        ReadError: nft cannot be asked.
        ApplyError: nft refused it, or it cannot be read back.
        OSError: it could not be written down; nothing was changed.
    """
    if not 0 < wish.seconds <= LONGEST_S:
        raise BypassError(f"--for: {wish.seconds}s (expected 1s to {LONGEST_S // 3600}h)")
    reason = wish.reason.strip()
    if not reason or len(reason) > LONGEST_REASON or not reason.isprintable():
        raise BypassError(f"--reason: expected 1 to {LONGEST_REASON} printable characters")
    keys = _keys(_drops(dom0), wish.vif)
    until = stamp(dom0.now() + timedelta(seconds=wish.seconds))
    _noted(dom0, "open", wish.vif, {"until": until, "seconds": wish.seconds, "reason": reason, "by": wish.by})
    _load(dom0, opened_script(keys, wish.seconds, f"until {until}"))
    there = bypassed(_drops(dom0).table)
    if not all(there.get(key) == f"until {until}" for key in keys):
        raise ApplyError(f"{wish.vif}: not open when it was read back")
    return until


def close_vif(dom0: Dom0, vif: str, by: str) -> None:
    """Close a vif before its time.

    Raises:
        BypassError: it is not open.
        ReadError: nft cannot be asked.
        ApplyError: nft refused it, or it is still there when it is read back.
        OSError: it could not be written down; nothing was changed.
    """
    there = [*bypassed(_drops(dom0).table)]
    keys = _ports_of(vif, there)
    if not keys:
        raise BypassError(f"{vif!r} is not bypassed")
    _noted(dom0, "end", vif, {"by": by})
    _load(dom0, opened_script(keys, None))
    if bypassed(_drops(dom0).table).keys() & {*keys}:
        raise ApplyError(f"{vif}: still open when it was read back")


def _drops(dom0: Dom0) -> Drops:
    # nft cannot say what a table holds in the moment in which a pass loads rules.
    policy = Retrying(
        retry=retry_if_exception_type(ReadError),
        stop=stop_after_attempt(READ_ATTEMPTS),
        wait=wait_fixed(READ_AGAIN_AFTER_S),
        sleep=dom0.sleep,
        reraise=True,
    )
    drops = policy(read_drops, dom0.runner, dom0.files)
    if drops is None:
        raise BypassError("the guard is not loaded: nothing holds a vif back")
    if drops.table.by != "nftables":
        # No table of these tools closes anything by itself when its time is over.
        raise BypassError(
            f"the guard is loaded with {drops.table.by}, which cannot open a vif for a time (expected `guard: audit` on that vif, in git)"
        )
    if f"set {BYPASSED}\n" not in drops.table.rules:
        raise BypassError("the guard is that of an older version (expected `domgit apply` once)")
    return drops


def _keys(drops: Drops, vif: str) -> list[tuple[str, str]]:
    """The ports of a vif with their MACs: names out of the kernel, never what was typed."""
    held = bound(drops.table)
    keys = _ports_of(vif, [(port, each.mac) for port, each in held.items()])
    if vif not in held or not keys:
        raise BypassError(f"no vif {vif!r} (have {_named(held)})")
    return keys


def _ports_of(vif: str, keys: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The (port, MAC) of a vif, and of its emulated twin: that one has the same MAC, and a vif of another domU may have such a name."""
    by_port = dict(keys)
    return [
        (port, mac)
        for port, mac in by_port.items()
        if port in {vif, f"{vif}-emu"} and mac == by_port.get(vif)
    ]


def _named(held: Iterable[str]) -> str:
    names = [name for name in sorted(held) if not name.endswith("-emu")]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "none"  # noqa: PLR2004  # so many fit a line


def _noted(dom0: Dom0, what: str, vif: str, more: dict[str, Any]) -> None:
    # Before it is done, like every plan.
    dom0.journal().append({"type": "bypass", "time": dom0.timestamp(), "what": what, "vif": vif, **more})


def _load(dom0: Dom0, script: str) -> None:
    done = dom0.runner.run(LOAD, stdin=script)
    if done.rc != 0:
        raise ApplyError(str(done))
