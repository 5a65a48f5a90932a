"""The plan journal: what was going to be done, durable before it is done, and how it ended.

Append-only, a line a record, each line chained to the one before: `PREVIOUS DIGEST JSON`. A torn last line
(power lost while writing) is left out by readers and cut off by the next writer. Nothing secret enters it:
steps that carry secrets name files, not values.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]
_FIRST = "0" * 64
# Reading the last line to chain to costs one look at the tail, not the whole file.
_TAIL_BYTES = 64 * 1024


class JournalError(Exception):
    """A line before the last is damaged: history was changed or the disk lies."""


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal at one path."""

    path: Path

    def append(self, record: Record) -> None:
        """Write one record and force it to disk before returning.

        Raises:
            OSError: it could not be written; then nothing must be done that it was to announce.
            JournalError: more than a torn last line is damaged; nothing is cut off.
        """
        self.path.parent.mkdir(
            parents=True, exist_ok=True, mode=0o711
        )  # the mirror below is fetched by another user
        payload = json.dumps(record, sort_keys=True, separators=(",", ":"))
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Passes have a lock of their own; a human who opens a vif does not wait for them.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            previous, end = _last(descriptor)
            if b"\n" in os.pread(descriptor, _TAIL_BYTES, end):
                raise JournalError(f"{self.path}: damaged behind byte {end}; move it aside to go on")
            os.ftruncate(descriptor, end)
            line = f"{previous} {_chain(previous, payload)} {payload}\n".encode()
            os.lseek(descriptor, end, os.SEEK_SET)
            while line:
                line = line[os.write(descriptor, line) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def records(self) -> Iterator[Record]:
        """All records, oldest first.

        Raises:
            JournalError: it may not be read, or a line other than a torn last one does not follow from the line before.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return
        except PermissionError as exc:
            raise JournalError(f"this needs root: {self.path} is root's") from exc
        previous = _FIRST
        lines = data.split(b"\n")
        for number, line in enumerate(lines[:-1], 1):
            parsed = _parse(line)
            if parsed is None or parsed[0] != previous:
                raise JournalError(f"{self.path}:{number}: the record does not follow from the one before")
            previous = parsed[1]
            yield parsed[2]

    @contextmanager
    def understood(self) -> Iterator[None]:
        """Around whatever looks into records: they may be of another version, whose chain is as good as ours.

        Raises:
            JournalError: one has not what this version writes into it.
        """
        try:
            yield
        except (KeyError, TypeError, AttributeError) as exc:
            raise JournalError(f"{self.path}: not the records of this version: {exc!r:.300}") from exc


def _chain(previous: str, payload: str) -> str:
    return hashlib.sha256(f"{previous} {payload}".encode()).hexdigest()


def _parse(line: bytes) -> tuple[str, str, Record] | None:
    try:
        previous, digest, payload = line.decode().split(" ", 2)
        record = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(record, dict) and _chain(previous, payload) == digest
    return (previous, digest, record) if whole else None


def _last(descriptor: int) -> tuple[str, int]:
    """The digest of the last whole record, and the offset behind it."""
    size = os.fstat(descriptor).st_size
    window = _TAIL_BYTES
    while size:
        start = max(0, size - window)
        tail = os.pread(descriptor, size - start, start)
        end = len(tail)
        while (newline := tail.rfind(b"\n", 0, end)) >= 0:
            begin = tail.rfind(b"\n", 0, newline) + 1
            if begin == 0 and start > 0:
                break  # the line starts before the window
            parsed = _parse(tail[begin:newline])
            if parsed is not None:
                return parsed[1], start + newline + 1
            end = newline
        if start == 0:
            break
        window *= 8
    return _FIRST, 0
