"""The simulated dom0 as a machine of the contract's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tests.contract.host import IMAGES
from tests.dom0 import ZOMBIE
from tests.dom0.guest import Guest
from tests.dom0.network import DOM0_ADDRESSES
from tests.dom0.toolstack import xl


@dataclass(frozen=True, slots=True)
class Simulated:
    """See tests.contract.host.Machine."""

    slower: float = 1.0
    address: str = DOM0_ADDRESSES[0].split("/", maxsplit=1)[0]

    @property
    def boot(self) -> Mapping[str, str]:
        """See Machine. Any file that is not empty is a kernel here."""
        kernel = IMAGES / "contract-kernel"
        if not kernel.exists():
            IMAGES.mkdir(parents=True, exist_ok=True)
            kernel.write_text("kernel\n")
        return {"kernel": f'"{kernel}"'}

    def guest(self, name: str) -> Guest:
        """See Machine."""
        return Guest(name)

    @contextmanager
    def undying(self, domid: int) -> Iterator[None]:
        """See Machine. Any domain that is destroyed meanwhile stays."""
        ZOMBIE.touch()
        try:
            yield
        finally:
            ZOMBIE.unlink()
            xl("destroy", str(domid))
