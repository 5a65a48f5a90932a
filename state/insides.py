"""What is inside guests' disks, by a child that has no rights: the parent's side. Opens no disk itself.

Every answer is about what somebody else's root has written. It decides nothing, and is told.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from state.inside import MODULE
from state.inside.getty import INITS, Getty, Login
from state.inside.volume import Disk, FileSystem, Volume
from state.run import CLEAN_ENVIRONMENT, ReadError, Runner
from state.spec_child import as_user

# nobody: it owns nothing, and whatever else runs as nobody can open no disk.
_USER = 65534
# The child ends by itself: a disk that answers takes milliseconds; one that does not, half a minute, and after few of
# those it gives up. This is for a host that has no time for either.
TIMEOUT_S = 300.0
# So many disks a child: all of their answers together, each as long as it may be, are within what a command may say.
_AT_ONCE = 250
_TEXT_LIMIT = 200
_NUMBER_LIMIT = 1 << 64
_TABLES = frozenset({"mbr", "gpt", "none"})


@dataclass(frozen=True, slots=True)
class Inside:
    """What is inside one disk image or block device.

    `changed_s` is when the image was last written to, in seconds since 1970 by dom0's clock; None for a block device, of
    which nobody knows. `login` is how a system on it lets people in, where that was asked and there is one.
    """

    disk: Disk
    block: bool
    changed_s: int | None
    login: Login | None = None


def look_into(
    runner: Runner, paths: Iterable[str], *, logins: Collection[str] = ()
) -> Mapping[str, Inside | str]:
    """What is in each disk, or in words why that cannot be said; of those in `logins`, how a system on it lets people in.

    Raises:
        ReadError: the child did not work at all.
    """
    wanted = sorted(set(paths))
    found: dict[str, Inside | str] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        found |= _some(runner, wanted[start : start + _AT_ONCE], logins)
    return found


def _some(runner: Runner, wanted: Sequence[str], logins: Collection[str]) -> Mapping[str, Inside | str]:
    """The same, by one child."""
    prefix = as_user(_USER, _USER) if os.geteuid() == 0 else []
    completed = runner.run(
        [*prefix, sys.executable, "-P", "-m", MODULE],
        stdin=json.dumps([{"path": path, "login": path in logins} for path in wanted]),
        timeout_s=TIMEOUT_S,
        environment={
            **CLEAN_ENVIRONMENT,
            "PYTHONSAFEPATH": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        },
    )
    found: dict[str, Inside | str] = {}
    try:
        for line in completed.output().splitlines():
            index, answer = _answer(json.loads(line))
            found[wanted[index]] = answer
    except (LookupError, TypeError, ValueError, RecursionError) as exc:
        raise ReadError(f"who looks into disks handed over what nobody can read: {exc!r:.200}") from exc
    if missing := [path for path in wanted if path not in found]:
        raise ReadError(f"{missing[0]}: nothing was said of it")
    return found


def _answer(line: Any) -> tuple[int, Inside | str]:
    """The index of a disk, and what was said of it.

    Raises:
        LookupError, TypeError, ValueError: the line is not of the agreed shape.
    """
    index = _number(line["index"])
    if line["error"] is not None:
        return index, _text(line["error"])
    try:
        return index, parse_answer(line["said"])
    except (LookupError, TypeError, ValueError, RecursionError):
        return index, "its reader handed over what no disk can be"


def parse_answer(untrusted_text: str) -> Inside | str:
    """What the process said that has read a disk: nothing in it is believed but its form.

    Raises:
        LookupError, TypeError, ValueError, RecursionError: it is not of the agreed shape.
    """
    answer = json.loads(untrusted_text)
    if "error" in answer:
        return _text(answer["error"])
    disk = answer["disk"]
    if disk["table"] not in _TABLES:
        raise ValueError("no such partition table")
    volumes = tuple(_volume(each) for each in disk["volumes"])
    return Inside(
        Disk(_number(disk["size_bytes"]), disk["table"], volumes, truncated=disk["truncated"] is True),
        block=answer["block"] is True,
        changed_s=_maybe(answer["changed_s"]),
        login=None if answer["login"] is None else _login(answer["login"]),
    )


def _login(row: Mapping[str, Any]) -> Login:
    if row["init"] not in INITS:
        raise ValueError("no such init")
    securetty = row["securetty"]
    return Login(
        volume=_text(row["volume"]),
        init=row["init"],
        gettys=tuple(
            Getty(
                file=_text(each["file"]),
                line=_number(each["line"]),
                device=_text(each["device"]),
                ident=_text(each["ident"]),
                untrusted_text=_text(each["untrusted_text"]),
            )
            for each in row["gettys"]
        ),
        automatic=row["automatic"] is True,
        securetty=None if securetty is None else tuple(_text(each) for each in securetty),
        why=_text(row["why"]),
    )


def _volume(row: Mapping[str, Any]) -> Volume:
    use = row["use"]
    return Volume(
        name=_text(row["name"]),
        start_bytes=_number(row["start_bytes"]),
        size_bytes=_number(row["size_bytes"]),
        kind=_text(row["kind"]),
        use=None if use is None else _use(use),
        why=_text(row["why"]),
    )


def _use(row: Mapping[str, Any]) -> FileSystem:
    mounted = row["mounted"]
    if mounted not in {None, True, False}:
        raise TypeError("neither mounted nor not")
    numbers = {each.name: _maybe(row[each.name]) for each in fields(FileSystem) if each.name != "mounted"}
    use = FileSystem(**numbers, mounted=mounted)  # type: ignore[arg-type]  # those that are no None are checked below
    if None in {use.size_bytes, use.free_bytes, use.available_bytes}:
        raise TypeError("no size")
    if not use.available_bytes <= use.free_bytes <= use.size_bytes or (use.inodes or 0) < (
        use.inodes_free or 0
    ):
        raise ValueError("more is free than there is")
    return use


def _text(value: object) -> str:
    """A short text in plain letters."""
    if (
        not isinstance(value, str)
        or len(value) > _TEXT_LIMIT
        or not (value.isascii() and value.isprintable())
    ):
        raise TypeError("no short text")
    return value


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < _NUMBER_LIMIT:
        raise TypeError("no number")
    return value


def _maybe(value: object) -> int | None:
    return None if value is None else _number(value)
