"""The package's own texts: control, changelog and copyright. Pure."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.parser import Parser
from email.utils import format_datetime

from deb import SITE, BuildError

# The project has no address of its own yet; .invalid is what RFC 2606 keeps for that.
MAINTAINER = "domgit maintainers <maintainers@domgit.invalid>"
# nft and git are needed by every pass, also where the guard is iptables'. xen-utils are not recommended: they recommend
# the hypervisor and its boot loader, and a machine that only checks repositories would boot as a dom0 the next time.
# What has no systemd gets none: apt takes the first alternative there, and is content with the other elsewhere.
_CONTROL = """\
Package: domgit
Version: {version}
Architecture: amd64
Maintainer: {maintainer}
Installed-Size: {size_kib}
Depends: python3.11 (>= 3.11.2), libc6 (>= 2.36), libgcc-s1, git, iproute2, nftables, systemd-standalone-sysusers | systemd
Recommends: ca-certificates, kmod, openssh-client
Suggests: bash-completion, ipset, iptables, xen-system-amd64
Section: admin
Priority: optional
Description: makes a Xen dom0 match a git repository
 A VPS provider commits a change to a YAML file; the dom0 shows what it would
 do (domgit plan), does it (domgit apply), and keeps it so (domgit run). Every
 VPS may use the addresses that its file gives it, and no others: a packet
 filter of nftables or iptables, locked bridge ports, and a hotplug script that
 fails closed.
 .
 Nothing is enabled or started by the installation. Removing the package takes
 away no protection: it says what stays. It needs no Xen to check a repository.
"""
_WIDTH = 78


def control(*, version: str, size_kib: int) -> str:
    """The control file. `size_kib` is what is installed."""
    return _CONTROL.format(version=version, maintainer=MAINTAINER, size_kib=size_kib)


def changelog(text: str, *, version: str, epoch: int) -> str:
    """CHANGELOG.md in Debian's format: an entry a release, the newest first.

    Raises:
        BuildError: the newest entry is of another version, or an old one has no date.
    """
    releases = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    entries = [_entry(release, epoch if number == 0 else None) for number, release in enumerate(releases)]
    if not entries or not entries[0].startswith(f"domgit ({version}) "):
        raise BuildError(f"CHANGELOG.md does not begin with version {version}")
    return "\n".join(entries)


def _entry(release: str, epoch: int | None) -> str:
    heading, _, body = release.partition("\n")
    version = re.search(r"\b\d+\.\d+\.\d+\b", heading)
    date = re.search(r"\b\d{4}-\d{2}-\d{2}\b", heading)
    if version is None or (date is None and epoch is None):
        raise BuildError(f"CHANGELOG.md: {heading!r} names no version, or no date")
    if date is not None:
        when = datetime.fromisoformat(date[0]).replace(tzinfo=UTC)
    else:
        when = datetime.fromtimestamp(epoch or 0, UTC)
    lines = [f"domgit ({version[0]}) bookworm; urgency=medium", ""]
    for section in re.split(r"^### ", body, flags=re.MULTILINE)[1:]:
        title, _, items = section.partition("\n")
        lines += [f"  [ {title} ]", *(line for item in _items(items) for line in item), ""]
    return "\n".join([*lines, f" -- {MAINTAINER}  {format_datetime(when)}", ""])


def _items(text: str) -> Iterator[list[str]]:
    for item in re.split(r"^- ", text, flags=re.MULTILINE)[1:]:
        plain = " ".join(item.replace("**", "").split())
        yield textwrap.wrap(
            plain,
            _WIDTH,
            initial_indent="  * ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )


@dataclass(frozen=True, slots=True)
class Brought:
    """A distribution that is in the package: its METADATA, and its licence files by name."""

    metadata: str
    licences: Mapping[str, str]
    files: tuple[str, ...]  # what it puts into the folder of packages, top level only


def copyright_text(brought: Iterable[Brought]) -> str:
    """debian/copyright for domgit and all that is shipped with it, as their own metadata and licence files say.

    Raises:
        BuildError: one says nothing of its licence.
    """
    parts = [
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/",
        "Upstream-Name: domgit",
        "",
        "Files: *",
        "Copyright: the domgit authors",
        "License: Apache-2.0",
        " On Debian systems, the text is in /usr/share/common-licenses/Apache-2.0.",
    ]
    for each in brought:
        metadata = Parser().parsestr(each.metadata, headersonly=True)
        name, version = metadata["Name"], metadata["Version"]
        if not each.licences:
            raise BuildError(f"{name}: it brings no licence")
        texts = "\n".join(text for _, text in sorted(each.licences.items()))
        holders = [
            line.strip()
            for line in texts.splitlines()
            if re.match(r"\s*copyright\b.*\d{4}", line, re.IGNORECASE)
        ]
        files = " ".join(f"{SITE}/{file}" for file in each.files)
        parts += [
            "",
            f"Files: {files}",
            _copyright(holders, name),
            f"License: {name}-{version}",
            *(f" {line.rstrip()}" if line.strip() else " ." for line in _licence(texts)),
        ]
    return "\n".join(parts) + "\n"


def _licence(text: str) -> list[str]:
    if "Apache License" in text and "Version 2.0, January 2004" in text:
        return ["On Debian systems, the text is in /usr/share/common-licenses/Apache-2.0."]
    return text.splitlines()


def _copyright(holders: Iterable[str], name: str) -> str:
    known = list(dict.fromkeys(holders)) or [f"the authors of {name}"]
    return "Copyright: " + "\n ".join(known)
