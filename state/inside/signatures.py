"""What is in a volume that has no counters of ours: by the bytes that mark it. Pure.

Source: libblkid/src/superblocks (util-linux 2.38).
"""

from __future__ import annotations

import struct

from state.inside.image import Window

# Word, and where which bytes stand. The first that fits counts: what holds others comes first.
_MARKS: tuple[tuple[str, int, bytes], ...] = (
    ("LUKS", 0, b"LUKS\xba\xbe"),
    *(("LVM", sector * 512, b"LABELONE") for sector in range(4)),
    *(("md raid", at, b"\xfc\x4e\x2b\xa9") for at in (0, 4096)),
    *(("swap", page - 10, magic) for page in (4096, 8192, 65536) for magic in (b"SWAPSPACE2", b"SWAP-SPACE")),
    ("NTFS", 3, b"NTFS    "),
    ("exFAT", 3, b"EXFAT   "),
    *(("FAT", at, b"FAT") for at in (54, 82)),
    ("f2fs", 1024, b"\x10\x20\xf5\xf2"),
    ("erofs", 1024, b"\xe2\xe1\xf5\xe0"),
    ("squashfs", 0, b"hsqs"),
    ("bcachefs", 4096 + 24, bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81")),
    ("jfs", 32768, b"JFS1"),
    *(("reiserfs", at + 52, b"ReIsEr") for at in (8192, 65536)),
    ("ISO 9660", 32769, b"CD001"),
    ("ufs", 8192 + 1372, struct.pack("<I", 0x00011954)),
    ("ufs", 65536 + 1372, struct.pack("<I", 0x19540119)),
    ("ZFS", 128 * 1024, struct.pack("<Q", 0x00BAB10C)),
)
_HEAD_BYTES = 4096


def named(window: Window) -> str:
    """The word for what is there; `empty` where its first 4 KiB are zeros, `unknown` for all else."""
    found = next((word for word, at, magic in _MARKS if window.has(at, magic)), None)
    if found is not None:
        return found
    head = window.read(0, min(_HEAD_BYTES, window.size))
    return "unknown" if any(head) else "empty"
