"""The nft in memory answers as the real one does: scripts all or nothing, and a listing that our parser reads."""

from __future__ import annotations

import pytest

from reconciler.guard import nftables
from reconciler.guard.loaded import bypassed
from state.nft import probe_features, read_listing, read_table
from tests.model.places import Place
from tests.model.subjects import MAC, desired, guard_of, load, run, table

PREFIXES = ("172.16.39.64/28", "172.16.39.64/29", "2001:db8:39:0:1::/80", "2001:db8:39:0:1::/96")


def test_a_loaded_guard_reads_back_as_written(guarded: Place) -> None:
    guard, features = guard_of(desired()), probe_features(guarded.runner)

    loaded = table(guarded)

    assert nftables.rules_match(loaded, guard, features)
    assert nftables.delta(loaded, guard) == ""


@pytest.mark.parametrize("before", PREFIXES)
@pytest.mark.parametrize("after", PREFIXES)
def test_one_transaction_turns_one_guard_into_another(place: Place, before: str, after: str) -> None:
    first, then = (guard_of(desired(ips=f'["{each}", 172.16.39.101]')) for each in (before, after))
    load(place, nftables.full(first, probe_features(place.runner)))

    load(place, nftables.delta(table(place), then))

    assert nftables.delta(table(place), then) == ""


def test_prefixes_that_lie_in_each_other_are_loaded_all_the_same(place: Place) -> None:
    guard = guard_of(
        desired(ips='["172.16.39.64/28", "172.16.39.64/29", "2001:db8:39:0:1::/80", "2001:db8:39:0:1::/96"]')
    )

    load(place, nftables.full(guard, probe_features(place.runner)))

    assert nftables.delta(table(place), guard) == ""


@pytest.mark.parametrize(
    "script",
    [
        f'delete element bridge domgit own_mac {{ "x" . {MAC} }}\n',
        'delete element bridge domgit ports { "x" }\n',
        'add element bridge domgit ports { "vm01" : accept }\n',
        'add element bridge domgit nosuch { "vm01" }\n',
        "delete table bridge nosuch\n",
        f'add element bridge domgit own_net4 {{ "a" . {MAC} . 10.0.0.0/8, "a" . {MAC} . 10.0.0.0/9 }}\n',
    ],
    ids=["no such element", "no such key", "another verdict", "no such set", "no such table", "overlap"],
)
def test_a_script_that_is_refused_changes_nothing(guarded: Place, script: str) -> None:
    before = table(guarded)
    harmless = f'add element bridge domgit own_mac {{ "y" . {MAC} }}\n'

    assert run(guarded, "nft", "-f", "-", stdin=harmless + script) == 1
    assert table(guarded) == before


def test_an_element_may_be_added_twice(guarded: Place) -> None:
    before = table(guarded)

    load(guarded, 'add element bridge domgit ports { "vm01" : goto from_guest }\n')

    assert table(guarded) == before


def test_what_is_opened_for_a_time_is_listed_with_what_was_noted_and_closed_by_its_key(
    guarded: Place,
) -> None:
    key, before = ("vm01", MAC), table(guarded)

    load(guarded, nftables.opened_script([key], 3600, "until then"))
    assert bypassed(table(guarded)) == {key: "until then"}
    load(guarded, nftables.opened_script([key], 60, "until now"))
    assert bypassed(table(guarded)) == {key: "until now"}
    # Once more where nothing is open any more: the kernel may have closed it in between.
    for _ in range(2):
        load(guarded, nftables.opened_script([key], None))

    assert table(guarded) == before


def test_changed_rules_are_put_back_and_elements_stay(guarded: Place) -> None:
    guard, features, before = guard_of(desired()), probe_features(guarded.runner), table(guarded)
    assert run(guarded, "nft", "insert", "rule", "bridge", "domgit", "from_guest", "accept") == 0
    changed = table(guarded)

    load(guarded, nftables.reload_rules(changed, guard, features))

    assert not nftables.rules_match(changed, guard, features)
    assert table(guarded) == before


def test_a_flushed_guard_is_gone(guarded: Place) -> None:
    assert run(guarded, "nft", "flush", "ruleset") == 0

    assert read_table(guarded.runner) is None
    assert run(guarded, "nft", "delete", "table", "bridge", "domgit") == 1


@pytest.mark.parametrize("before", PREFIXES)
@pytest.mark.parametrize("after", PREFIXES)
def test_a_delta_is_taken_back_and_where_it_was_never_loaded_nothing_is(
    place: Place, before: str, after: str
) -> None:
    first, then = (guard_of(desired(ips=f'["{each}", 172.16.39.101]')) for each in (before, after))
    load(place, nftables.full(first, probe_features(place.runner)))
    there = table(place)
    undo = nftables.undo_delta(there, then)

    if undo:
        load(place, undo)
    assert table(place) == there
    if undo:
        load(place, nftables.delta(there, then))
        assert table(place) != there
        load(place, undo)
    assert table(place) == there


def test_what_others_added_meanwhile_stays_when_a_delta_is_taken_back(guarded: Place) -> None:
    there, then = table(guarded), guard_of(desired(ips="[172.16.39.150]"))
    load(guarded, nftables.delta(there, then))
    load(guarded, f'add element bridge domgit own_mac {{ "y" . {MAC} }}\n')

    load(guarded, nftables.undo_delta(there, then))

    assert {name: each - there.elements[name] for name, each in table(guarded).elements.items() if each} == {
        name: {f'"y" . {MAC}'} if name == "own_mac" else set()
        for name, each in there.elements.items()
        if each
    }


def test_a_table_is_put_back_as_it_was_listed_whatever_has_become_of_it(guarded: Place) -> None:
    assert run(guarded, "nft", "insert", "rule", "bridge", "domgit", "from_guest", "accept") == 0
    before, listed = table(guarded), read_listing(guarded.runner)
    undo = nftables.restored(listed)

    for change in (nftables.full(guard_of(desired()), probe_features(guarded.runner)), nftables.UNLOADED, ""):
        if change:
            load(guarded, change)
        assert run(guarded, "nft", "-c", "-f", "-", stdin=undo) == 0
        load(guarded, undo)

        assert table(guarded) == before
        assert read_listing(guarded.runner) == listed


def test_a_table_that_was_not_there_is_taken_away_again_and_again(place: Place) -> None:
    load(place, nftables.full(guard_of(desired()), probe_features(place.runner)))

    for _ in range(2):
        load(place, nftables.UNLOADED)

        assert read_table(place.runner) is None
