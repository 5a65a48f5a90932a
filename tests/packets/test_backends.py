"""From one backend to the other and back, command by command, with real frames: at every moment one of them guards."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from reconciler.guard import backend
from reconciler.guard.binding import Guard, Step
from reconciler.switches import set_calls, switches, uncalled
from state.guard import read_guards
from state.nft import Features, LoadedTable, Loader
from tests.packets.cases import CASES, Case
from tests.packets.foreign_bench import Inside
from tests.packets.lab import Lab, has_br_netfilter
from tests.packets.parties import BRIDGE, GUARD, A
from tests.unit.worlds import desired

pytestmark = pytest.mark.netns
# Of iptables' two kinds the host's own is used from the first load on: nothing goes from one to the other.
SWITCHES: tuple[tuple[Loader, Loader], ...] = (
    ("nftables", "iptables-nft"),
    ("nftables", "iptables-legacy"),
    ("iptables-nft", "nftables"),
    ("iptables-legacy", "nftables"),
)


def loaded(lab: Lab) -> tuple[LoadedTable, ...]:
    return read_guards(lab.dom0, Inside(lab))  # type: ignore[arg-type]  # nothing but texts is read of it


def move(lab: Lab, by: Loader, wanted: Guard, features: Features) -> tuple[Step, ...]:
    return backend.move(by, loaded(lab), wanted, features).steps


def run(lab: Lab, steps: tuple[Step, ...]) -> Iterator[Step]:
    for step in steps:
        done = lab.dom0.run(step.argv, stdin=step.stdin)
        assert done.rc == 0 or step.optional, f"{done}\n{done.stderr}"
        yield step


def wrong(lab: Lab, cases: list[Case]) -> list[str]:
    """What came through of the forged, and what of the legal did not."""
    found = []
    for case in cases:
        seen = lab.send(case.frame)
        if (case.verdict == "drop") != seen.nothing:
            found.append(str(case))
    return found


# One frame of each kind that is told apart, so that a look takes no longer than a command.
KINDS = ("udp to B", "arp request for the gateway", "udp to dom0")
FEW = [case for case in CASES if case.sender == A and case.verdict == "pass" and case.name in KINDS]
FORGED = [case for case in CASES if case.sender == A and case.verdict == "drop"][::31]


def switches_of(lab: Lab) -> dict[str, str | None]:
    """What the files say: those of sysfs show the network namespace that mounted it."""
    said = json.loads(lab.dom0.must("ip", "-j", "-d", "link", "show", "dev", BRIDGE))[0]["linkinfo"][
        "info_data"
    ]
    return {
        path: f"{said[path.rpartition('/')[2]]}\n"
        if path.startswith("/sys/")
        else Inside(lab).read_text(path)
        for path in switches(desired({}).host)
    }


@pytest.fixture
def handing_over(lab: Lab) -> Iterator[Lab]:
    """The bench with frames handed to iptables by the bridge's own switch."""
    if not has_br_netfilter():
        pytest.skip("this kernel has no br_netfilter")
    host = desired({}).host
    assert [name for name, _ in host.bridges] == [BRIDGE]
    texts = switches_of(lab)
    assert [*uncalled(host, texts)] == [f"{BRIDGE} nf_call_ip6tables", f"{BRIDGE} nf_call_iptables"]
    calls = set_calls(host, texts)
    [*run(lab, calls.on)]
    assert [*uncalled(host, switches_of(lab))] == []
    yield lab
    [*run(lab, calls.off)]


@pytest.mark.parametrize(("first", "then"), SWITCHES)
def test_a_host_goes_from_one_backend_to_the_other_without_a_moment_unguarded(
    handing_over: Lab, features: Features, first: Loader, then: Loader
) -> None:
    lab = handing_over
    [*run(lab, move(lab, first, GUARD, features))]
    assert [each.by for each in loaded(lab)] == [first]
    assert move(lab, first, GUARD, features) == ()
    forth = backend.move(then, loaded(lab), GUARD, features)

    for step in run(lab, forth.steps):
        assert wrong(lab, [*FEW, *FORGED]) == [], step.argv
    after = loaded(lab)
    again = move(lab, then, GUARD, features)
    for step in run(lab, forth.undo):
        assert wrong(lab, [*FEW, *FORGED]) == [], step.argv

    assert [each.by for each in after] == [then]
    assert again == ()
    assert [each.by for each in loaded(lab)] == [first]
    assert move(lab, first, GUARD, features) == ()
