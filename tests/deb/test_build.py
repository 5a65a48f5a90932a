"""The package as it is built: the same bytes anywhere, and nothing in it of the machine that built it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deb import PREFIX, ROOT, SITE
from deb.wheels import CACHE
from reconciler import __version__

pytestmark = [
    pytest.mark.machine,
    pytest.mark.shared,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not CACHE.exists(), reason="run `make setup-deb` first"),
]
NAME = f"domgit_{__version__}_amd64.deb"
EPOCH = "1800000000"


def copied(folder: Path) -> Path:
    """This checkout in another folder, as git knows it, with the wheels."""
    names = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, names.split("\0")):
        if not name.startswith("tests/") and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    shutil.copytree(CACHE, folder / CACHE.relative_to(ROOT))
    return folder


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One of this checkout, and one of a copy: another folder, another hour, language and umask, and not root."""
    base = tmp_path_factory.mktemp("packages")
    first, other = base / "first", base / "other"
    command = [sys.executable, "-m", "deb", "--out"]
    here = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH}
    subprocess.run([*command, first], cwd=ROOT, env=here, umask=0o022, check=True)
    there = copied(base / "a copy")
    for path in (base, *base.parents):
        if str(path).startswith("/tmp/"):
            path.chmod(0o755)
    user = 65534 if os.geteuid() == 0 else os.geteuid()
    for path in (there, *there.rglob("*")):
        os.chown(path, user, -1)
    environment = {"PATH": "/usr/bin:/bin", "SOURCE_DATE_EPOCH": EPOCH, "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    environment |= {"PYTHONHASHSEED": "77", "TMPDIR": str(there), "HOME": str(there)}
    subprocess.run([*command, there / "dist"], cwd=there, env=environment, umask=0o077, check=True, user=user)
    shutil.copyfile(there / "dist" / NAME, other)
    return first / NAME, other


@pytest.fixture(scope="module")
def root(packages: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the package holds, unpacked."""
    folder = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["dpkg-deb", "-R", packages[0], folder], check=True)
    return folder


def test_two_builds_in_two_folders_are_the_same_to_the_byte(packages: tuple[Path, Path]) -> None:
    first, other = packages

    assert first.read_bytes() == other.read_bytes()


def test_everything_in_it_is_roots_and_nobody_else_may_write_it(packages: tuple[Path, Path]) -> None:
    listing = subprocess.run(
        ["dpkg-deb", "-c", packages[0]], capture_output=True, text=True, check=True
    ).stdout.splitlines()

    assert len(listing) > 1000
    assert [line for line in listing if line.split()[1] != "root/root"] == []
    assert {line.split()[0] for line in listing} == {"drwxr-xr-x", "-rw-r--r--", "-rwxr-xr-x", "lrwxrwxrwx"}


def test_no_path_of_the_machine_that_built_it_is_in_it(root: Path) -> None:
    words = [str(ROOT).encode(), b"domgit-deb-", sys.prefix.encode()]
    found = [
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and any(word in path.read_bytes() for word in words)
    ]

    assert found == []


def test_nothing_in_it_can_install_anything_and_everything_is_compiled(root: Path) -> None:
    site = root / SITE
    sources = list(site.rglob("*.py"))

    assert not {each.name for each in site.iterdir()} & {"pip", "setuptools", "pkg_resources", "wheel"}
    assert [each.name for each in (root / PREFIX / "bin").iterdir()] == ["python"]
    assert len(sources) > 500
    for source in sources:
        compiled = source.parent / "__pycache__" / f"{source.stem}.cpython-311.pyc"
        # PEP 552: by hash, and not to be checked.
        assert compiled.read_bytes()[4:8] == b"\x01\x00\x00\x00", source


def test_its_libraries_need_none_that_it_does_not_depend_on(root: Path) -> None:
    needed = {
        line.split()[0]
        for library in (root / SITE).rglob("*.so")
        for line in subprocess.run(
            ["ldd", library], capture_output=True, text=True, check=True
        ).stdout.splitlines()
    }
    control = (root / "DEBIAN/control").read_text(encoding="utf-8")

    known = {"linux-vdso.so.1", "/lib64/ld-linux-x86-64.so.2", "libc.so.6", "libpthread.so.0", "libm.so.6"}
    assert needed <= known | {"libgcc_s.so.1", "libdl.so.2", "librt.so.1"}
    assert "libgcc-s1" in control
    assert "python3.11" in control


def test_it_ships_no_hotplug_script_no_state_and_no_configuration(root: Path) -> None:
    # Two owners of one file: dpkg would take a script from guests that need it, or put one there that does not fit.
    files = [str(each.relative_to(root)) for each in (root / "etc").rglob("*") if not each.is_dir()]

    assert {each.name for each in root.iterdir()} == {"DEBIAN", "etc", "lib", "usr"}
    assert files == ["etc/apt/apt.conf.d/50domgit"]
    assert (root / "DEBIAN/conffiles").read_text() == "/etc/apt/apt.conf.d/50domgit\n"
