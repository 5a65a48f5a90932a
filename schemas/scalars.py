"""The values that may stand in a specification, each with one canonical form. Pure.

A value comes as a Plain (unquoted in YAML), a str (quoted, or from canonical JSON), an int or a bool (from
canonical JSON). The field's type decides how a Plain is read: `no` is a name where a name is wanted.
A quoted value is only ever a string. Everything is ASCII unless it says otherwise.
"""

from __future__ import annotations

import re
import uuid as uuids
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, TypeVar

from pydantic import BeforeValidator, Field, PlainSerializer

from schemas.shown import shown

KIB, MIB, GIB, TIB = 1024, 1024**2, 1024**3, 1024**4
_SIZE_UNITS = {
    "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": TIB,
}  # fmt: skip
_MOST_MEMORY_MIB = 10**9 - 1  # what the canonical form, which has MiB alone, can say
_DURATION_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


_INTEGER = re.compile(r"0|[1-9][0-9]{0,17}")
_MEMORY = re.compile(r"([1-9][0-9]{0,8})(MiB|GiB)")
_DISK_SIZE = re.compile(r"([1-9][0-9]{0,18})(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)")
_RATE = re.compile(r"([1-9][0-9]{0,8})([KMG]?)([Bb])/s(?:@([1-9][0-9]{0,6})(ms|us|s))?")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DOMU_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,62}")
_GOOD_VIF_NAME = re.compile(r"[a-z][a-z0-9_-]{0,10}")
_PATH = re.compile(r"(/[A-Za-z0-9._:@+-]+)+")


T = TypeVar("T")


class Plain(str):
    """An unquoted YAML scalar: text whose meaning the field's type decides."""

    __slots__ = ()


def integer(value: object) -> object:
    """An integer in its one canonical spelling.

    Raises:
        ValueError: it is none, or one in quotes.
    """
    if type(value) is int:
        return value
    # Nothing else is one: 010 would be octal to some and ten to others, 1_0 and 1e3 numbers to some only.
    if isinstance(value, Plain) and _INTEGER.fullmatch(value):
        return int(value)
    raise ValueError(f"{shown(value)} is no integer (expected digits without quotes or leading zeros)")


def _boolean(value: object) -> object:
    if type(value) is bool:
        return value
    if isinstance(value, Plain) and value in {"true", "True", "TRUE", "false", "False", "FALSE"}:
        return value.lower() == "true"
    raise ValueError(f"{shown(value)} is no boolean (expected true or false, without quotes)")


def plain_text(value: object) -> str:
    """The text of a scalar, quoted or not.

    Raises:
        ValueError: it is no text.
    """
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is no text (expected one)")  # noqa: TRY004  # pydantic collects ValueErrors, not TypeErrors
    return str(value)


def _often(check: Callable[[object], T]) -> BeforeValidator:
    """A validator of what a fleet says in a few ways and ten thousand times, such as a size: each way is looked at once."""
    known = lru_cache(maxsize=256, typed=True)(check)

    def often(value: object) -> T:
        return known(value) if isinstance(value, str) else check(value)

    return BeforeValidator(often)


def matching(pattern: str, expected: str) -> BeforeValidator:
    """A validator for text that matches the whole of `pattern`; `expected` says so in words."""
    compiled = re.compile(pattern, re.ASCII)

    def check(value: object) -> str:
        text = plain_text(value)
        if compiled.fullmatch(text) is None:
            raise ValueError(f"{shown(text)} is not {expected}")
        return text

    return _often(check)


Integer = Annotated[int, BeforeValidator(integer)]
Boolean = Annotated[bool, BeforeValidator(_boolean)]
Text = Annotated[str, BeforeValidator(plain_text)]


def _memory(value: object) -> int:
    text = plain_text(value)
    match = _MEMORY.fullmatch(text)
    if match is None:
        raise ValueError(f"{shown(text)} is no memory size (expected whole MiB or GiB, such as 512MiB)")
    mib = int(match[1]) * (_SIZE_UNITS[match[2]] // MIB)
    if mib > _MOST_MEMORY_MIB:
        raise ValueError(f"{shown(text)} is more than any machine has (expected less than {10**9}MiB)")
    return mib


def _disk_size(value: object) -> int:
    text = plain_text(value)
    match = _DISK_SIZE.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{shown(text)} is no disk size (expected a whole number with a unit, such as 5GiB or 5243928576B)"
        )
    size = int(match[1]) * _SIZE_UNITS[match[2]]
    if size > 2**62:
        raise ValueError(f"{shown(text)} is larger than any disk (expected at most 4194304TiB)")
    return size


def canonical_disk_size(size: int) -> str:
    """The size in the largest binary unit that divides it."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size % _SIZE_UNITS[unit] == 0:
            return f"{size // _SIZE_UNITS[unit]}{unit}"
    return f"{size}B"


# Whole MiB, because xl takes nothing smaller.
Memory = Annotated[
    int,
    _often(_memory),
    PlainSerializer(lambda mib: f"{mib}MiB", return_type=str),
    Field(json_schema_extra={"type": "string", "pattern": "^[1-9][0-9]{0,8}(MiB|GiB)$"}),
]
DiskSize = Annotated[
    int,
    _often(_disk_size),
    PlainSerializer(canonical_disk_size, return_type=str),
    Field(json_schema_extra={"type": "string", "pattern": "^[1-9][0-9]{0,18}(B|[kMGT]B|[KMGT]iB)$"}),
]


def parse_rate(text: str) -> tuple[int, int]:
    """(bytes per interval, interval in microseconds) of a rate as xl takes it, such as `10Mb/s` or `1MB/s@20ms`.

    Raises:
        ValueError: it is no rate.

    Source: xl-network-configuration(5), tools/libs/util/libxlu_vif.c, Xen 4.17.
    """
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(f"{shown(text)} is no rate (expected such as 10Mb/s, 250KB/s or 1MB/s@20ms)")
    bytes_per_s = int(match[1]) * {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}[match[2]]
    if match[3] == "b":
        bytes_per_s //= 8
    interval_us = int(match[4]) * {"us": 1, "ms": 1000, "s": 10**6}[match[5]] if match[4] else 50_000
    if interval_us >= 2**32:  # xl stops at it, and with it the start of the domU
        raise ValueError(f"{shown(text)} is out of range (an interval of 4295 s and more)")
    credit = bytes_per_s * interval_us // 10**6
    if not 0 < credit < 2**32:
        raise ValueError(
            f"{shown(text)} is out of range (expected 1 byte to 4 GiB in an interval, which is 50 ms unless said)"
        )
    return credit, interval_us


def _rate(value: object) -> str:
    text = plain_text(value)
    parse_rate(text)
    return text


Rate = Annotated[str, _often(_rate)]


def _uuid(value: object) -> str:
    text = plain_text(value).lower()
    if _UUID.fullmatch(text) is None:
        raise ValueError(f"{shown(text)} is no uuid (expected such as 0d6f3f5e-5a4b-4c4e-9a53-0d6d3f0c2b11)")
    if uuids.UUID(text).int == 0:
        raise ValueError("the zero uuid is Domain-0's (expected another)")
    return text


Uuid = Annotated[str, BeforeValidator(_uuid)]


def is_domu_name(name: str) -> bool:
    """Whether a domain that is there has a name that a specification could give it: xl takes others as well."""
    return _DOMU_NAME.fullmatch(name) is not None


def _domu_name(value: object) -> str:
    text = plain_text(value)
    if not is_domu_name(text):
        raise ValueError(
            f"{shown(text)} is no domU name (expected a letter, then up to 62 letters, digits, '.', '_' or '-')"
        )
    if text.lower() == "domain-0" or text.endswith("--incoming"):
        raise ValueError(f"{shown(text)} is a name that Xen uses itself (expected another)")
    return text


DomUName = Annotated[str, BeforeValidator(_domu_name)]
HostName = Annotated[
    str, matching(r"[a-z][a-z0-9.-]{0,62}", "a host name (expected lower case, digits, '.' and '-')")
]
Name = Annotated[
    str, matching(r"[a-z][a-z0-9._-]{0,62}", "a name (expected lower case, digits, '.', '_' and '-')")
]
Label = Annotated[
    str, matching(r"[\x20-\x7e]{0,120}", "a label (expected at most 120 printable ASCII characters)")
]
LabelKey = Annotated[
    str,
    matching(
        r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}",
        "a label's name (expected letters, digits, '.', '_', '/' and '-')",
    ),
]
# What the kernel takes without surprises: `all` and `default` are other things under /proc/sys/net, a `-` in
# front is an option to tools, and `lo` is taken.
_INTERFACE_NAME = r"(?!(\.{1,2}|lo|all|default)\Z)[A-Za-z0-9_.][A-Za-z0-9_.-]{0,14}"
InterfaceName = Annotated[
    str,
    matching(
        _INTERFACE_NAME,
        "an interface name (expected at most 15 letters, digits, '_', '.' or '-', and none the kernel uses itself)",
    ),
]


def is_interface_name(name: str) -> bool:
    """Whether an interface that is there has a name that a specification could give it.

    The kernel takes others as well, which a rule or a command would take for something else.
    """
    return re.fullmatch(_INTERFACE_NAME, name, re.ASCII) is not None


def is_good_vif_name(name: str) -> bool:
    """Whether a vif name is one that we would give: short enough for an `-emu` twin, and not the kernel's own."""
    return _GOOD_VIF_NAME.fullmatch(name) is not None and not name.startswith("vif")


PATH_LIMIT = 255  # the kernel takes 4095; nobody names images like that, and logs stay readable


def _path(value: object) -> str:
    text = plain_text(value)
    # No comma, quote, backslash or blank: disk strings have no quoting at all.
    if _PATH.fullmatch(text) is None or len(text) > PATH_LIMIT:
        raise ValueError(
            f"{shown(text)} is no path (expected an absolute one of letters, digits and . _ : @ + -, at most {PATH_LIMIT} characters)"
        )
    if "@domgit-secret:" in text:
        raise ValueError(
            f"{shown(text)} holds what stands for a secret (expected a path without @domgit-secret:)"
        )
    if "/./" in (closed := f"{text}/") or "/../" in closed:
        raise ValueError(f"{shown(text)} is not normalised (expected no '.' or '..')")
    return text


Path = Annotated[str, BeforeValidator(_path)]
# 255 is what NetBSD and libxl's PV builder take. No double quote and no backslash: they end or escape an xl.cfg
# string, and render_xl would refuse them on the host.
CommandLine = Annotated[
    str,
    matching(
        r"(?!.*@domgit-secret:)[\x20\x21\x23-\x5b\x5d-\x7e]{0,255}",
        "a kernel command line (expected at most 255 printable ASCII characters, no double quote, backslash or @domgit-secret:)",
    ),
]
# As many as libxl numbers: four IDE disks, sixteen of SCSI, each with its own most partitions. It refuses others only
# when the domU starts.
DiskDevice = Annotated[
    str,
    matching(
        r"xvd[a-z]{1,2}([1-9][0-9]?)?|hd[a-d]([1-9]|[1-5][0-9]|6[0-3])?|sd[a-p]([1-9]|1[0-5])?",
        "a virtual disk (expected such as xvda, xvdb1 or hdc; IDE ends at hdd63, SCSI at sdp15)",
    ),
]
LogPrefix = Annotated[
    str,
    matching(
        r"[A-Za-z0-9 ._:/()\[\]-]{0,60}",
        "a log prefix (expected at most 60 letters, digits, blanks and . _ : / ( ) [ ] -)",
    ),
]
# LVM's own rule (lvm(8)); upper case too, which Name has not: VolGroup00 is what installers made for years.
VolumeGroup = Annotated[
    str,
    matching(
        r"(?!\.{1,2}\Z)[A-Za-z0-9_+.][A-Za-z0-9_+.-]{0,126}",
        "a volume group (expected letters, digits and '_', '+', '.' or '-')",
    ),
]
SecretName = Annotated[
    str,
    matching(
        r"[a-z0-9][a-z0-9._-]{0,62}", "the name of a secret (expected lower case, digits, '.', '_' and '-')"
    ),
]
MachineId = Annotated[
    str, matching(r"[0-9a-f]{32}", "a machine id (expected the 32 hexadecimal digits of /etc/machine-id)")
]


def parse_duration(value: object) -> int:
    """Seconds of a duration such as 90s, 10m, 2h or 1d.

    Raises:
        ValueError: it is none.
    """
    text = plain_text(value)
    match = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", text, re.ASCII)
    if match is None:
        raise ValueError(f"{shown(text)} is no duration (expected such as 90s, 10m, 2h or 1d)")
    return int(match[1]) * _DURATION_UNITS[match[2]]


def _duration_text(seconds: int) -> str:
    for unit in ("d", "h", "m"):
        if seconds % _DURATION_UNITS[unit] == 0:
            return f"{seconds // _DURATION_UNITS[unit]}{unit}"
    return f"{seconds}s"


Duration = Annotated[
    int,
    BeforeValidator(parse_duration),
    PlainSerializer(_duration_text, return_type=str),
    Field(json_schema_extra={"type": "string", "pattern": "^[1-9][0-9]{0,5}[smhd]$"}),
]


def _percent(value: object) -> int:
    text = plain_text(value)
    match = re.fullmatch(r"(100|[1-9]?[0-9])%", text, re.ASCII)
    if match is None:
        raise ValueError(f"{shown(text)} is no percentage (expected such as 10%)")
    return int(match[1])


Percent = Annotated[
    int,
    BeforeValidator(_percent),
    PlainSerializer(lambda percent: f"{percent}%", return_type=str),
    Field(json_schema_extra={"type": "string", "pattern": "^(100|[1-9]?[0-9])%$"}),
]
# 15/minute: nft's and iptables' common form.
LogRate = Annotated[
    str, matching(r"[1-9][0-9]{0,4}/(second|minute|hour|day)", "a rate (expected such as 15/minute)")
]
_CRON_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
_CRON_PART = re.compile(r"(?:\*|([0-9]{1,2})(?:-([0-9]{1,2}))?)(?:/[1-9][0-9]?)?", re.ASCII)


def _cron(value: object) -> str:
    text = plain_text(value)
    fields = text.split(" ")
    if len(fields) != len(_CRON_FIELDS):
        raise ValueError(f'{shown(text)} is no cron expression (expected five fields, such as "0 3 * * *")')
    for written, (name, low, high) in zip(fields, _CRON_FIELDS, strict=True):
        for part in written.split(","):
            match = _CRON_PART.fullmatch(part)
            first = int(match[1]) if match is not None and match[1] else low
            last = int(match[2]) if match is not None and match[2] else first
            if match is None or not low <= first <= last <= high:
                raise ValueError(f"{shown(text)} is no cron expression ({name}: expected {low} to {high})")
    return text


Cron = Annotated[str, BeforeValidator(_cron)]
TimeZone = Annotated[
    str, matching(r"[A-Za-z]+([/_+-][A-Za-z0-9]+)*", "a time zone (expected such as Europe/Berlin)")
]
