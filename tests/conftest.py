"""What holds for every test."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import HealthCheck, settings

# How long a draw takes says how busy the machine is, and nothing about us: no test here fails for time.
settings.register_profile("domgit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("domgit")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shard", default="0/1", help="only part I of N of the tests, as I/N")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    shard, count = (int(part) for part in str(config.getoption("--shard")).split("/"))
    items[:] = [item for item in items if zlib.crc32(_share(item).encode()) % count == shard]


def _share(item: pytest.Item) -> str:
    """What decides which shard runs a test: its own name, or that of the class whose tests share what is set up once."""
    shared = item.get_closest_marker("shared") is not None and item.parent is not None
    return item.parent.nodeid if shared and item.parent is not None else item.nodeid
