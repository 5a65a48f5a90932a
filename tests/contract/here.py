"""Which kind of dom0 this is, and so how the tests of the contract are marked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.host import Machine
from tests.contract.real import Real
from tests.contract.simulated import Simulated
from tests.dom0 import INSIDE

HYPERVISOR = Path("/sys/hypervisor/type")
CAPABILITIES = Path("/proc/xen/capabilities")  # says `control_d` in a dom0, and nothing in any other guest


def find() -> Machine | None:
    """The machine under our feet, None when it is no dom0. The simulated one may itself stand on a guest of Xen's."""
    if INSIDE.exists():
        return Simulated()
    if CAPABILITIES.exists() and "control_d" in CAPABILITIES.read_text("ascii"):
        return Real()
    return None


HERE = find()


def marks(timeout_s: float) -> list[pytest.MarkDecorator]:
    """What every module of the contract is marked with; `timeout_s` for a test on the simulation."""
    return [
        pytest.mark.dom0,
        pytest.mark.shared,
        pytest.mark.timeout(timeout_s * (1.0 if HERE is None else HERE.slower)),
        pytest.mark.skipif(HERE is None, reason="runs in a dom0: `python -m tests.dom0 -- pytest -m dom0`"),
    ]
