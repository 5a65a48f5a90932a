"""What is so on a host at rest, said from git and the host alone: the plan's own word is not taken for it."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.diff_config import is_of
from reconciler.plan import Plan
from reconciler.render_xl import config_path
from schemas.address import eui64_link_local
from state.desired import Desired, DomU, Vif
from tests.model.domain import Domain
from tests.model.oracle import grants_of, strange_disks
from tests.model.world import World

# Why a domU that git wants running may rest without a domain: the plan says each of these aloud.
_WAITING = {"rebooting", "shutting_down"}
_RESTING = {"powered_off", "crashed", "dying"}


def judged(desired: Desired, plan: Plan) -> tuple[DomU, ...]:
    """The domUs of git of which nothing is withheld."""
    # One that has run is not installed anew, whatever git says, and is held to all else that it says.
    withheld = {
        change.uuid for change in plan.changes if change.waits and change.reason != "installed_already"
    }
    noted = {note.address for note in plan.notes if note.reason in _RESTING}
    return tuple(
        domu for domu in desired.domus if domu.uuid not in withheld and f"domu.{domu.name}" not in noted
    )


def unsettled(world: World, desired: Desired, plan: Plan) -> Iterator[str]:
    """Everything that is not as git says although nothing is left to do."""
    yield from _given(world, desired)
    guard_held = any(change.address == "guard" and change.blocked is not None for change in plan.changes)
    for domu in judged(desired, plan):
        domain = world.host.toolstack.of_uuid(domu.uuid)
        if domu.state != "running":
            if domain is not None:
                yield f"{domu.name} is {domu.state} in git and lives as {domain.domid}"
            waits = domain is None and _waits_for_another(world, domu, plan)
            if domu.state == "absent" and domu.uuid in world.ledger() and not waits:
                yield f"{domu.name} is a tombstone and still ours"
            continue
        if domain is None or not domain.runs:
            if _waits_for_another(world, domu, plan) or _installed(domu, domain, plan):
                continue
            yield f"{domu.name} does not run"
            continue
        yield from _domain(world, domu, domain)
        if not guard_held:
            for vif in domu.vifs:
                yield from _vif(world, domu, domain, vif)


def _given(world: World, desired: Desired) -> Iterator[str]:
    """Whatever is refused or withheld: no guest of git's gets with its next start what is not its own."""
    host, ledger = world.host, world.ledger()
    for domu in desired.domus:
        domain = host.toolstack.of_uuid(domu.uuid)
        paths = [config_path(domu.name)]
        if domain is not None and domain.runs and domu.state == "running":
            paths.append(host.toolstack.staged_path(domain))
        for text in (host.files.texts.get(path) for path in paths):
            if is_of(text, domu.uuid) and text is not None:
                yield from strange_disks(host, text, ledger)


def _waits_for_another(world: World, domu: DomU, plan: Plan) -> bool:
    """A known limit: the monitor of a domain that never had this name in git was started with this domU's file.

    Nothing says whose it is, and to start a second domain beside a guest that reboots would be worse than to wait.
    """
    noted = any(note.address == f"domu.{domu.name}" and note.reason in _WAITING for note in plan.notes)
    return noted and bool(world.host.toolstack.monitors())


def _installed(domu: DomU, domain: Domain | None, plan: Plan) -> bool:
    """What an installer has left waits until git says that it is to run."""
    said = [note.reason for note in plan.notes if note.address == f"domu.{domu.name}"]
    said += [change.reason or "" for change in plan.changes if change.uuid == domu.uuid]
    noted = not {"installed", "installed_already"}.isdisjoint(said)
    phase = None if domu.boot is None else domu.boot.phase
    return noted and phase == "install" and not domu.advances and domain is None


def _domain(world: World, domu: DomU, domain: Domain) -> Iterator[str]:
    wanted = (
        domu.name,
        min(domu.memory_mib, domain.config.max_memory_mib),
        min(domu.vcpus, domain.config.max_vcpus),
    )
    if wanted != (domain.name, domain.memory_mib, domain.vcpus):
        yield f"{domu.name} is {(domain.name, domain.memory_mib, domain.vcpus)}, not {wanted}"
    if sorted(domain.nics) != [vif.index for vif in domu.vifs]:
        yield f"{domu.name} has the vifs {sorted(domain.nics)}"
    if domu.uuid not in world.ledger():
        yield f"{domu.name} runs and is not ours"


def _vif(world: World, domu: DomU, domain: Domain, vif: Vif) -> Iterator[str]:
    host, nic = world.host, domain.nics.get(vif.index)
    if nic is None or nic.interface is None:
        return
    port = vif.name or f"vif{domain.domid}.{vif.index}"
    there = (nic.config.mac, nic.config.bridge, nic.interface, nic.rate)
    if there != (vif.mac, vif.bridge, port, vif.rate):
        yield f"{domu.name}'s vif {vif.index} is {there}"
        return
    link = host.links.by_name[port]
    entry = host.links.fdb.get((vif.bridge, vif.mac))
    pinned = entry is not None and entry.static and entry.sticky and entry.port == port
    enforced = vif.guard == "enforce"
    if (link.up, link.bridge, link.locked, link.learning) != (True, vif.bridge, enforced, not enforced):
        yield f"the port {port} is {link}"
    if enforced and not pinned:
        yield f"{vif.mac} is not pinned to {port}"
    if f'"{port}" . {vif.mac}' not in host.nftables.elements("own_mac"):
        yield f"{port} is not bound to {vif.mac}"
    if (f'"{port}"' in host.nftables.elements("audited")) == enforced:
        yield f"{port} is audited, or not, against its specification"
    yield from _addresses(world, vif, port)


def _addresses(world: World, vif: Vif, port: str) -> Iterator[str]:
    granted = {(mac, address) for each, mac, address in grants_of(world.host) if each == port}
    declared = {
        str(each.network_address) if each.prefixlen == each.max_prefixlen else str(each)
        for each in vif.addresses
    }
    own = str(eui64_link_local(vif.mac).network_address)
    addresses = {address for mac, address in granted if mac == vif.mac}
    inside = {
        str(each)
        for each in vif.addresses
        for other in vif.addresses
        if each != other
        and each.version == other.version
        and each.prefixlen > other.prefixlen
        and each.overlaps(other)
    }
    if addresses | inside != declared | {own} | inside or len(addresses) != len(granted):
        yield f"{port} may send from {sorted(granted)}, git gives it {sorted(declared)}"
