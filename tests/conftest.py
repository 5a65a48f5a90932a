"""What holds for every test."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings

# How long a draw takes says how busy the machine is, and nothing about us: no test here fails for time.
settings.register_profile("domgit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("domgit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What random draws reach is not counted as covered: it differs from run to run, and tracing doubles their time."""
    for item in items:
        if is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker("no_cover")
