"""What the kernel's log says of frames that the guard refused: reading the ring, and what a line tells.

The ring is read itself, and not journald: it needs no daemon and no tool, root may always read it, and what an
administrator has journald keep or drop does not matter. It is short: what was said long ago is gone.

All that a line tells of a frame but its port was chosen by the guest: the names say so, nothing is decided by it, and
what is not exactly a MAC, an address or a number is left out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

KMSG = Path("/dev/kmsg")
# A record is longer only where a driver puts much beside its text; the kernel then refuses a shorter read.
_RECORD_BYTES = 8192
# More than any ring holds at once: one that is written faster than we read must not keep us.
_MOST_RECORDS = 1_000_000
# The kernel's own facility is 0. What programs write to the ring has another one, whatever they ask for.
_FACILITY = 8
_RECORD = re.compile(
    r"(?P<priority>[0-9]{1,6}),[0-9]{1,20},(?P<us>[0-9]{1,20}),[^;]{0,64};(?P<text>[^\n]*)\n?.*", re.DOTALL
)
_LINE = re.compile(r"IN=(?P<port>\S{1,15}) OUT=(?P<out>\S{0,15}) (?P<rest>.*)")
# Beside a bridge's own rules those of iptables name the bridge, and the port so.
_PHYSICAL = re.compile(r"PHYSIN=(?P<port>\S{1,15}) ")
_HARDWARE = re.compile(
    r"(?P<target>(?:[0-9a-f]{2}:){5}[0-9a-f]{2}):(?P<source>(?:[0-9a-f]{2}:){5}[0-9a-f]{2}):(?P<type>[0-9a-f]{2}:[0-9a-f]{2})"
)
_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
_ADDRESS = re.compile(r"[0-9a-f:.]{2,45}")  # without what may stand behind a %
_NUMBER = re.compile(r"[0-9]{1,5}")
_WORD = re.compile(r"[A-Za-z0-9]{1,12}")
_ARP_OPERATIONS = {"1": "ARP request", "2": "ARP reply"}
_NO_TYPE = {"0800", "86dd"}  # whose lines tell more


@dataclass(frozen=True, slots=True)
class LoggedFrame:
    """One refused frame as the kernel's log has it; `uptime_s` is when, in seconds since the host's boot.

    `untrusted_mac` is the outer source, which lines about ARP do not have. Of ARP, `untrusted_sender_mac` and
    `untrusted_source` are what is claimed to belong together.
    """

    port: str
    uptime_s: float
    untrusted_kind: str
    untrusted_mac: str | None = None
    untrusted_sender_mac: str | None = None
    untrusted_source: str | None = None
    untrusted_target: str | None = None


def read_kernel_log(path: Path = KMSG) -> tuple[str, ...] | None:
    """All records in the ring, oldest first, each as /dev/kmsg gives it; None where it cannot be read.

    Source: Documentation/ABI/testing/dev-kmsg of Linux.
    """
    try:
        ring = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return tuple(_records(ring))
    except OSError:
        return None
    finally:
        os.close(ring)


def _records(ring: int) -> Iterator[str]:
    for _ in range(_MOST_RECORDS):
        try:
            record = os.read(ring, _RECORD_BYTES)
        except BlockingIOError:
            return
        except BrokenPipeError:
            continue  # overwritten before it was read; the next read goes on behind the gap
        if not record:
            return
        yield record.decode("utf-8", "replace")


def parse_logged(record: str, prefix: str) -> LoggedFrame | None:
    """The refused frame that a record tells of; None where it is no line of a rule with this prefix.

    Source: nf_log_syslog.c of Linux 6.18; captures of 6.18 in tests/cases/captures/.
    """
    match = _RECORD.fullmatch(record)
    if match is None or int(match["priority"]) >= _FACILITY or not match["text"].startswith(prefix):
        return None
    line = _LINE.fullmatch(match["text"], len(prefix))
    if line is None:
        return None
    # What stands in brackets is a packet inside the packet, or tells that the rest is missing.
    rest, _, _ = line["rest"].partition("[")
    physical = _PHYSICAL.match(rest)
    fields: dict[str, str] = {}
    for word in rest.split():
        key, _, value = word.partition("=")
        # The outermost comes first, and a word cannot come back to change it.
        fields.setdefault(key, value)
    return _frame(line["port"] if physical is None else physical["port"], int(match["us"]) / 1e6, fields)


def _frame(port: str, uptime_s: float, fields: dict[str, str]) -> LoggedFrame:
    if "ARP" in fields:
        return LoggedFrame(
            port,
            uptime_s,
            _ARP_OPERATIONS.get(fields.get("OPCODE", ""), "ARP"),
            untrusted_sender_mac=_mac(fields.get("MACSRC")),
            untrusted_source=_address(fields.get("IPSRC")),
            untrusted_target=_address(fields.get("IPDST")),
        )
    hardware = _HARDWARE.fullmatch(fields.get("MAC", ""))
    return LoggedFrame(
        port,
        uptime_s,
        _kind(fields, "" if hardware is None else hardware["type"].replace(":", "")),
        untrusted_mac=None if hardware is None else hardware["source"],
        untrusted_source=_address(fields.get("SRC")),
        untrusted_target=_address(fields.get("DST")),
    )


def _kind(fields: dict[str, str], ethertype: str) -> str:
    """What the frame carries, in a few words."""
    protocol = fields.get("PROTO", "")
    if not _WORD.fullmatch(protocol):
        if "SRC" in fields:
            return "IPv6" if ":" in fields["SRC"] else "IPv4"
        return f"type 0x{ethertype}" if ethertype and ethertype not in _NO_TYPE else "unknown"
    if protocol.isdigit():
        protocol = f"protocol {protocol}"
    ports = fields.get("SPT", ""), fields.get("DPT", "")
    if all(_NUMBER.fullmatch(each) for each in ports):
        return f"{protocol} {ports[0]} to {ports[1]}"
    kind = fields.get("TYPE", "")
    return f"{protocol} type {kind}" if _NUMBER.fullmatch(kind) else protocol


def _mac(text: str | None) -> str | None:
    return text if text is not None and _MAC.fullmatch(text) else None


def _address(text: str | None) -> str | None:
    """An address in its canonical form."""
    if text is None or _ADDRESS.fullmatch(text) is None:
        return None
    try:
        return str(ip_address(text))
    except ValueError:
        return None
