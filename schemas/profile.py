"""kind: Profile, what a product includes; a DomU inherits it. Pure.

A profile holds any part of a DomU's spec except what can only be one domU's own. It is checked as that
part, with stand-ins for what the domU is to bring.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Literal

from schemas.model import ApiVersion, Model
from schemas.scalars import Name
from schemas.stand_ins import STAND_INS
from schemas.tree import Path


class ProfileMetadata(Model):
    """What the profile is called."""

    name: Name
    """The file's name."""


class Profile(Model):
    """What a product includes."""

    api_version: ApiVersion
    """domgit/v1"""
    kind: Literal["Profile"]
    """Profile"""
    metadata: ProfileMetadata
    """What the profile is called."""
    spec: dict[str, Any]
    """Any part of a DomU's spec but profile, state, the vifs' mac and ips, and the disks' path."""


# The maps of a spec that need something: one of these keys.
_NEEDED: tuple[tuple[Path, tuple[str, ...]], ...] = (
    (("boot", "run"), ("kernel", "bootloader", "firmware")),
    (("boot", "install"), ("kernel",)),
    (("console", "vnc"), ("listen",)),
    (("console", "vnc"), ("display",)),
)
# Where each of them would be the same for every domU that inherits it.
FORBIDDEN = {"": ("profile", "state"), "vifs": ("mac", "ips"), "disks": ("path",)}


def forbidden_paths(spec: dict[str, Any]) -> list[tuple[str | int, ...]]:
    """The places in a profile's spec that only a domU can fill."""
    found: list[tuple[str | int, ...]] = [(key,) for key in FORBIDDEN[""] if key in spec]
    for part in ("vifs", "disks"):
        items = spec.get(part)
        for index, item in enumerate(items if isinstance(items, list) else []):
            found += [(part, index, key) for key in FORBIDDEN[part] if isinstance(item, dict) and key in item]
    return found


def completed(spec: dict[str, Any]) -> dict[str, Any]:
    """A profile's spec with stand-ins for what its domUs bring, so that it can be validated as one of theirs."""
    filled, _ = with_stand_ins({key: value for key, value in spec.items() if key not in FORBIDDEN[""]})
    for part, needed in (("vifs", ("mac", "bridge")), ("disks", ("vdev", "path"))):
        items = filled.get(part)
        if isinstance(items, list):
            stand_ins = {key: STAND_INS[key] for key in needed}
            filled[part] = [{**stand_ins, **item} if isinstance(item, dict) else item for item in items]
    return filled


def with_stand_ins(spec: dict[str, Any]) -> tuple[dict[str, Any], frozenset[Path]]:
    """A spec whose maps have what they need from somewhere else, and where that is.

    Only maps: lists are never merged, so what an item of a domU's list lacks is missing.
    """
    filled, paths = deepcopy(spec), set()
    for path, ways in _NEEDED:
        inner: Any = filled
        for part in path:
            inner = inner.get(part) if isinstance(inner, dict) else None
        if isinstance(inner, dict) and not any(way in inner for way in ways):
            inner[ways[0]] = STAND_INS[ways[0]]
            paths.add((*path, ways[0]))
    return filled, frozenset(paths)
