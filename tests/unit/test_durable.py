"""Files that are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.durable import remove, sync_folder, write_whole


def test_a_file_gets_its_text_and_exactly_the_mode_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    before = os.umask(0o077)
    try:
        write_whole(path, "text\n", mode=0o755)
    finally:
        os.umask(before)

    assert path.read_text() == "text\n"
    assert path.stat().st_mode & 0o7777 == 0o755


def test_a_replaced_file_is_a_new_one_and_the_old_one_stays_whole_for_who_has_it_open(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, "old")
    with path.open() as reader:
        write_whole(path, "new")

        assert reader.read() == "old"
    assert path.read_text() == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_bytes_of_another_encoding_survive_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "file"
    text = b"caf\xe9\n".decode("utf-8", "surrogateescape")

    write_whole(path, text)

    assert path.read_bytes() == b"caf\xe9\n"


def test_a_symbolic_link_is_replaced_and_never_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    path = tmp_path / "file"
    path.symlink_to(victim)

    write_whole(path, "text")

    assert victim.read_text() == "untouched"
    assert not path.is_symlink()


def test_a_link_in_the_place_of_the_temporary_file_is_refused(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / ".file.domgit-new").symlink_to(victim)

    with pytest.raises(OSError, match="symbolic link"):
        write_whole(tmp_path / "file", "text")

    assert victim.read_text() == "untouched"


def test_what_cannot_be_replaced_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "inside").touch()

    with pytest.raises(OSError, match="directory"):
        write_whole(path, "text")

    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


def test_what_a_killed_writer_left_behind_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / ".file.domgit-new").write_text("half of somethi")

    write_whole(tmp_path / "file", "text")

    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("file", "text")]


def test_removing_what_is_gone_already_is_fine(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    remove(tmp_path / "file")
    remove(tmp_path / "file")
    remove(tmp_path / "no" / "folder" / "file")

    assert list(tmp_path.iterdir()) == []


def test_only_a_folder_can_be_synced(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    sync_folder(tmp_path)
    with pytest.raises(NotADirectoryError):
        sync_folder(tmp_path / "file")
