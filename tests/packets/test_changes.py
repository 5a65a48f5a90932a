"""What a change of the guard does to frames: bindings move, ports are closed, audited and unknown, rules come back."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from reconciler.guard import nftables
from state.nft import Features, read_table
from tests.packets import frames as f
from tests.packets.backends import Backend
from tests.packets.cases import CASES, udp4
from tests.packets.lab import DEADLINE_S, Lab
from tests.packets.namespaces import Namespace
from tests.packets.parties import (
    A4_SECOND,
    A_BINDING,
    A_NET4,
    B_BINDING,
    B_NET4,
    GATEWAY,
    GUARD,
    LOG,
    UNKNOWN,
    UPLINK,
    A,
    B,
    addresses,
    binding,
    guard,
)
from tests.packets.test_frames import complaint

pytestmark = pytest.mark.netns
FORGED = udp4(B.v4, GATEWAY)


def hears(lab: Lab, frame: bytes) -> bool:
    return UPLINK in lab.send(frame).where


def test_addresses_that_change_hands_work_for_their_new_holder_only(lab: Lab, backend: Backend) -> None:
    backend.load(lab, GUARD)
    assert hears(lab, udp4(A4_SECOND, GATEWAY))
    # The address goes to B and the prefix to A, in one change.
    swapped = guard(binding(A, A_NET4, B_NET4), binding(B, A4_SECOND))

    backend.change(lab, swapped)

    assert hears(lab, udp4("198.51.100.33", GATEWAY))
    assert lab.send(udp4(A4_SECOND, GATEWAY)).nothing
    from_b = f.ethernet(GATEWAY.mac, B.mac, f.IPV4, udp4(A4_SECOND, GATEWAY)[14:])
    assert UPLINK in lab.send(from_b, B).where
    from_b = f.ethernet(GATEWAY.mac, B.mac, f.IPV4, udp4("198.51.100.33", GATEWAY)[14:])
    assert lab.send(from_b, B).nothing


_OFF = "flush chain bridge domgit prerouting; flush chain bridge domgit input; "
_AT_7 = "{ type filter hook input priority 7 ; }"
_TAMPERED = (
    "flush table bridge domgit",
    "insert rule bridge domgit from_guest accept",
    "add chain bridge domgit evil; add rule bridge domgit evil accept; insert rule bridge domgit prerouting jump evil",
    f"add chain bridge domgit evil {_AT_7}; add rule bridge domgit evil accept",
    "add set bridge domgit evil { type ifname ; }; insert rule bridge domgit prerouting iifname @evil accept",
    'add map bridge domgit evil { type ifname : verdict ; }; add element bridge domgit evil { "x" : goto from_guest }',
    f"{_OFF}delete chain bridge domgit input; add chain bridge domgit input {_AT_7}",
    f"{_OFF}delete map bridge domgit ports; add map bridge domgit ports {{ type ifname : verdict ; size 9 ; }}",
    f"{_OFF}flush map bridge domgit ports; flush chain bridge domgit from_guest; delete chain bridge domgit from_guest",
)


@pytest.mark.parametrize("done", _TAMPERED)
def test_whatever_somebody_does_to_our_table_it_is_put_right_in_place(
    lab: Lab, features: Features, done: str
) -> None:
    lab.load(nftables.full(GUARD, features))
    lab.load(done)
    changed = read_table(lab.dom0)
    assert changed is not None

    script, what = nftables.script(changed, GUARD, features)

    assert what == "rules"
    assert "delete table" not in script
    lab.load(script)
    assert nftables.script(read_table(lab.dom0), GUARD, features) == ("", "elements")


def test_deltas_and_reloaded_rules_guard_like_the_first_load(lab: Lab, features: Features) -> None:
    lab.load(nftables.full(guard(binding(A)), features))
    loaded = read_table(lab.dom0)
    assert loaded is not None
    lab.load(nftables.delta(loaded, GUARD))
    loaded = read_table(lab.dom0)
    assert loaded is not None
    lab.load(nftables.reload_rules(loaded, GUARD, features))
    loaded = read_table(lab.dom0)
    assert loaded is not None
    assert nftables.rules_match(loaded, GUARD, features)
    assert nftables.delta(loaded, GUARD) == ""

    wrong = [found for case in CASES if (found := complaint(case, lab.send(case.frame, case.sender)))]

    assert wrong == [], "\n".join(wrong)


def test_a_binding_that_is_taken_away_leaves_a_port_without_any_right(lab: Lab, backend: Backend) -> None:
    backend.load(lab, GUARD)
    wanted = guard(B_BINDING, unknown_vifs="drop", closed=(A.port,))

    backend.change(lab, wanted)

    assert [str(case) for case in CASES if case.sender == A and not lab.send(case.frame).nothing] == []
    assert backend.finished(lab, wanted)


def test_an_audited_vif_lets_everything_pass(lab: Lab, backend: Backend) -> None:
    """But for what the kernel itself drops where it hands frames over to iptables."""
    kept_back = [str(case) for case in CASES if lab.send(case.frame, case.sender).nothing]

    backend.load(lab, guard(binding(A, mode="audit"), B_BINDING))

    assert [str(case) for case in CASES if lab.send(case.frame, case.sender).nothing] == kept_back


def test_an_audited_vif_is_counted(lab: Lab, features: Features) -> None:
    lab.load(nftables.full(guard(binding(A, mode="audit"), B_BINDING), features))

    assert hears(lab, FORGED)
    counted = lab.dom0.must("nft", "list", "set", "bridge", "domgit", "count_v4")
    assert f'"{A.port}" counter packets 1' in counted


def test_the_emulated_twin_of_a_port_has_the_same_binding(lab: Lab, backend: Backend) -> None:
    backend.load(lab, guard(binding(A, emulated=True)))
    twin = f"{A.port}-emu"
    lab.plug(twin, A.mac)
    try:
        honest, forged = (
            lab.send(udp4(A.v4, GATEWAY), replace(A, port=twin)),
            lab.send(FORGED, replace(A, port=twin)),
        )
    finally:
        lab.unplug(twin)

    assert UPLINK in honest.where
    assert forged.nothing


@pytest.mark.parametrize("policy", ["report", "drop"])
def test_a_port_that_nobody_declared_is_left_alone_or_closed(lab: Lab, backend: Backend, policy: str) -> None:
    closed = (UNKNOWN.port,) if policy == "drop" else ()
    backend.load(lab, guard(A_BINDING, B_BINDING, unknown_vifs="drop" if closed else "report", closed=closed))

    seen = lab.send(udp4(UNKNOWN.v4, GATEWAY, hardware=UNKNOWN.mac), UNKNOWN)

    assert seen.nothing == (policy == "drop")


@pytest.mark.parametrize("level", ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"])
def test_rules_read_back_as_ours_with_every_log_level(lab: Lab, features: Features, level: str) -> None:
    """What is the default is left out of nft's listing."""
    wanted = replace(GUARD, log=replace(LOG, level=level))

    lab.load(nftables.full(wanted, features))

    loaded = read_table(lab.dom0)
    assert loaded is not None
    assert nftables.rules_match(loaded, wanted, features)


def test_addresses_of_one_vif_may_overlap(lab: Lab, backend: Backend) -> None:
    wanted = guard(replace(A_BINDING, addresses=addresses("198.51.100.16/28", "198.51.100.17", "192.0.2.11")))

    backend.load(lab, wanted)

    assert backend.finished(lab, wanted)
    assert hears(lab, udp4("198.51.100.17", GATEWAY))
    assert hears(lab, udp4("198.51.100.18", GATEWAY))
    assert lab.send(udp4("198.51.100.32", GATEWAY)).nothing


SLOW_PROTOCOLS = (
    0x8809  # LACP's type, to a MAC that 802.1D reserves: taken from the port itself, not from the bridge
)


def _ear(device: str, protocol: int) -> socket.socket:
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
    raw.bind((device, protocol))
    raw.settimeout(DEADLINE_S)
    return raw


def test_what_passes_a_bridge_that_is_not_managed_is_left_alone(lab: Lab, backend: Backend) -> None:
    wanted = guard(A_BINDING, unknown_vifs="drop")
    sender, hearer = Namespace(), Namespace()
    lab.dom0.must("ip", "link", "add", "other0", "type", "bridge", "mcast_snooping", "0")
    try:
        for port, end in (("other1", sender), ("other2", hearer)):
            peer = ("type", "veth", "peer", "name", "eth0", "netns", end.path)
            lab.dom0.must("ip", "link", "add", port, *peer)
            lab.dom0.must("ip", "link", "set", port, "master", "other0", "up")
            end.must("ip", "link", "set", "eth0", "arp", "off", "up")
        lab.dom0.must("ip", "link", "set", "other0", "up")
        backend.load(lab, wanted)
        with lab.dom0.inside():
            port_itself = _ear("other1", SLOW_PROTOCOLS)
        with hearer.inside():
            behind = _ear("eth0", f.IPV4)
        with sender.inside():
            mouth = _ear("eth0", f.IPV4)
        forged = udp4(GATEWAY.v4, B)
        slow = f.ethernet("01:80:c2:00:00:02", A.mac, SLOW_PROTOCOLS, b"\1\1".ljust(110, b"\0"))

        mouth.send(forged)
        mouth.send(slow)

        assert behind.recv(2048) == forged
        assert port_itself.recv(2048) == slow
    finally:
        lab.dom0.must("ip", "link", "del", "other0")
        sender.close()
        hearer.close()


# What others may have done to our table, and what another version of this program may have left there.
_PREROUTING = "chain prerouting {\n\t\ttype filter hook prerouting priority dstnat - 10;"
_OWN_MAC = "set own_mac {\n\t\ttype ifname . ether_addr\n"
SPOILT = {
    "a rule": ("", "insert rule bridge domgit prerouting accept"),
    "a policy": ("", "add chain bridge domgit prerouting { policy drop; }"),
    "asleep": ("", "add table bridge domgit { flags dormant; }"),
    "a chain before ours": ("", "add chain bridge domgit a { type filter hook prerouting priority -400; }"),
    "a set": ("", "add set bridge domgit evil { type ifname; }"),
    "a counter": ("", "add counter bridge domgit evil"),
    "a chain elsewhere": (_PREROUTING, _PREROUTING.replace("dstnat - 10", "0")),
    "a set with timeouts": (_OWN_MAC, f"{_OWN_MAC}\t\tflags timeout\n"),
    "a set of another size": (_OWN_MAC, f"{_OWN_MAC}\t\tsize 9\n"),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_whatever_our_table_has_become_one_change_makes_it_ours_again(
    lab: Lab, features: Features, spoilt: str
) -> None:
    written, instead = SPOILT[spoilt]
    first = nftables.full(GUARD, features)
    lab.load(first.replace(written, instead) if written else f"{first}{instead}\n")
    before = read_table(lab.dom0)
    script, kind = nftables.script(before, GUARD, features)
    assert (script != "", kind) == (True, "rules")

    lab.load(script)

    assert nftables.script(read_table(lab.dom0), GUARD, features) == ("", "elements")
    assert lab.send(FORGED).nothing
