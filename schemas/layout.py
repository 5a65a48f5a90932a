"""Where files lie in a repository and what each place means. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from schemas.diagnostic import Diagnostic
from schemas.scalars import shown

Kind = Literal["Host", "DomU", "Network", "Profile"]
KINDS: tuple[Kind, ...] = ("Host", "DomU", "Network", "Profile")
FOLDERS = ("hosts", "networks", "profiles")
_PLACES: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (re.compile(r"hosts/(?P<host>[^/\\]+)/domus/(?P<name>[^/\\]+)\.yaml"), "DomU"),
    (re.compile(r"hosts/(?P<host>[^/\\]+)/host\.yaml"), "Host"),
    (re.compile(r"networks/(?P<name>[^/\\]+)\.yaml"), "Network"),
    (re.compile(r"profiles/(?P<name>[^/\\]+)\.yaml"), "Profile"),
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


def place(file: str) -> Place | Diagnostic | None:
    """What a path means; None when it is none of our business, a Diagnostic when it should not be there."""
    parts = file.split("/")
    if parts[0] not in FOLDERS or any(part.startswith(".") for part in parts) or parts[-1] == "README.md":
        return None
    for pattern, kind in _PLACES:
        if match := pattern.fullmatch(file):
            groups = match.groupdict()
            host = groups.get("host")
            if host is not None and _HOST_FOLDER.fullmatch(host) is None:
                return Diagnostic(
                    file,
                    1,
                    1,
                    "DG1501",
                    f"{shown(host)} is no host name (expected lower case, digits, '.' and '-')",
                )
            return Place(file, kind, host, groups.get("name") or str(host))
    return Diagnostic(file, 1, 1, "DG1501", f"no such file is known ({EXPECTED})")
