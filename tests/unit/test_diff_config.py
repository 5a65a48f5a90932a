"""What libxl has saved of a domain, in the words of a specification."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.diff_config import saved_fields
from state.observed import Domain
from tests.unit.worlds import desired, settled


def domain() -> Domain:
    return settled(desired({"vm01": {}})).domains["vm01"]


@pytest.mark.parametrize(
    ("script", "said"),
    [("", "vif-bridge"), ("vif-domgit", "vif-domgit"), ("/etc/xen/scripts/vif-route", "vif-route")],
)
def test_a_script_is_known_by_its_name_and_none_is_the_one_that_libxl_runs(script: str, said: str) -> None:
    found = domain()
    assert found.saved is not None
    saved = replace(found.saved, vifs=tuple(replace(vif, script=script) for vif in found.saved.vifs))

    assert saved_fields(saved)["vifs"] == [(0, "vm01", said, None)]
