"""Every rule that no plan may break, broken once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.guard.nftables import LOAD
from reconciler.lint import lint
from reconciler.plan import Change, Phase, Plan, Source
from reconciler.step import Remember, Run, StopDomain, WriteFile

UUID = "e608ed38-c1b9-532e-a769-0156b41e19e1"
DOMAIN = ((f"domain:{UUID}", "5"),)


def change(**more: Any) -> Change:
    made = Change(
        address="domu.vm01",
        actions=("update",),
        cause="intentional",
        impact="none",
        phase=Phase.CHANGE,
        steps=(Run(("xl", "mem-set", "5", "256")),),
        fingerprint=DOMAIN,
        before={},
        after={},
        counts=("domu.vm01",),
        uuid=UUID,
        domid=5,
    )
    return replace(made, **more)


def said(*changes: Change) -> tuple[str, ...]:
    return lint(Plan("dom0-a", Source("0" * 40), "", changes))


def test_a_good_plan_is_passed_over_in_silence() -> None:
    assert (
        said(
            change(
                address="file.a",
                phase=Phase.PREPARE,
                steps=(Remember(UUID, "owned", "vm01"),),
                fingerprint=(),
            ),
            change(phase=Phase.REMOVE, steps=(StopDomain(UUID, 5, 1.0),), impact="restart"),
            change(address="guard", phase=Phase.GUARD, steps=(Run(LOAD, stdin="x"),), uuid=None),
            change(),
            change(order=1),
            change(uuid="00005eed-0000-4000-8000-000000000001"),
            change(
                address="domu.vm01.vif.0",
                phase=Phase.ADD,
                early=(Run(("xl", "network-detach", "5", "0")),),
                impact="link",
            ),
            change(
                address="domu.vm02",
                steps=(Run(("nft", "-q", "-x")),),
                blocked="not due, so not looked at",
                phase=Phase.ADD,
            ),
        )
        == ()
    )


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ([change(), change()], "domu.vm01 is changed 2 times in one phase"),
        ([change(phase=Phase.ADD), change()], "the phases are out of order"),
        (
            [change(address=name, phase=Phase.GUARD) for name in ("guard", "other")],
            "the guard is changed in more than one transaction",
        ),
        (
            [change(steps=(Run(("xl", "destroy", "5")),), uuid=None)],
            "domu.vm01 takes something away without holding on to who it is",
        ),
        (
            [change(steps=(Run(("xl", "destroy", "5")),), fingerprint=(("memory:x", "1"),))],
            "domu.vm01 takes something away without holding on to who it is",
        ),
        (
            [change(steps=(StopDomain(UUID, 5, 1.0),), fingerprint=())],
            "domu.vm01 takes something away without holding on to who it is",
        ),
        ([change(fingerprint=())], "domu.vm01 acts without knowing what it was planned against"),
        (
            [change(steps=(WriteFile("/a", ""),), fingerprint=())],
            "domu.vm01 acts without knowing what it was planned against",
        ),
        (
            [
                change(address="file./etc/xen/vm01.cfg", layer=("file",), blocked="its disk is refused"),
                change(steps=(Run(("xl", "config-update", "5", "/etc/xen/vm01.cfg")),)),
            ],
            "domu.vm01: `xl config-update 5 /etc/xen/vm01.cfg` reads a file that is not written",
        ),
        ([change(early=(Run(("true", "x")),))], "domu.vm01 detaches in the wrong phase"),
        ([change(impact="link")], "domu.vm01 claims an impact that none of its steps has"),
        (
            [change(steps=(Run(("xl", "mem-set", "6", "256")),))],
            "domu.vm01: `xl mem-set 6 256` does not name the domain by the domid it was planned against",
        ),
        (
            [change(steps=(Run(("xl", "rename", "vm01", "web")),))],
            "domu.vm01: `xl rename vm01 web` does not name the domain by the domid it was planned against",
        ),
        (
            [change(steps=(Run(("ip", "link", "-all")),))],
            "domu.vm01: `ip link -all` has a value that reads as an option",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_plan_that_breaks_a_rule_is_told(changes: list[Change], why: str) -> None:
    assert said(*changes) == (why,)


@pytest.mark.parametrize(
    "verb",
    ["shutdown", "destroy", "rename", "mem-set", "vcpu-set", "network-attach", "network-detach", "config-update"],
)  # fmt: skip
def test_every_command_upon_a_domain_names_it_by_its_domid(verb: str) -> None:
    wrong = f"domu.vm01: `xl {verb} 6 x` does not name the domain by the domid it was planned against"

    assert said(change(steps=(Run(("xl", verb, "5", "x")),))) == ()
    assert said(change(steps=(Run(("xl", verb, "-i", "5", "x")),))) == ()
    assert said(change(steps=(Run(("xl", verb, "6", "x")),))) == (wrong,)
    assert said(change(early=(Run(("xl", verb, "6", "x")),), steps=(), phase=Phase.REMOVE)) == (wrong,)
    assert said(change(steps=(Run(("other", verb, "6", "x")),))) == ()


@pytest.mark.parametrize("verb", ["shutdown", "destroy", "network-detach"])
def test_what_takes_something_away_may_have_an_impact_and_holds_on_to_who_it_is(verb: str) -> None:
    step = Run(("xl", verb, "5"))

    assert said(change(steps=(step,), impact="link")) == ()
    assert said(change(steps=(step,), fingerprint=(("memory:x", "1"),))) == (
        "domu.vm01 takes something away without holding on to who it is",
    )
    assert said(change(steps=(Run(("other", verb, "5")),), fingerprint=(("memory:x", "1"),))) == ()


def test_what_is_no_fault_is_not_said() -> None:
    assert said(change(steps=(Run(("xl", "create", "-q", "-f", "/etc/xen/vm01.cfg")),))) == ()
    assert said(change(steps=(Run(("xl", "list", "vm01")),))) == ()
    assert said(change(address="guard", impact="link")) == ()
    assert said(change(), change(when="next_guest_reboot")) == ()
    assert said(change(address="domu.vm02"), change()) == ()
    early = (Run(("xl", "network-detach", "5", "0")),)
    assert said(change(early=early, phase=Phase.REMOVE), change(early=early, phase=Phase.ADD)) == ()
    assert said(change(steps=(Run(("nft", "-f", "-x")),))) == (
        "domu.vm01: `nft -f -x` has a value that reads as an option",
    )


def test_faults_are_told_in_one_order() -> None:
    twice = [
        change(address=name) for name in ("domu.vm02", "domu.vm01", "domu.vm02", "domu.vm01", "domu.vm01")
    ]

    assert said(*twice) == (
        "domu.vm01 is changed 3 times in one phase",
        "domu.vm02 is changed 2 times in one phase",
    )
