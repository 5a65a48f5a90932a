"""Puts Debian's Xen toolstack under build/xen and the compiled hypervisor under build/dom0; installs nothing.

Run as `python -m tests.dom0.fetch`, after `apt-get update`. What is there already is kept.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.dom0 import SHIM, XEN, Dom0Error

# The toolstack with exactly the libraries that `ldd` misses on a minimal Debian 12, and headers for the hypervisor.
PACKAGES = (
    "xen-utils-4.17",
    "xen-utils-common",
    "xenstore-utils",
    "libxen-dev",
    "libxenmisc4.17",
    "libxencall1",
    "libxendevicemodel1",
    "libxenevtchn1",
    "libxenforeignmemory1",
    "libxengnttab1",
    "libxenhypfs1",
    "libxenstore4",
    "libxentoolcore1",
    "libxentoollog1",
    "libyajl2",
)
SOURCES = tuple(
    Path(__file__).with_name(name)
    for name in ("hypervisor.c", "hypervisor_stubs.c", "hypervisor_xenstored.c")
)


def say(text: str) -> None:
    """One line of progress."""
    print(f"dom0: {text}", file=sys.stderr, flush=True)


def run(argv: Sequence[str | Path], *, cwd: Path | None = None) -> None:
    """A command that must succeed.

    Raises:
        Dom0Error: it is missing or fails; the message carries its last line.
    """
    try:
        done = subprocess.run(
            argv, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as exc:
        raise Dom0Error(f"{argv[0]} is missing (apt-get install {_package_of(str(argv[0]))})") from exc
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        raise Dom0Error(f"{argv[0]}: exit status {done.returncode}: {lines[-1]}")


def _package_of(tool: str) -> str:
    return {"gcc": "gcc libc6-dev", "apt-get": "apt", "dpkg-deb": "dpkg"}.get(tool, tool)


def fetch() -> None:
    """Debian's packages, unpacked at XEN. Whole or not at all: it is built beside and renamed.

    Raises:
        Dom0Error: apt has no such package, or no way to its mirror.
    """
    if XEN.is_dir():
        say(f"{XEN} is there")
        return
    partial = XEN.with_name("xen.partial")
    shutil.rmtree(partial, ignore_errors=True)
    debs = partial / "debs"
    debs.mkdir(parents=True)
    try:
        say(f"downloading {len(PACKAGES)} Debian packages")
        # root's download sandbox user may not write below the checkout; apt then warns and does it all the same
        run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *PACKAGES], cwd=debs)
        root = partial / "root"
        root.mkdir()
        for deb in sorted(debs.glob("*.deb")):
            say(f"unpacking {deb.name}")
            run(["dpkg-deb", "-x", deb, root])
        root.rename(XEN)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def compile_shim() -> None:
    """The simulated hypervisor at SHIM, newer than its sources.

    Raises:
        Dom0Error: no compiler, or the sources do not compile.
    """
    if SHIM.exists() and SHIM.stat().st_mtime >= max(source.stat().st_mtime for source in SOURCES):
        say(f"{SHIM} is there")
        return
    say("compiling the simulated hypervisor")
    SHIM.parent.mkdir(parents=True, exist_ok=True)
    partial = SHIM.with_suffix(".partial")
    include = XEN / "usr" / "include"
    run(["gcc", "-O2", "-shared", "-fPIC", f"-I{include}", "-o", partial, *SOURCES])
    partial.rename(SHIM)


def main() -> int:
    """Exit status 0, or 1 with one line on stderr."""
    try:
        fetch()
        compile_shim()
    except (Dom0Error, OSError) as exc:
        say(f"error: {exc}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
