"""Repositories of any size, as a provider's grow: a thousand VPSs a dom0, one profile, one network of each kind."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

PER_HOST = 1000
HOST = "dom0-00"
_PROFILE = """apiVersion: domgit/v1
kind: Profile
metadata: {name: small}
spec: {type: pv, boot: {run: {kernel: /srv/xen/vmlinuz, cmdline: root=/dev/xvda1 ro}}}
"""
_NETWORKS = """apiVersion: domgit/v1
kind: Network
metadata: {{name: {name}}}
spec: {{subnet: "{subnet}", gateway: "{gateway}", bridge: xenbr0}}
"""
_HOST = """apiVersion: domgit/v1
kind: Host
metadata: {{name: {name}}}
spec:
  mode: enforce
  bridges: [{{name: xenbr0, uplinks: [eth0]}}]
  guard: {{mode: enforce}}
"""
_DOMU = """apiVersion: domgit/v1
kind: DomU
metadata:
  name: {name}
  labels: {{customer: "{number}"}}
spec:
  profile: small
  memory: 512MiB
  maxMemory: 1GiB
  vcpus: 1
  maxVcpus: 2
  disks:
    - vdev: xvda
      path: /srv/xen/images/{name}.img
      size: 5GiB
  vifs:
    - name: {name}
      mac: 00:16:3e:{high:02x}:{middle:02x}:{low:02x}
      bridge: xenbr0
      ips:
        - 10.{network}.{middle}.{low}
        - 2001:db8::{suffix:x}
      rate: 10Mb/s
  console:
    device: hvc0
"""


def files(count: int) -> Iterator[tuple[str, str]]:
    """(path, text) of all files of a repository with that many VPSs."""
    yield "profiles/small.yaml", _PROFILE
    yield (
        "networks/vps.yaml",
        _NETWORKS.format(name="vps", subnet="10.0.0.0/8", gateway="10.255.255.254"),
    )
    yield (
        "networks/vps6.yaml",
        _NETWORKS.format(name="vps6", subnet="2001:db8::/32", gateway="2001:db8:ffff::1"),
    )
    for number in range(count):
        if number % PER_HOST == 0:
            name = host(number)
            yield f"hosts/{name}/host.yaml", _HOST.format(name=name)
        yield domu(number)


def host(number: int) -> str:
    """The dom0 of the VPS with that number."""
    return f"dom0-{number // PER_HOST:02d}"


def domu(number: int, *, memory: str = "512MiB") -> tuple[str, str]:
    """(path, text) of one VPS."""
    name = f"vm{number:05d}"
    text = _DOMU.format(
        name=name,
        number=number,
        high=number >> 16 & 255,
        middle=number >> 8 & 255,
        low=number & 255,
        network=1 + (number >> 16),
        suffix=number + 2,
    )
    return f"hosts/{host(number)}/domus/{name}.yaml", text.replace("512MiB", memory)


def make_repository(folder: Path, count: int) -> None:
    """A bare repository with one commit and one pack, as a clone of a provider's is."""
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", folder], check=True)
    commit(folder, files(count), parent=False)


def commit(folder: Path, changed: Iterator[tuple[str, str]], *, parent: bool = True) -> None:
    """One more commit on main that writes these files."""
    script = [
        b"commit refs/heads/main\ncommitter Provider <noc@example.net> 1700000000 +0000\ndata 8\na change\n"
    ]
    if parent:
        script.append(b"from refs/heads/main^0\n")
    for path, text in changed:
        data = text.encode()
        script.append(b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(data), data))
    subprocess.run(["git", "-C", folder, "fast-import", "--quiet"], input=b"".join(script), check=True)
