"""The guests' kernel and initramfs, made from an installed Debian: no tool of another package, no root."""

from __future__ import annotations

import lzma
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

# Linux x86 boot protocol, Documentation/arch/x86/boot.rst: setup sectors, and where the compressed kernel lies.
SETUP_SECTS, PAYLOAD = 0x1F1, 0x248
SECTOR = 512


def uncompressed(bzimage: bytes) -> bytes:
    """The ELF file in a bzImage that is compressed with xz.

    Xen's domain builder takes it as it is. Decompressing it there, emulated, takes longer than the guest's whole boot.

    Raises:
        lzma.LZMAError: it is compressed otherwise.
    """
    offset, length = struct.unpack_from("<II", bzimage, PAYLOAD)
    start = ((bzimage[SETUP_SECTS] or 4) + 1) * SECTOR + offset
    # Behind the stream are four bytes with the kernel's size.
    return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(bzimage[start : start + length])


def archive(files: dict[str, tuple[int, bytes]]) -> bytes:
    """A cpio archive as the kernel reads it, of these modes and contents by path; folders are made as needed.

    Source: Documentation/driver-api/early-userspace/buffer-format.rst.
    """
    entries = [*_folders(files), *files.items(), ("TRAILER!!!", (0, b""))]
    return b"".join(
        _entry(number, path, mode, content) for number, (path, (mode, content)) in enumerate(entries, 1)
    )


def _folders(files: dict[str, tuple[int, bytes]]) -> Iterator[tuple[str, tuple[int, bytes]]]:
    parents = {str(parent) for path in files for parent in Path(path).parents if str(parent) != "."}
    yield from ((path, (stat.S_IFDIR | 0o755, b"")) for path in sorted(parents))


def _entry(number: int, path: str, mode: int, content: bytes) -> bytes:
    name = path.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return _padded(head) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def regular(path: Path) -> tuple[int, bytes]:
    """A file as an archive has it."""
    return stat.S_IFREG | (path.stat().st_mode & 0o777), path.read_bytes()


def link(target: str) -> tuple[int, bytes]:
    """A symbolic link as an archive has it."""
    return stat.S_IFLNK | 0o777, target.encode()
