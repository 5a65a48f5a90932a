"""What tools print as JSON: objects whose values are of the types that we know, or a ReadError. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from state.run import ReadError

# The kernel's and the hypervisor's numbers fit into 64 bits.
_NUMBER_LIMIT = 2**64
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a listing; `tool` and the key stand in every message. Unknown keys are of no interest."""

    tool: str
    values: Mapping[str, Any]

    def has(self, key: str) -> bool:
        """Whether the key is there at all."""
        return key in self.values

    def text(self, key: str, default: str | None = None) -> str:
        """A text.

        Raises:
            ReadError: it is none, or is missing and has no default.
        """
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, value)
        return value

    def mac(self, key: str) -> str:
        """The MAC address of an Ethernet interface, in lower case.

        Raises:
            ReadError: it is missing or none.
        """
        return mac_address(self.text(key), f"{self.tool}: {key}")

    def number(self, key: str, default: int | None = None) -> int:
        """A whole number that is not negative.

        Raises:
            ReadError: it is none, or is missing and has no default.
        """
        value = self._get(key, default)
        if type(value) is not int or not 0 <= value < _NUMBER_LIMIT:
            raise self._wrong(key, value)
        return value

    def flag(self, key: str) -> bool:
        """A truth value.

        Raises:
            ReadError: it is missing or none.
        """
        value = self._get(key, None)
        if not isinstance(value, bool):
            raise self._wrong(key, value)
        return value

    def entry(self, key: str) -> Entry:
        """An object inside; one without values where there is none.

        Raises:
            ReadError: what is there is none.
        """
        value = self._get(key, {})
        if not isinstance(value, dict):
            raise self._wrong(key, value)
        return Entry(self.tool, value)

    def entries(self, key: str) -> tuple[Entry, ...]:
        """The objects of an array inside; none where there is no array.

        Raises:
            ReadError: what is there is no array of objects.
        """
        value = self._get(key, [])
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise self._wrong(key, value)
        return tuple(Entry(self.tool, each) for each in value)

    def numbers(self, key: str) -> tuple[int, ...]:
        """The whole numbers of an array inside; none where there is no array.

        Raises:
            ReadError: what is there is no array of numbers.
        """
        value = self._get(key, [])
        if not isinstance(value, list) or not all(type(each) is int for each in value):
            raise self._wrong(key, value)
        return tuple(value)

    def words(self, key: str) -> frozenset[str]:
        """The texts of an array inside.

        Raises:
            ReadError: it is missing, or no array of texts.
        """
        value = self._get(key, None)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self._wrong(key, value)
        return frozenset(value)

    def _get(self, key: str, default: object) -> Any:
        if default is None and key not in self.values:
            raise ReadError(f"{self.tool}: an entry without {key}")
        return self.values.get(key, default)

    def _wrong(self, key: str, value: object) -> ReadError:
        return ReadError(f"{self.tool}: {key} is {value!r:.80}")


def parse_entries(tool: str, text: str) -> tuple[Entry, ...]:
    """The objects in the array that a tool printed; empty ones, which iproute2 leaves between others, are left out.

    Raises:
        ReadError: it is not JSON, or not an array of objects.
    """
    try:
        entries = json.loads(text, parse_constant=_refused)
    except RecursionError as exc:
        raise ReadError(f"{tool}: nested too deep") from exc
    except ValueError as exc:
        raise ReadError(f"{tool}: not JSON") from exc
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise ReadError(f"{tool}: not an array of objects")
    return tuple(Entry(tool, each) for each in entries if each)


def mac_address(text: str, what: str) -> str:
    """The text as a MAC address in lower case; `what` says whose it is.

    Raises:
        ReadError: it is none.
    """
    if _MAC.fullmatch(text.lower()) is None:
        raise ReadError(f"{what} is {text!r:.80}, which is no MAC address")
    return text.lower()


def lines(tool: str, text: str) -> list[str]:
    """The lines of a listing.

    Raises:
        ReadError: there are none, or the last one does not end: it was cut.
    """
    if not text.endswith("\n"):
        raise ReadError(f"{tool}: cut short: it ends with {text[-80:]!r}")
    return text[:-1].split("\n")


def _refused(constant: str) -> object:
    raise ValueError(constant)
