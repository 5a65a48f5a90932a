"""Whole repositories from dice: one host with its networks, profiles and as many domUs as asked, of every kind there is.

Values that may be given once only are given once; what else the schemas refuse is taken out by them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from random import Random
from typing import Any

from schemas.address import Address, address_text
from tests.round_trips.scalars import WILD, Scalars
from tests.round_trips.yaml_text import Writer

HOST = "dom0-a"
Words = Mapping[str, Any]
# No two overlap. Around the low end of IPv6 some tools write an address like one of IPv4.
_V4 = (
    *(f"10.{number}.0.0/16" for number in range(1, 200, 7)),
    "1.0.0.0/8", "100.64.0.0/10", "128.0.0.0/9", "172.16.0.0/12", "192.0.2.0/24", "198.51.100.0/24", "223.255.255.0/24", "203.0.113.0/28",
)  # fmt: skip
_V6 = (
    *(f"2001:db8:{number:x}::/48" for number in range(0, 0xFFFF, 4321)),
    "::1:0:0/96", "::fffe:0:0/96", "::1:0:0:0/80", "64:ff9b::/96", "4000::/2", "8000::/2", "fd00::/8", "1::/16",
    "feff:ffff:ffff:ffff::/64", "2001:0:0:1::/64", "0:1::/64",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Drawn:
    """A repository: its files, and the specification of each domU by name, as it is once its profile is merged in."""

    seed: int
    files: Mapping[str, str]
    specs: Mapping[str, Words]
    metadata: Mapping[str, Words]


@dataclass(slots=True)
class _Slots:
    """A network and the parts of it that nobody has yet: no two vifs draw from one part."""

    subnet: Address
    length: int
    free: list[int]

    def take(self) -> Address:
        base = int(self.subnet.network_address) + (
            self.free.pop() << (self.subnet.max_prefixlen - self.length)
        )
        return ip_network((base, self.length))


@dataclass(slots=True)
class _Segment:
    """A bridge with its networks, and an address that several of its vifs share."""

    name: str
    networks: list[_Slots] = field(default_factory=list)
    shared: list[Address] = field(default_factory=list)


class FleetDice:
    """Draws one repository."""

    def __init__(self, seed: int, *, wild: float = WILD) -> None:
        self.seed = seed
        self._dice = Random(seed)  # noqa: S311  # reproducible, not secret
        self._draw = Scalars(self._dice, wild)
        self._tame = Scalars(self._dice, 0.0)  # for what every domU of the draw hangs on
        self._writer = Writer(self._dice)
        self._given: set[str] = set()
        self._displays = self._dice.sample(range(1000), 1000)

    def draw(self, domus: int) -> Drawn:
        files: dict[str, str] = {}
        host, segments = self._host(domus)
        files[f"hosts/{HOST}/host.yaml"] = self._document("Host", {"name": HOST}, host)
        for name, words in self._networks(segments):
            files[f"networks/{name}.yaml"] = self._document("Network", {"name": name}, words)
        profiles = {f"p{number}": self._profile() for number in range(3)}
        for name, words in profiles.items():
            files[f"profiles/{name}.yaml"] = self._document("Profile", {"name": name}, words)
        specs: dict[str, Words] = {}
        identities: dict[str, Words] = {}
        while len(specs) < domus:
            metadata = self._metadata()
            name = metadata["name"]
            if {"/", "\\"} & {*name} or not name.isprintable() or not self._new("name", name.casefold()):
                continue
            spec = self._domu(host, segments)
            own = self._without_profile(spec, profiles)
            files[f"hosts/{HOST}/domus/{name}.yaml"] = self._document("DomU", metadata, own)
            specs[name], identities[name] = spec, metadata
        return Drawn(self.seed, files, specs, identities)

    def _document(self, kind: str, metadata: Words, spec: Words) -> str:
        return self._writer.document(
            {"apiVersion": "domgit/v1", "kind": kind, "metadata": metadata, "spec": spec}
        )

    def _new(self, kind: str, value: str) -> bool:
        """Whether nobody has it yet; from now on somebody has."""
        key = f"{kind} {value}"
        if key in self._given:
            return False
        self._given.add(key)
        return True

    def _host(self, domus: int) -> tuple[Words, list[_Segment]]:
        tame, dice = self._tame, self._dice
        names: list[str] = []
        while len(names) < 8:
            name = tame.interface()
            # An uplink that is called like the emulated twin of a vif.
            name = f"{name[:11]}-emu" if tame.chance(0.2) else name
            if name not in {"lo", "all", "default", ".", ".."} and self._new("port", name):
                names.append(name)
        segments = [_Segment(name) for name in names[: dice.randint(1, 3)]]
        self._twins = [name for name in names if name.endswith("-emu")]
        ports = iter(names[3:])
        bridges: list[Words] = [
            {"name": each.name, "uplinks": [next(ports) for _ in range(dice.randint(0, 1))]}
            for each in segments
        ]
        roots = [tame.path("", longest=60) for _ in range(dice.randint(1, 2))]
        log = {"prefix": tame.log_prefix(), "limit": tame.log_limit(), "level": dice.choice(_LEVELS)}
        spec = {
            "mode": dice.choice(("report", "enforce")),
            "bridges": bridges,
            "guard": {
                "mode": dice.choice(("audit", "enforce")),
                "unknownVifs": dice.choice(("report", "drop")),
                **({"log": log} if tame.chance(0.8) else {}),
            },
            "disruption": dice.choice(("none", "link", "reboot")),
            "limits": {"absent": dice.choice((0, 1, 10_000)), "detach": dice.choice(("0%", "10%", "100%"))},
            "images": {
                "roots": [f"/srv{root}" for root in roots],
                "kernels": [f"/k{root}" for root in roots],
                "volumeGroups": [tame.name()],
            },
        }
        for each in segments:
            each.networks = self._slots(domus)
        return spec, segments

    def _slots(self, domus: int) -> list[_Slots]:
        """One to four networks with room for everybody, or for a few."""
        found = []
        for _ in range(self._dice.randint(1, 4)):
            text = self._dice.choice((*_V4, *_V6))
            if not self._new("network", text):
                continue
            subnet = ip_network(text)
            bits = min((4 * domus).bit_length(), subnet.max_prefixlen - subnet.prefixlen)
            free = [*range(1, (1 << bits) - 1)]  # the ends hold the network's and the broadcast address
            self._dice.shuffle(free)
            found.append(_Slots(subnet, subnet.prefixlen + bits, free[: 4 * domus]))
        return found

    def _networks(self, segments: list[_Segment]) -> Iterator[tuple[str, Words]]:
        number = 0
        for each in segments:
            for slots in each.networks:
                number += 1
                words: dict[str, Any] = {"subnet": str(slots.subnet), "bridge": each.name}
                if self._tame.chance(0.5) and slots.free:
                    gateway = slots.take().network_address
                    words["gateway"] = str(gateway)
                if self._tame.chance(0.3) and slots.free:
                    words["reserved"] = [address_text(slots.take())]
                if self._tame.chance(0.5) and slots.free:
                    each.shared.append(ip_network(slots.take().network_address))
                yield f"n{number}", words

    def _metadata(self) -> dict[str, Any]:
        draw = self._draw
        metadata: dict[str, Any] = {"name": draw.domu_name()}
        uuid = draw.uuid()
        if draw.chance(0.7) and self._new("uuid", uuid.lower()):
            metadata["uuid"] = uuid
        if draw.chance(0.3):
            metadata["labels"] = {"customer": draw.label(), "a/b.c-d_e": draw.label()}
        if draw.chance(0.1):
            metadata["placement"] = {
                "epoch": draw.number(1, 10**9),
                "from": draw.choice(("dom0-b", "a", "x.y-")),
            }
        return metadata

    def _profile(self) -> Words:
        mib = self._tame.memory_mib()
        spec: dict[str, Any] = {
            "type": self._dice.choice(("pv", "pvh", "hvm")),
            "memory": self._tame.memory(mib),
            "maxMemory": self._tame.memory(mib),
            "vcpus": self._dice.choice((1, 2, 512)),
            "maxVcpus": 512,
            "onCrash": self._dice.choice(("restart", "destroy", "preserve")),
            "order": self._tame.number(0, 9999),
        }
        return {key: spec[key] for key in spec if self._tame.chance(0.6)}

    def _without_profile(self, spec: dict[str, Any], profiles: Mapping[str, Words]) -> Words:
        """What is left to write into the domU's own file; what its profile brings comes into `spec`."""
        name = self._dice.choice([*profiles])
        profile = profiles[name]
        inherited = {key: each for key, each in profile.items() if self._tame.chance(0.5) or key not in spec}
        merged = {**spec, **inherited}
        # What does not fit together is drawn often enough without a profile.
        if self._tame.chance(0.4) or (merged["type"] != spec["type"] or _over(merged)):
            return spec
        own = {"profile": name, **{key: each for key, each in spec.items() if key not in inherited}}
        spec |= inherited
        return own

    def _domu(self, host: Words, segments: list[_Segment]) -> dict[str, Any]:
        draw, dice = self._draw, self._dice
        kind = dice.choice(("pv", "pv", "pvh", "hvm"))
        mib, vcpus = draw.memory_mib(), draw.number(1, 512)
        spec: dict[str, Any] = {
            "type": draw.choice((kind,)),
            "memory": draw.memory(mib),
            "boot": self._boot(kind, host),
        }
        optional = {
            "state": dice.choices(("running", "halted", "absent"), (40, 20, 1))[0],
            "maxMemory": draw.memory(min(mib + draw.number(0, 2**20), 10**9 - 1)),
            "vcpus": vcpus,
            "maxVcpus": draw.number(vcpus, 512) if draw.chance(0.995) else draw.number(1, 512),
            "disks": self._disks(host),
            "vifs": [self._vif(kind, segments) for _ in range(dice.choice((0, 1, 1, 1, 2, 8)))],
            "console": self._console(),
            "onCrash": draw.choice(("restart", "destroy", "preserve")),
            "protect": dice.choice((True, False)),
            "mode": dice.choice(("report", "enforce")),
            "disruption": dice.choice(("none", "link", "reboot")),
            "afterPoweroff": dice.choice(("stay", "start")),
            "order": draw.number(0, 9999),
        }
        spec |= {key: each for key, each in optional.items() if draw.chance(0.7)}
        return spec

    def _boot(self, kind: str, host: Words) -> Words:
        draw, dice = self._draw, self._dice
        way = "kernel" if kind == "hvm" else dice.choice(("kernel", "kernel", "bootloader", "firmware"))
        run = self._started(host)
        if way != "kernel":
            run = {key: each for key, each in run.items() if key == "cmdline"}
            run[way] = "pygrub" if way == "bootloader" else "pvgrub"
        boot: dict[str, Any] = {"run": run}
        if draw.chance(0.4):
            boot["install"] = self._started(host)
            if draw.chance(0.6):
                boot["install"]["cdrom"] = self._boot_file(host)
            if draw.chance(0.7):
                boot["phase"] = "install"
                boot |= {"then": "run"} if draw.chance(0.3) else {}
        elif draw.chance(0.3):
            boot["phase"] = "run"
        return boot

    def _started(self, host: Words) -> dict[str, Any]:
        parts: dict[str, Any] = {"kernel": self._boot_file(host)}
        if self._draw.chance(0.4):
            parts["ramdisk"] = self._boot_file(host)
        if self._draw.chance(0.7):
            parts["cmdline"] = self._draw.command_line()
        return parts

    def _boot_file(self, host: Words) -> str:
        folders = ["/usr/lib/grub-xen", *host["images"]["kernels"] * 5]
        return self._draw.path(self._dice.choice(folders))

    def _disks(self, host: Words) -> list[Words]:
        draw, dice = self._draw, self._dice
        images = host["images"]
        folders = [*images["roots"], *(f"/dev/{group}" for group in images["volumeGroups"])]
        disks: list[Words] = []
        devices: set[str] = set()
        for _ in range(dice.choice((0, 1, 1, 2, 6))):
            device = draw.device()
            path = draw.path(dice.choice(folders))
            if device in devices or not self._new("disk", path):
                continue
            devices.add(device)
            disk: dict[str, Any] = {"vdev": device, "path": path}
            optional = {
                "size": draw.size(),
                "format": draw.choice(("raw", "qcow2", "vhd")),
                "access": draw.choice(("ro", "rw")),
                "sparse": dice.choice((True, False)),
                "adopt": dice.choice((True, False)),
            }
            disks.append(disk | {key: each for key, each in optional.items() if draw.chance(0.5)})
        return disks

    def _vif(self, kind: str, segments: list[_Segment]) -> Words:
        draw, dice = self._draw, self._dice
        segment = dice.choice(segments)
        mac = draw.mac()
        while not self._new("mac", mac.lower()):
            mac = draw.mac()
        vif: dict[str, Any] = {"mac": mac, "bridge": segment.name}
        name = self._port(kind)
        if draw.chance(0.8) and name is not None:
            vif["name"] = name
        if draw.chance(0.9):
            vif["ips"] = self._ips(segment)
        if draw.chance(0.4):
            vif["rate"] = draw.rate()
        if draw.chance(0.4):
            vif["guard"] = draw.choice(("audit", "enforce"))
        return vif

    def _port(self, kind: str) -> str | None:
        """A name that neither another port nor the twin of one has; that an uplink has it is for the schemas to see."""
        name = self._draw.interface(11 if kind == "hvm" else 15)
        if kind == "hvm" and self._twins and self._draw.chance(0.02):
            name = self._dice.choice(self._twins).removesuffix("-emu")
        return name if self._new("vif", name) and self._new("vif", f"{name}-emu") else None

    def _ips(self, segment: _Segment) -> list[Any]:
        draw, dice = self._draw, self._dice
        wanted: dict[Address, Any] = {}
        several = 256 if draw.chance(0.005) else dice.choice((0, 1, 2, 3, 8))
        open_ = [each for each in segment.networks if each.free]
        if open_:
            part = dice.choice(open_).take()
            for _ in range(4 * several):
                found = draw.inside(part)
                if len(wanted) < several and found not in wanted:
                    wanted[found] = draw.address(found)
        if draw.chance(0.1):
            found = draw.link_local()
            wanted.setdefault(found, draw.address(found))
        if segment.shared and draw.chance(0.1):
            found = dice.choice(segment.shared)
            wanted.setdefault(found, {"address": draw.address(found, single=True), "shared": True})
        return [*wanted.values()]

    def _console(self) -> Words:
        draw, dice = self._draw, self._dice
        console: dict[str, Any] = {}
        if draw.chance(0.3):
            console["device"] = draw.choice(("hvc0", "xvc0", "ttyS0"))
            console["baud"] = dice.choice((9600, 115200))
            console["login"] = draw.choice(("report", "ignore"))
        if draw.chance(0.5) and self._displays:
            vnc: dict[str, Any] = {
                "listen": draw.choice(("127.0.0.1", "192.0.2.1", "::1", "2001:DB8::5", "fe80::1")),
                "display": self._displays.pop(),
            }
            if draw.chance(0.6):
                vnc["passwordSecret"] = draw.secret_name()
            console["vnc"] = vnc
        return console


def _over(spec: Words) -> bool:
    """Whether something is more than its ceiling."""
    most = spec.get("maxMemory", spec["memory"])
    return parse_memory(most) < parse_memory(spec["memory"]) or spec.get("maxVcpus", 512) < spec.get(
        "vcpus", 1
    )


def parse_memory(text: str) -> int:
    """MiB of what a memory size says; -1 for what says none."""
    match = re.fullmatch(r"([0-9]+)(MiB|GiB)", text)
    return -1 if match is None else int(match[1]) * (1024 if match[2] == "GiB" else 1)


_LEVELS = ("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug")
