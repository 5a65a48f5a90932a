"""The machine's second disk: the product as it is installed, the tests, what pytest needs, and the key of this run.

Everything comes from this checkout and its virtual environment, which was made from the lock file: the machine has
no network but its own.
"""

from __future__ import annotations

import shutil
import sys
from compileall import compile_dir
from importlib.metadata import distribution
from pathlib import Path
from py_compile import PycInvalidationMode

from packaging.requirements import Requirement

from tests.xen import HERE, ROOT
from tests.xen.image import run, say

SIZE = "512M"  # sparse
PRODUCT = ("schemas", "state", "reconciler")
CHECKOUT = ("tests", "examples", "systemd", "pyproject.toml", "docs")
TEST_TOOLS = ("pytest", "pytest-timeout", "hypothesis")
SECONDS = 120


def carried(folder: Path, public_key: str) -> Path:
    """A file system image in the folder, made anew.

    Raises:
        RigError: mkfs.ext4 refuses.
    """
    say("putting the product and its tests on a disk")
    root = folder / "carried"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for name in CHECKOUT:
        source, target = ROOT / name, root / "checkout" / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "cases"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    shutil.copytree(ROOT / "tests" / "cases" / "foreign", root / "checkout" / "tests" / "cases" / "foreign")
    _copy_distributions(TEST_TOOLS, root / "tools")
    package = debian_package()
    if package is None:
        _virtual_environment(root / "venv")
    else:
        shutil.copy(package, root / "domgit.deb")
    for modules in (root / "tools", root / "checkout", root / "venv" / "lib"):
        # Here it takes a second, in the machine a minute, and of what is only read there each time again.
        if modules.exists():
            compile_dir(modules, quiet=1, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)
    for name in ("install", "pytest", "welcome"):
        shutil.copy(HERE / name, root / name)
    (root / "authorized_keys").write_text(public_key)
    image = folder / "carried.ext4"
    image.unlink(missing_ok=True)
    run(["mkfs.ext4", "-q", "-F", "-L", "domgit", "-d", root, image, SIZE], timeout_s=SECONDS)
    shutil.rmtree(root)
    return image


def debian_package() -> Path | None:
    """The newest package that `make deb` has made; None without one, or where the product was changed since."""
    found = sorted((ROOT / "dist").glob("domgit_*_amd64.deb"), key=_changed)
    changed = max(
        _changed(path)
        for name in (*PRODUCT, "systemd")
        for path in (ROOT / name).rglob("*")
        if path.suffix in {".py", ".sh", ".service"}
    )
    if found and _changed(found[-1]) < changed:
        say(f"{found[-1].name} is older than the product: left out (expected `make deb` before)")
        return None
    return found[-1] if found else None


def _changed(path: Path) -> float:
    return path.stat().st_mtime


def needed(names: tuple[str, ...]) -> list[str]:
    """These distributions and all that they need here, each once."""
    found: list[str] = []
    waiting = list(names)
    while waiting:
        name = waiting.pop(0)
        if name in found:
            continue
        found.append(name)
        for text in distribution(name).requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return found


def _copy_distributions(names: tuple[str, ...], target: Path) -> None:
    """Their modules, as they are installed here."""
    for name in needed(names):
        for file in distribution(name).files or ():
            if ".." in file.parts or file.suffix == ".pyc":
                continue  # a program in bin/, or what Python makes again
            copy = target / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(str(file.locate())), copy)


def _virtual_environment(target: Path) -> None:
    """What an installation by docs/start.md has, without the virtual environment's own files."""
    site = target / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    runtime = [name for name in needed(("domgit",)) if name != "domgit"]
    _copy_distributions(tuple(runtime), site)
    for package in PRODUCT:
        shutil.copytree(ROOT / package, site / package, ignore=shutil.ignore_patterns("__pycache__"))
