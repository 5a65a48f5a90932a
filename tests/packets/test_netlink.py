"""What the bench asks the kernel itself is what `bridge` and `ip` say."""

from __future__ import annotations

import json

import pytest

from state.links import FDB, parse_fdb
from state.run import read
from tests.packets.cases import udp4
from tests.packets.lab import Lab
from tests.packets.parties import BRIDGE, GATEWAY, A

pytestmark = pytest.mark.netns


def test_the_tables_are_those_that_the_tools_show(lab: Lab) -> None:
    lab.send(udp4(A.v4, GATEWAY))

    shown = json.loads(lab.dom0.must("ip", "-j", "neigh", "show", "dev", BRIDGE))
    assert lab.neighbors() == {entry["dst"]: entry["lladdr"] for entry in shown if "lladdr" in entry}
    assert lab.forwarding() == {entry.mac: entry.port for entry in parse_fdb(read(lab.dom0, FDB))}
    assert GATEWAY.v4 in lab.neighbors()
    assert A.mac in lab.forwarding()
