"""A document as YAML in any of the ways in which people write the same thing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from random import Random
from typing import Any

# Beside these, YAML knows some hundred characters and pairs of them that end a plain scalar or begin something else.
_PLAIN = re.compile(r"[A-Za-z0-9_./+(][A-Za-z0-9_./@%+=()-]*(:[A-Za-z0-9_./@%+=()-]+)*")
# In block style blanks, commas, brackets and quotes may follow, as long as no comment and no mapping begins.
_PLAIN_IN_BLOCK = re.compile(r"[A-Za-z0-9_./+(]([ ]?[!$-9;-Z^-~\[\]])*(:[!$-9;-Z^-~\[\]]+)*")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_LITERAL = re.compile(r"[!-~][ -~]*")


class Writer:
    """Writes one document; which quotes and which brackets, the dice say."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice

    def document(self, value: Mapping[str, Any]) -> str:
        if self._dice.random() < 0.3:
            return self._flow(value) + "\n"
        return "\n".join(self._block(value, "")) + "\n"

    def _block(self, value: Mapping[str, Any], indent: str) -> list[str]:
        lines = []
        for key, each in value.items():
            name = f"{indent}{self._scalar(key, flow=True, key=True)}:"
            if isinstance(each, Mapping) and each and self._dice.random() < 0.7:
                lines += [name, *self._block(each, f"{indent}  ")]
            elif isinstance(each, list) and each and self._dice.random() < 0.7:
                lines += [name, *(f"{indent}- {self._flow(item)}" for item in each)]
            elif isinstance(each, Mapping | list):
                lines.append(f"{name} {self._flow(each)}")
            elif isinstance(each, str) and _LITERAL.fullmatch(each) and self._dice.random() < 0.05:
                lines += [f"{name} |-", f"{indent}  {each}"]
            else:
                comment = "  # as agreed: {x}" if self._dice.random() < 0.02 else ""
                lines.append(f"{name} {self._scalar(each)}{comment}")
        return lines

    def _flow(self, value: Any) -> str:
        if isinstance(value, Mapping):
            items = (
                f"{self._scalar(key, flow=True, key=True)}: {self._flow(each)}" for key, each in value.items()
            )
            return "{" + ", ".join(items) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(self._flow(each) for each in value) + "]"
        return self._scalar(value, flow=True)

    def _scalar(self, value: Any, *, flow: bool = False, key: bool = False) -> str:
        """Only texts may be quoted: a quoted number is none."""
        if isinstance(value, bool):
            return self._dice.choice(("true", "True", "TRUE") if value else ("false", "False", "FALSE"))
        if isinstance(value, int):
            return str(value)
        text, pick = str(value), self._dice.random()
        plain = (_PLAIN if flow else _PLAIN_IN_BLOCK).fullmatch(text) is not None and text not in _NULLS
        if plain and (key or pick < 0.6):
            return text
        if pick < 0.8 and text.isprintable():
            return "'" + text.replace("'", "''") + "'"
        return '"' + "".join(self._escaped(each) for each in text) + '"'

    def _escaped(self, letter: str) -> str:
        if letter in '"\\':
            return f"\\{letter}"
        if not letter.isprintable() or self._dice.random() < 0.05:
            return f"\\x{ord(letter):02x}" if ord(letter) < 256 else f"\\u{ord(letter):04x}"
        return letter
