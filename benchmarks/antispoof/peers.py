"""The rules of each system for the bench's two guests, written anew from what its documentation says that they do.

What a system allows besides its protection against forged frames (security groups and the like) is allowed here, so that
the protection alone is judged. Each rule stands for what the system loads, not for its text; the names of chains are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network

from benchmarks.antispoof import firewalled
from reconciler.guard import iptables, nftables, port_lock
from reconciler.guard.binding import Address, Binding, Step
from state.nft import probe_features
from tests.packets.lab import Lab
from tests.packets.parties import GUARD, UPLINK

IPTABLES, EBTABLES, NFT = ("iptables-nft-restore",), ("ebtables-nft-restore",), ("nft", "-f", "-")


@dataclass(frozen=True, slots=True)
class Peer:
    """A system under comparison. `basis`: what its rules were written from. `bridged`: they need br_netfilter switched on.

    `bench`: where it needs bridges of its own.
    """

    name: str
    basis: str
    steps: Callable[[Lab], Iterator[Step]]
    bridged: bool = False
    bench: type[Lab] = Lab

    def load(self, lab: Lab) -> None:
        """Its rules, on a bench that has none."""
        if self.bridged:
            lab.filter_by_iptables(enabled=True)
        for step in self.steps(lab):
            done = lab.dom0.run(step.argv, stdin=step.stdin)
            if done.rc != 0 and not step.optional:
                raise RuntimeError(f"{self.name}: {' '.join(step.argv)}: {done.stderr}")


def _v4(binding: Binding) -> tuple[IPv4Network, ...]:
    return tuple(each for each in binding.addresses if isinstance(each, IPv4Network))


def _none(_: Lab) -> Iterator[Step]:
    yield from ()


def _xen(_: Lab) -> Iterator[Step]:
    """FORWARD drops, the uplink may send, and for each vif what comes from its addresses, DHCP, and all that goes to it."""
    yield Step(IPTABLES, _filter(_xen_rules()))


def _xen_untracked(_: Lab) -> Iterator[Step]:
    """The same, with connection tracking switched off for what the rules accept."""
    lines = [
        f"-A PREROUTING -m physdev --physdev-in {port} {match} -j NOTRACK\n" for port, match in _xen_matches()
    ]
    yield Step(
        IPTABLES,
        f"*raw\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\n{''.join(lines)}COMMIT\n{_filter(_xen_rules())}",
    )


def _xen_matches() -> Iterator[tuple[str, str]]:
    for each in GUARD.bindings:
        yield from ((each.interface, f"-s {address}") for address in _v4(each))
        yield each.interface, "-p udp --sport 68 --dport 67"


def _xen_rules() -> Iterator[str]:
    yield f"-m physdev --physdev-in {UPLINK} -j ACCEPT"
    for port, match in _xen_matches():
        yield f"-m physdev --physdev-is-bridged --physdev-in {port} {match} -j ACCEPT"
    for each in GUARD.bindings:
        yield f"-m physdev --physdev-is-bridged --physdev-out {each.interface} -j ACCEPT"


def _filter(rules: Iterator[str], policy: str = "DROP") -> str:
    lines = "".join(f"-A FORWARD {rule}\n" for rule in rules)
    return f"*filter\n:INPUT ACCEPT\n:FORWARD {policy}\n:OUTPUT ACCEPT\n{lines}COMMIT\n"


def _by_hand(_: Lab) -> Iterator[Step]:
    """The rules file of the usual how-to: four lines for a vif, and at the end a limited log and a drop."""

    def rules() -> Iterator[str]:
        for each in GUARD.bindings:
            out, into = (
                f"-m physdev --physdev-out {each.interface}",
                f"-m physdev --physdev-in {each.interface}",
            )
            yield f"-m state --state RELATED,ESTABLISHED {out} -j ACCEPT"
            yield f"{into} -p udp --sport 68 --dport 67 -j ACCEPT"
            for address in _v4(each):
                yield f"-s {address} {into} -j ACCEPT"
                yield f"-d {address} {out} -j ACCEPT"
        # The how-to has no line for the uplink; without one nothing from outside but answers would come to a group.
        yield f"-m physdev --physdev-in {UPLINK} -j ACCEPT"
        yield '-m limit --limit 15/min -j LOG --log-prefix "Dropped by firewall: " --log-level 7'
        yield "-j DROP"

    yield Step(IPTABLES, _filter(rules(), "ACCEPT"))


def _clean_traffic(_: Lab) -> Iterator[Step]:
    """MAC, ARP's MAC and address, IPv4's address or none with UDP; ARP and IPv4 alone, both ways; the announcements of qemu."""
    chains, rules = [], []
    for number, each in enumerate(GUARD.bindings):
        send, get = f"send{number}", f"get{number}"
        nobody, own = (
            "--arp-ip-src 0.0.0.0 --arp-ip-dst 0.0.0.0",
            f"--arp-mac-src {each.mac} --arp-mac-dst {each.mac}",
        )
        chains += [f"{send} ACCEPT", f"{get} ACCEPT"]
        chains += [f"{send}-{part} ACCEPT" for part in ("mac", "ip", "arpmac", "arpip", "rarp")]
        rules += [f"PREROUTING -i {each.interface} -j {send}", f"POSTROUTING -o {each.interface} -j {get}"]
        rules += [
            f"{send} -j {send}-mac",
            f"{send} -p IPv4 -j {send}-ip",
            f"{send} -p IPv4 -j ACCEPT",
            f"{send} -p ARP -j {send}-arpmac",
            f"{send} -p ARP -j {send}-arpip",
            f"{send} -p ARP -j ACCEPT",
            f"{send} -p 0x8035 -j {send}-rarp",
            f"{send} -p 0x0835 -j ACCEPT",
            f"{send} -j DROP",
            f"{send}-mac -s {each.mac} -j RETURN",
            f"{send}-mac -j DROP",
            f"{send}-ip -p IPv4 --ip-src 0.0.0.0 --ip-proto udp -j RETURN",
            *(f"{send}-ip -p IPv4 --ip-src {address} -j RETURN" for address in _v4(each)),
            f"{send}-ip -j DROP",
            f"{send}-arpmac -p ARP --arp-mac-src {each.mac} -j RETURN",
            f"{send}-arpmac -j DROP",
            *(f"{send}-arpip -p ARP --arp-ip-src {address} -j RETURN" for address in _v4(each)),
            f"{send}-arpip -j DROP",
            f"{send}-rarp -p 0x8035 --arp-op Request_Reverse {nobody} {own} -j ACCEPT",
            f"{send}-rarp -j DROP",
            f"{get} -p IPv4 -j ACCEPT",
            f"{get} -p ARP -j ACCEPT",
            f"{get} -j DROP",
        ]
    declared = "".join(
        f":{chain}\n" for chain in ["PREROUTING ACCEPT", "OUTPUT ACCEPT", "POSTROUTING ACCEPT", *chains]
    )
    yield Step(EBTABLES, f"*nat\n{declared}{''.join(f'-A {rule}' + chr(10) for rule in rules)}")


def _incus(_: Lab) -> Iterator[Step]:
    """Filters of MAC, IPv4 and IPv6 in the bridge family's input and forward; DHCP and router solicitation towards the host alone."""
    text = "table bridge incus {\n"
    for number, each in enumerate(GUARD.bindings):
        for hook in ("input", "forward"):
            lines = "".join(f"\t\tiifname {each.interface} {line}\n" for line in _incus_rules(each, hook))
            text += f"\tchain {hook}{number} {{\n\t\ttype filter hook {hook} priority -200; policy accept;\n{lines}\t}}\n"
    yield Step(NFT, f"{text}}}\n")


def _incus_rules(binding: Binding, hook: str) -> Iterator[str]:
    bits = int(binding.mac.replace(":", ""), 16)
    four = ", ".join(str(each) for each in _v4(binding))
    wide = [each for each in binding.addresses if not isinstance(each, IPv4Network)]
    six = ", ".join(str(each) for each in wide)
    yield f"ether saddr != {binding.mac} drop"
    yield f"arp saddr ether != {binding.mac} drop"
    yield f"icmpv6 type nd-neighbor-advert @nh,528,48 != 0x{bits:x} drop"
    yield f"arp saddr ip != {{ {four} }} drop"
    if hook == "input":
        yield "ether type ip ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp dport 67 accept"
    yield f"ether type ip ip saddr != {{ {four} }} drop"
    if hook == "input":
        yield "ether type ip6 ip6 saddr fe80::/10 ip6 daddr ff02::1:2 udp dport 547 accept"
        yield "ether type ip6 ip6 saddr fe80::/10 ip6 daddr ff02::2 icmpv6 type nd-router-solicit accept"
    yield "icmpv6 type nd-router-advert drop"
    yield f"icmpv6 type nd-neighbor-advert @nh,384,128 != {{ {', '.join(_bits(each) for each in wide)} }} drop"
    yield f"ether type ip6 ip6 saddr != {{ {six} }} drop"
    yield "ether type != { ip, arp, ip6 } drop"


def _bits(network: Address) -> str:
    first, last = int(network.network_address), int(network.broadcast_address)
    return f"0x{first:x}" if first == last else f"0x{first:x}-0x{last:x}"


def _ours(lab: Lab) -> Iterator[Step]:
    """Both layers, as they are on a host."""
    yield Step(NFT, nftables.full(GUARD, probe_features(lab.dom0)))
    yield from _locked()


def _ours_in_iptables(lab: Lab) -> Iterator[Step]:
    """The same, with the other backend."""
    yield from iptables.full(GUARD, variant="nft", ibrname=probe_features(lab.dom0).ibrname)
    yield from _locked()


def _locked() -> Iterator[Step]:
    for each in GUARD.bindings:
        yield from (Step(argv, "") for argv in port_lock.lock(each.interface, each.mac))


PEERS = (
    Peer("no rules", "a bridge, and nothing else", _none),
    Peer(
        "Xen antispoof",
        "vif-bridge and network-bridge antispoof=yes of Xen up to 4.4, with ip= in the vif line",
        _xen,
        bridged=True,
    ),
    Peer(
        "Xen antispoof, NOTRACK",
        "the same, and the line that how-tos add to vif-common.sh",
        _xen_untracked,
        bridged=True,
    ),
    Peer(
        "by hand",
        "the FORWARD rules that are loaded with iptables-restore, and a line for the uplink",
        _by_hand,
        bridged=True,
    ),
    Peer("libvirt", "nwfilter clean-traffic with each address as an IP parameter", _clean_traffic),
    Peer(
        "Proxmox",
        "the VM firewall with macfilter and an ipfilter set for each NIC, rules of IN and OUT accept",
        firewalled.steps,
        bridged=True,
        bench=firewalled.FirewalledLab,
    ),
    Peer(
        "Incus",
        "a bridged NIC with security.mac_filtering, security.ipv4_filtering and security.ipv6_filtering",
        _incus,
    ),
    Peer("domgit, nftables", "this version's guard and port locks", _ours),
    Peer(
        "domgit, iptables",
        "the same bindings by ebtables, iptables and ip6tables, and the same port locks",
        _ours_in_iptables,
        bridged=True,
    ),
)
