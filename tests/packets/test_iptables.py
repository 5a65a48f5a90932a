"""The iptables backend on the wire: what each half sees, each command of a change, rules of others, connection tracking."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from reconciler import guard as guard_package
from reconciler.guard import iptables as backend_iptables
from reconciler.guard.backend import move
from reconciler.guard.binding import Binding, Guard
from state.drops import read_drops
from state.files import Files
from state.foreign import read_foreign
from state.guard import read_guards
from state.iptables_guard import Variant
from state.nft import Features, Loader
from tests.packets import frames as f
from tests.packets.backends import IPTABLES, Backend, Iptables, Nftables, forget, run
from tests.packets.cases import ANY_MAC, CASES, LEGAL, STRANGER, arp, icmp6, udp4, udp6
from tests.packets.foreign_bench import Inside
from tests.packets.lab import Lab
from tests.packets.mutants import mutants
from tests.packets.parties import (
    A4_SECOND,
    A_BINDING,
    A_NET4,
    A_NET6,
    B_BINDING,
    B_NET4,
    B_NET6,
    BRIDGE,
    DOM0,
    GATEWAY,
    GUARD,
    LOG,
    UNKNOWN,
    UPLINK,
    A,
    B,
    Party,
    addresses,
    binding,
    guard,
)
from tests.packets.test_frames import complaint

pytestmark = pytest.mark.netns

# What ebtables cannot see, and passes therefore when br_netfilter hands nothing over: fields inside of DHCP and IGMP, what
# neighbour messages say, and what fragments hide. No address of another and no MAC is among them.
ONLY_IPTABLES_SEES = {
    "the hardware address inside of DHCP": (
        "dhcp discover for B's hardware address",
        "dhcp request for B's hardware address from the own address",
        "dhcp discover without a hardware address",
        "dhcp discover from another port for B's hardware address",
        "dhcp request as of a relay for B's hardware address",
        "a first fragment of a dhcp request, the own hardware address behind its end",
    ),
    "what routers say over IPv4, but for IGMP's query": (
        "distance vector probe",
        "icmp redirect",
        "icmp router advertisement",
        "igmp multicast router advertisement",
        "igmp multicast router termination",
        "pim hello",
        "pim hello of version 1",
    ),
    "IGMP and PIM in later fragments": (
        "a later fragment that is an igmp query",
        "a later fragment that is an igmp query for one group",
        "a later fragment that is an igmp multicast router advertisement",
        "a later fragment that is a pim hello",
        "a later fragment from the own prefix, an igmp query",
        "a later fragment whose payload looks like an igmp query",
        "the last fragment that there can be, an igmp query",
    ),
    "PIM over IPv6": ("pim hello over IPv6", "pim hello behind destination options"),
    "targets, options and lengths of neighbour messages": (
        "neighbor: advertises the gateway",
        "neighbor: advertises the gateway to B",
        "neighbor: advertises the gateway to dom0",
        "neighbor: advertises B without option",
        "neighbor: advertises B's prefix",
        "neighbor: advertises the own address at a stranger's MAC",
        "neighbor: advertises with a second option",
        "neighbor: advertises with a foreign option first",
        "neighbor: advertises with a source option",
        "neighbor: advertises the gateway behind hop-by-hop options",
        "neighbor: advertises the gateway behind destination options",
        "neighbor: solicits with B's MAC",
        "neighbor: solicits with two options",
        "neighbor: solicits with a target option",
        "neighbor: detects a duplicate of the gateway",
        "neighbor: detects a duplicate of B, with nonce",
        "neighbor: detects a duplicate with a MAC",
        "neighbor: router solicitation with B's MAC",
        "neighbor: router solicitation without address, with a MAC",
        "neighbor: advertises the gateway from the own prefix",
        "neighbor: advertises an address in the own prefix at a stranger's MAC",
        "neighbor: solicits with B's MAC from the own prefix",
        "neighbor: router solicitation with B's MAC from the own prefix",
        "neighbor: detects a duplicate in the own prefix with a MAC",
        "neighbor: advertises the gateway in a first fragment",
        "neighbor: solicits in a first fragment",
        "neighbor: solicits routers in a first fragment",
        "neighbor: advertises the gateway behind destination options, the own address behind its end",
    ),
    "a router's message that begins in one fragment and goes on in another": tuple(
        f"router advertisement: in the {which} fragment behind {what}"
        for what in (
            "hop-by-hop options",
            "destination options",
            "routing",
            "a fragment header",
            "an authentication header",
        )
        for which in ("first", "second")
    ),
}


def test_without_br_netfilter_exactly_what_ebtables_cannot_see_passes(lab: Lab, iptables: Iptables) -> None:
    lab.filter_by_iptables(enabled=False)
    iptables.load(lab, GUARD)

    wrong = {
        case.name: found for case in CASES if (found := complaint(case, lab.send(case.frame, case.sender)))
    }

    assert sorted(wrong) == sorted(name for names in ONLY_IPTABLES_SEES.values() for name in names), wrong


@pytest.mark.parametrize("seed", range(4))
def test_no_frame_passes_that_the_other_backend_stops(lab: Lab, iptables: Iptables, seed: int) -> None:
    own = [case.frame for case in CASES if case.sender == A]
    sent = list(mutants(own, 1500, Random(seed)))  # noqa: S311  # the same frames each time

    def passing_of(backend: Backend) -> list[bool]:
        backend.load(lab, GUARD)
        lab.restore()
        heard = [bool(where) for where in lab.send_all(sent)]
        forget(lab)
        return heard

    stopped = passing_of(Nftables())
    passed = passing_of(iptables)

    assert any(passed)
    assert [
        frame.hex(" ")
        for frame, one, other in zip(sent, stopped, passed, strict=True)
        if other and not one and not (iptables.variant == "nft" and is_cut_behind_ipv6(frame))
    ] == []


def is_cut_behind_ipv6(frame: bytes) -> bool:
    """Whether an extension header of IPv6 ends behind the packet: listed in docs/guard.md, "What it cannot stop"."""
    header, at, end = frame[20], 54, 54 + int.from_bytes(frame[18:20], "big")
    while frame[12:14] == b"\x86\xdd" and header in {0, 43, 44, 60}:
        if at + 8 > min(end, len(frame)):
            return True
        size = 8 if header == 44 else (frame[at + 1] + 1) * 8  # a fragment header has one size
        header, at = frame[at], at + size
    return at > min(end, len(frame))


def test_a_bridge_hands_over_by_its_own_switch_where_the_hosts_is_off(lab: Lab, iptables: Iptables) -> None:
    lab.filter_by_iptables(enabled=False)
    iptables.load(lab, GUARD)

    own_switches = ("ip", "link", "set", "dev", BRIDGE, "type", "bridge")
    lab.dom0.must(*own_switches, "nf_call_iptables", "1", "nf_call_ip6tables", "1")
    try:
        wrong = [found for case in CASES if (found := complaint(case, lab.send(case.frame, case.sender)))]
    finally:
        lab.dom0.must(*own_switches, "nf_call_iptables", "0", "nf_call_ip6tables", "0")

    assert wrong == [], "\n".join(wrong)


def test_without_ebtables_no_address_of_ip_is_forged_all_the_same(lab: Lab, iptables: Iptables) -> None:
    iptables.load(lab, GUARD)
    lab.dom0.must("ebtables-nft", "-t", "nat", "-F")

    for source in (B.v4, GATEWAY.v4, DOM0.v4):
        assert lab.send(udp4(source, B if source != B.v4 else GATEWAY)).nothing
    for source in (B.v6, GATEWAY.v6, DOM0.v6):
        assert lab.send(udp6(source, B if source != B.v6 else GATEWAY)).nothing
    assert UPLINK in lab.send(udp4(A.v4, GATEWAY)).where


def test_a_port_that_no_rule_knows_sends_no_ip_where_unknown_ones_are_dropped(
    lab: Lab, iptables: Iptables
) -> None:
    """Also where ebtables cannot tell a frame's bridge: iptables can. So a port that was renamed is no way around."""
    iptables.load(lab, guard(A_BINDING, B_BINDING, unknown_vifs="drop"))

    for target in (B, GATEWAY, DOM0):
        own4 = udp4(UNKNOWN.v4, target, hardware=UNKNOWN.mac)
        own6 = udp6(UNKNOWN.v6, target, hardware=UNKNOWN.mac)
        assert [lab.send(frame, UNKNOWN).nothing for frame in (own4, own6)] == [True, True]
    assert UPLINK in lab.send(udp4(A.v4, GATEWAY)).where


def from_port(party: Party, source: str) -> bytes:
    """A datagram to the gateway with a party's own MAC and any source."""
    return f.ethernet(GATEWAY.mac, party.mac, f.IPV4, udp4(source, GATEWAY)[14:])


# Where addresses go: from what, to what.
CHANGES = {
    "an address is added": (guard(binding(A), B_BINDING), guard(binding(A, A4_SECOND), B_BINDING)),
    "an address is taken away": (guard(binding(A, A4_SECOND), B_BINDING), guard(binding(A), B_BINDING)),
    "two swap their addresses": (
        guard(binding(A, A4_SECOND, A_NET4, A_NET6), binding(B, B_NET4, B_NET6)),
        guard(binding(A, B_NET4, B_NET6), binding(B, A4_SECOND, A_NET4, A_NET6)),
    ),
    "an address of IPv6 is added": (guard(binding(A)), guard(binding(A, "2001:db8::13"))),
    "an address of IPv6 is taken away": (guard(binding(A, "2001:db8::13")), guard(binding(A))),
    "one becomes audited": (GUARD, guard(replace(A_BINDING, mode="audit"), B_BINDING)),
    "one is audited no more": (guard(replace(A_BINDING, mode="audit"), B_BINDING), GUARD),
    "one goes": (GUARD, guard(B_BINDING, unknown_vifs="drop", closed=(A.port,))),
    "one comes": (guard(B_BINDING, unknown_vifs="drop", closed=(A.port,)), GUARD),
    "one gets another MAC": (
        guard(binding(replace(A, mac="00:00:5e:00:53:1a")), B_BINDING),
        guard(binding(A), B_BINDING),
    ),
}
SOURCES = (A.v4, A4_SECOND, "198.51.100.17", "198.51.100.33", B.v4, GATEWAY.v4)


TARGETS = (A.v6, "2001:db8::13", "2001:db8:a::5", "2001:db8:b::5", B.v6, GATEWAY.v6)


def told(party: Party, target: str) -> bytes:
    """A neighbour advertisement of any address, from the one that a party always has."""
    body = f.neighbor(target, 0x60) + f.link_layer_option(2, party.mac)
    return icmp6(party.link_local, GATEWAY.v6, f.NA, body, hardware=party.mac, to=GATEWAY.mac)


def asked(party: Party, source: str) -> bytes:
    """An ARP request with any sender."""
    return arp(1, (party.mac, source), (ANY_MAC, GATEWAY.v4), to=GATEWAY.mac, hardware=party.mac)


def passing(lab: Lab) -> set[tuple[str, str, str]]:
    """(port, kind, address) of all that reaches the gateway: datagrams, ARP, and advertisements, which ip6tables alone reads."""
    frames = {
        (party, kind, address): make(party, address)
        for party in (A, B)
        for kind, make, addresses in (
            ("udp", from_port, SOURCES),
            ("arp", asked, SOURCES),
            ("nd", told, TARGETS),
        )
        for address in addresses
    }
    return {
        (party.port, kind, address)
        for (party, kind, address), frame in frames.items()
        if UPLINK in lab.send(frame, party).where
    }


@pytest.mark.parametrize("change", CHANGES)
def test_behind_each_command_of_a_change_only_what_both_guards_allow_passes(
    lab: Lab, iptables: Iptables, change: str
) -> None:
    before, after = CHANGES[change]
    iptables.load(lab, after)
    new = passing(lab)
    iptables.change(lab, before)
    old = passing(lab)
    kept = (
        {each for each in old & new if each[0] == B.port} if change != "two swap their addresses" else set()
    )
    assert iptables.finished(lab, before)

    for step in iptables.steps(lab, after):
        run(lab, [step])
        now = passing(lab)
        assert now <= old & new or now in (old, new), step.stdin
        assert kept <= now, step.stdin

    assert passing(lab) == new
    assert iptables.finished(lab, after)


def _neighbours(count: int) -> tuple[Binding, ...]:
    """Guests that are not plugged: their bindings come and go, and with them the ways to all ports."""
    return tuple(
        binding(
            Party(
                f"vm1{number}",
                f"00:00:5e:00:54:{number:02x}",
                f"192.0.2.{100 + number}",
                f"2001:db8::1{number}",
            )
        )
        for number in range(count)
    )


def test_under_traffic_a_change_loses_no_frame_of_another_and_lets_no_forged_one_through(
    lab: Lab, iptables: Iptables
) -> None:
    guards = [guard(A_BINDING, B_BINDING, *_neighbours(count)) for count in (0, 3, 10, 5, 1)]
    guards += [guard(binding(A, *more), B_BINDING, *_neighbours(4)) for more in ((), (A4_SECOND,), (B_NET4,))]
    iptables.load(lab, guards[-1])
    lab.restore()
    lab.drain()
    ended, sent = threading.Event(), itertools.count()

    def talk() -> None:
        while not ended.is_set():
            lab.sockets[B.port].send(from_port(B, B.v4))
            next(sent)
            lab.sockets[A.port].send(udp4(B.v4, GATEWAY))
            lab.sockets[A.port].send(udp6(B.v6, GATEWAY))

    stream = threading.Thread(target=talk)
    stream.start()
    try:
        for wanted in guards * 2:
            iptables.change(lab, wanted)
    finally:
        ended.set()
        stream.join()
    heard = lab.heard(UPLINK)

    count = next(sent)
    assert count > len(guards)
    assert sum(frame[6:12] == bytes.fromhex(B.mac.replace(":", "")) for frame in heard) == count
    assert [frame for frame in heard if frame[6:12] == bytes.fromhex(A.mac.replace(":", ""))] == []


@pytest.mark.parametrize("made", range(6))
def test_a_change_is_taken_back_wherever_it_was_interrupted(lab: Lab, iptables: Iptables, made: int) -> None:
    before, after = CHANGES["two swap their addresses"]
    iptables.load(lab, before)
    loaded = iptables.loaded(lab)
    run(lab, iptables.steps(lab, after)[:made])

    run(lab, backend_iptables.undo(loaded, after, variant=iptables.variant))
    run(lab, backend_iptables.undo(loaded, after, variant=iptables.variant))

    assert iptables.loaded(lab) == loaded
    assert (A.port, "udp", A4_SECOND) in passing(lab)


FOREIGN = {
    "ebtables-nft-restore": "*nat\n:mine RETURN\n-A mine -s 00:00:5e:00:53:99 -j DROP\n-A PREROUTING -j mine\nCOMMIT\n",
    "iptables": "*raw\n:mine - [0:0]\n-A mine -s 203.0.113.77/32 -j DROP\n-A PREROUTING -j mine\nCOMMIT\n",
    "ip6tables": "*raw\n:mine - [0:0]\n-A mine -s 2001:db8:77::/48 -j DROP\n-A PREROUTING -j mine\nCOMMIT\n",
}


# Counters move with traffic, comments hold the time; which members of a set come first is the kernel's business.
MOVING = re.compile(r"^#.*\n| \[\d+:\d+\]| initval \S+", re.MULTILINE)
# A table that was used once is there for good, and empty.
UNUSED = re.compile(r"^\*\w+\n(?::\w+ ACCEPT\n)+(?:COMMIT\n|(?=\*)|\Z)", re.MULTILINE)


def saved(lab: Lab, iptables: Iptables) -> str:
    """Everything that any tool has, but for what moves by itself."""
    rules = [
        lab.dom0.must(*argv)
        for argv in (
            ("ebtables-nft-save",),
            *((f"{tool}-{iptables.variant}-save", "-t", "raw") for tool in ("iptables", "ip6tables")),
        )
    ]
    sets = sorted(MOVING.sub("", lab.dom0.must("ipset", "save")).splitlines())
    return UNUSED.sub("", MOVING.sub("", "".join(rules))) + "\n".join(sets)


def test_rules_of_others_stay_as_they_are_and_all_of_ours_goes(lab: Lab, iptables: Iptables) -> None:
    for tool, text in FOREIGN.items():
        argv = [tool] if "-" in tool else [f"{tool}-{iptables.variant}-restore"]
        lab.dom0.must(*argv, "--noflush", stdin=text)
    before = saved(lab, iptables)
    iptables.load(lab, GUARD)
    iptables.change(lab, guard(binding(A)))

    run(lab, backend_iptables.remove(iptables.loaded(lab), variant=iptables.variant))

    assert saved(lab, iptables) == before
    assert iptables.loaded(lab) is None


@pytest.mark.parametrize("others", [False, True], ids=["alone", "beside rules of others"])
def test_nothing_of_ours_is_taken_for_rules_of_others(lab: Lab, iptables: Iptables, *, others: bool) -> None:
    for tool, text in FOREIGN.items() if others else ():
        lab.dom0.must(
            *([tool] if "-" in tool else [f"{tool}-{iptables.variant}-restore"]), "--noflush", stdin=text
        )
    files: Files = Inside(lab)  # type: ignore[assignment]  # nothing but texts is read of it
    before = read_foreign(lab.dom0, files)

    iptables.load(lab, GUARD)

    assert read_foreign(lab.dom0, files) == before
    assert bool(before.rules) == others


def test_loading_it_twice_changes_nothing_and_our_jump_comes_first(lab: Lab, iptables: Iptables) -> None:
    iptables.load(lab, GUARD)
    once = saved(lab, iptables)

    iptables.load(lab, GUARD)
    assert saved(lab, iptables) == once

    lab.dom0.must("ebtables-nft", "-t", "nat", "-I", "PREROUTING", "-j", "ACCEPT")
    assert not iptables.finished(lab, GUARD)
    assert UPLINK in lab.send(udp4(A.v4, GATEWAY, hardware=STRANGER)).where
    assert lab.send(udp4(B.v4, GATEWAY, hardware=B.mac)).nothing
    iptables.change(lab, GUARD)
    assert iptables.finished(lab, GUARD)
    assert lab.send(udp4(A.v4, GATEWAY, hardware=STRANGER)).nothing


def test_a_port_without_a_name_of_its_own_is_bound_by_the_script_alone_and_sorted_in_later(
    lab: Lab, iptables: Iptables
) -> None:
    iptables.load(lab, guard(B_BINDING, unknown_vifs="drop", closed=("extra0",)))
    template = replace(A_BINDING, interface="@PORT@")
    steps = backend_iptables.binding_steps(template, variant=iptables.variant)

    run(lab, (replace(step, stdin=step.stdin.replace("@PORT@", A.port)) for step in steps))

    wanted = guard(A_BINDING, B_BINDING, unknown_vifs="drop", closed=("extra0",))
    loaded = iptables.loaded(lab)
    assert loaded is not None
    assert iptables.finished(lab, wanted)
    more = guard(replace(A_BINDING, addresses=(*A_BINDING.addresses, *addresses("192.0.2.99"))), B_BINDING)
    for _ in range(2):
        wrong = [found for case in CASES if (found := complaint(case, lab.send(case.frame, case.sender)))]
        assert wrong == [], "\n".join(wrong)
        iptables.change(lab, replace(more, unknown_vifs="drop", closed=("extra0",)))  # which sorts it in
        iptables.change(lab, wanted)
    again = iptables.loaded(lab)
    assert again is not None
    assert again.elements == loaded.elements
    assert iptables.finished(lab, wanted)


LEVELS = ("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug")


@pytest.mark.parametrize(
    ("level", "prefix", "count", "per"),
    [
        *((level, "Dropped by firewall: ", 15, "minute") for level in LEVELS),
        ("debug", "", 60, "minute"),
        ("warn", "x" * 60, 7, "hour"),
        ("info", "a-b_(c)", 24, "hour"),
    ],
)
def test_rules_read_back_as_ours_however_drops_are_logged(
    lab: Lab, iptables: Iptables, level: str, prefix: str, count: int, per: str
) -> None:
    log = replace(LOG, level=level, prefix=prefix, count=count, per=per)  # type: ignore[arg-type]  # of the parameters
    wanted: Guard = replace(GUARD, log=log)

    iptables.load(lab, wanted)

    assert iptables.finished(lab, wanted)


def test_drops_are_counted_by_port_and_reason(lab: Lab, iptables: Iptables) -> None:
    iptables.load(lab, GUARD)
    lab.send(udp4(B.v4, GATEWAY))
    lab.send(udp4(A.v4, GATEWAY, hardware=STRANGER))
    lab.send(udp4(A.v4, GATEWAY, hardware=STRANGER))

    listed = lab.dom0.must("ebtables-nft", "-t", "nat", "-L", f"domgit/{A.port}", "--Lc")

    assert "-j domgit.drop.mac , pcnt = 2 " in listed
    assert "-j domgit.drop.v4 , pcnt = 1 " in listed


TRACKING = "*filter\n:domgit_test - [0:0]\n-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\nCOMMIT\n"


ROUTES = f"route add 203.0.113.51 via {GATEWAY.v4}\nroute add 2001:db8:51::1 via {GATEWAY.v6}\n"


def test_what_only_passes_takes_no_entry_of_connection_tracking_and_what_dom0_gets_does(
    lab: Lab, iptables: Iptables
) -> None:
    for tool in ("iptables", "ip6tables"):
        lab.dom0.must(f"{tool}-{iptables.variant}-restore", "--noflush", stdin=TRACKING)
    outside = f.ipv4("203.0.113.50", A.v4, f.UDP, f.udp("203.0.113.50", A.v4, (53, 5000), b"answer"))
    inwards = f.ethernet(A.mac, GATEWAY.mac, f.IPV4, outside)
    routed = f.ipv4(A.v4, "203.0.113.51", f.UDP, f.udp(A.v4, "203.0.113.51", (53, 5000), b"question"))
    routed6 = f.ipv6(A.v6, "2001:db8:51::1", f.UDP, f.udp(A.v6, "2001:db8:51::1", (53, 5000), b"question"))

    def talk() -> str:
        lab.dom0.must("conntrack", "-F")
        for frame in (
            udp4(A.v4, GATEWAY),
            udp4(A.v4, B),
            udp6(A.v6, B),
            udp4(A.v4, DOM0),
            udp6(A.v6, DOM0),
            f.ethernet(DOM0.mac, A.mac, f.IPV4, routed),
            f.ethernet(DOM0.mac, A.mac, f.IPV6, routed6),
        ):
            lab.send(frame)
        lab.send(inwards, GATEWAY)
        return lab.dom0.must("conntrack", "-L") + lab.dom0.must("conntrack", "-L", "-f", "ipv6")

    passing_by = (
        f"src={A.v4} dst={GATEWAY.v4}",
        f"src={A.v4} dst={B.v4}",
        f"src={A.v6} dst={B.v6}",
        f"src=203.0.113.50 dst={A.v4}",
    )
    for_dom0 = (
        f"src={A.v4} dst={DOM0.v4}",
        f"src={A.v6} dst={DOM0.v6}",
        f"src={A.v4} dst=203.0.113.51",
        f"src={A.v6} dst=2001:db8:51::1",
    )
    # dom0 routes: what it cannot tell from what only passes would lose its translation.
    lab.dom0.sysctl({"ipv4/conf/all/forwarding": 1, "ipv6/conf/all/forwarding": 1})
    lab.dom0.must("ip", "-batch", "-", stdin=ROUTES)
    try:
        without = talk()
        iptables.load(lab, replace(GUARD, bridges=(replace(GUARD.bridges[0], mac=DOM0.mac),)))
        found = talk()
        lab.filter_by_iptables(enabled=False)
        not_handed_over = talk()
    finally:
        lab.dom0.must("ip", "-batch", "-", stdin=ROUTES.replace("add", "del"))
        lab.dom0.sysctl({"ipv4/conf/all/forwarding": 0, "ipv6/conf/all/forwarding": 0})

    # Without the guard each of them has an entry: the test would see it.
    assert [each for each in (*passing_by, *for_dom0) if each not in without] == []
    assert [each for each in (*passing_by, *for_dom0) if each in found] == [*for_dom0]
    assert [each for each in (*passing_by, *for_dom0) if each in not_handed_over] == [*for_dom0]


def test_no_bit_of_a_mark_is_left_on_what_a_guest_sends(lab: Lab, iptables: Iptables) -> None:
    for tool in ("iptables", "ip6tables"):
        text = f"*mangle\n-A PREROUTING -i {BRIDGE} -m mark ! --mark 0x0 -j DROP\nCOMMIT\n"
        lab.dom0.must(f"{tool}-{iptables.variant}-restore", "--noflush", stdin=text)
    iptables.load(lab, replace(GUARD, bridges=(replace(GUARD.bridges[0], mac=DOM0.mac),)))

    for enabled in (True, False):
        lab.filter_by_iptables(enabled=enabled)
        wrong = [found for case in LEGAL if (found := complaint(case, lab.send(case.frame, case.sender)))]
        assert wrong == [], "\n".join(wrong)
        # A port that nobody declared is left alone: its frames are looked at as well.
        silent = [case.name for case in LEGAL if case.sender == A and lab.send(case.frame, UNKNOWN).nothing]
        assert silent == []


def test_what_is_refused_is_counted_by_port_and_reason_and_a_change_of_others_leaves_it(
    lab: Lab, iptables: Iptables
) -> None:
    wanted = guard(replace(A_BINDING, mode="audit"), B_BINDING)
    iptables.load(lab, wanted)
    forged = [udp4(GATEWAY.v4, DOM0)] * 3 + [udp4(A.v4, DOM0, hardware=GATEWAY.mac)] * 2
    for frame in (*forged, f.ethernet(DOM0.mac, A.mac, 0x88B5, b"x" * 46)):
        lab.sockets[A.port].send(frame)
    lab.sockets[B.port].send(f.ethernet(DOM0.mac, B.mac, f.IPV4, udp4(A.v4, DOM0)[14:]))

    drops = read_drops(lab.dom0, Inside(lab))  # type: ignore[arg-type]  # nothing but texts is read of it
    iptables.change(lab, replace(wanted, bindings=(wanted.bindings[0],)))
    after = read_drops(lab.dom0, Inside(lab))  # type: ignore[arg-type]  # as above

    assert drops is not None
    assert after is not None
    packets = {
        port: {reason: count.packets for reason, count in reasons.items()}
        for port, reasons in drops.counts.items()
    }
    assert packets == {A.port: {"v4": 3, "mac": 2, "type": 1}, B.port: {"v4": 1}}
    assert drops.prefix == LOG.prefix
    assert after.counts == {A.port: drops.counts[A.port]}


# The hotplug script's functions, without what it does when it is called.
SCRIPT = Path(guard_package.__file__).with_name("vif-domgit").read_text(encoding="utf-8")
FUNCTIONS = "".join(
    match[0]
    for match in re.finditer(
        r"^(?:rules_of|saved|unbind_rules)\(\).*?^\}\n", SCRIPT, re.MULTILINE | re.DOTALL
    )
)


def test_the_script_neither_counts_nor_takes_away_rules_of_others_that_name_a_port(
    lab: Lab, iptables: Iptables
) -> None:
    def script(command: str) -> str:
        return lab.dom0.must("sh", "-c", f"variant={iptables.variant}\n{FUNCTIONS}{command}")

    iptables.load(lab, GUARD)
    ours = script(f"saved | rules_of {A.port}")
    smtp = ("-p", "tcp", "--dport", "25", "-j", "DROP")
    lab.dom0.must("ebtables-nft", "-A", "FORWARD", "-i", A.port, "-p", "ARP", "-j", "DROP")
    for tool in ("iptables", "ip6tables"):
        lab.dom0.must(
            *(f"{tool}-{iptables.variant}", "-t", "raw", "-A", "PREROUTING"),
            *("-m", "physdev", "--physdev-in", A.port, *smtp),
        )
    theirs = [
        line for line in saved(lab, iptables).splitlines() if line.endswith("-j DROP") and A.port in line
    ]

    assert script(f"saved | rules_of {A.port}") == ours
    script(f"unbind_rules {A.port} || true")

    left = [line for line in saved(lab, iptables).splitlines() if A.port in line]
    assert len(theirs) == 3
    assert left == theirs


_LOADERS: Mapping[Variant, Loader] = {"nft": "iptables-nft", "legacy": "iptables-legacy"}


def forging(lab: Lab) -> list[str]:
    """What of a forged MAC, a forged ARP sender and a forged address gets anywhere."""
    forged = {
        "mac": udp4(A.v4, GATEWAY, hardware=STRANGER),
        "arp": asked(A, B.v4),
        "v4": udp4(B.v4, GATEWAY),
        "v6": udp6(B.v6, GATEWAY),
    }
    return [name for name, frame in forged.items() if not lab.send(frame).nothing]


def test_a_host_goes_over_to_its_other_variant_and_stays_guarded(lab: Lab, iptables: Iptables) -> None:
    """Both variants have one ebtables and the same sets."""
    lab.filter_by_iptables(enabled=True)
    old = next(each for each in IPTABLES if each != iptables)
    old.load(lab, GUARD)
    files: Files = Inside(lab)  # type: ignore[assignment]  # nothing but texts is read of it
    guards = read_guards(lab.dom0, files)
    assert [each.by for each in guards] == [old.name]
    moved = move(_LOADERS[iptables.variant], guards, GUARD, Features(ibrname=False))

    for step in moved.steps:
        run(lab, [step])
        assert forging(lab) == [], step.stdin

    assert [each.by for each in read_guards(lab.dom0, files)] == [iptables.name]
    assert iptables.finished(lab, GUARD)
    for _ in range(2):
        for step in moved.undo:
            run(lab, [step])
            assert forging(lab) == [], step.stdin
        assert [each.by for each in read_guards(lab.dom0, files)] == [old.name]
        assert old.finished(lab, GUARD)
    assert UPLINK in lab.send(udp4(A.v4, GATEWAY)).where


@pytest.mark.parametrize("flushed", ["ebtables", "iptables"])
def test_what_a_flush_has_left_of_ours_goes_with_the_backend(
    lab: Lab, iptables: Iptables, flushed: str
) -> None:
    """It would go on dropping what it does not know, and nobody would see it."""
    iptables.load(lab, guard(binding(A), B_BINDING))
    files: Files = Inside(lab)  # type: ignore[assignment]  # nothing but texts is read of it
    gone = {
        "ebtables": [("ebtables-nft", "-t", table) for table in ("nat", "filter")],
        "iptables": [(f"{tool}-{iptables.variant}", "-t", "raw") for tool in ("iptables", "ip6tables")],
    }
    for argv in gone[flushed]:
        lab.dom0.must(*argv, "-F")
        lab.dom0.must(*argv, "-X")
    if flushed == "iptables":
        lab.dom0.must("ipset", "destroy")
    wanted = guard(binding(A, "192.0.2.99"), B_BINDING)

    run(lab, move("nftables", read_guards(lab.dom0, files), wanted, Features(ibrname=False)).steps)

    assert [each.by for each in read_guards(lab.dom0, files)] == ["nftables"]
    assert UPLINK in lab.send(udp4("192.0.2.99", GATEWAY)).where
    assert "domgit" not in saved(lab, iptables)


@pytest.mark.parametrize("made", range(8))
def test_what_the_script_binds_in_the_middle_of_a_change_stays_bound(
    lab: Lab, iptables: Iptables, made: int
) -> None:
    first, template = (
        replace(binding(party), interface=party.port)
        for party in (Party("vif7.0", "00:00:5e:00:53:77", "192.0.2.77", "2001:db8::77"), A)
    )
    iptables.load(lab, guard(B_BINDING))
    run(lab, backend_iptables.binding_steps(first, variant=iptables.variant))
    steps = iptables.steps(lab, guard(binding(B, B_NET4), first))

    run(lab, steps[:made])
    run(lab, backend_iptables.binding_steps(template, variant=iptables.variant))
    run(lab, steps[made:])

    assert forging(lab) == []
    assert UPLINK in lab.send(udp4(A.v4, GATEWAY)).where


STATEFUL = "*filter\n:INPUT DROP [0:0]\n-A INPUT -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT\nCOMMIT\n"


def test_rules_of_dom0_that_ask_for_a_state_see_broadcasts_and_what_dom0_routes(
    lab: Lab, iptables: Iptables
) -> None:
    wanted = replace(GUARD, bridges=(replace(GUARD.bridges[0], mac=DOM0.mac),))
    iptables.load(lab, wanted)
    assert iptables.finished(lab, wanted)
    for tool in ("iptables", "ip6tables"):
        lab.dom0.must(f"{tool}-{iptables.variant}-restore", "--noflush", stdin=STATEFUL)
    lab.dom0.must("conntrack", "-F")
    data = f.udp(A.v4, "255.255.255.255", (5000, 5001), b"whoever hears it")
    broadcast = f.ipv4(A.v4, "255.255.255.255", f.UDP, data)
    outside = f.ipv4("203.0.113.50", A.v4, f.UDP, f.udp("203.0.113.50", A.v4, (53, 5000), b"answer"))

    lab.send(f.ethernet("ff:ff:ff:ff:ff:ff", A.mac, f.IPV4, broadcast))
    lab.dom0.sysctl({"ipv4/conf/all/forwarding": 1})
    try:
        lab.send(f.ethernet(DOM0.mac, GATEWAY.mac, f.IPV4, outside), GATEWAY)
    finally:
        lab.dom0.sysctl({"ipv4/conf/all/forwarding": 0})

    tracked = lab.dom0.must("conntrack", "-L")
    assert f"src={A.v4} dst=255.255.255.255" in tracked
    assert f"src=203.0.113.50 dst={A.v4}" in tracked


@pytest.mark.parametrize("change", ["one comes", "one goes", "everything comes"])
def test_a_change_is_taken_back_wherever_it_was_interrupted_chains_that_were_never_made_among_it(
    lab: Lab, iptables: Iptables, change: str
) -> None:
    before, after = CHANGES.get(change, (None, GUARD))
    if before is not None:
        iptables.load(lab, before)
    loaded = iptables.loaded(lab)
    made = iptables.steps(lab, after)
    undo = backend_iptables.undo(loaded, after, variant=iptables.variant)

    for count in (0, 1, len(made) // 2, len(made)):
        run(lab, made[:count])
        run(lab, undo)
        run(lab, undo)
        assert iptables.loaded(lab) == loaded, count
