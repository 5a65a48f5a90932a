"""What a command did that is more than looking: its system calls judged one by one, and the host before and after.

Everything is an offence that is not known to be none. Allowed is, to the letter:
- writing into pipes (its own output, and between the commands that it starts), /dev/null and memory of its own;
- xl's lock files, which it makes, locks and takes away while it lists domains;
- asking: netlink GET and DUMP, nftables' check without a commit, xenstore's reading messages;
- making a network namespace of its own, and in there whatever is said to the kernel of its network: it is gone with the command;
- on the simulated dom0, opening and locking the simulated hypervisor's memory. Writing it is a hypercall that changes.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from tests.dom0 import STATE
from tests.dom0.toolstack import run
from tests.end_to_end.strace import Call
from tests.end_to_end.wire import netlink_changes, ruleset_generation, xenstore_changes

XL_LOCK = re.compile(
    r"/var/lib/xen/userdata-l\.\d+\.[0-9a-f-]{36}\.(domain-userdata-lock|libxl-device-changes-lock)(\(deleted\))?"
)
# Nothing, and memory that has no name in any file system: commands get what they are to read from it.
NOTHING = re.compile(r"/dev/null(<char 1:3>)?|/memfd:[^/]*")
WRITING = re.compile(r"\bO_(WRONLY|RDWR|CREAT|TRUNC|APPEND|TMPFILE)\b")
WRITES = {"write", "writev", "pwrite64", "pwritev", "pwritev2", "sendto", "sendmsg", "sendmmsg"}
# What is asked of a terminal, an interface or a loop device; none of these changes any.
QUESTIONS = re.compile(
    r", (TCGETS|TIOCGWINSZ|TIOCGPGRP|FIONREAD|FIOCLEX|FIONBIO|LOOP_GET_STATUS64|SIOCG\w+)\b"
)
# Buffers of the socket itself, and how netlink answers on it. What loads rules of the old iptables is at SOL_IP.
OWN_SOCKET = re.compile(r", (SOL_SOCKET|SOL_NETLINK), ")
XENSTORED = {"/run/xenstored/socket", "/var/run/xenstored/socket"}
TICKING = re.compile(r"\w+_timer +[\d.]+")
_INODE = re.compile(r"[A-Z-]+:\[(\d+)")
_NETLINK = re.compile(r"socket\(AF_NETLINK, .*, NETLINK_(\w+)\) = \d+<(.*)>")
_SUN_PATH = re.compile(r'sun_path=@?"([^"]*)"')
# Where nothing may change, not even a time. The overlays are all of /usr, /etc, /var and /srv.
PLACES = (
    "/etc/xen",
    "/etc/domgit",
    "/var/lib/domgit",
    "/var/lib/xen",
    "/srv/xen",
    "/run",
    *(f"/run/dom0/overlay/{name}/upper" for name in ("usr", "etc", "var", "srv")),
)
# The tests' own temporary files, what all simulated dom0s of a checkout share, and Xen's packages.
NOT_OURS = {"/run/dom0/tmp", "/run/xen-hotplug", "/run/dom0/xen", "/run/dom0/overlay"}


def offences(calls: Iterable[Call]) -> tuple[str, ...]:
    """What was more than looking, each kind once, sorted."""
    calls = list(calls)
    peers = {**_peers(calls), **_protocols(calls)}
    said: defaultdict[str, bytearray] = defaultdict(bytearray)
    found: set[str] = set()
    for call in calls:
        peer = peers.get(_inode(call.descriptor), "")
        if call.name in WRITES and peer in XENSTORED:
            said[_inode(call.descriptor)] += call.data
        else:
            found.update(f"{call.program}: {what}" for what in _judged(call, peer))
    for data in said.values():
        found.update(f"xenstored was told: {what}" for what in xenstore_changes(bytes(data)))
    return tuple(sorted(found))


def _inode(descriptor: str) -> str:
    match = _INODE.match(descriptor)
    return "" if match is None else match[1]


def _peers(calls: Iterable[Call]) -> Mapping[str, str]:
    """The path of the server that each Unix socket was connected to, by the socket's inode."""
    peers = {}
    for call in calls:
        path = _SUN_PATH.search(call.text)
        if call.name == "connect" and path is not None:
            peers[_inode(call.descriptor)] = path[1]
    return peers


def _protocols(calls: Iterable[Call]) -> Mapping[str, str]:
    """The protocol of each netlink socket, by its inode: strace shows it only once the socket has a port."""
    made = (_NETLINK.match(call.text) for call in calls if call.name == "socket")
    return {_inode(match[2]): match[1] for match in made if match is not None}


def _judged(call: Call, peer: str) -> Iterable[str]:
    if call.name in {"socket", "connect"}:
        return ()  # what is said to whom is judged where it is said
    if call.apart and (call.name == "setsockopt" or call.descriptor.startswith("NETLINK:")):
        return ()  # of a network that nobody else is in
    if call.name in WRITES:
        return _written(call, peer)
    rule = RULES.get(call.name)
    return () if rule is not None and rule(call) else (_told(call),)


def _told(call: Call) -> str:
    match call.name:
        case "open" | "openat":
            return f"opens {call.path} for writing"
        case "flock":
            return f"locks {call.descriptor}"
        case _:
            return call.text


def _opens_to_read(call: Call) -> bool:
    allowed = NOTHING.fullmatch(call.path) or XL_LOCK.fullmatch(call.path) or call.path == str(STATE)
    return bool(allowed) or WRITING.search(call.text) is None


# Of these calls, those for which the rule holds are allowed. A call that stands nowhere is an offence.
RULES: Mapping[str, Callable[[Call], object]] = {
    "open": _opens_to_read,
    "openat": _opens_to_read,
    "unlink": lambda call: XL_LOCK.fullmatch(call.path),
    "flock": lambda call: XL_LOCK.fullmatch(call.descriptor) or call.descriptor == str(STATE),
    "ioctl": lambda call: QUESTIONS.search(call.text),
    "setsockopt": lambda call: OWN_SOCKET.search(call.text),
    "unshare": lambda call: "unshare(CLONE_NEWNET)" in call.text,
    # Its own: who looks into disks steps back behind the guests.
    "getpriority": lambda call: "(PRIO_PROCESS, 0)" in call.text,
    "setpriority": lambda call: "(PRIO_PROCESS, 0, " in call.text,
    "bind": lambda call: "sa_family=AF_NETLINK" in call.text,
}


def _written(call: Call, peer: str) -> Iterable[str]:
    kind, _, rest = call.descriptor.partition(":")
    if kind == "pipe" or NOTHING.fullmatch(call.descriptor):
        return ()
    if kind == "NETLINK":
        shown = rest.removeprefix("[").partition(":")[0]
        return netlink_changes(peer or shown, bytes(call.data))
    return (f"{call.name} to {call.descriptor}" + (f" ({peer})" if peer else ""),)


def picture(repository: Path) -> Mapping[str, object]:
    """Everything of a dom0 that a command could change: each file's identity and times, xenstore, links, rules, refs."""
    files = {path: _identity(path) for place in (*PLACES, str(repository)) for path in _below(place)}
    static = [line for line in run("bridge", "fdb", "show").stdout.splitlines() if "static" in line]
    return {
        **files,
        "xenstore": run("xenstore-ls", "-f", "-p", "/").stdout,
        "links": TICKING.sub("", run("ip", "-d", "address").stdout) + run("bridge", "-d", "link").stdout,
        "forwarding": static,
        "rules": run("nft", "-s", "list", "ruleset").stdout,
        "ruleset generation": ruleset_generation(),
    }


def _below(place: str) -> Iterator[str]:
    yield place
    for folder, folders, names in os.walk(place):
        folders[:] = [name for name in folders if f"{folder}/{name}" not in NOT_OURS]
        yield from (f"{folder}/{name}" for name in (*folders, *names))


def _identity(path: str) -> tuple[int, ...] | None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    who = (found.st_ino, found.st_mode, found.st_uid, found.st_gid)
    if path == "/var/lib/xen":
        return who  # xl's lock files come and go here
    return (*who, found.st_nlink, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def differences(before: Mapping[str, object], after: Mapping[str, object]) -> Mapping[str, object]:
    """What is not as it was: before and after, by name."""
    names = sorted(before.keys() | after.keys())
    return {
        name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)
    }
