"""What lies in dom0's file system, read from a folder that stands for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from state.files import TEXT_LIMIT_BYTES, HostFiles, digest
from state.run import ReadError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


def put(root: Path, path: str, text: str = "") -> Path:
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    return target


def at(root: Path) -> HostFiles:
    return HostFiles(str(root))


def test_a_text_is_read_and_one_that_is_not_there_is_none(root: Path) -> None:
    put(root, "/etc/xen/vm01.cfg", "memory = 1\n")

    assert at(root).read_text("/etc/xen/vm01.cfg") == "memory = 1\n"
    assert at(root).read_text("/etc/xen/vm02.cfg") is None
    assert at(root).read_text("/etc/xen/vm01.cfg/below") is None


def test_a_text_of_another_encoding_differs_and_stops_nothing(root: Path) -> None:
    put(root, "/a").write_bytes(b"caf\xe9")

    assert at(root).read_text("/a") == "caf\udce9"
    assert digest("text") != digest("other")
    assert digest(None) == ""


def test_a_folder_or_a_giant_in_the_place_of_a_text_is_a_read_error(root: Path) -> None:
    put(root, "/giant", "x" * (TEXT_LIMIT_BYTES + 1))

    with pytest.raises(ReadError, match="/giant: larger than"):
        at(root).read_text("/giant")
    with pytest.raises(ReadError, match="/: Is a directory"):
        at(root).read_text("/")


def test_a_file_is_known_by_device_and_inode_through_every_link(root: Path) -> None:
    image = put(root, "/srv/vm01.img", "12345")
    (root / "link").symlink_to(image)

    found = at(root).stat("/srv/vm01.img")

    assert found is not None
    assert (found.kind, found.size_bytes) == ("file", 5)
    assert found.identity == f"{image.stat().st_dev}:{image.stat().st_ino}"
    assert at(root).stat("/link") == found


def test_what_is_not_there_is_none_and_what_is_no_disk_is_other(root: Path) -> None:
    put(root, "/file")

    assert at(root).stat("/none") is None
    assert at(root).stat("/file/below") is None
    folder = at(root).stat("/")
    assert folder is not None
    assert folder.kind == "other"


def test_an_error_is_not_the_same_as_absent(root: Path) -> None:
    (root / "loop").symlink_to("loop")

    for ask in (at(root).stat, at(root).read_text):
        with pytest.raises(ReadError, match="/loop: Too many levels"):
            ask("/loop")
    with pytest.raises(ReadError, match="/loop: Too many levels"):
        at(root).names("/loop")


def test_names_are_sorted_and_none_without_a_folder(root: Path) -> None:
    for name in ("b", "a", "c"):
        put(root, f"/folder/{name}")

    assert at(root).names("/folder") == ("a", "b", "c")
    assert at(root).names("/none") == ()
    assert at(root).names("/folder/a") == ()


# ---------------------------------------------------------------- who holds an image


def process(root: Path, pid: int, *argv: str, opens: tuple[str, ...] = (), user: int = 0) -> None:
    put(root, f"/proc/{pid}/cmdline", "\0".join(argv) + "\0")
    put(root, f"/proc/{pid}/status", f"Name:\txl\nPid:\t{pid}\nUid:\t{user}\t{user}\t{user}\t{user}\n")
    folder = root / "proc" / str(pid) / "fd"
    folder.mkdir()
    for number, path in enumerate(opens):
        (folder / str(number)).symlink_to(root / path.lstrip("/"))


def test_an_image_is_held_by_the_loop_device_on_it(root: Path) -> None:
    image = put(root, "/srv/a.img")
    put(root, "/sys/block/loop0/loop/backing_file", f"{'/srv/a.img'}\n")
    put(root, "/sys/block/loop1/loop/backing_file", "/srv/gone.img\n")
    put(root, "/sys/block/sda/size", "1")

    assert at(root).holders(["/srv/a.img", "/srv/b.img"]) == {"/srv/a.img": "/dev/loop0"}
    assert image.exists()


def test_an_image_is_held_by_whoever_has_it_open_under_any_name(root: Path) -> None:
    put(root, "/srv/a.img")
    put(root, "/srv/b.img")
    os.link(root / "srv" / "a.img", root / "other")
    process(root, 812, "qemu", opens=("/other", "/srv/gone"))
    process(root, 813, "cat", opens=("/srv",))

    assert at(root).holders(["/srv/a.img", "/srv/b.img"]) == {"/srv/a.img": "process 812"}
    put(root, "/proc/812/comm", "qemu\x1b[2J\n")
    assert at(root).holders(["/srv/a.img"]) == {"/srv/a.img": "process 812 (qemu[2J)"}


def test_a_process_that_ends_while_we_look_holds_nothing(root: Path) -> None:
    put(root, "/srv/a.img")
    put(root, "/proc/9/status")
    put(root, "/proc/self/status")

    assert at(root).holders(["/srv/a.img"]) == {}
    assert list(at(root).monitors()) == []


def test_without_images_nobody_is_asked(root: Path) -> None:
    assert at(root).holders(["/srv/none.img"]) == {}


def test_an_image_that_this_machine_has_open_is_found_for_real(tmp_path: Path) -> None:
    image = tmp_path / "a.img"
    image.touch()
    script = "import sys; file = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(image)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()

        held = HostFiles().holders([str(image)])
        holder.communicate("")

    assert held == {str(image): f"process {holder.pid} ({Path(sys.executable).name})"}
    assert HostFiles().holders([str(image)]) == {}


@pytest.mark.dom0
def test_a_block_device_is_held_by_what_lies_over_it_and_over_its_partitions(root: Path) -> None:
    """The kernel's own words for it, written down: not every kernel has device-mapper, or looks for partitions."""
    for number in (8, 9, 10):
        (root / "dev").mkdir(exist_ok=True)
        (root / f"dev/vm{number:02}").symlink_to(f"/dev/loop{number}")
        put(root, f"/sys/devices/virtual/block/loop{number}/dev", f"7:{number}\n")
        (root / "sys/dev/block").mkdir(parents=True, exist_ok=True)
        (root / f"sys/dev/block/7:{number}").symlink_to(f"../../devices/virtual/block/loop{number}")
    put(root, "/sys/devices/virtual/block/loop8/holders/dm-3/dev", "254:3\n")
    put(root, "/sys/block/dm-3/dm/name", "vol--vps-rescue\n")
    put(root, "/sys/devices/virtual/block/loop9/loop9p1/dev", "259:1\n")
    put(root, "/sys/devices/virtual/block/loop9/loop9p1/partition", "1\n")
    put(root, "/proc/self/mountinfo", "36 35 259:1 / /mnt/rescue rw,noatime - ext4 /dev/loop9p1 rw\n")

    assert at(root).holders(["/dev/vm08", "/dev/vm09", "/dev/vm10"]) == {
        "/dev/vm08": "/dev/dm-3 (vol--vps-rescue)",
        "/dev/vm09": "the mount /mnt/rescue",
    }


def test_a_monitor_is_known_by_the_configuration_it_was_started_with(root: Path) -> None:
    process(root, 20, "/usr/lib/xen-4.17/bin/xl", "create", "-q", "-f", "/etc/xen/vm01.cfg")
    process(root, 21, "xl", "list")
    process(root, 22, "vi", "create", "/etc/xen/vm02.cfg")
    process(root, 23, "")
    process(root, 24, "xl", "restore", "/var/backups/vm03.save")
    process(root, 25, "xl", "migrate-receive")

    assert list(at(root).monitors()) == ["", "", "/etc/xen/vm01.cfg"]


def test_what_is_not_root_s_is_no_monitor_whatever_it_calls_itself(root: Path) -> None:
    process(root, 20, "xl", "create", "/etc/xen/vm01.cfg", user=1000)
    put(root, "/proc/21/cmdline", "xl\0create\0/etc/xen/vm02.cfg\0")  # it ends meanwhile

    assert list(at(root).monitors()) == []
