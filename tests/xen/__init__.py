"""A real Xen dom0, emulated: Debian 12 with Xen 4.17 under QEMU, with guests that are paravirtualised Linux.

`python -m tests.xen` runs the tests in it, `python -m tests.xen --shell` gives it to a human. README.md tells more.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
BUILD = ROOT / "build" / "xen-image"
RESULTS = ROOT / "build" / "results" / "xen"
# Inside the machine: where the second disk is mounted.
CARRIED = Path("/mnt/domgit")


class RigError(Exception):
    """The machine cannot be built or started here; the message is what the user gets."""


def on_real_xen() -> bool:
    """Whether this process runs in a dom0 on a hypervisor. The simulated dom0 has no /proc/xen."""
    capabilities = Path("/proc/xen/capabilities")
    return capabilities.exists() and "control_d" in capabilities.read_text()
