"""The kinds as JSON Schema, for editors and for everybody who wants to check a repository without domgit. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.domu import DomU
from schemas.host import Host
from schemas.network import Network
from schemas.profile import Profile


def all_schemas() -> Mapping[str, Mapping[str, Any]]:
    """The schema of each kind, by the kind's name."""
    return {kind.__name__: kind.model_json_schema(by_alias=True) for kind in (Host, DomU, Network, Profile)}
