"""The second layer: a bridge port that forwards from one MAC alone, whatever happens to every rule. Pure.

It needs no netfilter and survives every flush; it knows MACs only, no addresses.
"""

from __future__ import annotations

from state.facts import LLDP_GROUP

Argv = tuple[str, ...]


def forward_lldp(port: str) -> Argv:
    """The command that makes the guard see frames to LLDP's group: else dom0's own stack gets them past every hook."""
    return ("ip", "link", "set", "dev", port, "type", "bridge_slave", "group_fwd_mask", str(1 << LLDP_GROUP))


def lock(port: str, mac: str) -> tuple[Argv, ...]:
    """The commands that lock a port to a MAC, in an order that loses no legal frame.

    The entry comes first, then what was learned before goes: a learned entry of another MAC would be
    honoured by a locked port, and a static entry that is not sticky moves to whoever sends from it.
    """
    return (
        ("bridge", "fdb", "replace", mac, "dev", port, "master", "static", "sticky"),
        ("ip", "link", "set", "dev", port, "type", "bridge_slave", "fdb_flush"),
        ("bridge", "fdb", "replace", mac, "dev", port, "master", "static", "sticky"),
        ("bridge", "link", "set", "dev", port, "learning", "off", "locked", "on"),
        forward_lldp(port),
    )


def unlock(port: str, mac: str, *, pinned: bool = True) -> tuple[Argv, ...]:
    """The commands that make a port an ordinary one again; `pinned`: it has the static entry, which goes."""
    commands: tuple[Argv, ...] = (
        ("ip", "link", "set", "dev", port, "type", "bridge_slave", "group_fwd_mask", "0"),
        ("bridge", "link", "set", "dev", port, "learning", "on", "locked", "off"),
        ("bridge", "fdb", "del", mac, "dev", port, "master"),
    )
    return commands if pinned else commands[:-1]
