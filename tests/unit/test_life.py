"""Whose monitor a monitor is, and who has come from another host."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from reconciler.life import Life
from reconciler.render_xl import config_path
from tests.unit.deviations import situation

NOW, STARTED, APPLIED = "vm01", "started", "applied"


def life(monitors: Iterable[str], running: dict[str, frozenset[str]], *, owned: bool = True) -> Life:
    """A domU that does not run, has had three names, and these monitors and running domains around it."""
    found = situation({"git": {"vm01": {}}, "live": {"vm01": {"gone": "yes"}}})
    domu = found.desired.domus[0]
    observed = replace(found.observed, monitors=tuple(config_path(name) for name in monitors))
    return replace(
        found.life(domu),
        owned=replace(found.ledger[domu.uuid], name=STARTED) if owned else None,
        before=replace(domu, name=APPLIED) if owned else None,
        observed=observed,
        running=running,
    )


@pytest.mark.parametrize("name", [NOW, STARTED, APPLIED])
def test_a_monitor_is_known_by_any_name_that_the_domu_has_had(name: str) -> None:
    assert life([name], {}).monitored
    assert not life(["other"], {}).monitored
    assert not life([], {}).monitored


@pytest.mark.parametrize(
    ("monitors", "others", "monitored"),
    [
        ([NOW], [{NOW}], False),
        ([NOW], [{"other"}], True),
        ([NOW, STARTED], [{NOW}], True),
        ([NOW, STARTED], [{NOW}, {STARTED, "other"}], False),
        ([NOW, "other"], [{NOW}, {"other"}], False),
        ([NOW, "other"], [{"other"}, {"third"}], True),
    ],
)
def test_as_many_monitors_as_running_domains_have_one_of_its_names_are_theirs(
    monitors: list[str], others: list[set[str]], monitored: bool
) -> None:
    running = {f"uuid-{number}": frozenset(names) for number, names in enumerate(others)}

    assert life(monitors, running).monitored is monitored


def test_a_domain_of_its_own_uuid_takes_no_monitor_from_it() -> None:
    (uuid,) = situation({"git": {"vm01": {}}}).ledger

    assert life([NOW], {uuid: frozenset({NOW})}).monitored


@pytest.mark.parametrize(
    ("monitors", "others", "monitored"), [(["other"], 0, True), (["other"], 1, False), ([], 0, False)]
)
def test_of_one_that_the_ledger_does_not_know_any_monitor_too_many_may_be_its(
    monitors: list[str], others: int, monitored: bool
) -> None:
    running = {f"uuid-{number}": frozenset({"third"}) for number in range(others)}

    assert life(monitors, running, owned=False).monitored is monitored


@pytest.mark.parametrize(
    ("moved_from", "here", "ledger", "last_epoch", "arrives"),
    [
        ("dom0-b", False, False, None, True),
        (None, False, False, None, False),
        ("dom0-b", True, False, None, False),
        ("dom0-b", False, True, None, False),
        ("dom0-b", False, True, 2, True),
        ("dom0-b", False, True, 3, False),
    ],
)
def test_it_arrives_when_it_was_never_here_or_has_been_elsewhere_since(
    moved_from: str | None, here: bool, ledger: bool, last_epoch: int | None, arrives: bool
) -> None:
    found = situation({"git": {"vm01": {}}})
    domu = replace(found.desired.domus[0], moved_from=moved_from, epoch=3)
    seen = found.life(domu)

    assert (
        replace(
            seen,
            domain=seen.domain if here else None,
            owned=seen.owned if ledger else None,
            before=None if last_epoch is None else replace(domu, epoch=last_epoch),
        ).arrives
        is arrives
    )
