"""The places that the contract is checked against: a fresh one for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconciler import hotplug
from reconciler.guard import nftables
from reconciler.render_xl import render_xl
from state.nft import probe_features
from tests.model.places import Place, make_memory, make_simulated
from tests.model.subjects import desired, guard_of, load, run


@pytest.fixture(params=["memory", pytest.param("simulated", marks=pytest.mark.dom0)])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "memory":
        yield make_memory()
        return
    from tests.end_to_end.conftest import KERNELS, clean
    from tests.end_to_end.provider import IMAGES

    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in KERNELS:
        (IMAGES.parent / name).write_text("kernel\n")
    yield make_simulated()
    clean()


@pytest.fixture
def guarded(place: Place) -> Place:
    """A place with our script, the guard for both domUs, their images and files, and vm01 running."""
    place.write(hotplug.PATH, hotplug.script())
    load(place, nftables.full(guard_of(desired()), probe_features(place.runner)))
    for each in desired().domus:
        place.make_image(each.disks[0].path)
        place.write(f"/etc/xen/{each.name}.cfg", render_xl(each))
    assert run(place, "xl", "create", "-q", "-f", "/etc/xen/vm01.cfg") == 0
    return place
