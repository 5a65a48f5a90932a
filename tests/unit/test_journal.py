"""The journal: durable before anything is done, and honest about its own damage."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.journal import Journal, JournalError

# More than is looked at in one go at the end of the file.
HUGE = "x" * 200_000


def journal(folder: Path, *records: Any) -> Journal:
    made = Journal(folder / "state" / "journal")
    for record in records:
        made.append(record)
    return made


def damage(found: Journal, old: bytes, new: bytes) -> None:
    data = found.path.read_bytes()
    assert old in data
    found.path.write_bytes(data.replace(old, new, 1))


def test_records_come_back_in_the_order_they_were_written(tmp_path: Path) -> None:
    found = journal(tmp_path, {"type": "plan", "n": 1}, {"type": "end", "n": 2, "text": "ä\n"})

    assert list(found.records()) == [{"type": "plan", "n": 1}, {"type": "end", "n": 2, "text": "ä\n"}]
    assert found.path.stat().st_mode & 0o777 == 0o600


def test_a_journal_that_is_not_there_has_no_records(tmp_path: Path) -> None:
    assert list(Journal(tmp_path / "journal").records()) == []


@pytest.mark.parametrize("torn", [b"", b"x", b"0" * 70, HUGE.encode(), b'abc def {"n": 3}'])
def test_a_torn_last_line_is_left_out_and_cut_off_by_the_next_writer(tmp_path: Path, torn: bytes) -> None:
    found = journal(tmp_path, {"n": 1}, {"n": 2})
    with found.path.open("ab") as file:
        file.write(torn)

    assert list(found.records()) == [{"n": 1}, {"n": 2}]
    found.append({"n": 3})
    assert list(found.records()) == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert torn == b"" or torn not in found.path.read_bytes()


def test_a_file_of_one_torn_line_starts_anew(tmp_path: Path) -> None:
    found = journal(tmp_path, {"n": 1})
    found.path.write_bytes(found.path.read_bytes()[:-1])

    assert list(found.records()) == []
    found.append({"n": 2})
    assert list(found.records()) == [{"n": 2}]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [(b'"n":1', b'"n":7', 1), (b'"n":2', b'"n":7', 2), (b'"n":2', b'"n":}', 2), (b'"n":2', b"\xff\xfe", 2)],
)
def test_a_changed_record_is_found_and_named_by_its_line(
    tmp_path: Path, old: bytes, new: bytes, line: int
) -> None:
    found = journal(tmp_path, {"n": 1}, {"n": 2}, {"n": 3})
    damage(found, old, new)

    with pytest.raises(JournalError, match=rf"journal:{line}: the record does not follow"):
        list(found.records())


def test_a_record_that_was_taken_out_is_missed(tmp_path: Path) -> None:
    found = journal(tmp_path, {"n": 1}, {"n": 2}, {"n": 3})
    first, _, third = found.path.read_bytes().splitlines(keepends=True)
    found.path.write_bytes(first + third)

    with pytest.raises(JournalError, match=":2:"):
        list(found.records())


def test_nothing_is_written_behind_a_damaged_end_and_nothing_is_cut_off(tmp_path: Path) -> None:
    found = journal(tmp_path, {"n": 1}, {"n": 2})
    damage(found, b'"n":2', b'"n":7')
    before = found.path.read_bytes()

    with pytest.raises(JournalError, match="move it aside"):
        found.append({"n": 3})

    assert found.path.read_bytes() == before


def test_damage_in_the_middle_stops_readers_but_not_the_next_record(tmp_path: Path) -> None:
    found = journal(tmp_path, {"n": 1}, {"n": 2})
    damage(found, b'"n":1', b'"n":7')

    found.append({"n": 3})

    with pytest.raises(JournalError, match=":1:"):
        list(found.records())
    assert b'"n":3' in found.path.read_bytes()


def test_a_record_longer_than_any_window_is_found_again(tmp_path: Path) -> None:
    found = journal(tmp_path, {"n": 1}, {"n": 2, "text": HUGE}, {"n": 3}, {"n": 4, "text": HUGE})

    found.append({"n": 5})

    assert [record["n"] for record in found.records()] == [1, 2, 3, 4, 5]


def test_a_huge_torn_line_behind_a_huge_record_is_cut_off(tmp_path: Path) -> None:
    found = journal(tmp_path, {"n": 1, "text": HUGE})
    with found.path.open("ab") as file:
        file.write(HUGE.encode())

    found.append({"n": 2})

    assert [record["n"] for record in found.records()] == [1, 2]


def test_a_journal_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    found = Journal(tmp_path)

    with pytest.raises(IsADirectoryError):
        found.append({"n": 1})


def test_two_writers_in_turn_continue_each_others_chain(tmp_path: Path) -> None:
    one, other = Journal(tmp_path / "journal"), Journal(tmp_path / "journal")

    for number in range(6):
        (one if number % 2 else other).append({"n": number})

    assert [record["n"] for record in one.records()] == [0, 1, 2, 3, 4, 5]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Journal:
    return journal(tmp_path_factory.mktemp("journal"), *({"n": number, "t": "x" * 50} for number in range(5)))


@settings(max_examples=50)
@given(data=st.data())
def test_power_lost_at_any_byte_loses_at_most_the_record_being_written(
    written: Journal, data: st.DataObject
) -> None:
    whole = written.path.read_bytes()
    cut = whole[: data.draw(st.integers(min_value=0, max_value=len(whole)))]
    torn = Journal(written.path.with_name("torn"))
    torn.path.write_bytes(cut)

    torn.append({"n": 9})

    assert [record["n"] for record in torn.records()] == [*range(cut.count(b"\n")), 9]


def test_records_of_writers_that_do_not_wait_for_each_other_are_all_there(tmp_path: Path) -> None:
    """A pass has its lock; a human who opens a vif meanwhile has not."""
    journal = Journal(tmp_path / "journal")

    def write(writer: int) -> None:
        for number in range(25):
            journal.append({"writer": writer, "number": number})

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = [(record["writer"], record["number"]) for record in journal.records()]
    assert sorted(found) == [(writer, number) for writer in range(4) for number in range(25)]
