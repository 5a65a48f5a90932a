"""Which volume of a disk a guest's system lies on, and how that lets people in. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from state.inside import ext
from state.inside.disk import Found
from state.inside.ext_files import Tree
from state.inside.getty import Login
from state.inside.image import SpoiltError
from state.inside.login import is_system, read_login


def find_login(volumes: Iterable[Found]) -> Login | None:
    """How the first system among these volumes lets people in; None where there is none in an ext file system."""
    for name, window in volumes:
        try:
            if not window.has(ext.MAGIC_AT, ext.MAGIC):
                continue
            tree = Tree(window, ext.read_layout(window))
            if not is_system(tree):
                continue
        except SpoiltError as exc:
            return Login(name, "unknown", why=str(exc))
        return read_login(name, tree)
    return None
