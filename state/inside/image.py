"""The bytes of one disk, read within bounds: what a guest wrote there decides where is read next, so that has an end."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass

# Alignment that O_DIRECT wants at most: of sectors of 512 bytes and of 4,096.
_PAGE_BYTES = 4096
_KEPT_PAGES = 256
# The group descriptors of 16 TiB of ext4 in blocks of 4 KiB are 8 MiB, those of 4 TiB in blocks of 1 KiB 32.
BYTES_LIMIT = 64 * 1024 * 1024
READS_LIMIT = 200_000
_PIECE_BYTES = 1024 * 1024


class SpoiltError(Exception):
    """What is there is not what it says it is, or does not end; the message says what."""


class Image:
    """One disk, by a descriptor that was opened for reading.

    Args:
        descriptor: of a file or a block device.
        size: in bytes.
        direct: the descriptor was opened with O_DIRECT. A block device that blkback keeps open is read so: dom0's page
            cache has what it has once read there, and is not told what the guest has written since.
    """

    def __init__(self, descriptor: int, size: int, *, direct: bool) -> None:
        self._descriptor, self.size, self._direct = descriptor, size, direct
        self._pages: dict[int, bytes] = {}
        self._left_bytes, self._left_reads = BYTES_LIMIT, READS_LIMIT

    def read(self, offset: int, length: int) -> bytes:
        """So many bytes from there.

        Raises:
            SpoiltError: the disk ends before, it cannot be read there, or too much was read of it already.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise SpoiltError("it points behind the end of the disk")
        self._left_reads -= 1  # what is kept costs time, too
        if self._left_reads < 0:
            raise SpoiltError("there is more to read than any such file system needs")
        first = offset - offset % _PAGE_BYTES
        if offset + length <= first + _PAGE_BYTES:
            page = self._pages.get(first)
            if page is None:
                if len(self._pages) == _KEPT_PAGES:
                    self._pages.pop(next(iter(self._pages)))
                page = self._pages[first] = self._read(first, min(_PAGE_BYTES, self.size - first))
            return page[offset - first : offset - first + length]
        pieces = []
        at, end = first, offset + length
        while at < end:
            piece = min(_PIECE_BYTES, end - at)
            # Whole pages, as O_DIRECT wants them, or what is left of the disk.
            pieces.append(self._read(at, min(piece + -piece % _PAGE_BYTES, self.size - at)))
            at += len(pieces[-1])
        return b"".join(pieces)[offset - first : end - first]

    def _read(self, offset: int, length: int) -> bytes:
        self._left_bytes -= length
        if self._left_bytes < 0:
            raise SpoiltError("there is more to read than any such file system needs")
        try:
            data = self._pread(offset, length)
        except OSError as exc:
            raise SpoiltError(f"it cannot be read: {exc.strerror}") from exc
        if len(data) != length:
            raise SpoiltError("the disk ends before its end")  # somebody cuts it while we look
        return data

    def _pread(self, offset: int, length: int) -> bytes:
        if not self._direct:
            return os.pread(self._descriptor, length, offset)
        # Anonymous memory begins at a page.
        with mmap.mmap(-1, length + -length % _PAGE_BYTES) as buffer:
            found = os.preadv(self._descriptor, [buffer], offset)
            return buffer[: min(found, length)]


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a disk, or several of them one behind the other: (start, size) each, in bytes."""

    image: Image
    pieces: tuple[tuple[int, int], ...]

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(size for _, size in self.pieces)

    @property
    def start(self) -> int:
        """Where on the disk it begins."""
        return self.pieces[0][0]

    def part(self, start: int, size: int) -> Window:
        """A part of it, by offsets in it.

        Raises:
            SpoiltError: it ends before.
        """
        return self.parts([(start, size)])

    def parts(self, wanted: Sequence[tuple[int, int]]) -> Window:
        """Parts of it, one behind the other.

        Raises:
            SpoiltError: it ends before.
        """
        return Window(
            self.image, tuple(piece for start, size in wanted for piece in self._within(start, size))
        )

    def read(self, offset: int, length: int) -> bytes:
        """So many bytes from there.

        Raises:
            SpoiltError: it ends before, it cannot be read there, or too much was read already.
        """
        return b"".join(self.image.read(start, size) for start, size in self._within(offset, length))

    def has(self, offset: int, magic: bytes) -> bool:
        """Whether these bytes stand there; no where it ends before."""
        return offset + len(magic) <= self.size and self.read(offset, len(magic)) == magic

    def _within(self, offset: int, length: int) -> list[tuple[int, int]]:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise SpoiltError("it points behind the end of its volume")
        found = []
        for start, size in self.pieces:
            if length and offset < size:
                found.append((start + offset, min(size - offset, length)))
                length -= found[-1][1]
                offset = size
            offset -= size
        return found


def whole(image: Image) -> Window:
    """All of a disk."""
    return Window(image, ((0, image.size),))
