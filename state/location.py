"""What a repository's URL means: a folder of this machine, or a server that it is fetched from. Reads neither."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, unquote, urlsplit

from state.run import ReadError

# user@host:path, as ssh has it. A colon after a slash is a path.
_SCP_LIKE = re.compile(
    r"(?:[A-Za-z0-9._-]+@)?[A-Za-z0-9][A-Za-z0-9.-]*:(?!//|:)[A-Za-z0-9~/_][A-Za-z0-9~/._-]*", re.ASCII
)
_PORTS = {"ssh": 22, "https": 443}


def local_path(url: str) -> str | None:
    """The folder that a repository URL means on this machine; None for one that has to be fetched.

    Raises:
        ReadError: it is neither, or of a kind that is never used: plain http, git's own helpers, credentials
            in the URL.
    """
    if url.startswith("file://"):
        parts = _split(url)
        if parts.netloc not in {"", "localhost"}:
            raise ReadError(f"{url!r}: a file on another machine (expected file:///PATH)")
        path = unquote(parts.path)
        if not path.isprintable():
            raise ReadError(f"{url[:200]!r} is no repository")
        return path
    if not (url.isascii() and url.isprintable()):
        raise ReadError(f"{url[:200]!r} is no repository")  # urlsplit drops line ends, git does not
    if "://" in url:
        _check_remote(url)
        return None
    # A leading "-" would be an option to git, "ext::sh -c ..." a command.
    if "::" in url or url.startswith("-"):
        raise ReadError(f"{url!r} is no repository (expected a path, ssh://, https:// or user@host:path)")
    return None if ":" in url.split("/", 1)[0] and _SCP_LIKE.fullmatch(url) else url


def server(url: str) -> tuple[str, int] | None:
    """The (name, port) of the server that a repository URL is fetched from; None where nothing is fetched.

    Raises:
        ReadError: as local_path.
    """
    if local_path(url) is not None:
        return None
    if "://" not in url:
        return url.partition(":")[0].rpartition("@")[2], _PORTS["ssh"]
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _PORTS[parts.scheme]


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # read only here: one that is none is an error of its own
    except ValueError as exc:
        raise ReadError(f"{url[:200]!r} is no repository: {exc!s:.200}") from exc
    return parts


def _check_remote(url: str) -> None:
    parts = _split(url)
    if parts.scheme not in {"ssh", "https"}:
        raise ReadError(f"{parts.scheme}://: never used (expected ssh:// or https://)")
    if parts.password is not None or (parts.scheme == "https" and parts.username is not None):
        raise ReadError(
            f"{parts.scheme}://{parts.hostname}: credentials in the URL (expected none: it is logged)"
        )
    user = parts.username or "git"
    path = parts.path.lstrip("/")
    good = re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", user, re.ASCII)
    host = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*|[0-9A-Fa-f:]+", parts.hostname or "", re.ASCII)
    if not (good and host and re.fullmatch(r"[A-Za-z0-9~_][A-Za-z0-9~/._-]*", path, re.ASCII)):
        raise ReadError(f"{url[:200]!r} is no repository (expected letters, digits and ~ / . _ -)")
    if parts.query or parts.fragment:
        raise ReadError(f"{url[:200]!r}: a query or a fragment (expected none)")
