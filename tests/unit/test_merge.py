"""A profile under a domU: maps merge deeply, everything else is replaced, and errors name the file that brought the value."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.fleet import Fleet
from schemas.tree import merge
from tests.unit.fleets import domu, fleet_of, host, merged, network

VALUES = st.recursive(
    st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=8,
)
MAPS = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)


@pytest.mark.parametrize(
    ("profile", "domu", "expected"),
    [
        ({"a": "1"}, {}, {"a": "1"}),
        ({"a": "1"}, {"a": "2"}, {"a": "2"}),
        ({"a": {"x": "1", "y": "1"}}, {"a": {"x": "2"}}, {"a": {"x": "2", "y": "1"}}),
        ({"a": ["1", "2"]}, {"a": ["3"]}, {"a": ["3"]}),
        ({"a": ["1"]}, {"a": []}, {"a": []}),
        ({"a": {"x": "1"}}, {"a": "2"}, {"a": "2"}),
        ({"a": "1"}, {"a": {"x": "2"}}, {"a": {"x": "2"}}),
    ],
)
def test_maps_merge_deeply_and_all_else_is_replaced(profile: Any, domu: Any, expected: Any) -> None:
    assert merge(profile, domu) == expected


@given(MAPS, MAPS)
def test_what_a_domu_says_is_what_counts(profile: dict[str, Any], own: dict[str, Any]) -> None:
    merged = merge(profile, own)

    assert merge(merged, own) == merged
    assert merge({}, own) == own
    assert merge(profile, {}) == profile
    assert set(merged) == set(profile) | set(own)


@given(MAPS, MAPS, MAPS)
def test_merging_is_associative_so_that_order_of_reading_means_nothing(
    one: dict[str, Any], two: dict[str, Any], three: dict[str, Any]
) -> None:
    if _replaces_a_map(two, three) or _replaces_a_map(one, two):
        return  # a map that is no map in between hides what is below it; profiles do not nest, so it cannot happen

    assert merge(merge(one, two), three) == merge(one, merge(two, three))


def _replaces_a_map(under: Any, over: Any) -> bool:
    if isinstance(under, dict) and isinstance(over, dict):
        return any(_replaces_a_map(under[key], over[key]) for key in under.keys() & over.keys())
    return isinstance(under, dict) or isinstance(over, dict)


def fleet(profile: str, spec: str) -> Fleet:
    files = {
        **host(),
        **network("a", "172.16.39.0/24", "172.16.39.1"),
        "profiles/small.yaml": f"apiVersion: domgit/v1\nkind: Profile\nmetadata: {{name: small}}\nspec:\n{profile}",
        "hosts/dom0-a/domus/vm01.yaml": (
            f"apiVersion: domgit/v1\nkind: DomU\nmetadata: {{name: vm01}}\nspec:\n  profile: small\n{spec}"
        ),
    }
    return fleet_of(files)


def test_a_domu_inherits_what_it_does_not_say() -> None:
    found = fleet(
        "  type: pvh\n  memory: 1GiB\n  boot: {run: {kernel: /srv/xen/k, cmdline: a}}\n",
        "  memory: 2GiB\n  boot: {run: {cmdline: b}}\n",
    )

    assert found.diagnostics == ()
    (claimant,) = found.domus
    spec = merged(claimant).domu.spec
    assert (spec.type, spec.memory) == ("pvh", 2048)
    assert spec.boot is not None
    assert spec.boot.run is not None
    assert (spec.boot.run.kernel, spec.boot.run.cmdline) == ("/srv/xen/k", "b")


def test_an_error_is_placed_in_the_file_that_brought_the_value() -> None:
    own = fleet("  type: pv\n  memory: 1GiB\n", "  vcpus: 0\n  boot: {run: {kernel: /srv/xen/k}}\n")
    inherited = fleet("  type: pv\n  memory: 1GiB\n  boot: {run: {kernel: /etc/k}}\n", "  vcpus: 1\n")

    assert [(each.file, each.line) for each in own.diagnostics] == [("hosts/dom0-a/domus/vm01.yaml", 6)]
    assert [(each.file, each.line) for each in inherited.diagnostics] == [("profiles/small.yaml", 7)]
    assert "inherited by hosts/dom0-a/domus/vm01.yaml" in inherited.diagnostics[0].message


def test_a_list_of_the_profile_is_replaced_as_a_whole() -> None:
    found = fleet(
        "  type: pv\n  memory: 1GiB\n  boot: {run: {bootloader: pygrub}}\n  disks: [{vdev: xvda}, {vdev: xvdb}]\n",
        "  disks: [{vdev: xvdc, path: /srv/xen/images/c}]\n",
    )

    assert found.diagnostics == ()
    assert [disk.vdev for disk in merged(found.domus[0]).domu.spec.disks] == ["xvdc"]


def test_a_profile_that_nobody_uses_is_checked_all_the_same() -> None:
    files = {
        **host(),
        **domu("vm01"),
        "profiles/x.yaml": "apiVersion: domgit/v1\nkind: Profile\nmetadata: {name: x}\nspec: {vcpus: 0}\n",
    }

    assert [each.code for each in fleet_of(files).diagnostics] == ["DG1103"]
