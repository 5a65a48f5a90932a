"""The second layer of an audited vif: taken off, and only what of it is there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.diff import make_plan
from reconciler.policy import Policy
from reconciler.step import commands
from state.links import FdbEntry
from tests.unit.deviations import situation

MAC, OTHER = "00:16:3e:00:53:01", "00:16:3e:00:53:77"
PINNED = FdbEntry("vm01", MAC, static=True, sticky=True)


@pytest.mark.parametrize(
    ("locked", "learning", "entries", "acts"),
    [
        (False, True, set(), set()),
        (True, True, set(), {"link"}),
        (False, False, set(), {"link"}),
        (False, True, {PINNED}, {"link", "fdb"}),
        (True, False, {PINNED}, {"link", "fdb"}),
        # What was learned goes by itself, and what is another port's or MAC's is not the vif's.
        (False, True, {replace(PINNED, static=False)}, set()),
        (False, True, {replace(PINNED, port="vm02")}, set()),
        (False, True, {replace(PINNED, mac=OTHER)}, set()),
        (True, True, {replace(PINNED, mac=OTHER)}, {"link"}),
    ],
)
def test_an_audited_port_is_unlocked_and_loses_its_entry_where_it_has_one(
    locked: bool, learning: bool, entries: set[FdbEntry], acts: set[str]
) -> None:
    found = situation(
        {"git": {"vm01": {"vifs": [{"guard": "audit"}]}, "vm02": {"vifs": [{"guard": "audit"}]}}}
    )
    port = replace(found.observed.ports["vm01"], locked=locked, learning=learning)
    observed = replace(
        found.observed, ports={**found.observed.ports, "vm01": port}, fdb=tuple(sorted(entries))
    )

    changes = make_plan(replace(found, observed=observed), Policy()).changes

    argvs = [argv for change in changes for step in change.steps for argv in commands(step)]
    assert {argv[1] for argv in argvs if argv[0] == "bridge"} == acts
    assert [change.address for change in changes] == (["domu.vm01.vif.0"] if acts else [])
