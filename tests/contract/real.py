"""A real Xen 4.17 dom0 as a machine of the contract's: Xen's own libraries, and a guest that is driven through its console.

The guest itself, and the kernel that it boots, are what tests.xen puts into that dom0.
"""

from __future__ import annotations

import ctypes
import importlib
import mmap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from state.run import HostRunner, read
from tests.contract.host import Guest

# Under an emulator of a processor, on a machine with two.
SLOWER = 10.0


@dataclass(frozen=True, slots=True)
class Real:
    """See tests.contract.host.Machine. `inside`: the module tests.xen.inside, which knows the guest."""

    slower: float = SLOWER
    # By name: there is no such module where only the simulation is.
    inside: Any = field(default_factory=lambda: importlib.import_module("tests.xen.inside"))

    @property
    def address(self) -> str:
        """See Machine."""
        address: str = self.inside.ADDRESS
        return address

    @property
    def boot(self) -> Mapping[str, str]:
        """See Machine."""
        boot: Mapping[str, str] = self.inside.BOOT
        return boot

    def guest(self, name: str) -> Guest:
        """See Machine."""
        make: Callable[[str], Guest] = self.inside.Guest
        return make(name)

    @contextmanager
    def undying(self, domid: int) -> Iterator[None]:
        """See Machine. What is mapped is the page of the guest's console, of which xenstore has the frame number."""
        frame = int(read(HostRunner(), ("xenstore-read", f"/local/domain/{domid}/console/ring-ref")))
        library = ctypes.CDLL("libxenforeignmemory.so.1", use_errno=True)
        library.xenforeignmemory_open.restype = ctypes.c_void_p
        library.xenforeignmemory_map.restype = ctypes.c_void_p
        handle = ctypes.c_void_p(library.xenforeignmemory_open(None, 0))
        frames, errors = (ctypes.c_uint64 * 1)(frame), (ctypes.c_int * 1)()
        page = ctypes.c_void_p(
            library.xenforeignmemory_map(
                handle, ctypes.c_uint32(domid), mmap.PROT_READ, ctypes.c_size_t(1), frames, errors
            )
        )
        assert page.value, f"frame {frame:#x} of domain {domid}: {errors[0]}"
        try:
            yield
        finally:
            library.xenforeignmemory_unmap(handle, page, ctypes.c_size_t(1))
            library.xenforeignmemory_close(handle)
