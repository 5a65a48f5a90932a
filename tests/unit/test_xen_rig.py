"""What the rig for real Xen makes before any machine runs: the guests' archive and kernel, and the count of a run."""

from __future__ import annotations

import lzma
import stat
import struct
from pathlib import Path

import pytest

from tests.xen.__main__ import NO_TEST, Count, counted
from tests.xen.archive import PAYLOAD, SECTOR, SETUP_SECTS, archive, link, regular, uncompressed
from tests.xen.carried import needed
from tests.xen.image import digest

HEAD = 110  # bytes of an entry before its name
REPORT = '<testsuites><testsuite tests="7" failures="1" errors="1" skipped="2">{}</testsuite></testsuites>'


def entries(data: bytes) -> list[tuple[str, int, bytes]]:
    """What the kernel's own reader would find: names, modes and contents, in order, up to the trailer."""
    found: list[tuple[str, int, bytes]] = []
    at = 0
    while True:
        fields = [int(data[at + 6 + 8 * index : at + 14 + 8 * index], 16) for index in range(13)]
        assert data[at : at + 6] == b"070701"
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[at + HEAD : at + HEAD + name_size - 1].decode()
        at += HEAD + name_size + -(HEAD + name_size) % 4
        if name == "TRAILER!!!":
            return found
        found.append((name, mode, data[at : at + size]))
        at += size + -size % 4


def test_an_archive_has_folders_before_what_is_in_them(tmp_path: Path) -> None:
    script = tmp_path / "init"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)

    found = entries(
        archive({"init": regular(script), "bin/sh": link("busybox"), "a/b/c": (0o100644, b"12345")})
    )

    assert [name for name, _, _ in found] == ["a", "a/b", "bin", "init", "bin/sh", "a/b/c"]
    assert [stat.S_IFMT(mode) for _, mode, _ in found[:3]] == [stat.S_IFDIR] * 3
    assert found[3:] == [
        ("init", stat.S_IFREG | 0o755, b"#!/bin/sh\n"),
        ("bin/sh", stat.S_IFLNK | 0o777, b"busybox"),
        ("a/b/c", stat.S_IFREG | 0o644, b"12345"),
    ]


def test_the_elf_file_of_a_kernel_is_what_its_header_points_to() -> None:
    elf = b"\x7fELF" + bytes(range(256)) * 100
    payload = lzma.compress(elf) + struct.pack("<I", len(elf))
    setup = bytearray(3 * SECTOR)
    setup[SETUP_SECTS] = 2
    struct.pack_into("<II", setup, PAYLOAD, 16, len(payload))

    assert uncompressed(bytes(setup) + bytes(16) + payload + b"more") == elf


@pytest.mark.parametrize(
    ("inside", "code", "expected"),
    [
        ("", 1, Count(3, 2, 2)),
        ('<properties><property name="flake" value="x"/></properties>', 1, Count(3, 2, 2, 1)),
    ],
)
def test_what_pytest_wrote_down_is_counted(tmp_path: Path, inside: str, code: int, expected: Count) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT.format(inside))

    assert counted(report, code) == expected


@pytest.mark.parametrize(
    ("code", "expected"), [(0, Count()), (NO_TEST, Count()), (255, Count(failed=1)), (2, Count(failed=1))]
)
def test_a_run_without_a_report_is_a_failure_unless_there_was_nothing_to_run(
    tmp_path: Path, code: int, expected: Count
) -> None:
    assert counted(tmp_path / "none.xml", code) == expected


def test_what_pytest_needs_is_found_whole() -> None:
    assert {"pytest", "pluggy", "iniconfig", "packaging"} <= set(needed(("pytest",)))
    assert "pydantic-core" in {name.replace("_", "-") for name in needed(("domgit",))}


def test_the_image_has_one_name_for_one_content() -> None:
    assert digest() == digest()
    assert len(digest()) == 16
