"""Live hosts that differ from what was applied in any way that a root shell can bring about, names that read as options included."""

from __future__ import annotations

from dataclasses import replace

from reconciler.installing import as_installed, installation
from reconciler.ledger import Owned
from state.desired import Desired
from state.links import FdbEntry
from state.nft import LoadedTable
from state.observed import Domain
from state.xenstore import BackendVif
from tests.round_trips.scalars import Scalars
from tests.unit.worlds import World, settled

# The kernel takes every interface name without blanks, slashes and colons, xl every name without a slash.
_PORTS = (
    "-x", "--", "-f", 'a"b', "a;b", "x}", "{", "$(x)", "a,b", "*", "up", "dev", "é", "0", "vif77.0", "net7", "a=b", "goto", "\\", "'",
)  # fmt: skip
_NAMES = ("", "-x", "--help", "(null)", "a b", "77", "a;b", "x" * 200, "é", "a=b", "vm77", "-")
_TEXTS = (
    "",
    "# by hand\nname = 'x'\n",
    "# Written by domgit \n",
    "vncpasswd='x'\n\x1b[31m",
    'memory = 1\nvfb = ["vncpasswd=hunter2"]\n',
)


def at_rest(applied: Desired) -> World:
    """The host right behind an apply, where what came from another host runs as it was installed there."""
    domus = (as_installed(each, installation(each, None, None, None), None) for each in applied.domus)
    world = settled(replace(applied, domus=tuple(domus)))
    for domu in applied.domus:
        for disk in domu.disks:
            found = world.images.get(disk.path)
            if found is not None:
                world.images[disk.path] = replace(found, size_bytes=disk.size_bytes or 0)
    return world


def live(applied: Desired, draw: Scalars) -> World:
    """A host on which all was applied, and then somebody was at work."""
    world = at_rest(applied)
    for name, domain in [*world.domains.items()]:
        if draw.chance(0.4):
            _disturb(world, name, domain, draw)
    _disturb_records(world, draw)
    bridges = [name for name, _ in applied.host.bridges]
    for port in draw.dice.sample(_PORTS, draw.dice.randint(0, 2)):
        world.bridged(port, draw.dice.choice(bridges))
    if world.guard is not None and draw.chance(0.4):
        world.guard = _meddled(world.guard, draw)
    elif draw.chance(0.1):
        world.guard = None
    world.free_memory_mib = draw.dice.choice((0, 10**9))
    return world


def _disturb_records(world: World, draw: Scalars) -> None:
    for path in [*world.files]:
        if draw.chance(0.1):
            world.files[path] = draw.dice.choice((*_TEXTS, None))
    for path in [*world.images]:
        if draw.chance(0.1):
            world.images[path] = None
    for uuid in [*world.ledger]:
        if draw.chance(0.1):
            del world.ledger[uuid]
        elif draw.chance(0.1):
            world.ledger[uuid] = Owned(draw.dice.choice(("former", "x.cfg")), powered_off=draw.chance(0.5))


def _disturb(world: World, name: str, domain: Domain, draw: Scalars) -> None:
    changes: tuple[dict[str, object], ...] = (
        {"name": draw.dice.choice(_NAMES)},
        {"shutdown": draw.dice.choice(("poweroff", "reboot", "crash", "suspend"))},
        {"dying": True},
        {"saved": None},
        {"staged": draw.dice.choice(_TEXTS)},
        {},
        {},
    )
    domain = replace(domain, **draw.dice.choice(changes))  # type: ignore[arg-type]  # each value fits its field
    if domain.saved is not None and draw.chance(0.4):
        memory, most, vcpus = draw.number(1, 2**20), draw.number(1, 2**20), draw.number(1, 512)
        saved = replace(domain.saved, memory_mib=memory, max_memory_mib=most, vcpus=vcpus)
        domain = replace(domain, saved=saved)
    vifs = [_vif(world, vif, draw) for vif in domain.vifs if draw.chance(0.9)]
    world.domains[name] = replace(domain, vifs=tuple(vifs))
    if draw.chance(0.1):
        world.stop(name)


def _vif(world: World, vif: BackendVif, draw: Scalars) -> BackendVif:
    if draw.chance(0.5):
        return vif
    world.unplug(vif.interface, whole=draw.chance(0.5))
    changes: tuple[dict[str, object], ...] = (
        {"interface": draw.dice.choice(_PORTS)},
        {"mac": draw.mac().lower()[:17]},
        {"bridge": draw.dice.choice(_PORTS)},
        {"rate": draw.dice.choice((None, (1, 1), (2**32 - 1, 2**32 - 1)))},
        {"hotplug_status": "error"},
        {},
    )
    vif = replace(vif, **draw.dice.choice(changes))  # type: ignore[arg-type]  # each value fits its field
    if draw.chance(0.9):
        locked = draw.chance(0.5)
        world.plug(vif, locked=locked, lldp=draw.chance(0.5), up=draw.chance(0.5))
        if draw.chance(0.2):
            world.fdb.add(FdbEntry(vif.interface, draw.mac().lower()[:17], static=True, sticky=False))
    return vif


def _meddled(guard: LoadedTable, draw: Scalars) -> LoadedTable:
    """As the kernel would list it after elements were taken out and others put in by hand, rules changed."""
    elements = {
        name: frozenset(each for each in sorted(members) if draw.chance(0.8))
        for name, members in guard.elements.items()
    }
    for name, more in (
        ("ports", '"hand-made" : accept'),
        ("own_mac", '"hand-made" . 02:00:00:00:00:01'),
        ("own_v4", '"hand-made" . 02:00:00:00:00:01 . 192.0.2.1'),
        ("own_net4", '"hand-made" . 02:00:00:00:00:01 . 192.0.2.1-192.0.2.6'),
        ("audited", '"hand-made"'),
    ):
        if draw.chance(0.3):
            elements[name] = elements.get(name, frozenset()) | {more}
    return LoadedTable(elements, guard.rules if draw.chance(0.7) else "other")
