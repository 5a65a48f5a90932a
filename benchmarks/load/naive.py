"""What people would write instead, in one page: GitPython's traversal, yaml.safe_load, pydantic.

It reads less than domgit does: plain strings for every value, no unknown keys refused, nothing compared between files.
Run as `python -m benchmarks.load.naive REPOSITORY`; prints how many VPSs it found.
"""

from __future__ import annotations

import sys
from typing import Any

import git
import pydantic
import yaml


class Vif(pydantic.BaseModel):
    """One interface."""

    name: str | None = None
    mac: str
    bridge: str
    ips: list[str] = []
    rate: str | None = None


class Disk(pydantic.BaseModel):
    """One disk."""

    vdev: str
    path: str
    size: str | None = None


class Spec(pydantic.BaseModel):
    """What the VPS is to be."""

    profile: str | None = None
    memory: str | None = None
    disks: list[Disk] = []
    vifs: list[Vif] = []


class DomU(pydantic.BaseModel):
    """One VPS."""

    kind: str
    metadata: dict[str, Any]
    spec: Spec


def main() -> None:
    """Read them all."""
    tree = git.Repo(sys.argv[1]).commit("main").tree
    found = [
        DomU.model_validate(document)
        for blob in tree.traverse()
        if isinstance(blob, git.Blob)
        and (document := yaml.safe_load(blob.data_stream.read()))["kind"] == "DomU"
    ]
    print(len(found))


if __name__ == "__main__":
    main()
