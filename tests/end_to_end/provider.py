"""A provider with one repository and one dom0: writes specifications, commits, runs domgit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.dom0.guest import Guest
from tests.end_to_end import warm

DOMGIT = Path(sys.executable).parent / "domgit"
IMAGES = Path("/srv/xen/images")
STATE = Path("/var/lib/domgit")
HOST = """\
apiVersion: domgit/v1
kind: Host
metadata: {name: dom0-a}
spec:
  mode: enforce
  bridges: [{name: xenbr0, uplinks: [eth0]}]
  guard: {mode: enforce, unknownVifs: UNKNOWN}
  disruption: link
EXTRA"""
NETWORK = """\
apiVersion: domgit/v1
kind: Network
metadata: {name: vps-a}
spec: {subnet: 172.16.39.0/24, gateway: 172.16.39.1, reserved: [172.16.39.0/28], bridge: xenbr0}
"""
NETWORK6 = """\
apiVersion: domgit/v1
kind: Network
metadata: {name: vps-a6}
spec: {subnet: "2001:db8:39::/64", gateway: "2001:db8:39::1", bridge: xenbr0}
"""


@dataclass(frozen=True, slots=True)
class Run:
    """How a domgit command ended."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line of its result."""
        return self.out.strip().rsplit("\n", 1)[-1]

    @property
    def json(self) -> Any:
        """Its result as JSON."""
        return json.loads(self.out)


# Verbs that know no repository.
WITHOUT_GIT = {"drift", "history", "show", "violations", "disks", "bypass"}


def mac(number: int) -> str:
    """The MAC of the domU with this number."""
    return f"00:16:3e:00:53:{number:02x}"


class Provider:
    """The repository at `root`, and domgit over it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.name", "Provider")
        self.git("config", "user.email", "noc@example.net")
        self.host()
        self.write("networks/vps-a.yaml", NETWORK)
        self.write("networks/vps-a6.yaml", NETWORK6)

    def host(self, *, unknown: str = "report", extra: str = "") -> None:
        """Write host.yaml."""
        lines = "".join(f"  {line}\n" for line in extra.splitlines())
        self.write("hosts/dom0-a/host.yaml", HOST.replace("UNKNOWN", unknown).replace("EXTRA", lines))

    def domu(self, name: str, number: int, **spec: Any) -> None:
        """Write a domU with one vif and one disk; `spec` replaces parts of its specification, None leaves one out."""
        content: dict[str, Any] = {
            "type": "pv",
            "memory": "128MiB",
            "maxMemory": "256MiB",
            "boot": {"run": {"kernel": "/srv/xen/vmlinuz", "cmdline": "root=/dev/xvda console=hvc0"}},
            "disks": [{"vdev": "xvda", "path": f"{IMAGES}/{name}.img", "size": "8MiB"}],
            "vifs": [vif(name, number)],
            **spec,
        }
        metadata: dict[str, Any] = {"name": name}
        if "uuid" in content:
            metadata["uuid"] = content.pop("uuid")
        document = {
            "apiVersion": "domgit/v1",
            "kind": "DomU",
            "metadata": metadata,
            "spec": {key: value for key, value in content.items() if value is not None},
        }
        self.write(f"hosts/dom0-a/domus/{name}.yaml", _yaml(document))

    def write(self, path: str, text: str) -> None:
        """Write a file of the repository."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def remove(self, path: str) -> None:
        """Take a file out of the repository."""
        (self.root / path).unlink()

    def commit(self, message: str = "a change") -> str:
        """Commit everything; the commit id."""
        self.git("add", "--all")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD").strip()

    def git(self, *argv: str) -> str:
        """Run git in the repository."""
        return subprocess.run(
            ["git", *argv], cwd=self.root, check=True, capture_output=True, text=True
        ).stdout

    def domgit(self, verb: str, *argv: str, timeout_s: float = 120.0) -> Run:
        """Run one domgit verb with this repository and host."""
        done = warm.run(self.argv(verb, *argv)[1:], timeout_s=timeout_s)
        return Run(done.returncode, done.stdout, done.stderr)

    def argv(self, verb: str, *argv: str) -> Sequence[str]:
        """The command line of a domgit verb."""
        target = ["--repo", str(self.root), "--rev", "main", "--host", "dom0-a"]
        return [str(DOMGIT), verb, *([] if verb in WITHOUT_GIT else target), *argv]

    def apply(self, *argv: str) -> Run:
        """Commit what is there, and apply it."""
        self.commit()
        return self.domgit("apply", "--yes", *argv)

    def changes(self) -> Mapping[str, Any]:
        """The changes of the present plan by address."""
        return {each["address"]: each for each in self.domgit("plan", "--json").json["resource_changes"]}

    def settled(self, *argv: str) -> None:
        """Apply, and see that nothing is left to do.

        Raises:
            AssertionError: the apply failed, or the plan after it is not empty.
        """
        done = self.apply(*argv)
        assert done.code == 0, done.out + done.err
        again = self.domgit("plan", "--detailed-exitcode")
        assert again.code == 0, again.out + again.err


def vif(name: str, number: int, **more: Any) -> dict[str, Any]:
    """One vif of a domU's specification."""
    return {
        "name": name,
        "mac": mac(number),
        "bridge": "xenbr0",
        "ips": [f"172.16.39.{100 + number}"],
        **more,
    }


def _yaml(value: Any) -> str:
    """JSON is YAML; only numbers and booleans must stay plain, which JSON leaves them."""
    return json.dumps(value, indent=2) + "\n"


def booted(name: str) -> Guest:
    """The guest, up."""
    guest = Guest(name)
    guest.wait_booted()
    return guest
