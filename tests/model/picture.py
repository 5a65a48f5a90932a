"""A world at rest as one comparable value, without the numbers that depend on how often something was tried."""

from __future__ import annotations

import re
from typing import Any

from reconciler import ledger
from tests.model.domain import Domain
from tests.model.world import World
from tests.model.xl_config import parse_config

_IDENTITY = re.compile(r"\d+:\d+$")


def picture(world: World) -> dict[str, Any]:
    """Domains, ports, guard, files, images and records. Domids, and what is named after them, become identities."""
    host = world.host
    domains = host.toolstack.domains.values()
    names = {f"vif{each.domid}.": f"vif<{each.uuid}>." for each in domains}
    # What is staged and would change nothing is as good as nothing.
    staged = {host.toolstack.staged_path(each): each for each in domains}
    futile = {
        path
        for path, each in staged.items()
        if path in host.files.texts and parse_config(host.files.texts[path]) == each.saved()
    }

    def named(text: str) -> str:
        found = re.search(r"vif\d+\.", text)
        return text if found is None else text.replace(found[0], names.get(found[0], found[0]))

    table = host.nftables.tables.get("domgit")
    last = world.last()
    return {
        "domains": {each.uuid: _domain(each, named) for each in domains},
        "ports": {
            named(link.name): (link.up, link.bridge, link.learning, link.locked)
            for link in host.links.by_name.values()
        },
        "pins": {key: named(each.port) for key, each in host.links.fdb.items() if each.static},
        "sets": {}
        if table is None
        else {name: {named(key): v for key, v in each.elements.items()} for name, each in table.sets.items()},
        "rules": {} if table is None else dict(table.chains),
        "files": {
            f"staged for {staged[path].uuid}" if path in staged else path: text
            for path, text in host.files.texts.items()
            if path not in futile
        },
        "images": {path: image.size_bytes for path, image in host.files.images.items()},
        "ledger": {uuid: _owned(each) for uuid, each in world.ledger().items()},
        "applied": None if last is None else last.desired,
    }


def _domain(domain: Domain, named: Any) -> tuple[Any, ...]:
    nics = {
        index: (nic.config, nic.status, nic.rate, named(nic.interface or ""))
        for index, nic in domain.nics.items()
    }
    return domain.saved(), domain.shutdown, domain.watched is not None, nics


def _owned(owned: ledger.Owned) -> tuple[Any, ...]:
    disks = {path: _IDENTITY.sub("*", identity) for path, identity in owned.disks.items()}
    return owned.name, owned.powered_off, owned.protect, disks


def differences(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Where two pictures differ, for a person; "" where they do not."""
    found = []
    for part, mine in one.items():
        theirs = other[part]
        if mine == theirs:
            continue
        if not isinstance(mine, dict) or not isinstance(theirs, dict):
            found.append(f"{part}: {mine} / {theirs}")
            continue
        found += [
            f"{part} {key}: {mine.get(key)} / {theirs.get(key)}"
            for key in sorted({*mine, *theirs}, key=str)
            if mine.get(key) != theirs.get(key)
        ]
    return "; ".join(found)
