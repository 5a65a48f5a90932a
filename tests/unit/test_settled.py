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


@settings(max_examples=40)
@given(FLEETS)
def test_a_host_that_is_as_git_says_is_left_alone(fleet: dict[str, Any]) -> None:
    found = plan({"git": fleet})

    assert (found.changes, found.notes) == ((), ())


@settings(max_examples=40)
@given(FLEETS, FLEETS)
def test_a_plan_between_any_two_commits_breaks_no_rule(before: dict[str, Any], after: dict[str, Any]) -> None:
    found = plan({"applied": before, "git": after})

    assert lint(found) == ()
    assert {change.cause for change in found.changes} <= {"intentional"}


LIVE = st.fixed_dictionaries(
    {},
    optional={
        "guard": st.sampled_from(["none", {"without": ["vm01"]}, {"rules": "changed"}]),
        "files": st.dictionaries(
            st.sampled_from(["/etc/xen/vm01.cfg", "/etc/xen/scripts/vif-domgit"]),
            st.sampled_from(["none", "other\n"]),
        ),
        "vm01": st.fixed_dictionaries(
            {},
            optional={
                "memory": st.just("128"),
                "vcpus": st.just("2"),
                "kernel": st.just("/srv/xen/other"),
                "name": st.just("other"),
                "vifs": st.fixed_dictionaries(
                    {
                        "0": st.sampled_from(
                            ["none", {"locked": "no"}, {"up": "no"}, {"rate": "1Mb/s"}, {"port": "odd"}]
                        )
                    }
                ),
            },
        )
        | st.just({"gone": "yes"}),
    },
)


@settings(max_examples=40)
@given(LIVE)
def test_what_somebody_did_by_hand_is_corrected_and_called_so(live: dict[str, Any]) -> None:
    found = make_plan(situation({"git": {"vm01": {}, "vm02": {}}, "live": live}), Policy())

    assert lint(found) == ()
    assert {change.cause for change in found.changes} <= {"corrective"}
