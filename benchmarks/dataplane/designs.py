"""Rule sets for the same vifs: ours, and what is written by hand. Each is what a host with so many vifs would have loaded.

Every vif has a MAC, an IPv4 and an IPv6 address; one in forty has prefixes. The one that is measured comes last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network

from reconciler.guard import nftables
from reconciler.guard.binding import Address, Binding, Bridge, Guard, LogLimit
from state.nft import Features
from tests.packets.namespaces import Namespace

BRIDGE, UPLINK, MEASURED = "xenbr0", "eth0", "vm-last"
_ONE_IN = 40


def vif(number: int, name: str = "") -> Binding:
    """The binding of one vif."""
    bound: list[Address] = [
        ip_network(str(IPv4Address("10.0.0.0") + number + 1)),
        ip_network(str(IPv6Address("2001:db8::") + number + 1)),
    ]
    if number % _ONE_IN == 1:
        bound += [
            ip_network((int(IPv4Address("172.16.0.0")) + number * 16, 28)),
            ip_network((int(IPv6Address("2001:db8:1::")) + (number << 64), 64)),
        ]
    mac = f"00:16:3e:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
    return Binding(name or f"vm{number:05}", mac, tuple(bound), f"uuid-{number}", 0)


def guard(vifs: int) -> Guard:
    """The guard of a host with so many vifs."""
    bindings = [*(vif(number) for number in range(vifs - 1)), vif(vifs - 1, MEASURED)]
    log = LogLimit("Dropped by firewall: ", "debug", 15, "minute")
    return Guard((Bridge(BRIDGE, (UPLINK,)),), tuple(bindings), "report", log)


@dataclass(frozen=True, slots=True)
class Design:
    """A way to filter. `load` puts it into a namespace, for so many vifs; `filtered`: it needs br_netfilter; `stops`: forged addresses."""

    name: str
    load: Callable[[Namespace, int], None]
    filtered: bool
    stops: bool = True


def _nothing(_: Namespace, __: int) -> None:
    return


def _ours(host: Namespace, vifs: int) -> None:
    host.must("nft", "-f", "-", stdin=nftables.full(guard(vifs), Features(ibrname=False)))


def by_hand(vifs: int) -> str:
    """Four lines for each vif in FORWARD, and a last one that drops, as iptables-restore reads them.

    Source: docs/guard.md, "The iptables rules".
    """
    lines = ["*filter", ":INPUT ACCEPT [0:0]", ":FORWARD ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]"]
    for binding in guard(vifs).bindings:
        lines += _lines(binding.interface, str(binding.addresses[0].network_address))
    # What comes in by the uplink is for the guests; nothing of it is measured.
    return "\n".join([*lines, "-A FORWARD -j DROP", "COMMIT", ""])


def _lines(port: str, address: str) -> Iterator[str]:
    yield f"-A FORWARD -m state --state RELATED,ESTABLISHED -m physdev --physdev-out {port} -j ACCEPT"
    yield f"-A FORWARD -p udp -m physdev --physdev-in {port} -m udp --sport 68 --dport 67 -j ACCEPT"
    yield f"-A FORWARD -s {address}/32 -m physdev --physdev-in {port} -j ACCEPT"
    yield f"-A FORWARD -d {address}/32 -m physdev --physdev-out {port} -j ACCEPT"


def _linear(variant: str) -> Callable[[Namespace, int], None]:
    def load(host: Namespace, vifs: int) -> None:
        host.must(f"iptables-{variant}-restore", stdin=by_hand(vifs))

    return load


NOTHING = Design("no rules", _nothing, filtered=False, stops=False)
FILTERED = Design("no rules, br_netfilter on", _nothing, filtered=True, stops=False)
OURS = Design("guard (nftables)", _ours, filtered=False)
LEGACY = Design("by hand, iptables-legacy", _linear("legacy"), filtered=True)
NFT = Design("by hand, iptables-nft", _linear("nft"), filtered=True)
# One more line here measures another backend beside these.
DESIGNS = (OURS, LEGACY, NFT)
