"""Passwords: they live in files that root alone can read, and appear in configuration files and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from reconciler.render_xl import SECRET_PLACEHOLDER
from state.files import digest
from state.run import ReadError
from state.xl import SavedDomain

# As a part of `vfb`, or a key of its own.
_KEY = '(vncpasswd(?:=| = "))'
_PLACEHOLDER = re.compile(_KEY + re.escape(SECRET_PLACEHOLDER).replace(r"\{\}", "([a-z0-9._-]+)"))
# VNC's own limit is eight characters; nothing that ends an xl.cfg string or starts its next key.
_SECRET = re.compile(r"[A-Za-z0-9._+=@:/-]{1,64}")
_REVEALED = re.compile(f"{_KEY}({_SECRET.pattern})")
# A password that no secret of this host holds; no file has that name.
ANOTHER = "(another)"
# May say anything, `vncpasswd=` included.
_COMMAND_LINE = 'cmdline = "'


def revealed(text: str, secrets: Path) -> str:
    """The text with every placeholder behind `vncpasswd` replaced by its secret; schemas lets none stand elsewhere.

    Raises:
        ReadError: a secret is missing or is nothing that a configuration can hold.
    """
    return _PLACEHOLDER.sub(lambda match: match[1] + _secret(secrets / match[2]), text)


def known(secrets: Path) -> Mapping[str, tuple[str, ...]]:
    """The names of the secrets by what they hold: two domUs may have the same password.

    Raises:
        ReadError: one cannot be read, or is no text.
    """
    names: dict[str, tuple[str, ...]] = {}
    for path in sorted(secrets.iterdir()) if secrets.is_dir() else ():
        value = _text(path)
        names[value] = (*names.get(value, ()), path.name)
    return names


def recognised(
    saved: SavedDomain, names: Mapping[str, tuple[str, ...]], own: str | None = None
) -> SavedDomain:
    """What libxl has saved, its password told by the name of the secret that holds it, ANOTHER where none does.

    Of several secrets that hold the same, it is taken to have its `own`.
    """
    vnc = saved.vnc
    if vnc is None or not vnc.password:
        return saved
    found = next((each for value, each in names.items() if digest(value) == vnc.password), ())
    name = own if own in found else next(iter(found), ANOTHER)
    return replace(saved, vnc=replace(vnc, password=name))


def masked(text: str, names: Mapping[str, tuple[str, ...]], own: str | None = None) -> str:
    """The text with every known secret behind `vncpasswd` replaced by its placeholder; others stay as they are.

    Of several secrets that hold the same, the text is taken to have its `own`.
    """

    def placeholder(match: re.Match[str]) -> str:
        found = names.get(match[2], ())
        name = own if own in found else next(iter(found), None)
        return match[0] if name is None else match[1] + SECRET_PLACEHOLDER.format(name)

    # The whole value or nothing: one secret may be the beginning of another.
    return "".join(
        line if line.startswith(_COMMAND_LINE) else _REVEALED.sub(placeholder, line)
        for line in text.splitlines(keepends=True)
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as exc:
        raise ReadError(f"{path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ReadError(f"{path}: no text") from exc


def _secret(path: Path) -> str:
    value = _text(path)
    if path.stat().st_mode & 0o077:
        raise ReadError(f"{path}: others can read it (expected mode 0600)")
    if _SECRET.fullmatch(value) is None:
        raise ReadError(
            f"{path}: no secret that an xl configuration can hold (expected 1 to 64 letters, digits and . _ + = @ : / -)"
        )
    return value
