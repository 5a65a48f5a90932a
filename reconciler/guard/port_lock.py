"""The second layer: a bridge port that forwards from one MAC alone, whatever happens to every rule. Pure.

It needs no netfilter and survives every flush; it knows MACs only, no addresses.
"""

from __future__ import annotations

Argv = tuple[str, ...]
# 01:80:c2:00:00:0e, as a bit mask of that group's last byte.
_LLDP = str(1 << 0x0E)


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
        # Frames to LLDP's group would reach dom0's own stack past every bridge hook; forwarded, they meet the guard.
        ("ip", "link", "set", "dev", port, "type", "bridge_slave", "group_fwd_mask", _LLDP),
    )


def unlock(port: str, mac: str, *, pinned: bool = True) -> tuple[Argv, ...]:
    """The commands that make a port an ordinary one again; `pinned`: it has the static entry, which goes."""
    commands: tuple[Argv, ...] = (
        ("ip", "link", "set", "dev", port, "type", "bridge_slave", "group_fwd_mask", "0"),
        ("bridge", "link", "set", "dev", port, "learning", "on", "locked", "off"),
        ("bridge", "fdb", "del", mac, "dev", port, "master"),
    )
    return commands if pinned else commands[:-1]
