"""Real output of the tools that state/ reads, taken in the emulated dom0 while the example repository's guests run.

In the machine: `cd /root/checkout && PYTHONPATH=. python -m tests.xen.captures`, with the product's own Python; then copy
tests/cases/captures out. The names are those of tests/unit/captures.py, the situation begins with `real`.
"""

from __future__ import annotations

import sys

from state import routes, xl
from state.nft import LIST_TABLE, LIST_TABLES
from state.xenstore import LIST_DOMAINS, LIST_VIFS
from tests.dom0.toolstack import domids
from tests.unit.captures import CAPTURES, IPROUTE, NFT, XEN, take, take_network, take_xen

SITUATION = "real-three-guests"


def main() -> int:
    """Exit status 0, or 1 where nothing runs."""
    if len(domids()) != 3:
        print("captures: expected the three guests of the example repository", file=sys.stderr)
        return 1
    CAPTURES.mkdir(parents=True, exist_ok=True)
    take(f"xl-info-{XEN}-real.txt", *xl.INFO)
    take_xen(SITUATION)
    take(f"xenstore-list-{XEN}-{SITUATION}.txt", *LIST_DOMAINS)
    take(f"xenstore-ls-{XEN}-{SITUATION}.txt", *LIST_VIFS)
    take_network(SITUATION)
    for family, argv in zip(("v4", "v6"), routes.DEFAULTS, strict=True):
        take(f"ip-route-{IPROUTE}-real-gateways-{family}.json", *argv)
    take(f"nft-list-table-{NFT}-{SITUATION}.txt", *LIST_TABLE)
    take(f"nft-tables-{NFT}-real-ours-alone.txt", *LIST_TABLES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
