"""How a live host differs from one that is settled, in the words of tests/cases/plan/README.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from reconciler.diff import make_plan
from reconciler.follow import wanted
from reconciler.guard_limits import attempt
from reconciler.installing import settings_digest
from reconciler.last_good import LastGood
from reconciler.ledger import Owned
from reconciler.plan import Source
from reconciler.policy import Policy
from reconciler.reconcile import interest
from reconciler.render_xl import config_path, render_xl
from reconciler.reverted import Reverted
from reconciler.scope import Situation
from reconciler.tally import Counts, Since, Tally
from schemas.scalars import parse_rate
from state.desired import DomU
from state.links import FdbEntry, Link
from state.nft import LoadedTable, Loader
from state.observed import Domain
from state.routes import Route
from state.xenstore import BackendVif
from tests.unit.worlds import BEFORE, MIB, Words, World, desired, image, loaded, reading, settled


def situation(words: Words) -> Situation:
    """The situation that a case describes. `applied` left out: git as it is now; `none`: never applied."""
    now = reading(words.get("git") or {}, subject=words.get("about", ""))
    applied = words.get("applied", words.get("git") or {})
    before = None if applied == "none" else LastGood(Source(BEFORE), desired(applied))
    want, source = wanted(now, before)
    world = settled(None if before is None else before.desired)
    domus = {domu.name: domu for domu in (*(() if before is None else before.desired.domus), *want.domus)}
    deviate(world, words.get("live") or {}, domus)
    found = Situation(
        desired=want,
        source=replace(source, branch="main"),
        observed=world.observed(interest(want, before, world.ledger)),
        ledger=world.ledger,
        last=None if before is None else before.desired,
        stuck=frozenset(domus[name].uuid for name in words.get("stuck", ())),
        counted=_counted(words["counted"]) if "counted" in words else None,
        tally=_tally(words["since"]) if "since" in words else None,
        anew=frozenset(domus[name].uuid for name in words.get("anew", ())),
    )
    return found if "reverted" not in words else _reverted(found, words["reverted"])


def _counted(words: Words) -> Counts:
    return {
        port: {reason: int(number) for reason, number in reasons.items()} for port, reasons in words.items()
    }


def _tally(words: Words) -> Tally:
    """A last look at which these ports had been audited since then, and something had been counted before."""
    audited = {port: Since(time, "", "audit", {"v4": 5}) for port, time in words.items()}
    return Tally("2026-11-27T14:40:49Z", 1000.0, audited=audited)


def _reverted(found: Situation, why: str) -> Situation:
    """What the guard lacks was tried, and had to be taken back."""
    change = next(each for each in make_plan(found, Policy()).changes if each.address == "guard")
    before = Reverted(attempt(found, change), "2026-11-27T14:40:49Z", why)
    return replace(found, reverted=(before,))


def deviate(world: World, words: Words, domus: Mapping[str, DomU]) -> None:
    """Break the host as a case says; `domus` are all that git or the last apply know, by name."""
    for key, value in words.items():
        if key in _HOST_WORDS:
            _HOST_WORDS[key](world, value)
        else:
            _domain(world, value or {}, domus[key])


def _files(world: World, texts: Mapping[str, str]) -> None:
    world.files |= {path: None if text == "none" else text for path, text in texts.items()}


def _images(world: World, images: Mapping[str, str]) -> None:
    for path, what in images.items():
        kind, _, mib = what.partition(" ")
        world.images[path] = None if what == "none" else image(path, int(mib), kind)


def _folders(world: World, folders: Mapping[str, str]) -> None:
    world.no_folders |= {path for path, word in folders.items() if word == "none"}


def _holders(world: World, holders: Mapping[str, str]) -> None:
    world.holders |= holders


def _ports(world: World, ports: Mapping[str, str]) -> None:
    for name, bridge in ports.items():
        world.bridged(name, bridge)


def _bridges(world: World, bridges: Mapping[str, list[str] | str]) -> None:
    for name, uplinks in bridges.items():
        if uplinks == "none":
            world.links.pop(name)
        else:
            world.bridge(name, uplinks)


def _routes(world: World, routes: Mapping[str, list[str]]) -> None:
    for device, gateways in routes.items():
        hops = gateways or ["none"]
        world.routes += [Route(device, None if each == "none" else ip_address(each)) for each in hops]


def _links(world: World, links: Mapping[str, Any]) -> None:
    """Interfaces by hand: of another kind, upon others, on another bridge, or gone."""
    for name, words in links.items():
        world.unplug(name)
        if words != "none":
            if words.get("bridge") in world.links and world.links[words["bridge"]].kind == "bridge":
                world.bridged(name, words["bridge"])
            blank = Link(
                name, 99, "00:00:5e:00:53:99", up=True, mtu=1500, bridge=words.get("bridge"), kind=""
            )
            world.links[name] = replace(
                world.links.get(name, blank), kind=words.get("kind", ""), lower=words.get("lower")
            )


def _monitors(world: World, names: list[str]) -> None:
    world.monitors |= {config_path(name) for name in names}


def _stale(world: World, paths: list[str]) -> None:
    world.stale += paths


def _free(world: World, mib: str) -> None:
    world.free_memory_mib = int(mib)


def _guard(world: World, words: Any) -> None:
    table = world.guard
    if words == "none" or table is None:
        world.guard = None
        return
    if "by" in words:
        assert world.wanted is not None
        table = loaded(world.wanted, words["by"])
        world.beside = world.guard if "beside" in words else None
    without = {f'"{port}"' for port in words.get("without", ())}
    members = {
        name: frozenset(each for each in found if each.split(" ")[0] not in without)
        for name, found in table.elements.items()
    }
    for name, more in words.get("with", {}).items():
        members[name] = members.get(name, frozenset()) | frozenset(more)
    rules = table.rules.replace("iifname vmap @ports", "accept") if "rules" in words else table.rules
    rules = rules.replace("-j domgit\n", "") if "rules" in words and "by" in words else rules
    world.guard = LoadedTable(members, rules, table.by)


def _strangers(world: World, strangers: Mapping[str, Any]) -> None:
    """Domains that nobody specified."""
    for name, words in strangers.items():
        domid = int(words.get("domid", "77"))
        vif = BackendVif(
            domid,
            0,
            words.get("mac", "00:16:3e:00:53:77"),
            words.get("bridge", "xenbr0"),
            words.get("port", name),
            "/etc/xen/scripts/vif-bridge",
            None,
            "connected",
        )
        world.domains[f"{name} {domid}"] = Domain(
            domid=domid,
            uuid=words.get("uuid", "00000000-0000-4000-8000-000000000077"),
            name=name,
            paused=False,
            dying=words.get("dying") == "yes",
            shutdown=None,
            saved=None,
            vifs=(vif,),
            staged=None,
        )
        world.plug(vif, locked=False, lldp=False)
        if words.get("owned") == "yes":
            world.ledger[words["uuid"]] = Owned(name)


def _addresses(world: World, addresses: Mapping[str, list[str]]) -> None:
    world.addresses += [(interface, text) for interface, texts in addresses.items() for text in texts]


def _seen(world: World, macs: Mapping[str, list[str]]) -> None:
    for port, entries in macs.items():
        for mac, _, how in (each.partition(" ") for each in entries):
            world.fdb.add(FdbEntry(port, mac, static=how == "static", sticky=False))


def _xdp(world: World, names: list[str]) -> None:
    for name in names:
        world.links[name] = replace(world.links[name], xdp=True)


def _foreign(world: World, rules: Mapping[str, str]) -> None:
    world.foreign |= rules


def _works(world: World, backends: list[Loader]) -> None:
    world.backends = frozenset(backends)


_HOST_WORDS: Mapping[str, Callable[[World, Any], None]] = {
    "files": _files,
    "images": _images,
    "folders": _folders,
    "holders": _holders,
    "ports": _ports,
    "bridges": _bridges,
    "routes": _routes,
    "links": _links,
    "monitors": _monitors,
    "stale": _stale,
    "free": _free,
    "guard": _guard,
    "works": _works,
    "strangers": _strangers,
    "foreign": _foreign,
    "xdp": _xdp,
    "addresses": _addresses,
    "seen": _seen,
}
_LEDGER_WORDS = {"owned", "powered_off", "protect", "disks", "install"}
_VNC_WORDS = {"listen", "display", "password"}
_SAVED_WORDS = {
    "memory",
    "max_memory",
    "vcpus",
    "max_vcpus",
    "kernel",
    "cmdline",
    "serial",
    "on_poweroff",
    "on_reboot",
}


def _domain(world: World, words: Words, domu: DomU) -> None:
    specified = domu
    if "installed" in words:
        domu = _installed(world, domu, words["installed"])
    if "up" in words:
        _up(world, domu, words["up"])
    for key, value in words.items():
        if key in _LEDGER_WORDS:
            _ledger(world, specified, key, value)
        elif key == "vifs":
            for index, each in value.items():
                _vif(world, domu.name, int(index), each)
        elif key in {"monitor", "gone"}:
            _unwatched(world, domu, gone=key == "gone")
        elif key not in {"up", "installed"}:
            text = render_xl(domu) if value == "rendered" else value
            world.domains[domu.name] = _changed(world.domains[domu.name], key, text)


def _unwatched(world: World, domu: DomU, *, gone: bool) -> None:
    world.monitors.discard(config_path(domu.name))
    if gone:
        world.stop(domu.name)


def _installed(world: World, domu: DomU, domid: str) -> DomU:
    """It runs from what its installer has left, as a pass has started it, or does not yet; as it is then."""
    _ledger(world, domu, "install", "reboot" if domid == "none" else "runs")
    domu = replace(domu, boot=domu.installed or domu.boot)
    if domu.name in world.domains:
        world.stop(domu.name)
    world.files[config_path(domu.name)] = render_xl(domu)
    world.monitors.discard(config_path(domu.name))
    if domid != "none":
        _up(world, domu, domid)
    return domu


def _up(world: World, domu: DomU, domid: str) -> None:
    world.start(domu, int(domid))
    for disk in domu.disks:
        world.images.setdefault(disk.path, image(disk.path, (disk.size_bytes or 0) // MIB))


def _ledger(world: World, domu: DomU, key: str, value: Any) -> None:
    entry = world.ledger.get(domu.uuid, Owned(domu.name))
    if key == "owned" and value == "no":
        world.ledger.pop(domu.uuid, None)
    elif key == "disks":
        world.ledger[domu.uuid] = replace(entry, disks=value)
    elif key == "install":
        world.ledger[domu.uuid] = replace(entry, install=_record(domu, value))
    else:
        world.ledger[domu.uuid] = entry if key == "owned" else replace(entry, **{key: value == "yes"})


def _record(domu: DomU, value: str) -> str:
    """How far an installation has come, with what git says of it now unless told otherwise."""
    if value == "none" or " " in value:
        return "" if value == "none" else value
    return f"{value} {'-' if domu.boot is None else settings_digest(domu.boot)}"


def _changed(domain: Domain, key: str, value: Any) -> Domain:
    changes: dict[str, Any] = {key: value}
    if key in _VNC_WORDS:
        assert domain.saved is not None
        assert domain.saved.vnc is not None
        shown: dict[str, Any] = {key: int(value) if key == "display" else value}
        return replace(domain, saved=replace(domain.saved, vnc=replace(domain.saved.vnc, **shown)))
    if key in _SAVED_WORDS and domain.saved is not None:
        if key.endswith("memory"):
            changes = {f"{key}_mib": int(value)}
        elif key.endswith("vcpus"):
            changes = {key: int(value)}
        return replace(domain, saved=replace(domain.saved, **changes))
    if key == "unsaved":
        changes = {"saved": None}
    elif key in {"dying", "paused"}:
        changes = {key: True}
    return replace(domain, **changes)


def _vif(world: World, name: str, index: int, words: Any) -> None:
    domain = world.domains[name]
    there = {vif.index: vif for vif in domain.vifs}
    before = there.pop(index, None)
    if before is not None:
        world.unplug(before.interface)
    if words != "none":
        blank = BackendVif(
            domain.domid,
            index,
            "00:16:3e:00:53:66",
            "xenbr0",
            f"vif{domain.domid}.{index}",
            "/etc/xen/scripts/vif-bridge",
            None,
            "connected",
        )
        there[index] = vif = _live_vif(before or blank, words)
        locked = words.get("locked") != "no"
        world.plug(vif, locked=locked, lldp=words.get("lldp") != "no" and locked, up=words.get("up") != "no")
        if words.get("group") == "no":
            world.links[vif.interface] = replace(world.links[vif.interface], group="default")
        if words.get("bridged") == "no":
            world.unplug(vif.interface, whole=False)
    world.domains[name] = replace(domain, vifs=tuple(there[each] for each in sorted(there)))


def _live_vif(before: BackendVif, words: Words) -> BackendVif:
    texts = {"mac": "mac", "bridge": "bridge", "port": "interface", "status": "hotplug_status"}
    changes: dict[str, Any] = {name: words[key] for key, name in texts.items() if key in words}
    if "rate" in words:
        changes["rate"] = None if words["rate"] == "none" else parse_rate(words["rate"])
    return replace(before, **changes)
