"""The hotplug script on a host whose own rules name a guest's port: it neither takes them for the guard's nor away."""

from __future__ import annotations

import pytest

from reconciler import hotplug
from tests.packets.backends import Iptables
from tests.packets.lab import Lab
from tests.packets.parties import GUARD, A

pytestmark = pytest.mark.netns
FUNCTIONS = hotplug.script().partition('\ncase "${1:-}')[0]


def rules_of_others(variant: str) -> tuple[tuple[str, ...], ...]:
    """Such as people write for one guest, one for each place that the guard looks at, and a prefix that echo would end at."""
    commands = (
        f"ebtables-nft -t nat -A PREROUTING -i {A.port} -j ACCEPT",
        f"ebtables-nft -t filter -A FORWARD -i {A.port} -j ACCEPT",
        f"iptables-{variant} -t raw -A PREROUTING -m physdev --physdev-in {A.port} -j CT --notrack",
        f"iptables-{variant} -t raw -N domgit_not",
        f"iptables-{variant} -t raw -A domgit_not -i {A.port} -j ACCEPT",
        f"ip6tables-{variant} -t raw -A PREROUTING -i {A.port} -j ACCEPT",
        r"ebtables-nft -t nat -A POSTROUTING -p IPv4 --log-prefix up\c -j CONTINUE",
    )
    return tuple(tuple(each.split()) for each in commands)


def run(lab: Lab, backend: Iptables, text: str) -> str:
    return lab.dom0.must(
        "sh", "-c", f"{FUNCTIONS}\nby=iptables-{backend.variant} variant={backend.variant}\n{text}"
    )


def of_others(lab: Lab, variant: str) -> list[str]:
    """The rules that are in no chain of ours and lead to none."""
    saves = (
        ("ebtables-nft-save",),
        *((f"{tool}-{variant}-save", "-t", "raw") for tool in ("iptables", "ip6tables")),
    )
    lines = [line for argv in saves for line in lab.dom0.must(*argv).splitlines() if line.startswith("-A ")]
    return [line for line in lines if "domgit" not in line.replace("domgit_not", "")]


def test_rules_of_others_for_a_port_are_no_part_of_what_the_guard_gives_it(
    lab: Lab, iptables: Iptables
) -> None:
    iptables.load(lab, GUARD)
    given = run(lab, iptables, f'ask {A.port}; echo "$given"')
    for argv in rules_of_others(iptables.variant):
        lab.dom0.must(*argv)

    assert "to domgit/" in given
    assert run(lab, iptables, f'ask {A.port}; echo "$given"') == given


def test_taking_a_binding_away_takes_no_rule_of_others(lab: Lab, iptables: Iptables) -> None:
    iptables.load(lab, GUARD)
    for argv in rules_of_others(iptables.variant):
        lab.dom0.must(*argv)
    before = of_others(lab, iptables.variant)

    left = run(lab, iptables, f'unbind_rules {A.port}; ask {A.port}; echo "$given"')

    assert len(before) == len(rules_of_others(iptables.variant)) - 1
    assert of_others(lab, iptables.variant) == before
    assert left == "\n"
