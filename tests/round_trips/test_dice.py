"""The dice: the same for the same seed, mostly accepted, and of every kind that a specification can be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import pytest

from tests.round_trips.accepted import SHARE, TAME, accepted, alive
from tests.round_trips.dice import FleetDice, Words
from tests.round_trips.expected import addresses

KINDS = {
    *(f"{kind} {way}" for kind in ("pv", "pvh") for way in ("kernel", "bootloader", "firmware")),
    *(f"{kind} {what}" for kind in ("pv", "pvh", "hvm") for what in ("install", "cdrom", "vnc 4", "vnc 6", "password")),
    "hvm kernel", "ramdisk", "cmdline", "no cmdline", "cmdline 255", "name 63", "path 255", "no disks", "no vifs", "no console",
    *(f"disk {word}" for word in ("raw", "qcow2", "vhd", "ro", "rw", "xvd", "hd", "sd")),
    *(f"vif {word}" for word in ("named", "unnamed", "rate", "audit", "enforce", "shared", "link-local", "nothing", "many")),
    *(f"address {word}" for word in ("4 single", "4 prefix", "6 single", "6 prefix")),
    "restart", "destroy", "preserve", "running", "halted",
}  # fmt: skip


def kinds_of(metadata: Words, spec: Words) -> Iterator[str]:
    boot, kind = spec["boot"], spec["type"]
    installing = boot.get("phase") == "install"
    way = boot["install" if installing else "run"]
    yield (
        f"{kind} install"
        if installing
        else f"{kind} {next(iter({'kernel', 'bootloader', 'firmware'} & way.keys()))}"
    )
    yield from (f"{kind} cdrom" for _ in {"cdrom"} & way.keys())
    yield from {"ramdisk"} & way.keys()
    line = way.get("cmdline", "")
    yield f"cmdline {len(line)}" if len(line) == 255 else "cmdline" if line else "no cmdline"
    yield from (f"name {len(metadata['name'])}", spec.get("onCrash", ""), spec.get("state", ""))
    for key in ("disks", "vifs", "console"):
        yield f"no {key}" if not spec.get(key) else key
    vnc = spec.get("console", {}).get("vnc")
    if vnc is not None:
        yield f"{kind} vnc {6 if ':' in vnc['listen'] else 4}"
        yield f"{kind} password" if "passwordSecret" in vnc else "no password"
    for disk in spec.get("disks", ()):
        yield from (
            f"disk {disk.get('format', 'raw')}",
            f"disk {disk.get('access', 'rw')}",
            f"path {len(disk['path'])}",
        )
        yield f"disk {disk['vdev'][:3] if disk['vdev'].startswith('xvd') else disk['vdev'][:2]}"
    for vif in spec.get("vifs", ()):
        yield from _kinds_of_vif(vif)


def _kinds_of_vif(vif: Words) -> Iterator[str]:
    yield from ("vif named" if "name" in vif else "vif unnamed", f"vif {vif.get('guard', '')}")
    yield "vif rate" if "rate" in vif else "vif without rate"
    found = addresses(vif)
    yield "vif nothing" if not found else "vif many" if len(found) > 100 else "vif some"
    yield from ("vif shared" for each in vif.get("ips", ()) if isinstance(each, Mapping))
    for address in found:
        yield f"address {address.version} {'single' if address.prefixlen == address.max_prefixlen else 'prefix'}"
        yield "vif link-local" if address.is_link_local else "vif address"


@pytest.mark.no_cover
def test_a_draw_is_told_by_its_seed_alone() -> None:
    assert FleetDice(7).draw(20) == FleetDice(7).draw(20)
    assert FleetDice(7).draw(20) != FleetDice(8).draw(20)


@pytest.mark.long
@pytest.mark.no_cover
def test_every_kind_of_specification_is_drawn_and_most_are_accepted() -> None:
    seen: Counter[str] = Counter()
    taken = drawn = 0
    for seed in range(6):
        found = accepted(seed, 100, TAME)
        domus = alive(found)
        taken, drawn = taken + len(domus), drawn + 100
        for name in domus:
            seen.update(kinds_of(found.drawn.metadata[name], found.drawn.specs[name]))

    assert KINDS - {*seen} == set()
    assert taken >= drawn * SHARE
