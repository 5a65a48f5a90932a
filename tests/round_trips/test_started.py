"""Domains: a random accepted specification that xl really starts is read back, by our own readers, as what it says."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.dom0.toolstack import domids
from tests.end_to_end.conftest import clean
from tests.end_to_end.provider import Provider
from tests.round_trips.accepted import Accepted, alive, fleets
from tests.round_trips.dice import HOST, Words
from tests.round_trips.yaml_text import Writer

pytestmark = [pytest.mark.dom0, pytest.mark.timeout(300)]
MIB = 1 << 20


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    os.chmod(tmp_path, 0o755)  # noqa: PTH101, S103  # the reader runs as nobody and must get there
    yield Provider(tmp_path / "repository")
    clean()
    shutil.rmtree("/usr/lib/grub-xen", ignore_errors=True)  # no other test has a kernel there


def ip(*argv: str) -> None:
    subprocess.run(["ip", "link", *argv], check=True)


@pytest.mark.parametrize("part", [93, 94])
def test_what_is_started_is_what_was_meant_so_that_nothing_is_left_to_do(
    provider: Provider, part: int
) -> None:
    found = next(fleets(part, specs=1, size=12))
    bridges = [name for name, _ in found.desired.host.bridges]
    for name in bridges:
        ip("add", "dev", name, "type", "bridge")
        ip("set", "dev", name, "up")
    started = write_tamed(found, provider)

    provider.settled()

    assert started, found.seed
    assert {*domids()} == started
    for name in bridges:
        ip("del", "dev", name)


def write_tamed(found: Accepted, provider: Provider) -> set[str]:
    """The repository with its domUs small enough for the simulated dom0, all else as it was drawn; who is to run."""
    for file in ("networks/vps-a.yaml", "networks/vps-a6.yaml", f"hosts/{HOST}/host.yaml"):
        provider.remove(file)
    for file, text in found.drawn.files.items():
        if "/domus/" not in file:
            provider.write(file, text)
    running: set[str] = set()
    files: set[str] = set()
    for name, domu in alive(found).items():
        spec = tamed(found.words(domu))
        run = spec["boot"]["run"]
        kernels, disks = (
            {run["kernel"], run.get("ramdisk", run["kernel"])},
            {disk["path"] for disk in spec["disks"]},
        )
        if any(_below(one, other) for one in kernels | disks for other in files | kernels | disks):
            continue  # of two paths one is a file, and a folder of the other
        files |= kernels | disks
        for file in kernels | disks:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
        for file in kernels:
            Path(file).write_text("a kernel\n")
        metadata = {key: each for key, each in found.metadata(domu).items() if key != "placement"}
        document = {"apiVersion": "domgit/v1", "kind": "DomU", "metadata": metadata, "spec": spec}
        provider.write(domu.file, Writer(Random(found.seed)).document(document))  # noqa: S311  # reproducible
        if spec["state"] == "running":
            running.add(name)
    return running


def _below(one: str, other: str) -> bool:
    return one.startswith(f"{other}/") or other.startswith(f"{one}/")


def tamed(spec: Words) -> dict[str, Any]:
    """What the simulated dom0 can start: no QEMU, no boot loader, little memory."""
    run: Mapping[str, Any] = next(
        way for way in (spec["boot"].get("install"), spec["boot"]["run"], None) if way
    )
    kept = {key: run[key] for key in ("ramdisk", "cmdline") if key in run and "kernel" in run}
    small = {
        "type": "pv",
        "memory": "16MiB",
        "maxMemory": "32MiB",
        "vcpus": 1,
        "maxVcpus": 2,
        "mode": "enforce",
    }
    disks = [
        {**disk, "size": "1MiB", "format": "raw", "access": "rw"}
        for disk in spec.get("disks", ())
        if not disk["path"].startswith("/dev/")
    ]
    return {
        **{key: each for key, each in spec.items() if key not in {"console", "profile"}},
        **small,
        "state": spec.get("state", "running"),
        "boot": {"run": {"kernel": run.get("kernel", "/usr/lib/grub-xen/grub"), **kept}},
        "disks": disks,
    }
