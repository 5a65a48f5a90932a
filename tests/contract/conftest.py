"""The dom0 that is held to the contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.here import HERE
from tests.contract.host import Host


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """The dom0 under our feet; what a module has made on it is gone behind it."""
    assert HERE is not None
    found = Host(HERE)
    yield found
    found.destroy_all()
