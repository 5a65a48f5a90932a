"""What was last applied: what a spoilt commit falls back to, and what drift is measured against."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler import last_good
from reconciler.last_good import LastGood, advanced
from reconciler.plan import Source
from reconciler.scope import Scope
from state.desired import Desired, DomU
from state.run import ReadError
from tests.unit.worlds import BEFORE, REVISION, desired

NOW = Source(REVISION)
EVERYTHING = desired(
    {
        "host": {"guard": {"unknownVifs": "drop"}},
        "vm01": {
            "vifs": [
                {"ips": ["172.16.39.101", "2001:db8:39::101", "172.16.39.64/29"], "rate": "10Mb/s"},
                {"name": "none"},
            ],
            "console": {"vnc": {"listen": "127.0.0.1", "display": "5"}},
        },
        "vm02": {"state": "absent"},
        "elsewhere": {"vm03": {}},
    }
)


def domus(**states: str) -> Desired:
    return desired({name: {"state": state} for name, state in states.items()})


def by_name(found: Desired) -> dict[str, DomU]:
    return {domu.name: domu for domu in found.domus}


def test_what_was_saved_comes_back_the_same(tmp_path: Path) -> None:
    last = LastGood(Source(REVISION, "main", "Provider", "subject"), EVERYTHING)

    last_good.save(tmp_path / "last-good.json", last)

    assert last_good.load(tmp_path / "last-good.json") == last
    assert (tmp_path / "last-good.json").stat().st_mode & 0o777 == 0o600


def test_where_nothing_was_ever_applied_there_is_nothing(tmp_path: Path) -> None:
    assert last_good.load(tmp_path / "last-good.json") is None


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"source": {"revision": "x"}, "desired": {}}'])
def test_a_damaged_file_is_not_taken_for_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "last-good.json").write_text(text)

    with pytest.raises(ReadError, match="damaged"):
        last_good.load(tmp_path / "last-good.json")


def test_a_file_that_cannot_be_read_is_a_read_error(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="directory"):
        last_good.load(tmp_path)


def test_what_got_there_counts_as_applied_and_a_tombstone_is_forgotten() -> None:
    want = domus(vm01="running", vm02="absent", vm03="halted")
    found = by_name(want)

    after = advanced(None, want, NOW, Scope((found["vm01"], found["vm03"]), (found["vm02"],), (), ()), [])

    assert after.source == NOW
    assert [domu.name for domu in after.desired.domus] == ["vm01", "vm03"]


def test_what_failed_keeps_what_it_had_and_what_never_was_stays_unknown() -> None:
    before = LastGood(Source(BEFORE), desired({"vm01": {}, "vm02": {}}))
    want = desired({"vm01": {"memory": "384MiB"}, "vm02": {"state": "absent"}, "vm03": {}})
    found = by_name(want)
    scope = Scope((found["vm01"], found["vm03"]), (found["vm02"],), (), ())

    after = by_name(advanced(before, want, NOW, scope, ["vm01", "vm02"]).desired)

    assert after["vm01"].memory_mib == 256
    assert after["vm02"].state == "running"
    assert set(after) == {"vm01", "vm02", "vm03"}


@pytest.mark.parametrize("addressed", [True, False])
def test_what_waits_has_its_new_addresses_all_the_same_once_the_guard_has_them(addressed: bool) -> None:
    before = LastGood(Source(BEFORE), desired({"vm01": {"vifs": [{}, {}]}, "vm02": {}}))
    vif = {"mac": "00:16:3e:00:53:77", "ips": ["172.16.39.150"]}
    want = desired({"vm01": {"vifs": [vif]}, "vm02": {"state": "absent"}})
    found = by_name(want)
    scope = Scope((found["vm01"],), (found["vm02"],), (), ())

    after = by_name(advanced(before, want, NOW, scope, ["vm01", "vm02"], addressed=addressed).desired)

    assert [each.mac for each in after["vm01"].vifs] == ["00:16:3e:00:53:01", "00:16:3e:00:51:01"]
    assert str(after["vm01"].vifs[0].addresses[0][0]) == ("172.16.39.150" if addressed else "172.16.39.101")
    assert after["vm01"].vifs[1] == by_name(before.desired)["vm01"].vifs[1]
    assert after["vm02"] == by_name(before.desired)["vm02"]


def test_orphans_keep_what_they_had() -> None:
    before = LastGood(Source(BEFORE), desired({"vm01": {}}))
    want = desired({"vm02": {}})

    after = advanced(before, want, NOW, Scope(want.domus, (), before.desired.domus, ()), [])

    assert [domu.name for domu in after.desired.domus] == ["vm01", "vm02"]
    assert [domu.name for domu in after.specified.domus] == ["vm02"]


def test_an_error_of_this_commit_is_not_kept_as_if_it_had_been_applied() -> None:
    want = replace(desired({"vm01": {}}), held=("vm02",))

    after = advanced(None, want, NOW, Scope(want.domus, (), (), ()), [])

    assert after.desired.held == ()
    assert after.desired.diagnostics == ()


def test_what_host_yaml_says_of_the_guard_counts_when_the_guard_is_so() -> None:
    before, now = desired({"vm01": {}}), EVERYTHING
    last = LastGood(Source(BEFORE), before)
    scope = Scope(now.domus, (), (), ())

    behind = advanced(last, now, NOW, scope, ()).desired.host
    there = advanced(last, now, NOW, scope, (), addressed=True).desired.host
    never = advanced(None, now, NOW, scope, ()).desired.host

    assert (behind.unknown_vifs, there.unknown_vifs, never.unknown_vifs) == ("report", "drop", "report")
    assert (behind.bridges, never.bridges) == (before.host.bridges, ())
    assert there == now.host
