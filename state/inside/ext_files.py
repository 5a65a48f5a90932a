"""Files and folders of an ext2, ext3 or ext4 file system, read where they lie, without mounting it. Pure.

Only as much as texts in /etc need: plain files up to a limit, folders, and symbolic links, which lead nowhere but into the
same file system. What was not yet written back is not seen.

Source: the kernel's Documentation/filesystems/ext4 (6.1): inodes, ifork, directory.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from state.inside.ext import Layout
from state.inside.image import SpoiltError, Window

ROOT = 2
FILE_LIMIT_BYTES = 256 * 1024
_FOLDER_LIMIT_BYTES = 4 * 1024 * 1024
_NAMES_LIMIT = 4096
_LINKS_LIMIT, _PARTS_LIMIT, _LINK_BYTES = 16, 64, 4096
_ENCRYPTED, _EXTENTS, _INLINE = 0x800, 0x80000, 0x10000000
_BLOCKS_AT, _BLOCKS_BYTES, _DIRECT = 40, 60, 12
_EXTENT_MAGIC, _EXTENT_BYTES, _MOST_DEPTH, _LONGEST = 0xF30A, 12, 5, 32768
_ENTRY = struct.Struct("<IHBB")


@dataclass(frozen=True, slots=True)
class Inode:
    """What stands in the table of inodes of one."""

    number: int
    mode: int
    size: int
    flags: int
    place: bytes  # of its blocks, or its own content

    @property
    def is_folder(self) -> bool:
        """Whether it holds names."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        """Whether it leads elsewhere."""
        return stat.S_ISLNK(self.mode)


class Tree:
    """The files of one file system, by absolute paths."""

    def __init__(self, window: Window, layout: Layout) -> None:
        self._window, self._layout = window, layout
        self._starts: dict[int, int] = {}

    def text(self, path: str) -> str | None:
        """A file's text; None where there is none that is a plain file. Bytes that are no ASCII become question marks.

        Raises:
            SpoiltError: the file system is spoilt, or the file is larger than any that we ask for.
        """
        found = self._at(path)
        if found is None or not stat.S_ISREG(found.mode):
            return None
        return (
            self._content(found, FILE_LIMIT_BYTES)
            .decode("ascii", "replace")
            .replace("\N{REPLACEMENT CHARACTER}", "?")
        )

    def names(self, path: str) -> tuple[str, ...]:
        """The names in a folder, sorted; none where there is none.

        Raises:
            SpoiltError: the file system is spoilt.
        """
        found = self._at(path)
        if found is None or not found.is_folder:
            return ()
        return tuple(sorted(name.decode("ascii", "replace") for name, _ in self._entries(found)))

    def exists(self, path: str) -> bool:
        """Whether something is there, links followed.

        Raises:
            SpoiltError: the file system is spoilt.
        """
        return self._at(path) is not None

    def leads_to(self, path: str) -> str | None:
        """Where a symbolic link says that it leads; None where there is no link.

        Raises:
            SpoiltError: the file system is spoilt.
        """
        folder, _, name = path.rpartition("/")
        parent = self._at(folder or "/")
        found = None if parent is None or not parent.is_folder else self._in(parent, name.encode())
        if found is None or not found.is_link:
            return None
        return self._content(found, _LINK_BYTES).decode("ascii", "replace")

    def _at(self, path: str) -> Inode | None:
        """What a path leads to, links followed."""
        folders = [self._inode(ROOT)]
        rest = [part.encode() for part in reversed(path.split("/"))]
        followed = walked = 0
        while rest:
            walked += 1
            if walked > _PARTS_LIMIT:
                return None
            part = rest.pop()
            if part in {b"", b"."}:
                continue
            if part == b"..":
                folders = folders[:-1] or folders[:1]
                continue
            if not folders[-1].is_folder:
                return None
            found = self._in(folders[-1], part)
            if found is None:
                return None
            if not found.is_link:
                folders.append(found)
                continue
            followed += 1
            if followed > _LINKS_LIMIT:
                return None  # as the kernel: too many levels
            target = self._content(found, _LINK_BYTES)
            rest += reversed(target.split(b"/"))
            if target.startswith(b"/"):
                folders = folders[:1]
        return folders[-1]

    def _in(self, folder: Inode, name: bytes) -> Inode | None:
        number = next((number for each, number in self._entries(folder) if each == name), None)
        return None if number is None else self._inode(number)

    def _inode(self, number: int) -> Inode:
        layout = self._layout
        if not 0 < number <= layout.inodes:
            raise SpoiltError("a name leads to no inode")
        group, index = divmod(number - 1, layout.inodes_per_group)
        at = self._table(group) * layout.block + index * layout.inode_bytes
        raw = self._window.read(at, 128)
        mode, _, size, flags = struct.unpack_from("<HHI24xI", raw)
        high = struct.unpack_from("<I", raw, 108)[0] if stat.S_ISREG(mode) else 0
        return Inode(number, mode, size + (high << 32), flags, raw[_BLOCKS_AT : _BLOCKS_AT + _BLOCKS_BYTES])

    def _table(self, group: int) -> int:
        """The first block of a group's table of inodes."""
        if group not in self._starts:
            layout = self._layout
            index, within = divmod(group, layout.block // layout.descriptor)
            block = layout.descriptor_block(index)
            raw = self._window.read(block * layout.block + within * layout.descriptor, layout.descriptor)
            high = struct.unpack_from("<I", raw, 40)[0] if layout.wide else 0
            self._starts[group] = struct.unpack_from("<I", raw, 8)[0] + (high << 32)
        return self._starts[group]

    def _entries(self, folder: Inode) -> Iterator[tuple[bytes, int]]:
        """Names and inodes; of a folder with an index the leaves, in which all of them stand."""
        data = self._content(folder, _FOLDER_LIMIT_BYTES)
        start = 4 if folder.flags & _INLINE else 0  # behind the parent's number
        block = self._layout.block
        at = start
        count = 0
        while at + _ENTRY.size <= len(data):
            number, length, name_length, _ = _ENTRY.unpack_from(data, at)
            length = block if length in {0, 65535} and block == 65536 else length  # noqa: PLR2004  # as the kernel writes it
            if length < _ENTRY.size + name_length or at + length > len(data):
                raise SpoiltError("a folder is damaged")
            name = data[at + _ENTRY.size : at + _ENTRY.size + name_length]
            if number and name_length and name not in {b".", b".."}:
                count += 1
                if count > _NAMES_LIMIT:
                    raise SpoiltError(f"a folder has more than {_NAMES_LIMIT} names")
                yield name, number
            at += length

    def _content(self, inode: Inode, limit: int) -> bytes:
        if inode.size > limit:
            raise SpoiltError("a file that is asked for is larger than any such file")
        if inode.flags & _ENCRYPTED:
            raise SpoiltError("a file that is asked for is encrypted")
        fast_link = inode.is_link and inode.size < _BLOCKS_BYTES and not inode.flags & _EXTENTS
        if inode.flags & _INLINE or fast_link:
            if inode.size > _BLOCKS_BYTES:
                raise SpoiltError("a file that is asked for lies in its inode, and not all of it")
            return inode.place[: inode.size]
        count = -(-inode.size // self._layout.block)
        blocks = (
            self._extents(inode.place, count) if inode.flags & _EXTENTS else self._mapped(inode.place, count)
        )
        data = bytearray(count * self._layout.block)
        for at, block in blocks:
            if block and at < count:
                start = at * self._layout.block
                data[start : start + self._layout.block] = self._block(block)
        return bytes(data[: inode.size])

    def _block(self, number: int) -> bytes:
        return self._window.read(number * self._layout.block, self._layout.block)

    def _extents(self, raw: bytes, count: int, depth: int | None = None) -> Iterator[tuple[int, int]]:
        """(block in the file, block on the disk) of a tree of extents, as far as the file goes."""
        magic, entries, _, own_depth = struct.unpack_from("<4H", raw)
        fits = magic == _EXTENT_MAGIC and (entries + 1) * _EXTENT_BYTES <= len(raw)
        if not fits or own_depth > _MOST_DEPTH or depth not in {None, own_depth}:
            raise SpoiltError("the extents of a file are damaged")
        for index in range(1, entries + 1):
            at = index * _EXTENT_BYTES
            if own_depth:
                _, low, high = struct.unpack_from("<IIH", raw, at)
                yield from self._extents(self._block(low + (high << 32)), count, own_depth - 1)
                continue
            first, length, high, low = struct.unpack_from("<IHHI", raw, at)
            if length > _LONGEST:
                continue  # reserved, and reads as zeros
            for number in range(min(length, max(0, count - first))):
                yield first + number, low + (high << 32) + number

    def _mapped(self, raw: bytes, count: int) -> Iterator[tuple[int, int]]:
        """The same of a table of blocks, with one table behind it and one of tables."""
        numbers = struct.unpack("<15I", raw)
        each = self._layout.block // 4
        yield from enumerate(numbers[:_DIRECT])
        if count > _DIRECT and numbers[_DIRECT]:
            yield from enumerate(self._table_of(numbers[_DIRECT]), _DIRECT)
        if count > _DIRECT + each and numbers[_DIRECT + 1]:
            tables = self._table_of(numbers[_DIRECT + 1])
            for index in range(min(each, -(-(count - _DIRECT - each) // each))):
                if tables[index]:
                    yield from enumerate(self._table_of(tables[index]), _DIRECT + each + index * each)
        if count > _DIRECT + each + each * each:
            raise SpoiltError("a file that is asked for is spread too widely")

    def _table_of(self, block: int) -> tuple[int, ...]:
        return struct.unpack(f"<{self._layout.block // 4}I", self._block(block))
