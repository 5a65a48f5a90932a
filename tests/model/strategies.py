"""Small fleets from dice: whatever the schemas accept of a host, its networks and up to four domUs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random
from typing import Any
from uuid import UUID

from schemas.fleet import view
from state.desired import Desired
from state.resolve import resolve
from tests.model.world import SECRET
from tests.unit.fleets import documents, fleet_of

SLOTS = (1, 2, 3, 4)
IMAGE_MIB = 8
HOST, ELSEWHERE = "dom0-a", "dom0-b"
Files = Mapping[str, str]
_NETWORKS = (
    ("a", "172.16.39.0/24", "172.16.39.1", "xenbr0"),
    ("a6", "2001:db8:39::/64", "2001:db8:39::1", "xenbr0"),
    ("b", "172.16.40.0/24", "172.16.40.1", "xenbr1"),
)
# The same few addresses for everybody, so that they change hands: single ones, prefixes, and prefixes inside them.
_ADDRESSES = {
    "xenbr0": (
        *(f"172.16.39.{number}" for number in range(20, 28)),
        "172.16.39.64/28",
        "172.16.39.64/29",
        "172.16.39.80/28",
        *(f"2001:db8:39::{number}" for number in range(20, 24)),
        "2001:db8:39:0:1::/80",
        "2001:db8:39:0:2::/80",
        "2001:db8:39:0:2::/96",
    ),
    "xenbr1": (*(f"172.16.40.{number}" for number in range(20, 28)), "172.16.40.64/28"),
}
_MACS = tuple(f"00:16:3e:00:53:{number:02x}" for number in range(1, 10))
_PORTS = tuple(f"net{number}" for number in range(1, 10))
_NAMES = tuple(f"vm{number:02}" for number in range(1, 7))
_DISPLAYS = tuple(range(10, 16))


def uuid_of_slot(slot: int) -> str:
    """The identity of the domU in a slot, whatever it is called."""
    return str(UUID(int=0x00005EED_0000_4000_8000_000000000000 + slot))


def image(slot: int, letter: str) -> str:
    """The path of a disk image."""
    return f"/srv/xen/images/slot{slot}{letter}.img"


class FleetDice:
    """Draws fleets. What may be claimed once is drawn without putting it back."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice

    def draw(self) -> Files:
        """A whole repository that the schemas accept."""
        while True:
            files = self._repository({})
            if fleet_of(files).valid:
                return files

    def change(self, files: Files) -> Files:
        """The repository with about one domU written anew, as most commits do."""
        while True:
            slots = self._dice.sample(SLOTS, self._dice.choice((1, 1, 2)))
            keep = {
                path: text for path, text in files.items() if not any(_slot(text) == slot for slot in slots)
            }
            changed = self._repository(keep, slots)
            if fleet_of(changed).valid:
                return changed

    def spoilt(self, files: Files) -> Files:
        """The repository with an error inside one domU's file, or with one domU moved to another host."""
        paths = sorted(path for path in files if "/domus/" in path)
        if not paths:
            return files
        path = self._dice.choice(paths)
        document = json.loads(files[path])
        others = {each: text for each, text in files.items() if each != path}
        if self._dice.random() < 0.5:
            del document["spec"]["memory"]
            return {**others, path: json.dumps(document)}
        document["metadata"]["placement"] = {"epoch": 2, "from": HOST}
        host = _document("Host", ELSEWHERE, {"bridges": [{"name": "xenbr0"}, {"name": "xenbr1"}]})
        moved = path.replace(HOST, ELSEWHERE)
        return {**others, f"hosts/{ELSEWHERE}/host.yaml": host, moved: json.dumps(document)}

    def _repository(self, keep: Files, slots: tuple[int, ...] | list[int] = SLOTS) -> Files:
        dice = self._dice
        files = dict(keep)
        if not keep or dice.random() < 0.2:
            files[f"hosts/{HOST}/host.yaml"] = self._host()
        files |= {f"networks/{name}.yaml": _network(name, *rest) for name, *rest in _NETWORKS}
        taken = [json.loads(text) for path, text in keep.items() if "/domus/" in path]
        pools = Pools(dice, taken)
        for slot in slots:
            if dice.random() < 0.9:
                document = self._domu(slot, pools)
                files[f"hosts/{HOST}/domus/{document['metadata']['name']}.yaml"] = json.dumps(document)
        return files

    def _host(self) -> str:
        dice = self._dice
        spec: dict[str, Any] = {
            "mode": "enforce",
            "bridges": [{"name": "xenbr0", "uplinks": ["eth0"]}, {"name": "xenbr1", "uplinks": ["eth1"]}],
            "guard": {
                "mode": dice.choice(("enforce", "enforce", "enforce", "audit")),
                "unknownVifs": dice.choice(("report", "drop")),
            },
            "limits": dice.choice(({"absent": 9, "detach": "100%"},) * 5 + ({},)),
        }
        if dice.random() < 0.2:
            spec["guard"]["log"] = {"prefix": dice.choice(("Dropped: ", "spoof "))}
        return _document("Host", HOST, spec)

    def _domu(self, slot: int, pools: Pools) -> dict[str, Any]:
        dice = self._dice
        memory, vcpus = dice.choice((64, 96, 128)), dice.choice((1, 2))
        spec: dict[str, Any] = {
            "type": dice.choice(("pv", "pv", "pvh")),
            "state": dice.choices(("running", "halted", "absent"), (8, 2, 1))[0],
            "memory": f"{memory}MiB",
            "maxMemory": f"{memory + dice.choice((0, 64))}MiB",
            "vcpus": vcpus,
            "maxVcpus": vcpus + dice.choice((0, 2)),
            "boot": self._boot(),
            "disks": self._disks(slot),
            "vifs": [self._vif(pools) for _ in range(dice.choices((0, 1, 2), (1, 5, 2))[0])],
            "onCrash": dice.choice(("restart", "restart", "destroy", "preserve")),
            "afterPoweroff": dice.choice(("stay", "start")),
            "order": dice.choice((50, 10)),
        }
        if dice.random() < 0.1:
            spec["protect"] = True
        if dice.random() < 0.15:
            vnc: dict[str, Any] = {"listen": "127.0.0.1", "display": pools.take(_DISPLAYS)}
            if dice.random() < 0.5:
                vnc["passwordSecret"] = SECRET
            spec["console"] = {"vnc": vnc}
        name = pools.take(_NAMES if dice.random() < 0.2 else _NAMES[slot - 1 : slot])
        return {
            "apiVersion": "domgit/v1",
            "kind": "DomU",
            "metadata": {"name": name, "uuid": uuid_of_slot(slot)},
            "spec": spec,
        }

    def _boot(self) -> dict[str, Any]:
        dice = self._dice
        run: dict[str, Any] = {"kernel": dice.choice(("/srv/xen/vmlinuz", "/srv/xen/vmlinuz-2"))}
        if dice.random() < 0.4:
            run["cmdline"] = dice.choice(("root=/dev/xvda ro", "root=/dev/xvda console=hvc0"))
        if dice.random() < 0.2:
            run["ramdisk"] = "/srv/xen/initrd.img"
        if dice.random() < 0.1:
            install = {"kernel": "/srv/xen/vmlinuz", "cdrom": "/srv/xen/cd.iso"}
            if dice.random() < 0.3:
                install["kernel"] = "/srv/xen/vmlinuz-2"
            then = {"then": "run"} if dice.random() < 0.5 else {}
            return {"phase": "install", **then, "install": install, "run": run}
        return {"run": run if dice.random() < 0.9 else {"bootloader": "pygrub"}}

    def _disks(self, slot: int) -> list[dict[str, Any]]:
        dice = self._dice
        disks = []
        for letter, vdev in zip(
            "ab"[: dice.choices((0, 1, 2), (1, 6, 2))[0]], ("xvda", "xvdb"), strict=False
        ):
            disk: dict[str, Any] = {"vdev": vdev, "path": image(slot, letter), "size": f"{IMAGE_MIB}MiB"}
            if dice.random() < 0.8:
                disk["adopt"] = True
            if dice.random() < 0.1:
                disk["access"] = "ro"
            disks.append(disk)
        return disks

    def _vif(self, pools: Pools) -> dict[str, Any]:
        dice = self._dice
        bridge = dice.choice(("xenbr0", "xenbr0", "xenbr0", "xenbr1"))
        count = dice.choices((0, 1, 2, 3), (1, 5, 2, 1))[0]
        vif: dict[str, Any] = {
            "mac": pools.take(_MACS),
            "bridge": bridge,
            "ips": [pools.take(_ADDRESSES[bridge]) for _ in range(count)],
        }
        if dice.random() < 0.8:
            vif["name"] = pools.take(_PORTS)
        if dice.random() < 0.3:
            vif["rate"] = dice.choice(("1Mb/s", "10Mb/s", "250KB/s@20ms"))
        if dice.random() < 0.15:
            vif["guard"] = dice.choice(("audit", "enforce"))
        return vif


class Pools:
    """What nobody has yet of everything that is claimed once."""

    def __init__(self, dice: Random, taken: list[dict[str, Any]]) -> None:
        self._dice = dice
        self._given: set[object] = set()
        for document in taken:
            self._note(document)

    def _note(self, value: object) -> None:
        if isinstance(value, dict):
            for each in value.values():
                self._note(each)
        elif isinstance(value, list):
            for each in value:
                self._note(each)
        else:
            self._given.add(value)

    def take(self, pool: tuple[Any, ...]) -> Any:
        """One that was not given out before; from a pool of which nothing is left, one that the schemas will refuse."""
        chosen = self._dice.choice([each for each in pool if each not in self._given] or pool)
        self._given.add(chosen)
        return chosen


def desired_of(files: Files) -> Desired:
    """What a repository wants of the host, through the real schemas."""
    seen = view(fleet_of(files), HOST)
    if seen.host is None or seen.refused:
        raise AssertionError(f"no such repository was to be drawn: {seen.diagnostics}")
    return resolve(
        seen.host,
        documents(seen),
        networks=seen.networks,
        held=seen.held,
        elsewhere=seen.elsewhere,
        diagnostics=seen.diagnostics,
    )


def _slot(text: str) -> int | None:
    document = json.loads(text)
    uuid = document["metadata"].get("uuid")
    return next((slot for slot in SLOTS if uuid_of_slot(slot) == uuid), None)


def _network(name: str, subnet: str, gateway: str, bridge: str) -> str:
    return _document("Network", name, {"subnet": subnet, "gateway": gateway, "bridge": bridge})


def _document(kind: str, name: str, spec: Mapping[str, Any]) -> str:
    """JSON is YAML."""
    return json.dumps({"apiVersion": "domgit/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
