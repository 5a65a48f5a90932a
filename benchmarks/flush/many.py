"""A guard of many vifs."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network

from reconciler.guard.binding import Binding, Bridge, Guard, LogLimit

FIRST = int(IPv4Address("10.0.0.1"))
LOG = LogLimit(prefix="Dropped by firewall: ", level="debug", count=15, per="minute")


def guard_of(vifs: int) -> Guard:
    """A guard of that many vifs with an address of each family."""
    bindings = (
        Binding(
            f"vm{number:05}",
            f"00:16:3e:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}",
            (IPv4Network(FIRST + number), IPv6Network((0x20010DB8 << 96) + number)),
            f"uuid-{number}",
            0,
            "enforce",
            emulated=False,
        )
        for number in range(vifs)
    )
    bridges = (Bridge("xenbr0", ("eth0",)),)
    return Guard(bridges=bridges, bindings=tuple(bindings), unknown_vifs="drop", log=LOG, alone=True)
