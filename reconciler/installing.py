"""How far the installation of a domU has come: an installer is started once, and never over what is installed. Pure.

git says how it is installed and how it starts afterwards; that the installer has ended can be said by the ledger alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from reconciler.ledger import Owned
from reconciler.render_xl import ENDS
from state.desired import Boot, DomU
from state.observed import Domain
from state.xl import SavedDomain

# How an installer ends that has done its work, and the word for a guest that has run as it is installed.
_ENDED: Mapping[str, str] = {
    "reboot": "its installer has ended with a reboot",
    "poweroff": "its installer has ended with a poweroff",
    "runs": "it has run as it is installed",
}
_UNFINISHED: Mapping[str, str] = {
    "running": "its installer runs",
    "crashed": "its installer has crashed, and is kept as it is",
    "interrupted": "its installer ended unseen, and nobody knows how far it came",
}
_BEGUN = "begun"
_UNKNOWN = "-"
AGAIN = "`domgit apply --reinstall {}` installs it anew, over what is on its disks"
Stage = Literal["due", "running", "crashed", "interrupted", "ended"]


def settings_digest(boot: Boot) -> str:
    """What tells one installation from another: what the installer is started with."""
    return _digest(boot.kernel, boot.ramdisk, boot.cmdline, boot.cdrom)


def _saved_digest(saved: SavedDomain) -> str:
    """The same of a living domain."""
    cdrom = next((disk.path for disk in saved.disks if disk.cdrom), "")
    return _digest(saved.kernel, saved.ramdisk, saved.cmdline, cdrom)


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def is_installer(domain: Domain | None) -> bool:
    """Whether a domain was started as an installer."""
    return domain is not None and domain.saved is not None and domain.saved.on_reboot == ENDS["install"]


@dataclass(frozen=True, slots=True)
class Installation:
    """The installation of a domU that git has in phase install.

    `ended` says how it ended, "" as long as it has not; `ran`: what it has left has run. `record` is what the ledger is
    to know of it by now. `changed`: what it is or was installed with is not what git says. `anew`: a human has said that
    it is to begin again.
    """

    stage: Stage
    record: str
    ended: str = ""
    ran: bool = False
    changed: bool = False
    advances: bool = False
    anew: bool = False

    @property
    def waits(self) -> bool:
        """Whether it is installed, and is started when git says `phase: run` and no earlier."""
        return self.stage == "ended" and not (self.ran or self.advances)


def installation(
    domu: DomU, domain: Domain | None, owned: Owned | None, before: DomU | None, *, anew: bool = False
) -> Installation | None:
    """How far it has come; None for a domU that git has in phase run.

    `before` is what was last applied. What cannot be known counts as installed: a customer's disk is at stake.
    """
    boot = domu.boot
    if boot is None or boot.phase != "install":
        return None
    wanted = settings_digest(boot)
    how, _, kept = ("" if owned is None else owned.install).partition(" ")
    stage, ended, digest = _stage(domu, domain, how, before)
    if anew:
        return Installation("due", "", advances=domu.advances, anew=True)
    known = kept or digest or (_UNKNOWN if ended else wanted)
    word = ended if stage == "ended" else _BEGUN if stage in {"running", "crashed"} else how
    return Installation(
        stage,
        f"{word} {known}" if word else "",
        ended=_ENDED.get(ended, ""),
        ran=ended == "runs",
        changed=stage != "due" and known != wanted,
        advances=domu.advances,
    )


def _stage(domu: DomU, domain: Domain | None, how: str, before: DomU | None) -> tuple[Stage, str, str]:
    """The stage, how it ended, and the digest of what a living installer was started with."""
    if how in _ENDED:
        return "ended", how, ""
    if domain is not None and domain.saved is not None and not domain.dying:
        digest, shutdown = _saved_digest(domain.saved), domain.shutdown or ""
        if not is_installer(domain):
            return "ended", "runs", ""
        if shutdown in {"crash", "watchdog"}:
            return "crashed", "", digest
        # Where git wants it halted, it may have been us who ended it.
        if shutdown in _ENDED and domu.state == "running":
            return "ended", shutdown, digest
        return "running", "", digest
    if domain is not None:
        return "running" if how else "due", "", ""
    if how == _BEGUN:
        return "interrupted", "", ""
    if domu.moved_from is not None and domu.boot is not None:
        # Its disk comes with it from where it was installed, as git says how.
        return "ended", "runs", settings_digest(domu.boot)
    ran = before is not None and before.boot is not None and before.boot.phase == "run"
    if ran and before is not None and before.state == "running":
        return "ended", "runs", ""
    return "due", "", ""


def as_installed(domu: DomU, found: Installation | None, before: DomU | None) -> DomU:
    """The domU as it is to be now: with what it was installed with, and with how it runs once that has ended."""
    if found is None or domu.boot is None:
        return domu
    if found.stage == "ended":
        return replace(domu, boot=domu.installed or domu.boot)
    if found.changed and before is not None and before.boot is not None:
        _, _, digest = found.record.partition(" ")
        same = before.boot.phase == "install" and settings_digest(before.boot) == digest
        return replace(domu, boot=before.boot) if same else domu
    return domu


def started(domu: DomU, owned: Owned | None) -> str | None:
    """What the ledger is to know of a domU's installation once it has been started as `domu` says; None: it knows enough."""
    how, _, kept = ("" if owned is None else owned.install).partition(" ")
    if domu.boot is not None and domu.boot.phase == "install":
        return f"{_BEGUN} {settings_digest(domu.boot)}"
    return None if how == "runs" else f"runs {kept or _UNKNOWN}"


def told(name: str, found: Installation) -> tuple[str, str, bool] | None:
    """(reason, sentence, whether a human must act) for what there is to know of an installation; None for nothing."""
    again = AGAIN.format(name)
    if found.anew or found.stage == "due":
        return None
    what = found.ended or _UNFINISHED[found.stage]
    if found.changed or (found.ran and not found.advances):
        why = f"{what}: `phase: install`, and what `boot.install` says now, start no installer over that ({again})"
        return "installed_already", why, True
    if found.stage in {"crashed", "interrupted"}:
        why = f"{what} (`boot.phase: run` starts what is installed; {again})"
        return "install_interrupted", why, True
    if found.stage == "running":
        then = (
            "it goes on with `boot.run` by itself" if found.advances else "it waits, halted, for `phase: run`"
        )
        return "installing", f"{what}: when that has ended, {then}", False
    return None if found.advances else ("installed", f"{what}: it waits for `boot.phase: run` in git", False)
