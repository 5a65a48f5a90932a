"""Who holds an image is found out also while a file system that others serve does not answer, such as that of a dead NFS server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packets.silent_files import DEADLINE_S

pytestmark = pytest.mark.netns


def test_a_file_system_that_does_not_answer_keeps_nobody_waiting(tmp_path: Path) -> None:
    if os.geteuid() != 0 or not Path("/dev/fuse").exists():
        pytest.skip("needs root and FUSE: mounts a file system that falls silent")
    folder, image = tmp_path / "served", tmp_path / "a.img"
    folder.mkdir()
    image.touch()

    with image.open() as held:
        done = subprocess.run(
            [sys.executable, "-m", "tests.packets.silent_files", folder, image],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
            timeout=2 * DEADLINE_S,
        )
        assert not held.closed

    assert f"process {os.getpid()} (" in done.stdout
