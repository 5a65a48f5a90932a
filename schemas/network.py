"""kind: Network, one subnet on a bridge. Pure."""

from __future__ import annotations

from typing import Literal

from schemas.address import HostIp, Ip, Subnet
from schemas.model import ApiVersion, Model
from schemas.scalars import InterfaceName, Name


class NetworkSpec(Model):
    """The subnet."""

    subnet: Subnet
    """Its prefix. Example: 172.16.39.0/24. Costs nothing."""
    gateway: HostIp | None = None
    """An address that no guest gets. Default: none. Costs nothing."""
    reserved: list[Ip] = []
    """Addresses and prefixes that no guest gets. Default: none. Costs nothing."""
    bridge: InterfaceName
    """The bridge it lies on, on every host. Example: xenbr0."""


class NetworkMetadata(Model):
    """What the network is called."""

    name: Name
    """The file's name."""


class Network(Model):
    """One subnet."""

    api_version: ApiVersion
    """domgit/v1"""
    kind: Literal["Network"]
    """Network"""
    metadata: NetworkMetadata
    """What the network is called."""
    spec: NetworkSpec
    """The subnet."""
