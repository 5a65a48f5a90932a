"""Tests dealt out to runs of pytest beside each other: `pytest -p tests.shares --shares FILE`, the same FILE for all of them.

Each takes the next share when it has done one, so that all end at the same time, whatever a test costs on this machine.
A share is one test, or what is marked to share something that is set up once. Those marked `long` are dealt out first.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shares", type=Path, required=True, help="what is dealt out already, kept by all runs")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Pytest's own loop, but for where the next test comes from."""
    if session.testsfailed:  # while they were collected; pytest says it
        return None
    mine = dealt(session.items, session.config.getoption("--shares"))
    item = next(mine, None)
    while item is not None:
        following = next(mine, None)  # decides which fixtures go on
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        item = following
    return True


def dealt(items: list[pytest.Item], file: Path) -> Iterator[pytest.Item]:
    """The tests of one share after the other, as long as there are any.

    Raises:
        pytest.UsageError: another run has collected other tests.
    """
    shares: dict[str, list[pytest.Item]] = {}
    for item in items:
        shares.setdefault(share_of(item), []).append(item)
    names = "\n".join(item.nodeid for item in items)
    pack = f"{len(items)} {hashlib.sha256(names.encode()).hexdigest()}"
    while (number := take(file, pack)) < len(shares):
        yield from [*shares.values()][number]


def share_of(item: pytest.Item) -> str:
    """What the tests of one share have in common: the class or file that is marked `shared`, or has tests that are; or else the test itself.

    With `shared("NAME")` also the value of that parameter.
    """
    for node, mark in item.iter_markers_with_node("shared"):
        parameters = getattr(item, "callspec").params if mark.args else {}  # noqa: B009  # of functions with parameters
        within = item.parent if node is item and item.parent is not None else node
        return " ".join([within.nodeid, *(str(parameters[name]) for name in mark.args)])
    return item.nodeid


def take(file: Path, pack: str) -> int:
    """The number of the next share, which nobody else gets. `pack`: how many tests there are, read by who started the runs too, and which they are.

    Raises:
        pytest.UsageError: see dealt.
    """
    with file.open("a+", encoding="ascii") as deal:
        fcntl.flock(deal, fcntl.LOCK_EX)
        deal.seek(0)
        found, _, number = deal.read().rpartition(" ")
        if number and found != pack:
            raise pytest.UsageError("two runs have collected different tests, or in another order")
        taken = int(number or 0)
        deal.truncate(0)
        deal.write(f"{pack} {taken + 1}")
        return taken
