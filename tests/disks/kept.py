"""Disks as they are kept in tests/cases/disks: the pages that are read of them, and what other tools said of them.

`python -m tests.disks.kept [NAME...]`, as root, with xfsprogs, btrfs-progs, fdisk and lvm2, makes them anew.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from state.inside.disk import read_disk
from state.inside.image import Image
from tests.disks.layouts import LAYOUTS, Made
from tests.disks.tools import Told, image_of

CASES = Path(__file__).resolve().parents[1] / "cases" / "disks"
PAGE = 4096


class Recorded(Image):
    """A disk that remembers what was read of it."""

    def __init__(self, descriptor: int, size: int) -> None:
        super().__init__(descriptor, size, direct=False)
        self.pages: dict[int, bytes] = {}

    def _pread(self, offset: int, length: int) -> bytes:
        data = super()._pread(offset, length)
        for at in range(0, length, PAGE):
            self.pages[offset + at] = data[at : at + PAGE]
        return data


def keep(name: str, folder: Path) -> None:
    """Makes a layout, and keeps what is read of it and what is told of it."""
    path = folder / name
    told = LAYOUTS[name](path)
    with image_of(path) as image:
        recorded = Recorded(image._descriptor, image.size)
        read_disk(recorded)
    pages = {
        str(at): base64.b85encode(zlib.compress(data, 9)).decode()
        for at, data in sorted(recorded.pages.items())
        if any(data)
    }
    shown = {
        "size": image.size,
        "told": {volume: asdict(each) for volume, each in told.items()},
        "pages": pages,
    }
    (CASES / f"{name}.json").write_text(json.dumps(shown, indent=1) + "\n", encoding="utf-8")
    path.unlink()


def names() -> list[str]:
    """All that are kept."""
    return sorted(path.stem for path in CASES.glob("*.json"))


def kept(name: str, path: Path) -> Made:
    """Puts a kept disk at a path, and gives what was told of it."""
    shown = json.loads((CASES / f"{name}.json").read_text(encoding="utf-8"))
    with path.open("wb") as disk:
        os.truncate(path, shown["size"])
        for at, data in pages(shown).items():
            disk.seek(at)
            disk.write(data)
    return {volume: Told(**each) for volume, each in shown["told"].items()}


def pages(shown: Mapping[str, Mapping[str, str]]) -> dict[int, bytes]:
    """The pages of a kept disk by their place."""
    return {int(at): zlib.decompress(base64.b85decode(text)) for at, text in shown["pages"].items()}


def main() -> None:
    """Make those that are named, or all."""
    CASES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or LAYOUTS:
            keep(name, Path(folder))
            print(name)


if __name__ == "__main__":
    main()
