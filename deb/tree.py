"""Everything that the package installs, laid out under a folder that stands for the root of the file system."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from deb import DEB, PREFIX, ROOT, SITE, BuildError
from deb.completion import script
from deb.manual import pages
from deb.verbs import verbs
from deb.wheels import built, unpack
from deb.words import Brought, changelog, control, copyright_text
from reconciler import __version__

DOC = "usr/share/doc/domgit"
# A conffile, so that it outlives a removal; postrm writes it again behind a purge.
_APT = "etc/apt/apt.conf.d/50domgit"
_PYVENV = "home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11\n"
_PROGRAMS = frozenset({"usr/bin/domgit", "DEBIAN/prerm", "DEBIAN/postinst", "DEBIAN/postrm"})


def lay_out(root: Path, wheels: Iterable[Path], epoch: int) -> None:
    """All files, as `dpkg-deb --build` wants them; `epoch` is the time that they and the dates in them have.

    Raises:
        BuildError: something cannot be made.
    """
    _environment(root, wheels, epoch)
    _put(root, "usr/bin/domgit", (DEB / "domgit").read_text(encoding="utf-8"))
    for unit in sorted((ROOT / "systemd").glob("*.service")):
        _copy(root, f"lib/systemd/system/{unit.name}", unit)
    _copy(root, "usr/lib/sysusers.d/domgit.conf", ROOT / "systemd/domgit.sysusers")
    known = verbs()
    _put(root, "usr/share/bash-completion/completions/domgit", script(known))
    for name, text in pages(known, version=__version__, epoch=epoch).items():
        _put_compressed(root, f"usr/share/man/man{name[-1]}/{name}.gz", text)
    _documents(root, epoch)
    _copy(root, "usr/share/lintian/overrides/domgit", DEB / "lintian-overrides")
    (root / "etc/domgit").mkdir(parents=True)
    kept = (DEB / "apt.conf").read_text(encoding="utf-8")
    _put(root, _APT, kept)
    _put(root, "DEBIAN/conffiles", f"/{_APT}\n")
    for path in sorted((DEB / "maintainer").iterdir()):
        _put(root, f"DEBIAN/{path.name}", path.read_text(encoding="utf-8").replace("@APT_CONF@\n", kept))
    sums = (
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(root)}\n"
        for path in _files(root)
    )
    _put(root, "DEBIAN/md5sums", "".join(sums))
    size_kib = sum(-(-path.lstat().st_size // 1024) for path in root.rglob("*"))
    _put(root, "DEBIAN/control", control(version=__version__, size_kib=size_kib))
    _settle(root, epoch)


def _settle(root: Path, epoch: int) -> None:
    """Modes and times as in the package, whatever this user's umask and clock say."""
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            name = str(path.relative_to(root))
            path.chmod(0o755 if path.is_dir() or name in _PROGRAMS else 0o644)
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def _environment(root: Path, wheels: Iterable[Path], epoch: int) -> None:
    """A virtual environment as Python knows one, made of wheels: nothing in it can install anything."""
    site = root / SITE
    for wheel in wheels:
        unpack(wheel, site)
    own = root / "wheel"
    unpack(built(own, epoch), site)
    shutil.rmtree(own)
    _put(root, f"{PREFIX}/pyvenv.cfg", _PYVENV)
    (root / PREFIX / "bin").mkdir()
    (root / PREFIX / "bin/python").symlink_to("../../../bin/python3.11")
    # By hash, and not to be checked: no installed file is newer than its bytecode, whatever time it has, and root's
    # Python writes nothing there. The seed: in which order a process interns words shows in what it writes.
    argv = [sys.executable, "-P", "-s", "-m", "compileall", "-q", "-f", "--invalidation-mode=unchecked-hash"]
    done = subprocess.run(
        [*argv, "-s", str(root), "-p", "/", str(site)],
        env={"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BuildError(f"compileall: {(done.stderr or done.stdout).strip()[-400:]}")


def _documents(root: Path, epoch: int) -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    _put_compressed(root, f"{DOC}/changelog.gz", changelog(text, version=__version__, epoch=epoch))
    _put(root, f"{DOC}/copyright", copyright_text(_brought(root / SITE)))
    for page in sorted((ROOT / "docs").glob("*.md")):
        _copy(root, f"{DOC}/{page.name}", page)
    _copy(root, f"{DOC}/examples/domgit.toml", DEB / "domgit.toml")
    for path in sorted((ROOT / "examples").rglob("*.yaml")):
        _copy(root, f"{DOC}/examples/repository/{path.relative_to(ROOT / 'examples')}", path)


def _brought(site: Path) -> Iterator[Brought]:
    for info in sorted(site.glob("*.dist-info")):
        if info.name.startswith("domgit-"):
            continue
        licences = {
            str(path): path.read_text(encoding="utf-8")
            for path in info.rglob("*")
            if path.is_file() and path.name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "AUTHORS"))
        }
        record = (info / "RECORD").read_text(encoding="utf-8").splitlines()
        tops = {line.partition(",")[0].split("/")[0] for line in record}
        files = (f"{each}/*" if (site / each).is_dir() else each for each in sorted(tops))
        yield Brought((info / "METADATA").read_text(encoding="utf-8"), licences, tuple(files))


def _files(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.relative_to(root).parts[0] != "DEBIAN":
            yield path


def _put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _put_compressed(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


def _copy(root: Path, name: str, source: Path) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(source.read_bytes())
