"""The simulated dom0's files: the machine's own, Xen's laid over /usr, /etc, /var and /srv, nothing written through.

Everything here happens in a mount namespace of our own and ends with it.
"""

import os
import shutil
from pathlib import Path

from tests.dom0 import GUESTS, INSIDE, SHIM, XEN, Dom0Error, kernel

# Folders that are empty in a fresh dom0, whatever the machine has there.
PRIVATE = (
    "/etc/domgit",
    "/var/lib/domgit",
    "/var/lib/xen",
    "/var/log/xen",
    "/srv/xen",
)
# Debian's own wrapper asks /sys/hypervisor for the version; this one brings the simulated hypervisor along.
WRAPPER = "/usr/lib/xen-common/bin/xen-utils-wrapper"
INSTALLED_SHIM = "/usr/lib/dom0/hypervisor.so"
WRAPPER_TEXT = f"""#!/bin/sh
export LD_PRELOAD={INSTALLED_SHIM}
exec "/usr/lib/xen-4.17/bin/${{0##*/}}" "$@"
"""
# xl starts this one by its full path, and the hypervisor has hidden itself from xl's environment by then.
XENCONSOLE = "/usr/lib/xen-4.17/bin/xenconsole"
XENCONSOLE_TEXT = f"""#!/bin/sh
export LD_PRELOAD={INSTALLED_SHIM}
exec "{INSIDE}/xen{XENCONSOLE}" "$@"
"""
GUEST_TEXT = """#!/bin/sh
PYTHONPATH={root} exec {python} -P -m tests.dom0.guest "$@"
"""


def lay_out(python: str, root: Path) -> None:
    """All mounts of the simulated dom0, /proc and /sys of the new namespaces included.

    Raises:
        Dom0Error: a mount is refused; says which.
    """
    try:
        kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
        kernel.mount("dom0", "/run", "tmpfs", 0, "mode=755")
        for folder in (
            INSIDE,
            GUESTS,
            INSIDE / "xen",
            INSIDE / "tmp",
            Path("/run/xen"),
            Path("/run/xenstored"),
        ):
            folder.mkdir()
        for folder in (Path("/run/lock"), INSIDE / "tmp"):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o1777)
        kernel.mount(XEN, INSIDE / "xen", "", kernel.MS_BIND)
        _share_locks()
        for name in ("usr", "etc", "var", "srv"):
            _overlay(name, python, root)
        for folder in map(Path, PRIVATE):
            folder.mkdir(parents=True, exist_ok=True)
            kernel.mount("dom0", folder, "tmpfs", 0, "mode=755")
        Path("/var/lib/xen/dump").mkdir()
        kernel.mount("proc", "/proc", "proc")
        kernel.mount("sysfs", "/sys", "sysfs")  # shows the links of the new network namespace
    except OSError as exc:
        raise Dom0Error(
            f"cannot mount {exc.filename}: {exc.strerror} (overlayfs and CAP_SYS_ADMIN are needed)"
        ) from exc


def _share_locks() -> None:
    """Lets the hotplug scripts of all simulated dom0s of this checkout lock each other out.

    They draw loop devices from the same machine: `losetup -f` of one and `losetup DEVICE FILE` of another would meet.
    """
    shared, here = SHIM.parent / "locks", Path("/run/xen-hotplug")
    shared.mkdir(exist_ok=True)
    here.mkdir()
    kernel.mount(shared, here, "", kernel.MS_BIND)


def _overlay(name: str, python: str, root: Path) -> None:
    base = INSIDE / "overlay" / name
    upper, work = base / "upper", base / "work"
    work.mkdir(parents=True)
    upper.mkdir()
    shutil.copystat(f"/{name}", upper)
    lower = f"/{name}"
    if name == "usr":
        lower = f"{INSIDE}/xen/usr:/usr"  # 17 MB: laid over, not copied
        _put(upper / WRAPPER.removeprefix("/usr/"), WRAPPER_TEXT, 0o755)
        _put(upper / XENCONSOLE.removeprefix("/usr/"), XENCONSOLE_TEXT, 0o755)
        _put(upper / "local/bin/guest", GUEST_TEXT.format(root=root, python=python), 0o755)
        shim = upper / INSTALLED_SHIM.removeprefix("/usr/")
        shim.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(SHIM, shim)
    elif (XEN / name).is_dir():
        shutil.copytree(XEN / name, upper, symlinks=True, dirs_exist_ok=True)
    if name == "etc":
        # nothing of a machine's own /etc/xen shines through
        os.setxattr(upper / "xen", "trusted.overlay.opaque", b"y")
    kernel.mount("dom0", f"/{name}", "overlay", 0, f"lowerdir={lower},upperdir={upper},workdir={work}")


def _put(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    path.chmod(mode)
