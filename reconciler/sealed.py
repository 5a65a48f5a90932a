"""Records of ours as text that tells whether it is still what was written: JSON whose first line is a digest of the others. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping

_SEAL = re.compile(rb'\{"sha256": "([0-9a-f]{64})",\n')


def sealed(content: Mapping[str, object]) -> str:
    """The text of a record; a bit that flips in it later is noticed when it is read."""
    rest = json.dumps(content, indent=1, sort_keys=True).removeprefix("{\n") + "\n"
    return f'{{"sha256": "{hashlib.sha256(rest.encode()).hexdigest()}",\n{rest}'


def opened(data: bytes) -> bytes:
    """The JSON under a seal. What has none was edited by a human, who put `{` in the place of the first line.

    Raises:
        ValueError: the seal is that of another content.
    """
    match = _SEAL.match(data)
    if match is None:
        return data
    rest = data[match.end() :]
    if hashlib.sha256(rest).hexdigest().encode() != match[1]:
        raise ValueError("its digest is that of another content")
    return b"{\n" + rest
