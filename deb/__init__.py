"""The Debian package: what it holds, and how it is built. `python -m deb` builds it, without root and without debhelper."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEB = Path(__file__).resolve().parent
# /opt is not a package's, and nobody else's Python looks into this folder.
PREFIX = "usr/lib/domgit"
SITE = f"{PREFIX}/lib/python3.11/site-packages"


class BuildError(Exception):
    """The package cannot be built: one sentence for who builds it."""
