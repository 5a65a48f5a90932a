"""Interfaces, bridge ports and forwarding entries of the dom0 in memory, as `ip` and `bridge` know them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.model.answer import Answer, Refused, unknown

VIF_MAC = "fe:ff:ff:ff:ff:ff"


@dataclass(slots=True)
class Link:
    """An interface, with its settings as a bridge port; those mean nothing without `bridge`."""

    name: str
    index: int
    mac: str
    kind: str = ""
    up: bool = False
    bridge: str | None = None
    learning: bool = True
    locked: bool = False
    group_fwd_mask: int = 0
    group: str = "default"


@dataclass(slots=True)
class Entry:
    """A forwarding entry of a bridge: where frames to a MAC go."""

    port: str
    static: bool
    sticky: bool


@dataclass(slots=True)
class Links:
    """All interfaces by name, and the forwarding entries of each bridge by MAC."""

    by_name: dict[str, Link] = field(default_factory=dict)
    fdb: dict[tuple[str, str], Entry] = field(default_factory=dict)
    _index: int = 0

    def add(self, name: str, *, mac: str = VIF_MAC, kind: str = "") -> Link:
        if name in self.by_name:
            raise AssertionError(f"the kernel never makes a second {name}")
        self._index += 1
        link = self.by_name[name] = Link(name, self._index, mac, kind)
        return link

    def remove(self, name: str) -> None:
        self.release(self.by_name[name])
        del self.by_name[name]

    def rename(self, old: str, new: str) -> None:
        link = self.by_name.pop(old)
        link.name = new
        self.by_name[new] = link

    def enslave(self, link: Link, bridge: str) -> None:
        self.release(link)
        link.bridge = bridge

    def release(self, link: Link) -> None:
        """Off its bridge: a port that comes back starts with the bridge's defaults and nothing learned."""
        self.fdb = {key: entry for key, entry in self.fdb.items() if entry.port != link.name}
        link.bridge, link.learning, link.locked, link.group_fwd_mask = None, True, False, 0

    def names(self) -> tuple[str, ...]:
        """What stands in /sys/class/net."""
        return tuple(self.by_name)

    def is_bridge(self, name: str) -> bool:
        return name in self.by_name and self.by_name[name].kind == "bridge"

    def pin(self, port: str, mac: str) -> None:
        """A static sticky entry. An entry that another port has for the MAC moves: a bridge has one for each."""
        bridge = self.by_name[port].bridge
        if bridge is None:
            raise Refused("RTNETLINK answers: Operation not supported", 2)
        self.fdb[bridge, mac] = Entry(port, static=True, sticky=True)

    def learn(self, port: str, mac: str) -> None:
        """What a first frame from `mac` leaves behind."""
        link = self.by_name[port]
        if link.bridge is not None and link.up and link.learning and not link.locked:
            self.fdb.setdefault((link.bridge, mac), Entry(port, static=False, sticky=False))

    # ---- ip ----

    def ip(self, arguments: Sequence[str]) -> Answer:
        """`ip ARGUMENTS`: the commands that domgit and its tests use."""
        match list(arguments):
            case ["-j", "-d", "link"]:
                return Answer(json.dumps([_shown(link) for link in self.by_name.values()]))
            case ["-j", "address", "show"]:
                return Answer(json.dumps([{"ifname": name, "addr_info": []} for name in self.by_name]))
            case ["-4", "-j", "route", "show", "default", "table", "all"]:
                return Answer('[{"dst":"default","gateway":"172.16.39.1","dev":"xenbr0","flags":[]}]')
            case ["-6", "-j", "route", "show", "default", "table", "all"]:
                return Answer("[]")
            case ["link", "set", "dev", name, *rest]:
                self._set(self._device(name), rest)
            case _:
                raise unknown("ip", arguments)
        return Answer()

    def _set(self, link: Link, rest: list[str]) -> None:
        match rest:
            case ["up"]:
                link.up = True
            case ["down"]:
                link.up = False
            case ["nomaster"]:
                self.release(link)
            case ["master", bridge]:
                self.enslave(link, self._device(bridge).name)
            case ["type", "bridge_slave", "fdb_flush"]:
                self._port(link)
                self.fdb = {k: v for k, v in self.fdb.items() if v.static or v.port != link.name}
            case ["group", group, "type", "bridge_slave", "group_fwd_mask", number]:
                self._port(link)
                link.group, link.group_fwd_mask = group, int(number)
            case _:
                raise unknown("ip link set", rest)

    # ---- bridge ----

    def bridge(self, arguments: Sequence[str]) -> Answer:
        """`bridge ARGUMENTS`: the commands that domgit and its tests use."""
        match list(arguments):
            case ["-j", "-d", "link", "show"]:
                return Answer(json.dumps([_port(link) for link in self.by_name.values() if link.bridge]))
            case ["-j", "fdb", "show"]:
                return Answer(json.dumps(self._entries()))
            case ["fdb", "replace", mac, "dev", name, "master", "static", "sticky"]:
                self._device(name)
                self.pin(name, mac)
            case ["fdb", "del", mac, "dev", name, "master"]:
                link = self._device(name)
                entry = self.fdb.get((link.bridge or "", mac))
                if entry is None or entry.port != name:
                    raise Refused("RTNETLINK answers: No such file or directory", 255)
                del self.fdb[link.bridge or "", mac]
            case ["link", "set", "dev", name, "learning", learning, "locked", locked]:
                link = self._port(self._device(name))
                link.learning, link.locked = _flag(learning), _flag(locked)
            case _:
                raise unknown("bridge", arguments)
        return Answer()

    def _entries(self) -> list[dict[str, Any]]:
        entries = [
            {
                "mac": mac,
                "ifname": entry.port,
                "flags": ["sticky"] if entry.sticky else [],
                "master": bridge,
                "state": "static" if entry.static else "",
            }
            for (bridge, mac), entry in self.fdb.items()
        ]
        own = [
            {"mac": link.mac, "ifname": link.name, "flags": [], "master": link.bridge, "state": "permanent"}
            for link in self.by_name.values()
            if link.bridge
        ]
        group = [
            {"mac": "33:33:00:00:00:01", "ifname": name, "flags": ["self"], "state": "permanent"}
            for name in self.by_name
        ]
        return [*entries, *own, *group]

    def _device(self, name: str) -> Link:
        link = self.by_name.get(name)
        if link is None:
            raise Refused(f'Cannot find device "{name}"', 1)
        return link

    def _port(self, link: Link) -> Link:
        if link.bridge is None:
            raise Refused("RTNETLINK answers: Operation not supported", 2)
        return link


def _flag(text: str) -> bool:
    if text not in {"on", "off"}:
        raise AssertionError(f"neither on nor off: {text}")
    return text == "on"


def _shown(link: Link) -> dict[str, Any]:
    flags = ["BROADCAST", "MULTICAST", *(["UP", "LOWER_UP"] if link.up else [])]
    shown: dict[str, Any] = {
        "ifindex": link.index,
        "ifname": link.name,
        "flags": flags,
        "mtu": 1500,
        "address": link.mac,
        "group": link.group,
    }
    if link.bridge is not None:
        shown["master"] = link.bridge
    if link.kind:
        shown["linkinfo"] = {"info_kind": link.kind}
    if link.bridge is not None:
        data = {"group_fwd_mask": hex(link.group_fwd_mask) if link.group_fwd_mask else "0"}
        shown["linkinfo"] = {
            **shown.get("linkinfo", {}),
            "info_slave_kind": "bridge",
            "info_slave_data": data,
        }
    return shown


def _port(link: Link) -> dict[str, Any]:
    return {
        "ifindex": link.index,
        "ifname": link.name,
        "flags": ["BROADCAST", "MULTICAST", *(["UP", "LOWER_UP"] if link.up else [])],
        "mtu": 1500,
        "master": link.bridge,
        "state": "forwarding" if link.up else "disabled",
        "learning": link.learning,
        "isolated": False,
        "locked": link.locked,
    }
