"""Fleets made from texts, as the reader makes them from files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from schemas.claims import Claimant
from schemas.diagnostic import Diagnostic
from schemas.domu import DomU
from schemas.fleet import Fleet, HostView, check_fleet
from schemas.layout import Place, place
from schemas.merged import Merged
from schemas.tree import Tree
from state.worktree import Worktree
from state.yaml_reader import read_yaml

HOST = """apiVersion: domgit/v1
kind: Host
metadata: {{name: {name}}}
spec: {{mode: enforce, bridges: [{{name: xenbr0, uplinks: [eth0]}}]}}
"""
NETWORK = """apiVersion: domgit/v1
kind: Network
metadata: {{name: {name}}}
spec: {{subnet: "{subnet}", gateway: "{gateway}", bridge: xenbr0}}
"""
DOMU = """apiVersion: domgit/v1
kind: DomU
metadata: {{name: {name}}}
spec:
  type: pv
  memory: 256MiB
  boot: {{run: {{kernel: /srv/xen/vmlinuz}}}}
  disks: [{{vdev: xvda, path: /srv/xen/images/{name}.img, size: 1GiB}}]
  vifs: [{vifs}]
"""


def host(name: str = "dom0-a") -> dict[str, str]:
    """The file of a host with one bridge."""
    return {f"hosts/{name}/host.yaml": HOST.format(name=name)}


def network(name: str, subnet: str, gateway: str) -> dict[str, str]:
    """The file of a network on that bridge."""
    return {f"networks/{name}.yaml": NETWORK.format(name=name, subnet=subnet, gateway=gateway)}


def domu(name: str, *vifs: str, host: str = "dom0-a") -> dict[str, str]:
    """The file of a domU with these vifs, each in flow style without its bridge."""
    items = ", ".join(f"{{bridge: xenbr0, {vif}}}" for vif in vifs)
    return {f"hosts/{host}/domus/{name}.yaml": DOMU.format(name=name, vifs=items)}


def fleet_of(contents: Mapping[str, bytes | str], problems: tuple[Diagnostic, ...] = ()) -> Fleet:
    """The fleet that these files describe; `problems` are of files that could not be read."""
    trees: dict[str, Tree] = {}
    found = list(problems)
    for file, data in contents.items():
        if isinstance(place(file), Place):
            tree, more = read_yaml(file, data.encode() if isinstance(data, str) else data)
            found += more
            if tree is not None:
                trees[file] = tree
    return check_fleet([*contents, *(each.file for each in problems if each.file)], trees, found)


def fleet_in(folder: Path) -> Fleet:
    """The fleet that a checkout describes."""
    found = Worktree(str(folder))
    return fleet_of(dict(found.read(found.files)), found.problems)


def documents(seen: HostView) -> list[tuple[DomU, str]]:
    """What a host is to do, as resolve wants it."""
    return [(merged(claimant).domu, claimant.source.file) for claimant in seen.domus]


def merged(claimant: Claimant) -> Merged:
    """A claimant's domU with its documents, as a fleet has it that was read in one go."""
    assert isinstance(claimant.source, Merged)
    return claimant.source
