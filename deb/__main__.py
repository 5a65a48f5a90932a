"""Builds dist/domgit_VERSION_amd64.deb: the same commit gives the same bytes, in any folder, for any user."""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from deb import ROOT, BuildError
from deb.tree import lay_out
from deb.wheels import fetched
from reconciler import __version__


def main() -> int:
    """Exit status 0, or 1 with one line on stderr. The last line of the result is the verdict."""
    parser = argparse.ArgumentParser(prog="python -m deb", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="the folder for the package")
    parser.add_argument("--fetch", action="store_true", help="only see that all wheels are there")
    options = parser.parse_args()
    try:
        wheels = fetched()
        if not options.fetch:
            print(build(wheels, options.out))
    except (BuildError, OSError) as exc:
        print(f"deb: {exc}", file=sys.stderr)
        return 1
    return 0


def build(wheels: tuple[Path, ...], out: Path) -> str:
    """Builds the package into the folder `out`; gives the verdict.

    Raises:
        BuildError, OSError: it cannot be built; no package was written.
    """
    if sys.version_info[:2] != (3, 11):
        raise BuildError("Python 3.11 is needed: what it compiles is what Debian 12's Python reads")
    epoch, commit = _commit()
    out.mkdir(parents=True, exist_ok=True)
    package = out / f"domgit_{__version__}_amd64.deb"
    with tempfile.TemporaryDirectory(prefix="domgit-deb-") as work:
        root = Path(work) / "root"
        lay_out(root, wheels, epoch)
        partial = Path(work) / package.name
        # One thread: how many share the work shows in the compressed bytes.
        argv = ["dpkg-deb", "--root-owner-group", "-Zxz", "--threads-max=1", "--build"]
        environment = {"PATH": "/usr/bin:/bin", "SOURCE_DATE_EPOCH": str(epoch), "LC_ALL": "C"}
        done = subprocess.run(
            [*argv, root, partial], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise BuildError(f"dpkg-deb: {done.stderr.strip()}")
        data = partial.read_bytes()
    beside = package.with_suffix(".partial")
    beside.write_bytes(data)
    beside.rename(package)
    digest = hashlib.sha256(data).hexdigest()
    return f"{package}\nok: domgit {__version__} of {commit}, {len(data) / 1e6:.1f} MB, sha256 {digest}"


def _commit() -> tuple[int, str]:
    """The time that everything in the package has, and what it is of, in words."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        log = _git("log", "-1", "--format=%ct %h")
        changed = _git("status", "--porcelain")
    except (OSError, subprocess.CalledProcessError) as exc:
        if given is None:
            raise BuildError("no git here to tell the commit's time (expected SOURCE_DATE_EPOCH)") from exc
        return int(given), "a tree without git"
    time, commit = log.split()
    return int(given or time), f"commit {commit}{' with changes that are in no commit' if changed else ''}"


def _git(*words: str) -> str:
    done = subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
