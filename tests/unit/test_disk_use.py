"""What is made of what was found in guests' disks: facts, lines, notes, metrics, and when a file system will be full."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from reconciler import disk_history, disk_record
from reconciler.diff_inside import inside_notes
from reconciler.disk_history import APART_S, DAY_S, KEPT_S, Series, advanced, days_to_full
from reconciler.disk_record import Looked
from reconciler.disk_use import (
    Guest,
    GuestDisk,
    filled,
    samples,
    size_text,
    use_facts,
    use_lines,
    volume_name,
)
from reconciler.metrics import disk_metrics_text
from state.inside.volume import Disk, FileSystem, Volume
from state.insides import Inside
from tests.unit.deviations import situation
from tests.unit.worlds import desired

GIB = 1 << 30
NOW_S = 1_795_830_000
UUID = desired({"vm01": {}}).domus[0].uuid
EXT4 = FileSystem(
    size_bytes=5 * GIB,
    free_bytes=GIB,
    available_bytes=3 * GIB // 4,
    inodes=1000,
    inodes_free=70,
    mounted=True,
    superblock_free_bytes=4 * GIB,
    superblock_inodes_free=990,
    written_s=NOW_S - 50,
)
BTRFS = FileSystem(size_bytes=10 * GIB, free_bytes=9 * GIB, available_bytes=9 * GIB, generation=7)
DISK = Disk(
    16 * GIB,
    "mbr",
    (
        Volume("1", 1 << 20, 5 * GIB, "ext4", EXT4),
        Volume("2", 5 * GIB + (1 << 20), GIB, "swap"),
        Volume("3", 6 * GIB, 10 * GIB, "btrfs", BTRFS),
        Volume("4", 6 * GIB, 10 * GIB, "xfs", why="the header of group 0 is none"),
    ),
)
PATHS = ("/srv/xen/images/vm01.img", "/dev/vg/vm02", "/srv/xen/images/vm02.qcow2", "/srv/gone.img")
GUESTS = (
    Guest("vm02", "u2", running=False, disks=(GuestDisk("xvda1", PATHS[1], "raw"), GuestDisk("xvdb", PATHS[2], "qcow2"))),
    Guest("vm01", UUID, running=True, disks=(GuestDisk("xvda", PATHS[0], "raw"), GuestDisk("xvdb", PATHS[3], "raw"))),
)  # fmt: skip
FOUND: Mapping[str, Inside | str] = {
    PATHS[0]: Inside(DISK, block=False, changed_s=NOW_S - 3 * 3600),
    PATHS[1]: Inside(
        Disk(5 * GIB, "none", (Volume("", 0, 5 * GIB, "ext4", EXT4),)), block=True, changed_s=None
    ),
    PATHS[3]: "No such file or directory",
}
HISTORY = {
    (UUID, "xvda1"): Series(
        UUID, "xvda1", 5 * GIB, tuple((NOW_S + day * DAY_S, 4 * GIB + day * GIB // 8) for day in range(-7, 1))
    )
}


def facts() -> dict[str, Any]:
    return {
        "warn_at_percent": 90,
        "domus": use_facts(GUESTS, FOUND, HISTORY, now_s=NOW_S),
    }


def test_each_volume_is_told_with_how_full_it_is_how_old_that_is_and_when_it_will_be_full() -> None:
    vm01, vm02 = facts()["domus"]

    disk = vm01["disks"][0]
    assert (vm01["domu"], vm01["running"], disk["table"], disk["error"]) == ("vm01", True, "mbr", None)
    assert [volume["name"] for volume in disk["volumes"]] == ["xvda1", "xvda2", "xvda3", "xvda4"]
    assert disk["volumes"][0]["use"] == {
        "size_bytes": 5 * GIB,
        "used_bytes": 4 * GIB,
        "free_bytes": GIB,
        "available_bytes": 3 * GIB // 4,
        "used_percent": 85,  # of 4.75 GiB, as df rounds: up
        "inodes": 1000,
        "inodes_free": 70,
        "inodes_percent": 93,
        "mounted": True,
        "untrusted_written": "2026-11-28T01:39:10Z",
        "age_s": 3 * 3600,
        "generation": None,
        "superblock": {"free_bytes": 4 * GIB, "inodes_free": 990},
        "full_in_days": 6,
    }
    assert disk["volumes"][2]["use"]["inodes_percent"] is None
    # Of a block device nobody knows when it was written but the guest.
    assert vm02["disks"][0]["volumes"][0]["use"]["age_s"] == 50
    assert vm02["disks"][1]["error"] == "qcow2 images are not looked into"


def test_a_terminal_gets_a_line_for_each_volume() -> None:
    assert "\n".join(use_lines(facts())) == (
        "DOMU  VOLUME  HOLDS                               SIZE      USED     USE%  INODES%  WRITTEN   FULL IN\n"
        "vm01  xvda1   ext4, mounted                       5.0 GiB   4.0 GiB  85%   93% !    3 h ago   6 days\n"
        "vm01  xvda2   swap                                1.0 GiB   -        -     -        -         -\n"
        "vm01  xvda3   btrfs                               10.0 GiB  1.0 GiB  10%   -        3 h ago   -\n"
        "vm01  xvda4   xfs: the header of group 0 is none  10.0 GiB  -        -     -        -         -\n"
        "vm01  xvdb    No such file or directory           -         -        -     -        -         -\n"
        "vm02  xvda1   ext4, mounted                       5.0 GiB   4.0 GiB  85%   93% !    50 s ago  -\n"
        "vm02  xvdb    qcow2 images are not looked into    -         -        -     -        -         -"
    )
    assert [*use_lines({"warn_at_percent": 90, "domus": []})] == ["No disks: no domU has one."]


@pytest.mark.parametrize(
    ("vdev", "name", "called"),
    [("xvda", "", "xvda"), ("xvda", "5", "xvda5"), ("xvda", "2/root", "xvda2/root"), ("xvda", "/root", "xvda/root"), ("xvda2", "1", "xvda2p1"), ("sda1", "", "sda1")],
)  # fmt: skip
def test_a_volume_is_called_as_its_guest_calls_it(vdev: str, name: str, called: str) -> None:
    assert volume_name(vdev, name) == called


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1 << 20, "1.0 MiB"), (3 << 39, "1.5 TiB")]
)
def test_sizes_are_told_with_a_unit(size: int, text: str) -> None:
    assert size_text(size) == text


def test_a_time_that_no_calendar_has_is_none() -> None:
    odd = Inside(
        Disk(GIB, "none", (Volume("", 0, GIB, "ext4", replace(EXT4, written_s=1 << 39)),)),
        block=True,
        changed_s=None,
    )
    use = use_facts(GUESTS[:1], {PATHS[1]: odd}, {}, now_s=NOW_S)[0]["disks"][0]["volumes"][0]["use"]

    assert use["age_s"] is None


# ---------------------------------------------------------------- what is remembered


def series(*samples: tuple[int, int], size: int = GIB) -> Series:
    return Series("u", "xvda1", size, samples)


def test_the_history_keeps_a_sample_every_six_hours_for_two_weeks() -> None:
    history: disk_history.History = {}
    for hour in range(24 * 30):
        time_s = hour * 3600
        history = advanced(history, [series((time_s, hour))], time_s=time_s)

    kept = history["u", "xvda1"].samples
    assert len(kept) == KEPT_S // APART_S
    assert {later[0] - earlier[0] for earlier, later in pairwise(kept)} == {APART_S}


def test_what_is_not_seen_is_kept_until_it_is_old_and_what_was_resized_begins_anew() -> None:
    history = advanced({}, [series((0, 1))], time_s=0)

    assert advanced(history, [], time_s=KEPT_S - 1) == history
    assert advanced(history, [], time_s=KEPT_S) == {}
    grown = advanced(history, [series((APART_S, 2), size=2 * GIB)], time_s=APART_S)
    assert grown["u", "xvda1"] == series((APART_S, 2), size=2 * GIB)
    # Somebody put the clock back.
    assert advanced(history, [series((-5, 3))], time_s=-5)["u", "xvda1"].samples == ((-5, 3),)


@pytest.mark.parametrize(
    ("used_by_day", "available", "days"),
    [
        ([0, 10, 20, 30], 100, 10),
        ([0, 10, 20, 30], 0, 0),
        ([30, 20, 10, 0], 100, None),
        ([5, 5, 5, 5], 100, None),
        ([0, 10, 20], 100, None),
        ([0, 10, 20, 30], 10 * 366, None),
        ([0, 10, 500, 30, 40, 50, 60], 100, 10),  # a backup came and went
    ],
)
def test_a_trend_needs_days_and_growth(used_by_day: list[int], available: int, days: int | None) -> None:
    samples = tuple((day * DAY_S, used) for day, used in enumerate(used_by_day))

    assert days_to_full(series(*samples), available) == days


def test_what_was_seen_comes_back_and_what_is_damaged_does_not(tmp_path: Path) -> None:
    history = advanced({}, samples(GUESTS, FOUND, now_s=NOW_S), time_s=NOW_S)
    looked = Looked(NOW_S, 12, filled(GUESTS, FOUND, history), unread=1)
    disk_history.save(tmp_path / "history", history)
    disk_record.save(tmp_path / "disks", looked)

    assert sorted(history) == sorted([(UUID, "xvda1"), (UUID, "xvda3"), ("u2", "xvda1")])
    assert disk_history.load(tmp_path / "history") == history
    assert disk_record.load(tmp_path / "disks", now_s=NOW_S) == looked
    assert disk_record.load(tmp_path / "disks", now_s=NOW_S + DAY_S) is None
    for path in (tmp_path / "history", tmp_path / "disks"):
        path.write_text("{", encoding="utf-8")
    assert disk_history.load(tmp_path / "history") == {}
    assert disk_record.load(tmp_path / "disks", now_s=NOW_S) is None


# ---------------------------------------------------------------- notes and metrics

LOOKED = Looked(NOW_S, 12, filled(GUESTS, FOUND, HISTORY), unread=1)


def notes(percent: int, looked: Looked | None = LOOKED) -> list[tuple[str, str, str]]:
    base = situation({"git": {"host": {"disks": {"warnAt": f"{percent}%"}}, "vm01": {}}})
    seen = replace(base, looked=looked)
    return [(note.address, note.reason, note.message) for note in inside_notes(seen)]


def test_a_file_system_over_warn_at_is_told_in_plan_and_status() -> None:
    assert notes(94) == []
    assert notes(90, None) == []
    assert notes(90) == [
        (
            "domu.vm01",
            "disk_full",
            "xvda1 (ext4): 93% of its inodes are used (70 left); disks.warnAt is 90%",
        )
    ]
    assert notes(80)[0][2] == (
        "xvda1 (ext4): 85% full (768.0 MiB of 5.0 GiB left, full in 6 days if it goes on so); "
        "93% of its inodes are used (70 left); disks.warnAt is 80%"
    )


def test_metrics_carry_the_same() -> None:
    text = disk_metrics_text(LOOKED, warn_percent=90)
    lines = [line for line in text.splitlines() if not line.startswith("#")]

    assert lines[:3] == [
        f'domgit_disk_size_bytes{{domu="vm01",volume="xvda1",kind="ext4"}} {5 * GIB}',
        f'domgit_disk_size_bytes{{domu="vm01",volume="xvda3",kind="btrfs"}} {10 * GIB}',
        f'domgit_disk_size_bytes{{domu="vm02",volume="xvda1",kind="ext4"}} {5 * GIB}',
    ]
    assert 'domgit_disk_over_warn_at{domu="vm01",volume="xvda1",kind="ext4"} 1' in lines
    assert 'domgit_disk_over_warn_at{domu="vm01",volume="xvda3",kind="btrfs"} 0' in lines
    assert 'domgit_disk_full_in_days{domu="vm01",volume="xvda1",kind="ext4"} 6' in lines
    assert not any("inodes" in line and "btrfs" in line for line in lines)
    assert lines[-3:] == [
        "domgit_disks_unread 1",
        "domgit_disks_look_milliseconds 12",
        f"domgit_disks_read_timestamp_seconds {NOW_S}",
    ]
    assert text.count("# TYPE ") == text.count("# HELP ") == 10
