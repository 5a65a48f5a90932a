"""The second layer: a bridge port that forwards from one MAC alone, whatever happens to every rule. Pure.

It needs no netfilter and survives every flush; it knows MACs only, no addresses.
"""

from __future__ import annotations

from state.links import GUEST_GROUP, LLDP_GROUP

Argv = tuple[str, ...]


def mark(port: str) -> Argv:
    """The command that lets the guard know a guest's port under any name, and see its frames to LLDP's group.

    A renamed port is in the group of interfaces that it was put into. Of LLDP's frames dom0's own stack would else get
    those that it is sent, past every hook.
    """
    mask = str(1 << LLDP_GROUP)
    group = ("group", str(GUEST_GROUP))
    return ("ip", "link", "set", "dev", port, *group, "type", "bridge_slave", "group_fwd_mask", mask)


def unmark(port: str) -> Argv:
    """The command that takes it back."""
    return (
        "ip",
        "link",
        "set",
        "dev",
        port,
        "group",
        "default",
        "type",
        "bridge_slave",
        "group_fwd_mask",
        "0",
    )


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
        mark(port),
    )


def unlock(port: str, mac: str, *, pinned: bool = True) -> tuple[Argv, ...]:
    """The commands that make a port an ordinary one again; `pinned`: it has the static entry, which goes."""
    commands: tuple[Argv, ...] = (
        unmark(port),
        ("bridge", "link", "set", "dev", port, "learning", "on", "locked", "off"),
        ("bridge", "fdb", "del", mac, "dev", port, "master"),
    )
    return commands if pinned else commands[:-1]
