"""A clean dom0 for every test: what the one before left is taken away."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.dom0 import GUESTS
from tests.end_to_end.provider import IMAGES, STATE, Provider

KERNELS = ("vmlinuz", "vmlinuz-2", "initrd.img")


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    """A provider with an empty repository and an empty dom0."""
    with provided(tmp_path) as each:
        yield each


@contextmanager
def provided(folder: Path) -> Iterator[Provider]:
    """The same, in this folder and for as long as it is needed."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in KERNELS:
        (IMAGES.parent / name).write_text("kernel\n")
    os.chmod(folder, 0o755)  # noqa: PTH101, S103  # the reader runs as nobody and must get there
    try:
        yield Provider(folder / "repository")
    finally:
        clean()


def clean() -> None:
    """No domUs, no rules, no files of ours."""
    rows = subprocess.run(["xl", "list"], capture_output=True, text=True, check=True).stdout.splitlines()[2:]
    for row in rows:
        subprocess.run(["xl", "destroy", row.split()[-5]], capture_output=True, check=False)
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    for folder in (STATE, IMAGES, Path("/run/domgit")):
        for path in folder.glob("*") if folder.is_dir() else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in [
        *Path("/etc/xen").glob("*.cfg"),
        *GUESTS.glob("*.json"),
        *Path("/var/lib/xen").glob("userdata-*"),
        *Path("/etc/xen/scripts").glob("vif-domgit"),
    ]:
        path.unlink()
    for name in os.listdir("/run/netns"):  # noqa: PTH208  # names, not paths
        if name.startswith("guest-"):
            subprocess.run(["ip", "netns", "del", name], check=True)
    for link in os.listdir("/sys/class/net/xenbr0/brif"):  # noqa: PTH208
        if link != "eth0":
            subprocess.run(["ip", "link", "del", link], check=False)
