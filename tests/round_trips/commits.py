"""What a commit may make of a host's specifications, at random: nothing here looks at what is live."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

from state.desired import Address, Desired, DomU, Vif
from tests.round_trips.scalars import Scalars


def changed(before: Desired, other: Desired, draw: Scalars) -> Desired:
    """The same host after a commit that turns half of it round, and brings domUs of another repository."""
    kept = [domu for domu in before.domus if draw.chance(0.8)]
    addresses = [vif.addresses for domu in kept for vif in domu.vifs]
    draw.dice.shuffle(addresses)
    pool = iter(addresses)
    domus = [replace(domu, vifs=tuple(_changed(vif, next(pool), draw) for vif in domu.vifs)) for domu in kept]
    domus = [_turned(domu, draw) for domu in domus]
    host = before.host
    taken: set[str | None] = {port for bridge, uplinks in host.bridges for port in (bridge, *uplinks)}
    for domu in domus:
        taken |= _claimed(domu)
    domus += [domu for domu in other.domus if draw.chance(0.2) and not _claimed(domu) & taken]
    if draw.chance(0.3):
        host = replace(
            host, log_prefix=draw.text("abc ", 9), unknown_vifs=draw.dice.choice(("report", "drop"))
        )
    return replace(before, host=host, domus=tuple(sorted(domus, key=_name)))


def _claimed(domu: DomU) -> set[str | None]:
    ports = {name for vif in domu.vifs if vif.name is not None for name in (vif.name, f"{vif.name}-emu")}
    return {domu.name.casefold(), domu.uuid, *(vif.mac for vif in domu.vifs), *ports}


def _turned(domu: DomU, draw: Scalars) -> DomU:
    """Another state, another size, another way to start: what is no vif's."""
    pick = draw.dice.random()
    if domu.boot is None or pick < 0.5:
        return domu
    if pick < 0.6:
        return replace(domu, state="halted" if domu.state == "running" else "running")
    if pick < 0.65:
        return replace(domu, state="absent", boot=None)
    if pick < 0.7:
        return replace(domu, name=f"{draw.name()[:50]}-{domu.uuid[-12:]}")
    if pick < 0.75:
        return replace(domu, disks=domu.disks[1:], protect=not domu.protect)
    if pick < 0.8:
        return replace(domu, on_crash="preserve", boot=replace(domu.boot, cmdline=draw.command_line()))
    return replace(domu, memory_mib=draw.number(1, domu.max_memory_mib), vcpus=draw.number(1, domu.max_vcpus))


def _name(domu: DomU) -> str:
    return domu.name


def _changed(vif: Vif, others: tuple[Address, ...], draw: Scalars) -> Vif:
    pick = draw.dice.random()
    if pick < 0.2:
        return replace(vif, addresses=others)
    if pick < 0.3:
        return replace(vif, addresses=tuple(_halved(each) for each in vif.addresses))
    if pick < 0.4:
        return replace(vif, guard="audit" if vif.guard == "enforce" else "enforce")
    if pick < 0.5 and vif.name is not None:
        return replace(vif, name=None)
    return vif


def _halved(address: Address) -> Address:
    """The upper half of a prefix: what goes and what comes overlap."""
    length = min(address.prefixlen + 1, address.max_prefixlen)
    first = int(address.network_address) + (address.num_addresses >> 1 if length > address.prefixlen else 0)
    return ip_network((first, length))
