"""What xenstore's backend folders say of the vifs. Only paths that no guest can write are read."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from state.listing import lines, mac_address
from state.run import ReadError, Runner, TornError

BACKEND_VIF = "/local/domain/0/backend/vif"
LIST_VIFS = ("xenstore-ls", "-f", BACKEND_VIF)
# Where libxl keeps what it knows of each domain that it made: nobody else writes there, no guest and no hotplug script.
LIBXL = "/libxl"
LIST_DOMAINS = ("xenstore-list", LIBXL)
_FOLDER = rf"{BACKEND_VIF}(?:/[0-9]{{1,5}}(?:/[0-9]{{1,5}})?)?"
_LINE = re.compile(
    rf'{BACKEND_VIF}/(?P<domid>[0-9]{{1,5}})/(?P<index>[0-9]{{1,5}})/(?P<key>[^ ="]+) = "(?P<value>.*)"'
)
_EMPTY = re.compile(rf'{_FOLDER} = ""')
# What xenstore-ls prints of a node that goes while it walks (then an empty line): every guest's reboot can do that.
_TORN = re.compile(rf"(?:{BACKEND_VIF}[^ ]*:)?")
_DOMID = re.compile(r"0|[1-9][0-9]{0,4}")
_RATE = re.compile(r"(?P<credit>[0-9]{1,10}),(?P<interval>[0-9]{1,10})")
_NO_DOMAIN_EVER = f"xenstore-list: could not list path {LIBXL}"


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

    Folders without a `frontend` key are left-overs of dead domains and are ignored, and so are unknown keys.

    Raises:
        TornError: a vif came or went while they were listed.
        ReadError: a line is not `PATH = "VALUE"` or stands twice, or a value is none of its kind.

    Source: xenstore-ls(1), tools/xenstore/xenstore_client.c, Xen 4.17; drivers/net/xen-netback/xenbus.c, Linux 6.1.
    """
    folders: defaultdict[tuple[int, int], dict[str, str]] = defaultdict(dict)
    for line in lines("xenstore-ls", text) if text else ():
        if match := _LINE.fullmatch(line):
            keys = folders[int(match["domid"]), int(match["index"])]
            if match["key"] in keys:
                raise ReadError(f"xenstore-ls: {line[:120]!r} stands there a second time")
            keys[match["key"]] = match["value"]
        elif _TORN.fullmatch(line):
            raise TornError(f"xenstore-ls: {line[:120]!r}: a vif went while it was listed")
        elif not _EMPTY.fullmatch(line):
            raise ReadError(f"xenstore-ls: cannot read the line {line[:120]!r}")
    return tuple(
        _vif(domid, index, keys) for (domid, index), keys in sorted(folders.items()) if keys.get("frontend")
    )


def _vif(domid: int, index: int, keys: Mapping[str, str]) -> BackendVif:
    where = f"{BACKEND_VIF}/{domid}/{index}"
    # libxl writes `handle` behind all that is used here but the script's own status: where it is, nothing is cut off.
    for key in ("mac", "handle"):
        if key not in keys:
            raise TornError(f"{where}: no {key}: it came or went while it was listed")
    rate = keys.get("rate", "")
    match = _RATE.fullmatch(rate)
    if rate and match is None:
        raise ReadError(f"{where}: rate is {rate!r:.80}")
    return BackendVif(
        domid=domid,
        index=index,
        mac=mac_address(keys["mac"], f"{where}: mac"),
        bridge=keys.get("bridge", ""),
        interface=keys.get("vifname") or f"vif{domid}.{index}",
        script=keys.get("script", ""),
        rate=None if match is None else (int(match["credit"]), int(match["interval"])),
        hotplug_status=keys.get("hotplug-status", ""),
    )


def parse_domains(text: str) -> frozenset[int]:
    """The domids in `xenstore-list /libxl`, Domain-0 left out.

    Raises:
        ReadError: a line is no domid, or was cut.

    Source: tools/xenstore/xenstore_client.c, Xen 4.17.
    """
    found = lines("xenstore-list", text) if text else []
    for line in found:
        if _DOMID.fullmatch(line) is None:
            raise ReadError(f"xenstore-list: {line[:120]!r} is no domid")
    return frozenset(int(line) for line in found) - {0}


def read_domains(runner: Runner) -> frozenset[int]:
    """The domids of all that libxl has made and not yet taken apart.

    Raises:
        ReadError: xenstore does not answer, or says what we do not understand.
    """
    completed = runner.run(LIST_DOMAINS)
    if completed.rc != 0 and completed.stderr.strip() == _NO_DOMAIN_EVER and not completed.stdout:
        return frozenset()
    return parse_domains(completed.output())


def read_vifs(runner: Runner, domids: Iterable[int] | None = None) -> tuple[BackendVif, ...]:
    """The vifs of these domains, of all without a list; none where no such domain ever had one.

    Raises:
        ReadError: xenstore does not answer, or says what we do not understand.
    """
    paths = [BACKEND_VIF] if domids is None else [f"{BACKEND_VIF}/{domid}" for domid in domids]
    return tuple(vif for path in paths for vif in _vifs_below(runner, path))


def _vifs_below(runner: Runner, path: str) -> tuple[BackendVif, ...]:
    completed = runner.run(("xenstore-ls", "-f", path))
    # A xenstored that cannot be reached is "No such file or directory" as well, of another call.
    never = f"xenstore-ls: xs_directory ({path}): No such file or directory"
    if completed.rc != 0 and completed.stderr.strip() == never and not completed.stdout:
        return ()
    return parse_vifs(completed.output())


@dataclass(frozen=True, slots=True)
class Console:
    """Where a guest's console is now; what is not there is "". `vnc_port` is that of its screen."""

    path: str
    type: str
    vnc_port: str = ""


def read_console(runner: Runner, domid: int, *, serial: bool = False) -> Console:
    """A domain's console: the first serial port of an HVM guest, the paravirtualised one of all others.

    The toolstack and xenconsoled write these nodes, and the guest may not. The password beside them is not read.

    Raises:
        ReadError: xenstore does not answer.
    """
    base = f"/local/domain/{domid}"
    nodes = (
        f"{base}/serial/0/tty" if serial else f"{base}/console/tty",
        f"{base}/console/type",
        f"{base}/console/vnc-port",
    )
    return Console(*(_node(runner, path) for path in nodes))


def _node(runner: Runner, path: str) -> str:
    completed = runner.run(("xenstore-read", path))
    if completed.rc != 0 and completed.stderr.strip() == f"xenstore-read: couldn't read path {path}":
        return ""
    return completed.output().strip()
