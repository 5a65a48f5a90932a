"""What cannot be read back from a host: which domUs are ours, which disks we made, who was switched off by its customer.

The ledger is the only licence to stop a domU or to create a disk. It is one file, written whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from reconciler.durable import write_whole
from reconciler.sealed import opened, sealed
from state.run import ReadError

FORMAT = 1
# Stands before the identity of an image between its making and its appearance under its name.
MAKING = "making "


@dataclass(frozen=True, slots=True)
class Owned:
    """One domU that is ours. `disks` maps paths to the `device:inode` that was made or adopted, with MAKING before it while that is under way.

    `powered_off` is set while the domU is off because its customer switched it off.
    `protect` outlives the file in git that asked for it. `install` is how far its installation has come, as
    reconciler.installing writes it.
    """

    name: str
    disks: Mapping[str, str] = field(default_factory=dict)
    powered_off: bool = False
    protect: bool = False
    install: str = ""


Ledger = Mapping[str, Owned]


def load(path: Path) -> Ledger:
    """The ledger, by uuid; empty on a host that was never managed.

    Raises:
        ReadError: it is damaged, or a newer version wrote it: nothing is then known to be ours.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise ReadError(f"{path}: {exc.strerror}") from exc
    try:
        return _parsed(opened(data), path)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise ReadError(f"{path}: damaged ({exc!r:.300})") from exc


def _parsed(data: bytes, path: Path) -> Ledger:
    content = json.loads(data)
    if content["format"] != FORMAT:
        raise ReadError(f"{path}: written in format {content['format']!r:.80}, this version reads {FORMAT}")
    if content.keys() != {"format", "owned"}:
        raise ValueError(f"unknown keys beside format and owned: {sorted(content)!r:.200}")
    return {uuid: _owned(entry) for uuid, entry in content["owned"].items()}


def _owned(entry: dict[str, Any]) -> Owned:
    owned = Owned(**entry)
    texts = [owned.name, owned.install, *owned.disks, *owned.disks.values()]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError(f"a name, a path or an identity is no text in {entry!r:.200}")
    if not (isinstance(owned.powered_off, bool) and isinstance(owned.protect, bool)):
        raise TypeError(f"powered_off or protect is neither true nor false in {entry!r:.200}")
    return owned


def save(path: Path, ledger: Ledger) -> None:
    """Write the ledger, whole and durable."""
    content = {"format": FORMAT, "owned": {uuid: asdict(owned) for uuid, owned in sorted(ledger.items())}}
    write_whole(path, sealed(content), mode=0o600)


def remember(ledger: Ledger, uuid: str, fact: str, value: str) -> Ledger:
    """The ledger with one more fact, as a Remember step names it: pure.

    | fact | value | effect |
    |---|---|---|
    | owned | name | the domU is ours under that name |
    | released | | the domU is ours no more |
    | protect | yes, no | whether removing it needs an approval |
    | powered-off | yes, no | whether its customer switched it off |
    | install | HOW DIGEST, or nothing | how far its installation has come, or that it is to begin |
    | disk | PATH=IDENTITY | the disk exists and was made or adopted for it |

    Raises:
        ValueError: the fact is none of these.
    """
    entry = ledger.get(uuid) or Owned(name="")
    match fact:
        case "owned":
            return {**ledger, uuid: replace(entry, name=value)}
        case "released":
            return {key: owned for key, owned in ledger.items() if key != uuid}
        case "protect":
            return {**ledger, uuid: replace(entry, protect=value == "yes")}
        case "powered-off":
            return {**ledger, uuid: replace(entry, powered_off=value == "yes")}
        case "install":
            return {**ledger, uuid: replace(entry, install=value)}
        case "disk":
            path, _, identity = value.rpartition("=")
            return {**ledger, uuid: replace(entry, disks={**entry.disks, path: identity})}
        case _:
            raise ValueError(f"unknown fact {fact!r}")
