"""Where files lie in a repository and what each place means. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from schemas.diagnostic import Diagnostic
from schemas.shown import shown

Kind = Literal["Host", "DomU", "Network", "Profile"]
KINDS: tuple[Kind, ...] = ("Host", "DomU", "Network", "Profile")
FOLDERS = ("hosts", "networks", "profiles")
FILE_LIMIT_BYTES = 64 * 1000
FILE_COUNT_LIMIT = 200_000
# Of hosts, networks and profiles, all of which stay in memory: every domU stands on them. DomUs come and go in batches.
GROUND_COUNT_LIMIT = 10_000
BYTES_LIMIT = 256 * 10**6
TOO_MANY = Diagnostic(
    None,
    None,
    None,
    "DG1505",
    "too many files or bytes (expected at most 200,000 files, 10,000 of them of hosts, networks and profiles, and 256 MB)",
)
PATH_LIMIT = 400  # characters; the longest that means something has 63 for the host and 255 for the file
_HOST_FOLDER = re.compile(r"[a-z][a-z0-9.-]{0,62}")
EXPECTED = (
    "expected hosts/HOST/host.yaml, hosts/HOST/domus/NAME.yaml, networks/NAME.yaml or profiles/NAME.yaml"
)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A file of the repository: what it must hold, for which host, and under which name."""

    file: str
    kind: Kind
    host: str | None
    name: str


def shown_path(path: bytes) -> str:
    """A path as text that a terminal only prints; what is escaped here matches no place of ours."""
    text = path.decode("utf-8", "backslashreplace")
    if len(text) > PATH_LIMIT:  # git stores names without end, no file system does
        text = f"{text[:PATH_LIMIT]}..."
    # ascii(), no codec: those are imported when first used, which the confined child no longer may.
    return text if text.isprintable() else ascii(text)[1:-1]


def ground_and_domus(files: Iterable[str]) -> tuple[list[str], list[str]] | None:
    """The files of hosts, networks and profiles, and those of domUs, in order; None where too many are no domUs'."""
    ground: list[str] = []
    domus: list[str] = []
    for file in files:
        where = place(file)
        if isinstance(where, Place):
            (domus if where.kind == "DomU" else ground).append(file)
    return (ground, domus) if len(ground) <= GROUND_COUNT_LIMIT else None


def place(file: str) -> Place | Diagnostic | None:
    """What a path means; None when it is none of our business, a Diagnostic when it should not be there."""
    parts = file.split("/")
    if parts[0] not in FOLDERS or "/." in file or parts[-1] == "README.md":
        return None
    found = _named(file, parts)
    if found is None:
        return Diagnostic(file, 1, 1, "DG1501", f"no such file is known ({EXPECTED})")
    if found.host is not None and _HOST_FOLDER.fullmatch(found.host) is None:
        message = f"{shown(found.host)} is no host name (expected lower case, digits, '.' and '-')"
        return Diagnostic(file, 1, 1, "DG1501", message)
    return found


def _named(file: str, parts: list[str]) -> Place | None:
    name = parts[-1].removesuffix(".yaml")
    if name in {parts[-1], ""} or "\\" in file:
        return None
    match parts:
        case ["hosts", host, "domus", _]:
            return Place(file, "DomU", host, name)
        case ["hosts", host, "host.yaml"]:
            return Place(file, "Host", host, host)
        case ["networks", _]:
            return Place(file, "Network", None, name)
        case ["profiles", _]:
            return Place(file, "Profile", None, name)
    return None
