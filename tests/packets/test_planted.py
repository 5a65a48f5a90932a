"""Mistakes on purpose, and that the suite notices each one: in the rules (planted.py), in how they change, and in the second layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from reconciler.guard import nftables
from reconciler.guard.binding import Guard
from reconciler.guard.port_lock import lock
from state.nft import Features, read_table
from tests.packets import frames as f
from tests.packets.cases import STRANGER, udp4, udp6
from tests.packets.lab import Lab
from tests.packets.parties import (
    A4_SECOND,
    A_BINDING,
    A_NET4,
    B_BINDING,
    B_NET4,
    GATEWAY,
    GUARD,
    UNKNOWN,
    UPLINK,
    A,
    B,
    binding,
    guard,
)
from tests.packets.planted import MISTAKES, Mistake, wrong

pytestmark = pytest.mark.netns
SWAPPED = guard(binding(A, A_NET4, B_NET4), binding(B, A4_SECOND))
FORGED = udp4(B.v4, GATEWAY)
KEPT = udp4(A.v4, GATEWAY)
MOVED_AWAY, CAME = udp4(A4_SECOND, GATEWAY), udp4("198.51.100.33", GATEWAY)


@pytest.mark.parametrize("mistake", MISTAKES, ids=str)
def test_the_table_of_frames_notices_a_mistake_in_the_rules(
    lab: Lab, features: Features, mistake: Mistake
) -> None:
    names = frozenset(mistake.caught_by)
    right = nftables.full(GUARD, features)
    nothing = Mistake("none", lambda text: text, ())

    assert wrong(lab, nothing, right, names) == []
    assert set(wrong(lab, mistake, right, names)) == names


def steps(lab: Lab, features: Features, wanted: Guard) -> list[str]:
    """The scripts of a change, as it is made."""
    return [nftables.script(read_table(lab.dom0), wanted, features)[0]]


def complaints(lab: Lab, scripts: Sequence[str]) -> list[str]:
    """What goes wrong while bindings are swapped: after each script, and at the end."""
    found = []
    for number, script in enumerate(scripts):
        lab.load(script)
        found += [f"{number}: forged"] if not lab.send(FORGED).nothing else []
        found += [f"{number}: kept"] if UPLINK not in lab.send(KEPT).where else []
    found += ["the old holder"] if not lab.send(MOVED_AWAY).nothing else []
    found += ["the new holder"] if UPLINK not in lab.send(CAME).where else []
    loaded = read_table(lab.dom0)
    found += ["never at rest"] if loaded is None or nftables.delta(loaded, SWAPPED) else []
    return found


def _in_two_steps(_: str, whole: str) -> list[str]:
    return [nftables.UNLOADED, whole]


def _nothing_deleted(delta: str, _: str) -> list[str]:
    return ["".join(line for line in delta.splitlines(keepends=True) if not line.startswith("delete"))]


def _deleted_by_a_command_of_its_own(delta: str, _: str) -> list[str]:
    gone = f"delete element bridge domgit own_v4 {{ {_KEY} }}\n"
    return [gone, f"add element bridge domgit own_v4 {{ {_KEY} }}\n", delta]


def _another_prefix(delta: str, _: str) -> list[str]:
    return [delta.replace("198.51.100.32/28", "198.51.100.32/29")]


_KEY = f'"{A.port}" . {A.mac} . {A.v4}'
CHANGES: dict[str, tuple[Callable[[str, str], list[str]], str]] = {
    "a reload in two steps": (_in_two_steps, "0: forged"),
    "nothing is ever deleted": (_nothing_deleted, "the old holder"),
    "an element deleted and added by two commands": (_deleted_by_a_command_of_its_own, "0: kept"),
    "a prefix that is not the one in git": (_another_prefix, "never at rest"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_mistake_in_how_bindings_change_is_noticed(lab: Lab, features: Features, change: str) -> None:
    mistaken, complaint = CHANGES[change]
    lab.load(nftables.full(GUARD, features))
    loaded = read_table(lab.dom0)
    assert loaded is not None
    delta = nftables.delta(loaded, SWAPPED)
    assert complaints(lab, steps(lab, features, SWAPPED)) == []

    lab.load(nftables.full(GUARD, features))

    assert complaint in complaints(lab, mistaken(delta, nftables.full(SWAPPED, features)))


def test_an_address_that_is_not_written_as_the_kernel_writes_it_is_noticed(
    lab: Lab, features: Features
) -> None:
    """Compared as text, it would be deleted and added again at every pass."""
    lab.load(nftables.full(GUARD, features))
    loaded = read_table(lab.dom0)
    assert loaded is not None
    written = f'"{A.port}" . {A.mac} . {A.v6}'

    assert written in nftables.elements(GUARD)["own_v6"] & loaded.elements["own_v6"]
    assert written.replace("::", ":0:0:0:0:0:") not in loaded.elements["own_v6"]
    lab.load(f"add element bridge domgit own_v6 {{ {written.replace('::', ':0:0:0:0:0:')} }}\n")
    assert read_table(lab.dom0) == loaded


@dataclass(frozen=True, slots=True)
class Unlocked:
    """A mistake in the commands that lock a port, and what must show it without any rule."""

    spoil: Callable[[tuple[str, ...]], tuple[str, ...] | None]
    learned_first: bool = False


def _without_flush(argv: tuple[str, ...]) -> tuple[str, ...] | None:
    return None if "fdb_flush" in argv else argv


def _not_locked(argv: tuple[str, ...]) -> tuple[str, ...] | None:
    return tuple(
        "off" if before == "locked" else word for before, word in zip(("", *argv), argv, strict=False)
    )


def _learning(argv: tuple[str, ...]) -> tuple[str, ...] | None:
    return tuple(
        {"learning": "on", "locked": "off"}.get(before, word)
        for before, word in zip(("", *argv), argv, strict=False)
    )


def _another_mac(argv: tuple[str, ...]) -> tuple[str, ...] | None:
    return tuple(STRANGER if word == A.mac else word for word in argv)


LOCKS = {
    "what was learned before stays": Unlocked(_without_flush, learned_first=True),
    "the port is not locked": Unlocked(_not_locked),
    "the port goes on learning": Unlocked(_learning),
    "the entry of another MAC": Unlocked(_another_mac),
}


def _spoofs(lab: Lab, each: Unlocked, argvs: Sequence[tuple[str, ...] | None]) -> bool:
    """Whether a frame with another's MAC gets through a port that was locked so, with no rule loaded."""
    lab.clear()
    spoofed = f.ethernet(GATEWAY.mac, STRANGER, f.IPV4, KEPT[14:])
    if each.learned_first:
        lab.send(spoofed)
    for argv in argvs:
        if argv is not None:
            lab.dom0.must(*argv)
    return not lab.send(spoofed).nothing


@pytest.mark.parametrize("mistake", LOCKS)
def test_a_mistake_in_the_second_layer_is_noticed(lab: Lab, mistake: str) -> None:
    each, right = LOCKS[mistake], lock(A.port, A.mac)

    assert not _spoofs(lab, each, right)
    assert _spoofs(lab, each, [each.spoil(argv) for argv in right])


def test_a_forwarding_entry_that_is_not_sticky_is_noticed(lab: Lab) -> None:
    """It moves to whoever sends from its MAC, and with it all that is sent to its owner."""
    stolen = udp4(B.v4, GATEWAY, hardware=B.mac)
    for argv in lock(B.port, B.mac):
        lab.dom0.must(*argv)
    assert lab.send(stolen).forwarding == {}
    lab.clear()

    for argv in lock(B.port, B.mac):
        lab.dom0.must(*(word for word in argv if word != "sticky"))

    lab.sockets[A.port].send(stolen)  # no marker after it: B's own would not get through its locked port
    assert lab.forwarding()[B.mac] == A.port


def test_a_port_that_nobody_declared_taken_for_an_uplink_is_noticed(lab: Lab, features: Features) -> None:
    closed = guard(A_BINDING, B_BINDING, unknown_vifs="drop", closed=(UNKNOWN.port,))
    right = nftables.full(closed, features)
    foreign = udp6(B.v6, GATEWAY, hardware=UNKNOWN.mac)
    lab.load(right)
    assert lab.send(foreign, UNKNOWN).nothing

    lab.load(right.replace(f'"{UNKNOWN.port}" : goto refused_unknown', f'"{UNKNOWN.port}" : accept'))

    assert UPLINK in lab.send(foreign, UNKNOWN).where
