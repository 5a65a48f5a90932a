"""Proxmox' firewall: each guest's port is on a small bridge of its own, and the rules stand there, between it and the large one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv4Network

from reconciler.guard.binding import Binding, Step
from schemas.address import eui64_link_local
from tests.packets.lab import Lab
from tests.packets.parties import BRIDGE, GUARD

EBTABLES = ("ebtables-nft-restore",)


class FirewalledLab(Lab):
    """The bench with a bridge `fwbrN` for each guest, joined to the large one by `fwlnN` and `fwprN`."""

    def __init__(self) -> None:
        super().__init__()
        for number, each in enumerate(GUARD.bindings):
            inner, near, far = f"fwbr{number}", f"fwln{number}", f"fwpr{number}"
            self.dom0.sysctl({"ipv6/conf/default/disable_ipv6": 1})
            lines = (
                f"link add {inner} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
                f"link add {near} type veth peer name {far}",
                f"link set {each.interface} master {inner}",
                f"link set {near} master {inner}",
                f"link set {far} master {BRIDGE}",
                *(f"link set {device} up" for device in (inner, near, far)),
            )
            self.dom0.must("ip", "-batch", "-", stdin="\n".join((*lines, "")))

    def forwarding(self) -> dict[str, str]:
        """The port that the large bridge sends to, by MAC: the small ones have one guest each, and nobody to divert."""
        with self.dom0.inside():
            named = [(mac, socket.if_indextoname(port)) for mac, port in self._tables.forwarding()]
        inner = {each.interface for each in GUARD.bindings}
        return {mac: port for mac, port in named if port not in inner and not port.startswith("fwln")}


def steps(_: Lab) -> Iterator[Step]:
    """DHCP first; then MAC, router advertisements and addresses; ARP's sender address by ebtables; other types pass, as by default."""
    for version, tool in ((4, "iptables"), (6, "ip6tables")):
        yield Step((f"{tool}-nft-restore",), _filter(version))
    yield Step(EBTABLES, _ebtables())


def _filter(version: int) -> str:
    bridged = "-m physdev --physdev-is-bridged"
    chains, rules = (
        ["PVE-IN", "PVE-OUT"],
        [
            "FORWARD -m conntrack --ctstate INVALID -j DROP",
            "FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            f"FORWARD {bridged} --physdev-in fwln+ -j PVE-IN",
            f"FORWARD {bridged} --physdev-out fwln+ -j PVE-OUT",
            "PVE-IN -j ACCEPT",
        ],
    )
    for number, each in enumerate(GUARD.bindings):
        out, allowed = f"out{number}", f"allowed{number}"
        chains += [out, allowed]
        rules.append(f"PVE-OUT {bridged} --physdev-in {each.interface} -j {out}")
        ports = "--sport 68 --dport 67" if version == 4 else "--sport 546 --dport 547"
        rules += [f"{out} -p udp {ports} -j ACCEPT", f"{out} -m mac ! --mac-source {each.mac} -j DROP"]
        rules += [f"{out} -p icmpv6 --icmpv6-type router-advertisement -j DROP"] if version == 6 else []
        rules += [f"{out} -j {allowed}", f"{out} -j ACCEPT"]
        rules += [f"{allowed} -s {address} -j RETURN" for address in _allowed(each, version)]
        rules.append(f"{allowed} -j DROP")
    declared = "".join(f":{chain} -\n" for chain in chains)
    return f"*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n{declared}{''.join(f'-A {rule}' + chr(10) for rule in rules)}COMMIT\n"


def _allowed(binding: Binding, version: int) -> Iterator[str]:
    yield from (
        str(each) for each in (*binding.addresses, eui64_link_local(binding.mac)) if each.version == version
    )


def _ebtables() -> str:
    chains, rules = [], []
    for number, each in enumerate(GUARD.bindings):
        out, arp = f"out{number}", f"arp{number}"
        chains += [f":{out} ACCEPT", f":{arp} ACCEPT"]
        rules += [
            f"FORWARD -i {each.interface} -j {out}",
            f"{out} -s ! {each.mac} -j DROP",
            f"{out} -p ARP -j {arp}",
            f"{out} -j ACCEPT",
            *(
                f"{arp} -p ARP --arp-ip-src {address} -j RETURN"
                for address in each.addresses
                if isinstance(address, IPv4Network)
            ),
            f"{arp} -j DROP",
        ]
    declared = "".join(
        f"{chain}\n" for chain in [":INPUT ACCEPT", ":FORWARD ACCEPT", ":OUTPUT ACCEPT", *chains]
    )
    return f"*filter\n{declared}{''.join(f'-A {rule}' + chr(10) for rule in rules)}"
