"""What the domUs of one host refer to in it, made once for all of them: a fleet asks 10,000 times. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from schemas.host import Host

# What distributions ship for booting guests by themselves is dom0's own, not a customer's.
_OF_DISTRIBUTIONS = "/usr/lib/grub-xen"


@dataclass(frozen=True, slots=True)
class Footing:
    """`ports`: the bridges and their uplinks. Folders have a slash behind them; `common`: those that other hosts see as well."""

    bridges: Mapping[str, Sequence[str]]
    ports: frozenset[str]
    disks: tuple[str, ...]
    images: tuple[str, ...]
    kernels: tuple[str, ...]
    common: tuple[str, ...]


def footing(host: Host) -> Footing:
    """What that host's domUs stand on."""
    bridges = {bridge.name: bridge.uplinks for bridge in host.spec.bridges}
    images = host.spec.images
    return Footing(
        bridges=bridges,
        ports=frozenset(bridges).union(*bridges.values()),
        disks=_folders([*images.roots, *(f"/dev/{group}" for group in images.volume_groups)]),
        images=_folders(images.roots),
        kernels=_folders([*images.kernels, _OF_DISTRIBUTIONS]),
        common=_folders(images.shared),
    )


def folders_shown(folders: Iterable[str]) -> Iterable[str]:
    """Folders as people write them."""
    return (folder.removesuffix("/") for folder in folders if folder != f"{_OF_DISTRIBUTIONS}/")


def _folders(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{path}/" for path in paths)
