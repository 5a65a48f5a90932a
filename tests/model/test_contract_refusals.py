"""What xl refuses, with which exit status, and what it leaves behind: nothing."""

from __future__ import annotations

import pytest

from reconciler.render_xl import render_xl
from tests.model.places import Place, seen
from tests.model.subjects import FREE_MAC, MAC, OTHER_MAC, desired, run


@pytest.mark.parametrize(
    "argv",
    [
        ("xl", "shutdown", "77"),
        ("xl", "destroy", "77"),
        ("xl", "rename", "77", "x"),
        ("xl", "mem-set", "77", "64"),
        ("xl", "network-detach", "77", "0"),
        ("xl", "network-attach", "77", f"mac={MAC}", "bridge=xenbr0", "vifname=x", "script=vif-domgit"),
        ("xl", "config-update", "77", "/etc/xen/vm01.cfg"),
    ],
    ids=lambda argv: argv[1],
)
def test_a_domain_that_is_not_there_is_refused(guarded: Place, argv: tuple[str, ...]) -> None:
    assert run(guarded, *argv) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("vmlinuz", "missing"),
        ("bridge=xenbr0", "bridge=nobr"),
        ("/srv/xen/images/vm02.img", "/srv/xen/images/missing.img"),
        ('"vm02"', '"vm01"'),
        ("memory = 256\nmaxmem = 256", "memory = 99999\nmaxmem = 99999"),
        (OTHER_MAC, FREE_MAC),
    ],
    ids=["kernel", "bridge", "disk", "name", "memory", "binding"],
)
def test_a_create_that_is_refused_leaves_nothing(guarded: Place, old: str, new: str) -> None:
    text = render_xl(desired().domus[1])
    assert old in text
    guarded.write("/etc/xen/vm02.cfg", text.replace(old, new))

    assert run(guarded, "xl", "create", "-q", "-f", "/etc/xen/vm02.cfg") == 3

    found = seen(guarded)
    assert [each.name for each in found.domains] == ["vm01"]
    assert set(found.ports) - {"eth1"} == {"eth0", "vm01"}


def test_a_file_that_is_not_there_is_not_created_from(guarded: Place) -> None:
    assert run(guarded, "xl", "create", "-q", "-f", "/etc/xen/nobody.cfg") == 3
