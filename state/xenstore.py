"""What xenstore's backend folders say of the vifs. Only paths that no guest can write are read."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from state.run import ReadError, Runner, TornError

BACKEND_VIF = "/local/domain/0/backend/vif"
LIST_VIFS = ("xenstore-ls", "-f", BACKEND_VIF)
_LINE = re.compile(rf'{BACKEND_VIF}/(?P<domid>\d+)/(?P<index>\d+)/(?P<key>[a-z-]+) = "(?P<value>.*)"')
# What xenstore-ls prints of a node that goes while it walks (then an empty line): every guest's reboot can do that.
_TORN = re.compile(rf"(?:{BACKEND_VIF}[^ ]*:)?")
_FOLDER = re.compile(rf'{BACKEND_VIF}(?:/\d+(?:/\d+)?)? = ""')


@dataclass(frozen=True, slots=True, order=True)
class BackendVif:
    """A vif as its backend was told to be, by the toolstack."""

    domid: int
    index: int
    mac: str
    bridge: str
    interface: str  # the name of the port in dom0: vifname, or vif<domid>.<index>
    script: str
    rate: tuple[int, int] | None  # bytes per interval, interval in microseconds
    hotplug_status: str  # "", "connected" or "error"


def parse_vifs(text: str) -> tuple[BackendVif, ...]:
    """The vifs in `xenstore-ls -f /local/domain/0/backend/vif`, in (domid, index) order.

    Folders without a `frontend` key are left-overs of dead domains and are ignored.

    Raises:
        TornError: a vif came or went while they were listed.
        ReadError: a line is not `PATH = "VALUE"`, or a rate is none.

    Source: xenstore-ls(1), tools/xenstore/xenstore_client.c, Xen 4.17.
    """
    folders: defaultdict[tuple[int, int], dict[str, str]] = defaultdict(dict)
    for line in text.splitlines():
        if match := _LINE.fullmatch(line):
            folders[int(match["domid"]), int(match["index"])][match["key"]] = match["value"]
        elif _TORN.fullmatch(line):
            raise TornError(f"xenstore-ls: {line!r}: a vif went while it was listed")
        elif not _FOLDER.fullmatch(line):
            raise ReadError(f"xenstore-ls: cannot read the line {line[:120]!r}")
    return tuple(
        _vif(domid, index, keys) for (domid, index), keys in sorted(folders.items()) if keys.get("frontend")
    )


def _vif(domid: int, index: int, keys: Mapping[str, str]) -> BackendVif:
    if "mac" not in keys:
        raise TornError(f"{BACKEND_VIF}/{domid}/{index}: no mac: it came or went while it was listed")
    mac, rate = keys["mac"].lower(), keys.get("rate", "")
    try:
        credit, interval = (int(part) for part in rate.split(",")) if rate else (0, 0)
    except ValueError as exc:
        raise ReadError(f"{BACKEND_VIF}/{domid}/{index}: {exc!r}") from exc
    return BackendVif(
        domid=domid,
        index=index,
        mac=mac,
        bridge=keys.get("bridge", ""),
        interface=keys.get("vifname") or f"vif{domid}.{index}",
        script=keys.get("script", ""),
        rate=(credit, interval) if rate else None,
        hotplug_status=keys.get("hotplug-status", ""),
    )


def read_vifs(runner: Runner) -> tuple[BackendVif, ...]:
    """The vifs of all domains; none where no domain ever had one.

    Raises:
        ReadError: xenstore does not answer, or says what we do not understand.
    """
    completed = runner.run(LIST_VIFS)
    if completed.rc != 0:
        # A host that never had a vif has no such folder; a xenstored that is down says something else.
        if "No such file or directory" in completed.stderr:
            return ()
        raise ReadError(str(completed))
    return parse_vifs(completed.stdout)
