"""The hands: one step at a time, and what each command answered."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler import ledger
from reconciler.execute import ApplyError, Hands, HostDisk
from reconciler.ledger import Owned
from reconciler.step import CreateImage, Remember, RemoveFile, Run, Step, StopDomain, WriteFile, commands
from tests.unit.machines import Guest, Machine

VM01, VM02 = "e608ed38-c1b9-532e-a769-0156b41e19e1", "d8eac4cc-8e11-58b9-9e67-207d9472a37d"


def hands(machine: Machine | None = None, ledger_path: Path | None = None) -> Hands:
    found = machine or Machine()
    disk = HostDisk(lambda text: text.replace("@secret@", "s3cret"))
    return Hands(found, disk, ledger_path, {}, found.sleep, found.monotonic)


def test_a_command_that_fails_is_refused_with_what_it_said() -> None:
    machine = Machine(fails={("ip", "link")})

    with pytest.raises(ApplyError, match="ip link: exit status 1: libxl: error: it says no"):
        hands(machine).execute(Run(("ip", "link")))


def test_a_command_that_cannot_be_run_is_refused() -> None:
    with pytest.raises(ApplyError, match="no answer within"):
        hands(Machine(down=True)).execute(Run(("ip", "link")))


def test_what_a_command_answered_is_handed_back() -> None:
    machine = Machine(answers={("nft", "-f", "-"): "text"})

    (completed,) = hands(machine).execute(Run(("nft", "-f", "-"), stdin="add table"))

    assert (completed.argv, completed.rc, completed.stdout) == (("nft", "-f", "-"), 0, "text")


def test_a_file_is_written_with_its_secret_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "vm01.cfg"

    hands().execute(WriteFile(str(path), "passwd=@secret@", 0o600))
    assert path.read_text() == "passwd=s3cret"
    assert path.stat().st_mode & 0o777 == 0o600

    hands().execute(RemoveFile(str(path)))
    hands().execute(RemoveFile(str(path)))
    assert not path.exists()


def test_a_file_that_cannot_be_written_is_refused_without_its_text(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ApplyError, match="domgit:write") as refused:
        hands().execute(WriteFile(str(tmp_path / "file" / "below"), "@secret@"))

    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("sparse", [True, False])
def test_a_new_image_has_its_size_and_is_in_the_ledger_before_it_has_a_name(
    tmp_path: Path, sparse: bool
) -> None:
    path, records = tmp_path / "vm01.img", tmp_path / "ledger.json"
    mine = hands(ledger_path=records)

    mine.execute(CreateImage(VM01, str(path), 1 << 20, sparse))

    found = path.stat()
    assert found.st_size == 1 << 20
    assert (found.st_blocks == 0) is sparse
    assert found.st_mode & 0o777 == 0o600
    assert (
        ledger.load(records)
        == {VM01: Owned("", {str(path): f"{found.st_dev}:{found.st_ino}"})}
        == mine.ledger
    )


def test_an_image_that_is_there_is_never_touched(tmp_path: Path) -> None:
    path = tmp_path / "vm01.img"
    path.write_text("precious")
    mine = hands()

    with pytest.raises(ApplyError, match="File exists"):
        mine.execute(CreateImage(VM01, str(path), 1 << 20, sparse=True))

    assert path.read_text() == "precious"
    assert mine.ledger[VM01].disks[str(path)].startswith("making ")


def test_a_link_in_the_place_of_an_image_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "vm01.img").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ApplyError, match="File exists"):
        hands().execute(CreateImage(VM01, str(tmp_path / "vm01.img"), 1, sparse=True))

    assert not (tmp_path / "elsewhere").exists()


def test_an_image_is_never_put_into_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ApplyError, match="domgit:create-image"):
        hands().execute(CreateImage(VM01, str(tmp_path / "no" / "vm01.img"), 1, sparse=True))

    assert os.listdir(tmp_path) == []  # noqa: PTH208  # names, not paths


def test_a_fact_is_on_disk_before_anything_goes_on(tmp_path: Path) -> None:
    hands(ledger_path=tmp_path / "ledger.json").execute(Remember(VM01, "owned", "vm01"))

    assert ledger.load(tmp_path / "ledger.json") == {VM01: Owned("vm01")}


# ---------------------------------------------------------------- stopping


def stop(machine: Machine, domid: int | None = 5) -> list[tuple[str, ...]]:
    done = hands(machine).execute(StopDomain(VM01, domid, grace_s=30.0))
    return [each.argv for each in done]


def test_a_guest_that_obeys_is_asked_and_then_taken_away() -> None:
    machine = Machine([Guest(VM01, 5), Guest(VM02, 6)])

    assert stop(machine) == [("xl", "shutdown", "5"), ("xl", "destroy", "5")]
    assert [guest.domid for guest in machine.guests] == [6]
    assert machine.now < 2


def test_a_guest_that_ignores_it_is_destroyed_when_its_time_is_over() -> None:
    machine = Machine([Guest(VM01, 5, obeys=None)])

    assert stop(machine) == [("xl", "shutdown", "5"), ("xl", "destroy", "5")]
    assert 30 <= machine.now < 31


def test_a_guest_whose_monitor_takes_it_away_is_not_destroyed_once_more() -> None:
    machine = Machine([Guest(VM01, 5, monitor="gone")])

    assert stop(machine) == [("xl", "shutdown", "5")]
    assert machine.guests == []


def test_a_guest_that_reboots_instead_is_destroyed_once_it_is_back() -> None:
    machine = Machine([Guest(VM01, 5, monitor="reborn")])

    assert stop(machine) == [("xl", "shutdown", "5"), ("xl", "destroy", "15")]
    assert machine.guests == []


def test_a_destroy_that_only_says_so_is_not_believed() -> None:
    machine = Machine([Guest(VM01, 5, survives=True)])

    with pytest.raises(ApplyError, match="domain 5 is still there after xl destroy"):
        stop(machine)


def test_a_guest_that_is_gone_already_is_fine() -> None:
    assert stop(Machine([Guest(VM02, 5)])) == []


def test_a_guest_that_has_another_domid_now_is_not_touched() -> None:
    machine = Machine([Guest(VM01, 7)])

    with pytest.raises(ApplyError, match=f"{VM01} is domain 7 now, planned against 5"):
        stop(machine)

    assert machine.ran == [("xl", "vm-list"), ("xl", "list")]


def test_a_domain_that_cannot_die_is_not_taken_for_the_one_that_came_after_it() -> None:
    machine = Machine([Guest(VM01, 3, state="--p--d"), Guest(VM01, 5)])

    assert stop(machine) == [("xl", "shutdown", "5"), ("xl", "destroy", "5")]
    assert [guest.domid for guest in machine.guests] == [3]


def test_an_undone_creation_stops_whatever_domid_it_got() -> None:
    machine = Machine([Guest(VM01, 9)])

    assert stop(machine, domid=None) == [("xl", "shutdown", "9"), ("xl", "destroy", "9")]


def test_a_shutdown_that_cannot_even_be_asked_for_ends_in_a_destroy_all_the_same() -> None:
    machine = Machine([Guest(VM01, 5)], fails={("xl", "shutdown", "5")})

    assert stop(machine)[-1] == ("xl", "destroy", "5")
    assert machine.guests == []


def test_a_destroy_that_fails_is_refused() -> None:
    machine = Machine([Guest(VM01, 5)], fails={("xl", "destroy", "5")})

    with pytest.raises(ApplyError, match="xl destroy 5: exit status 1"):
        stop(machine)


# ---------------------------------------------------------------- steps as text


@pytest.mark.parametrize(
    ("step", "shown"),
    [
        (Run(("xl", "list")), [("xl", "list")]),
        (RemoveFile("/a"), [("domgit:remove", "/a")]),
        (CreateImage("u", "/a", 7, sparse=False), [("domgit:create-image", "/a", "7", "allocated")]),
        (CreateImage("u", "/a", 7, sparse=True), [("domgit:create-image", "/a", "7", "sparse")]),
        (
            StopDomain("u", 4, 1.5),
            [("xl", "shutdown", "4"), ("domgit:after", "1.5s", "xl", "destroy", "4")],
        ),
        (Remember("u", "owned", "vm01"), [("domgit:remember", "u", "owned", "vm01")]),
    ],
)
def test_every_step_can_be_shown_as_commands(step: Step, shown: list[tuple[str, ...]]) -> None:
    assert list(commands(step)) == shown


def test_a_written_text_is_shown_by_its_digest_alone() -> None:
    (shown,) = commands(WriteFile("/a", "secret text", 0o600))

    assert shown[:3] == ("domgit:write", "/a", "0600")
    assert shown[3].startswith("sha256:")
    assert "secret" not in " ".join(shown)
