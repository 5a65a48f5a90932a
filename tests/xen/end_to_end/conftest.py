"""The one dom0 under our feet, with the example repository applied; nothing is collected anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.xen import on_real_xen
from tests.xen.end_to_end.provider import FLAKES, NAMES, REPOSITORY, Provider, all_up

collect_ignore_glob = [] if on_real_xen() else ["test_*.py"]
CONFIGURATION = f"""\
host = "dom0-a"

[repo]
url = "{REPOSITORY}"
interval = "60s"

[tools]
shutdown_grace = "30s"
"""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "after_boot: runs after the host was restarted")


@pytest.fixture(scope="session")
def provider() -> Provider:
    """The provider, with the repository as it was before a restart of the host, too."""
    if REPOSITORY.exists():
        found = Provider.__new__(Provider)
        found.root = REPOSITORY
        return found
    Path("/etc/domgit").mkdir(exist_ok=True)
    Path("/etc/domgit/domgit.toml").write_text(CONFIGURATION, encoding="utf-8")
    found = Provider(REPOSITORY)
    found.commit("the example repository")
    return found


@pytest.fixture(scope="session")
def guests(provider: Provider) -> Provider:
    """The provider, once all guests of the example repository run."""
    provider.applied()
    all_up(NAMES)
    return provider


@pytest.fixture(scope="session", autouse=True)
def _flakes(record_testsuite_property: Callable[[str, object], None]) -> Iterator[None]:
    """What was tried again, for the report."""
    yield
    for each in FLAKES:
        record_testsuite_property("flake", each)
