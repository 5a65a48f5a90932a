"""What holds for every test."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings

from tests.dom0 import INSIDE

CAPABILITIES = Path("/proc/xen/capabilities")  # of a real one
# How long a draw takes says how busy the machine is, and nothing about us: no test here fails for time.
settings.register_profile("domgit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("domgit")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test for a dom0 loads rules and writes files as on a host of its own: never on the machine that happens to run it."""
    if item.get_closest_marker("dom0") and not INSIDE.exists() and not CAPABILITIES.exists():
        pytest.fail("runs in a dom0 alone: `python -m tests.dom0 -- .venv/bin/python -m pytest -m dom0`")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What random draws reach is not counted as covered: it differs from run to run, and tracing doubles their time."""
    for item in items:
        if is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker("no_cover")
