"""Whatever git says: a host that is as git says is left alone, and so is one whose tombstones were carried out."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.diff import make_plan
from reconciler.lint import lint
from reconciler.plan import Plan
from reconciler.policy import Policy
from tests.unit.deviations import situation

VIFS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "name": st.just("none"),
            "rate": st.sampled_from(["10Mb/s", "250KB/s", "1MB/s@20ms"]),
            "guard": st.sampled_from(["audit", "enforce"]),
            "ips": st.just([]),
        },
    ),
    max_size=3,
)
DISKS = st.lists(
    st.fixed_dictionaries({}, optional={"access": st.just("ro"), "sparse": st.just("false")}), max_size=2
)
SPECS = st.fixed_dictionaries(
    {"vifs": VIFS, "disks": DISKS},
    optional={
        "state": st.sampled_from(["running", "halted", "absent"]),
        "type": st.sampled_from(["pv", "pvh", "hvm"]),
        "vcpus": st.sampled_from(["1", "2"]),
        "memory": st.sampled_from(["256MiB", "512MiB"]),
        "protect": st.sampled_from(["true", "false"]),
        "onCrash": st.sampled_from(["restart", "destroy", "preserve"]),
        "disruption": st.sampled_from(["none", "link", "reboot"]),
        "order": st.sampled_from(["1", "50"]),
    },
)
FLEETS = st.dictionaries(st.sampled_from(["vm01", "vm02", "vm03"]), SPECS)


def plan(words: dict[str, Any]) -> Plan:
    return make_plan(situation(words), Policy(by_hand=False))


@settings(max_examples=60)
@given(FLEETS)
def test_a_host_that_is_as_git_says_is_left_alone(fleet: dict[str, Any]) -> None:
    found = plan({"git": fleet})

    assert (found.changes, found.notes) == ((), ())


@settings(max_examples=60)
@given(FLEETS, FLEETS)
def test_a_plan_between_any_two_commits_breaks_no_rule(before: dict[str, Any], after: dict[str, Any]) -> None:
    found = plan({"applied": before, "git": after})

    assert lint(found) == ()
    assert {change.cause for change in found.changes} <= {"intentional"}
