"""Changes of the guard that had to be taken back: what is remembered of them, and what counts as the same one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler import reverted
from reconciler.diff import make_plan
from reconciler.guard_limits import attempt, kind_of, not_again
from reconciler.plan import Change
from reconciler.policy import Policy
from reconciler.reverted import Reverted
from state.run import ReadError
from tests.unit.deviations import situation

ONE = Reverted("sha256:1", "2030-01-01T00:00:00Z", "172.16.39.1 on xenbr0 did not answer afterwards")
NEW_ADDRESS: dict[str, Any] = {
    "applied": {"vm01": {}},
    "git": {"vm01": {"vifs": [{"ips": ["172.16.39.150"]}]}},
}


def guard_of(words: dict[str, Any]) -> Change:
    return next(each for each in make_plan(situation(words), Policy()).changes if each.address == "guard")


def tried(words: dict[str, Any]) -> str:
    return attempt(situation(words), guard_of(words))


def test_what_was_taken_back_is_remembered_for_root_alone_until_it_is_made_good(tmp_path: Path) -> None:
    path = tmp_path / "guard" / "reverted.json"
    assert reverted.load(path) == ()

    reverted.save(path, (ONE, ONE))

    assert reverted.load(path) == (ONE, ONE)
    assert path.stat().st_mode & 0o777 == 0o600
    reverted.save(path, ())
    assert not path.exists()
    reverted.save(path, ())
    assert reverted.load(path) == ()


def test_of_very_many_the_newest_are_remembered(tmp_path: Path) -> None:
    many = [Reverted(str(number), "", "") for number in range(100)]

    reverted.save(tmp_path / "reverted.json", many)

    assert reverted.load(tmp_path / "reverted.json") == tuple(many[-16:])


@pytest.mark.parametrize("text", ["", "{}", '[{"attempt": 1}]', "[1]", "\udcff"])
def test_a_damaged_memory_is_not_taken_for_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "reverted.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))

    with pytest.raises(ReadError, match="damaged"):
        reverted.load(path)
    with pytest.raises(ReadError, match="Is a directory"):
        reverted.load(tmp_path)


@pytest.mark.parametrize(
    ("live", "kind"),
    [({}, "elements"), ({"guard": "none"}, "table"), ({"guard": {"rules": "changed"}}, "rules")],
)
def test_a_change_replaces_elements_rules_or_the_whole_table(live: dict[str, Any], kind: str) -> None:
    assert kind_of(guard_of({**NEW_ADDRESS, "live": live})) == kind


@pytest.mark.parametrize(
    "live",
    [
        {"vm01": {"shutdown": "reboot"}},
        {"vm01": {"memory": "128"}},
        {"strangers": {"foreign": {}}},
        {"guard": {"with": {"own_v4": ['"x" . 00:16:3e:00:53:01 . 172.16.39.7']}}},
    ],
)
def test_what_lives_on_the_host_makes_no_other_attempt(live: dict[str, Any]) -> None:
    assert tried({**NEW_ADDRESS, "live": live}) == tried(NEW_ADDRESS)


@pytest.mark.parametrize(
    "git",
    [
        {"vm01": {"vifs": [{"ips": ["172.16.39.151"]}]}},
        {"vm01": {"vifs": [{"ips": ["172.16.39.150"], "guard": "audit"}]}},
        {"vm01": {"vifs": [{"ips": ["172.16.39.150"]}]}, "vm02": {}},
        {"vm01": {"vifs": [{"ips": ["172.16.39.150"]}]}, "host": {"guard": {"unknownVifs": "drop"}}},
    ],
)
def test_what_git_says_makes_another_attempt(git: dict[str, Any]) -> None:
    assert tried({"applied": {"vm01": {}}, "git": git}) != tried(NEW_ADDRESS)


def test_what_is_loaded_anew_is_another_attempt_than_one_address() -> None:
    assert tried({**NEW_ADDRESS, "live": {"guard": "none"}}) != tried(NEW_ADDRESS)


@pytest.mark.parametrize(
    ("unjudged", "stands"),
    [([], None), ([True], None), ([True, True], 1), ([False], 0), ([True, False], 1), ([False, True], 0)],
)
def test_one_attempt_that_was_cut_short_says_nothing_and_two_do(
    unjudged: list[bool], stands: int | None
) -> None:
    found = situation(NEW_ADDRESS)
    mine = [Reverted(tried(NEW_ADDRESS), str(number), "", each) for number, each in enumerate(unjudged)]
    others = [Reverted("another", "", "", unjudged=True)] * 3

    again = not_again(guard_of(NEW_ADDRESS), replace(found, reverted=(*others, *mine)))

    assert again == (None if stands is None else mine[stands])
