"""Who is on the bridge under test, with which addresses (RFC 5737, RFC 3849, RFC 7042), and the guard between them."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_network
from typing import Literal

from reconciler.guard.binding import Address, Binding, Bridge, Guard, LogLimit

BRIDGE = "xenbr0"
UPLINK = "eth0"


@dataclass(frozen=True, slots=True)
class Party:
    """Somebody who sends and receives: a port of the bridge, or dom0 on the bridge itself."""

    port: str
    mac: str
    v4: str
    v6: str

    @property
    def link_local(self) -> str:
        """The address that the party makes of its MAC (RFC 4291, appendix A)."""
        raw = bytes.fromhex(self.mac.replace(":", ""))
        suffix = bytes((raw[0] ^ 2,)) + raw[1:3] + b"\xff\xfe" + raw[3:]
        return str(IPv6Address(b"\xfe\x80" + b"\0" * 6 + suffix))


A = Party("vm01", "00:00:5e:00:53:0a", "192.0.2.11", "2001:db8::11")
B = Party("vm02", "00:00:5e:00:53:0b", "192.0.2.21", "2001:db8::21")
GATEWAY = Party(UPLINK, "00:00:5e:00:53:01", "192.0.2.1", "2001:db8::1")
DOM0 = Party(BRIDGE, "00:00:5e:00:53:02", "192.0.2.2", "2001:db8::2")
UNKNOWN = Party("extra0", "00:00:5e:00:53:0c", "192.0.2.31", "2001:db8::31")

A4_SECOND = "192.0.2.12"
A_NET4, A_NET6 = "198.51.100.16/28", "2001:db8:a::/64"
B_NET4, B_NET6 = "198.51.100.32/28", "2001:db8:b::/64"


def addresses(*texts: str) -> tuple[Address, ...]:
    """Addresses and prefixes as a binding has them."""
    return tuple(ip_network(text) for text in texts)


def binding(
    party: Party, *more: str, mode: Literal["audit", "enforce"] = "enforce", emulated: bool = False
) -> Binding:
    """The binding of a guest with its two addresses and more."""
    bound = addresses(party.v4, party.v6, *more)
    return Binding(party.port, party.mac, bound, f"uuid-of-{party.port}", 0, mode, emulated)


A_BINDING = binding(A, A4_SECOND, A_NET4, A_NET6)
B_BINDING = binding(B, B_NET4, B_NET6)
LOG = LogLimit(prefix="Dropped by firewall: ", level="debug", count=15, per="minute")


def guard(
    *bindings: Binding,
    unknown_vifs: Literal["report", "drop"] = "report",
    closed: tuple[str, ...] = (),
    alone: bool = False,
) -> Guard:
    """The guard of the bridge under test with these bindings."""
    return Guard(
        bridges=(Bridge(BRIDGE, (UPLINK,)),),
        bindings=tuple(sorted(bindings)),
        unknown_vifs=unknown_vifs,
        log=LOG,
        closed=closed,
        alone=alone,
    )


GUARD = guard(A_BINDING, B_BINDING)
