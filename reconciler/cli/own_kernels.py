"""What `doctor` says of guests that start with their own kernels: whether they can here, and who reads their disks for it."""

from __future__ import annotations

import pwd
from collections.abc import Iterator
from pathlib import Path

from state.desired import Desired
from state.resolve import PVGRUB

# As whom libxl has pygrub read a disk, in the order in which it looks; of a range, the domid is added to the first.
# Source: bootloader_uid in tools/libs/light/libxl_bootloader.c, Xen 4.17 with XSA-443.
_USERS = ("xen-qemuuser-range-base", "xen-qemuuser-shared")


def own_kernel_checks(desired: Desired | None) -> Iterator[tuple[str, bool, str]]:
    """One row for pygrub and one for each pvgrub; what no guest asks for does not stand in the way."""
    domus = () if desired is None else desired.domus
    boots = [boot for domu in domus for boot in (domu.boot, domu.installed) if boot is not None]
    missing = "; ".join(_missing_for_pygrub())
    detail = missing or f"reads guests' disks as {_user()}, never as root"
    yield "pygrub", not missing or all(boot.bootloader != "pygrub" for boot in boots), detail
    for kind, path in PVGRUB.items():
        there = Path(path).is_file()
        used = any(boot.kernel == path for boot in boots)
        yield f"pvgrub for {kind}", there or not used, path if there else f"no {path} (Debian: grub-xen-host)"


def _missing_for_pygrub() -> Iterator[str]:
    if not any(Path("/usr/lib").glob("xen-*/bin/pygrub")):
        yield "no /usr/lib/xen-*/bin/pygrub (Debian: xen-utils)"
    if _user() is None:
        yield f"no user to read guests' disks as, and root never does (`adduser --system --no-create-home {_USERS[1]}`)"


def _user() -> str | None:
    for name in _USERS:
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    return None
