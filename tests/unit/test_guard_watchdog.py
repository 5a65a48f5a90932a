"""What takes a change of the guard back: its file, and the process that watches it. With packets: tests/end_to_end/test_gateway.py."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.execute import ApplyError
from reconciler.guard.binding import Step
from reconciler.guard_pending import STATES, Pending, PendingFile, left_behind, parse_pending
from reconciler.guard_watchdog import SCRIPT, HostWatchdog, as_unit
from state.run import Completed, HostRunner
from tests.unit.machines import Machine

PENDING = Pending(
    apply="20300101T000000-c0ffee",
    boot="b0b4d66b-492b-4e41-8978-9297cdbd5914",
    time="2030-01-01T00:00:00Z",
    needs=("172.16.39.1 on xenbr0",),
    undo=(
        Step(("nft", "-f", "-"), "list tables bridge\n"),
    ),  # real watchdogs run here, on whatever machine this is
    attempt="0123",
)


@pytest.fixture
def file(tmp_path: Path) -> PendingFile:
    written = PendingFile(tmp_path / "guard" / "a.change")
    written.write(PENDING)
    return written


def states(file: PendingFile) -> list[str]:
    return [state for state in (*STATES, "damaged") if file.at(state).exists()]


def watchdogs(file: PendingFile) -> list[int]:
    """The sessions that have the file in their leader's command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        pid = int(path.parent.name)
        try:
            if str(file.base).encode() in path.read_bytes() and os.getsid(pid) == pid:
                found.append(pid)
        except OSError:
            continue  # it has ended
    return found


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


# ---------------------------------------------------------------- the file


def test_a_file_is_what_a_shell_can_run_for_root_alone_that_says_whose_it_is(file: PendingFile) -> None:
    text = file.at("new").read_text(encoding="utf-8")

    assert parse_pending(text) == PENDING
    assert text.splitlines()[1:] == ["# run nft -f -", "list tables bridge", "# end"]
    assert all(line.startswith("#") for line in (text.splitlines()[0], text.splitlines()[-1]))
    assert file.at("new").stat().st_mode & 0o777 == 0o600
    assert file.base.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:0],
        lambda text: text[:-1],
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("list tables", "list  tables"),
        lambda text: text.replace("# domgit 2", "# domgit 1"),
        lambda text: text.replace('"boot": "b0b4', '"boot": 7, "b0b4": "'),
        lambda text: text.partition("\n")[2],
        lambda text: "[]\n" + text.partition("\n")[2],
        lambda text: text.swapcase(),
    ],
)
def test_a_file_that_is_not_as_it_was_written_is_refused(spoil: Callable[[str], str]) -> None:
    with pytest.raises(ValueError, match="not as it was written"):
        parse_pending(spoil(PENDING.text()))


@given(st.integers(min_value=0, max_value=len(PENDING.text()) - 1))
def test_no_beginning_of_a_file_is_taken_for_the_whole(length: int) -> None:
    with pytest.raises(ValueError, match="not as it was written"):
        parse_pending(PENDING.text()[:length])


def test_either_a_change_is_confirmed_or_its_watchdog_takes_it_back(file: PendingFile) -> None:
    assert not file.disarm()
    file.at("new").rename(file.at("armed"))

    assert file.disarm()
    assert not file.disarm()
    file.write(PENDING)
    file.at("new").rename(file.at("reverting"))
    assert not file.disarm()
    assert states(file) == ["reverting"]
    assert parse_pending(file.read()) == PENDING


def test_what_cannot_be_used_is_kept_for_a_human(file: PendingFile) -> None:
    file.at("new").rename(file.at("armed"))

    assert file.set_aside() == file.at("damaged")
    assert states(file) == ["damaged"]
    assert file.read() == ""
    assert [*left_behind(file.base.parent)] == []


def test_what_is_dealt_with_leaves_nothing(file: PendingFile) -> None:
    file.discard()
    file.discard()

    assert [*file.base.parent.iterdir()] == []


def test_what_was_left_behind_is_found_with_its_state_and_nothing_else(tmp_path: Path) -> None:
    for name in (
        "b.armed",
        "a.reverted",
        "c.1.new",
        ".c.new.domgit-new",
        "revert.sh",
        "reverted.json",
        "d.damaged",
    ):
        (tmp_path / name).write_text("")

    found = [(file.base.name, state) for file, state in left_behind(tmp_path)]

    assert found == [("a", "reverted"), ("b", "armed"), ("c.1", "new")]
    assert [*left_behind(tmp_path / "nowhere")] == []


# ---------------------------------------------------------------- the process


def test_a_watchdog_has_taken_charge_in_a_session_of_its_own_and_ends_when_it_is_confirmed(
    file: PendingFile,
) -> None:
    HostWatchdog(HostRunner()).start(file, 60.0)

    assert states(file) == ["armed"]
    assert len(watchdogs(file)) == 1
    assert file.disarm()
    assert within(10.0, lambda: not watchdogs(file))
    assert [path.name for path in file.base.parent.iterdir()] == [SCRIPT]


@dataclass(slots=True)
class Tools(Machine):
    """A machine on which some tools work, and no process that they start ever does anything."""

    works: set[str] = field(default_factory=set)

    def run(self, argv: Sequence[str], **_: object) -> Completed:
        self.ran.append(tuple(argv))
        return Completed(tuple(argv), 0 if self.ran[-1][0] in self.works else 1, "", "", 1, 0.0)


@pytest.mark.parametrize(
    ("works", "tried"),
    [
        ({"systemd-run"}, ["systemd-run"]),
        ({"setsid"}, ["systemd-run", "setsid"]),
        (set(), ["systemd-run", "setsid"]),
    ],
)
def test_under_systemd_it_is_a_unit_of_its_own_and_without_one_nothing_is_armed(
    file: PendingFile, tmp_path: Path, works: set[str], tried: list[str]
) -> None:
    machine = Tools(works=works)

    with pytest.raises(ApplyError, match="no watchdog starts"):
        HostWatchdog(machine, systemd=tmp_path, start_s=0.05).start(file, 25.0)

    assert [argv[0] for argv in machine.ran] == tried
    assert machine.ran[0][:-4] == as_unit("a.change")
    assert "--unit=domgit-guard-a.change" in machine.ran[0]
    program, new, deadline = machine.ran[-1][-3:]
    assert (program, new) == (str(tmp_path / "guard" / SCRIPT), str(file.at("new")))
    assert abs(float(deadline) - time.clock_gettime(time.CLOCK_BOOTTIME) - 25.0) < 20
