"""A disk in memory: some pages, and zeros between them, of any size."""

from __future__ import annotations

import errno
from collections.abc import Mapping

from state.inside.image import Image
from tests.disks.kept import PAGE


class Pages(Image):
    """A disk of pages by their place; reading one of `broken` fails as a broken sector does."""

    def __init__(self, size: int, pages: Mapping[int, bytes], broken: frozenset[int] = frozenset()) -> None:
        super().__init__(-1, size, direct=False)
        self._content, self._broken = pages, broken
        self.read_bytes = 0

    def _pread(self, offset: int, length: int) -> bytes:
        self.read_bytes += length
        found = []
        for at in range(offset, offset + length, PAGE):
            if at in self._broken:
                raise OSError(errno.EIO, "Input/output error")
            found.append(self._content.get(at, b"").ljust(PAGE, b"\0"))
        return b"".join(found)[:length]
