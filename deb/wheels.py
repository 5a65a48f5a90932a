"""The wheels that the lock file names, for Debian 12 on amd64: downloaded once, checked at every build."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from deb import ROOT, BuildError

LOCK = ROOT / "requirements.lock"
CACHE = ROOT / "build" / "deb" / "wheels"
# Said in full, so that a newer pip or another machine takes no other file: Debian 12 has glibc 2.36.
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
_PIN = re.compile(r"^([a-z0-9-]+)==(\S+) \\$", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def locked(text: str) -> Mapping[tuple[str, str], frozenset[str]]:
    """The digests that a lock file allows, by name and version."""
    parts = _PIN.split(text)[1:]
    return {
        (name, version): frozenset(_HASH.findall(rest))
        for name, version, rest in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    }


def checked(folder: Path, lock: str) -> tuple[Path, ...]:
    """The wheels in a folder, one for each line of the lock file, by name.

    Raises:
        BuildError: one is missing, is not in the lock file, or is another than its digest says.
    """
    allowed = locked(lock)
    wheels = sorted(folder.glob("*.whl"))
    found = set()
    for wheel in wheels:
        name, version = wheel.name.split("-")[:2]
        pin = (re.sub(r"[._]", "-", name).lower(), version)
        if hashlib.sha256(wheel.read_bytes()).hexdigest() not in allowed.get(pin, frozenset()):
            raise BuildError(f"{wheel}: the lock file knows no such file")
        found.add(pin)
    if missing := sorted(name for name, _ in allowed.keys() - found):
        raise BuildError(f"{folder}: no wheel of {', '.join(missing)}")
    return tuple(wheels)


def fetched() -> tuple[Path, ...]:
    """The wheels, from the cache where it is whole; else pip downloads all of them anew.

    Raises:
        BuildError: pip cannot, or what it brought is not what the lock file names.
    """
    lock = LOCK.read_text(encoding="utf-8")
    try:
        return checked(CACHE, lock)
    except BuildError:
        shutil.rmtree(CACHE, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps"]
    pip += ["--require-hashes", "--only-binary=:all:", "--python-version=3.11", "--implementation=cp"]
    pip += ["--abi=cp311", "--abi=none", *(f"--platform={each}" for each in _PLATFORMS)]
    done = subprocess.run([*pip, "-r", LOCK, "-d", CACHE], check=False)
    if done.returncode != 0:
        raise BuildError("pip cannot download the wheels of requirements.lock")
    return checked(CACHE, lock)


def built(folder: Path, epoch: int) -> Path:
    """The wheel of this checkout.

    Raises:
        BuildError: hatchling cannot build it.
    """
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "SOURCE_DATE_EPOCH": str(epoch)},
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = list(folder.glob("domgit-*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise BuildError(f"hatchling builds no wheel: {(done.stderr or done.stdout).strip()[-400:]}")
    return wheels[0]


def unpack(wheel: Path, site: Path) -> None:
    """Put what a wheel brings into a folder of packages. Its commands are left out: ours is the only one.

    Raises:
        BuildError: it has more than packages, or a file that another one has brought.
    """
    with zipfile.ZipFile(wheel) as archive:
        for name in _files(archive, wheel):
            target = site / name
            if target.exists():
                raise BuildError(f"{wheel.name}: {name} was brought by another wheel already")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(name))


def _files(archive: zipfile.ZipFile, wheel: Path) -> Iterator[str]:
    for name in archive.namelist():
        top, *rest = name.split("/")
        # Scripts, headers and data of a wheel lie there, and would belong elsewhere.
        if top.endswith(".data") or ".." in (top, *rest) or not top:
            raise BuildError(f"{wheel.name}: {name} is no file of a package")
        if not name.endswith("/"):
            yield name
