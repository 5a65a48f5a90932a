"""kind: Profile, what a product includes; a DomU inherits it. Pure.

A profile holds any part of a DomU's spec except what can only be one domU's own. It is checked as that
part, with stand-ins for what the domU must bring.
"""

from __future__ import annotations

from typing import Any, Literal

from schemas.model import ApiVersion, Model
from schemas.scalars import Name, Plain


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


# Where each of them would be the same for every domU that inherits it.
FORBIDDEN = {"": ("profile", "state"), "vifs": ("mac", "ips"), "disks": ("path",)}
_STAND_INS = {
    "vifs": {"mac": Plain("00:16:3e:00:00:01"), "bridge": Plain("br0")},
    "disks": {"path": Plain("/x"), "vdev": Plain("xvda")},
}


def forbidden_paths(spec: dict[str, Any]) -> list[tuple[str | int, ...]]:
    """The places in a profile's spec that only a domU can fill."""
    found: list[tuple[str | int, ...]] = [(key,) for key in FORBIDDEN[""] if key in spec]
    for part in ("vifs", "disks"):
        items = spec.get(part)
        for index, item in enumerate(items if isinstance(items, list) else []):
            found += [(part, index, key) for key in FORBIDDEN[part] if isinstance(item, dict) and key in item]
    return found


def completed(spec: dict[str, Any]) -> dict[str, Any]:
    """The profile's spec with stand-ins, so that it can be validated as a DomU's."""
    spec = {key: value for key, value in spec.items() if key not in FORBIDDEN[""]}
    for part, stand_in in _STAND_INS.items():
        items = spec.get(part)
        if isinstance(items, list):
            spec[part] = [{**stand_in, **item} if isinstance(item, dict) else item for item in items]
    return spec
