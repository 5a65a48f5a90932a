"""A simulated dom0: Debian's real Xen toolstack over a simulated hypervisor, with guests that are network namespaces.

`python -m tests.dom0 -- COMMAND` runs a command in a fresh one. README.md tells how it works and what it is not.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
XEN = ROOT / "build" / "xen"  # Debian's packages, unpacked and never installed
SHIM = ROOT / "build" / "dom0" / "hypervisor.so"

# Inside only; the machine's own /run is hidden there, so no two simulated dom0s meet.
INSIDE = Path("/run/dom0")
STATE = INSIDE / "hypervisor"
VIRQ = INSIDE / "virq"
KICK = INSIDE / "kick"
ZOMBIE = INSIDE / "zombie"
GUESTS = INSIDE / "guests"
PLAYERS_SOCKET = INSIDE / "players.sock"


class Dom0Error(Exception):
    """The simulated dom0 cannot be built or started here; the message is the one line the user gets."""
