"""The bench for all packet tests, built once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TypeVar

import pytest

from state.nft import Features, probe_features
from tests.packets.backends import BACKENDS, IPTABLES, Backend, Iptables, forget
from tests.packets.foreign_bench import clear, forget_quickly
from tests.packets.lab import Lab, has_br_netfilter
from tests.packets.wire import Wire


@pytest.fixture(scope="session")
def bench() -> Iterator[Lab]:
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces, raw sockets, nft")
    built = Lab()
    yield built
    built.close()


@pytest.fixture
def lab(bench: Lab) -> Iterator[Lab]:
    bench.clear()
    if has_br_netfilter():
        bench.filter_by_iptables(enabled=False)
    yield bench
    bench.clear()


@pytest.fixture(scope="session")
def features(bench: Lab) -> Features:
    return probe_features(bench.dom0)


@pytest.fixture(params=[False, True], ids=["br_netfilter off", "br_netfilter on"])
def bridged_lab(request: pytest.FixtureRequest, lab: Lab) -> Lab:
    """The bench with and without frames passing iptables on the way."""
    if request.param:
        if not has_br_netfilter():
            pytest.skip("this kernel has no br_netfilter")
        lab.filter_by_iptables(enabled=True)
    return lab


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Backend]:
    """Each backend of the guard, with frames passing iptables where it needs that."""
    chosen: Backend = request.param
    yield from _ready(chosen, lab)


@pytest.fixture(params=IPTABLES, ids=lambda backend: backend.name)
def iptables(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Iptables]:
    """Each variant of iptables, with frames passing it."""
    chosen: Iptables = request.param
    yield from _ready(chosen, lab)


_Chosen = TypeVar("_Chosen", bound=Backend)


def _ready(chosen: _Chosen, lab: Lab) -> Iterator[_Chosen]:
    if chosen.needs_br_netfilter:
        if not has_br_netfilter():
            pytest.skip("this kernel has no br_netfilter")
        lab.filter_by_iptables(enabled=True)
    yield chosen
    if chosen.needs_br_netfilter:
        forget(lab)


@pytest.fixture(scope="session")
def line(bench: Lab) -> Iterator[Wire]:
    if not has_br_netfilter():
        pytest.skip(
            "this kernel has no br_netfilter: bridged frames pass neither iptables nor nft's ip tables"
        )
    forget_quickly(bench)
    made = Wire(bench)
    yield made
    made.close()


@pytest.fixture
def wire(line: Wire) -> Iterator[Wire]:
    """The bench with frames passing iptables on the way, no rule loaded, and a way to see what arrives."""
    clear(line.lab)
    line.lab.filter_by_iptables(enabled=True)
    line.know_everybody()
    yield line
    clear(line.lab)
    line.lab.filter_by_iptables(enabled=False)
    line.lab.clear()
