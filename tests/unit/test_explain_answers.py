"""What `domgit explain` tells of a packet: who claims what, what is bound, and whose it is."""

from __future__ import annotations

import json

import pytest

from reconciler.explain.answer import Answer, People, answered, document, shown, text
from reconciler.explain.host import explainer
from reconciler.explain.judge import Judge
from reconciler.explain.packet import described
from reconciler.guard.binding import Guard
from state.nft import Features
from tests.packets import frames as f
from tests.packets.cases import arp, udp4
from tests.packets.parties import A4_SECOND, A_NET4, A_NET6, B_BINDING, GATEWAY, GUARD, A, B, binding, guard
from tests.unit.worlds import desired

PEOPLE = People({"uuid-of-vm01": "web", "uuid-of-vm02": "mail"}, {GATEWAY.v4: "the gateway of xenbr0"})
A_VIF, B_VIF = "vm01 (domu.web vif 0)", "vm02 (domu.mail vif 0)"


def ask(words: str, of: Guard = GUARD) -> Answer:
    judge = Judge.of(of, Features(ibrname=True))
    return answered(described(words.split(), of, {}), judge, PEOPLE)


@pytest.mark.parametrize(
    ("words", "reason", "why"),
    [
        ("vif=vm01", "", f"it claims nothing but what is bound to {A_VIF}"),
        (f"vif=vm01 src={B.v4}", "v4", f"source address {B.v4} is not bound to {A_VIF}, but to {B_VIF}"),
        (
            f"vif=vm01 src={GATEWAY.v4}",
            "v4",
            f"source address {GATEWAY.v4} is not bound to {A_VIF}, and is the gateway of xenbr0",
        ),
        (
            "vif=vm01 src=203.0.113.9",
            "v4",
            f"source address 203.0.113.9 is not bound to {A_VIF}, nor to any other vif",
        ),
        (f"vif=vm01 smac={B.mac}", "mac", f"source MAC {B.mac} is not bound to {A_VIF}, but to {B_VIF}"),
        (
            f"vif=vm01 op=reply src={GATEWAY.v4}",
            "arp",
            f"sender address of the ARP {GATEWAY.v4} is not bound to {A_VIF}, and is the gateway of xenbr0",
        ),
        (
            f"vif=vm01 op=request src=0.0.0.0 target={B.v4}",
            "arp",
            f"address that the ARP probes for {B.v4} is not bound to {A_VIF}, but to {B_VIF}",
        ),
        (
            f"vif=vm01 op=request sender-mac={B.mac}",
            "arp",
            f"sender MAC of the ARP {B.mac} is not bound to {A_VIF}, but to {B_VIF}",
        ),
        (
            "vif=vm01 op=8",
            "arp",
            "it is no request or reply of Ethernet and IPv4 from a bound address, and no probe for one",
        ),
        (
            "vif=vm01 src=0.0.0.0",
            "v4",
            "it has no source address, and is neither a DHCP client's broadcast nor an IGMP report to a group",
        ),
        ("vif=vm01 igmp=report src=0.0.0.0", "", f"it claims nothing but what is bound to {A_VIF}"),
        (
            f"vif=vm01 dport=67 chaddr={B.mac}",
            "dhcp",
            f"hardware address in the DHCP message {B.mac} is not bound to {A_VIF}, but to {B_VIF}",
        ),
        (
            "vif=vm01 dport=68",
            "dhcp",
            "guests are no DHCP servers, and ask in one piece, for their own hardware address",
        ),
        (
            f"vif=vm01 src={B.v4} dport=68",  # that, and not whose address it is, is what the first rule asks
            "dhcp",
            "guests are no DHCP servers, and ask in one piece, for their own hardware address",
        ),
        (
            f"vif=vm01 icmp=na target={B.v6}",
            "nd",
            f"address that the advertisement is about {B.v6} is not bound to {A_VIF}, but to {B_VIF}",
        ),
        (
            f"vif=vm01 icmp=ns src=:: target={B.v6}",
            "nd",
            f"address that is tested for duplicates {B.v6} is not bound to {A_VIF}, but to {B_VIF}",
        ),
        (
            f"vif=vm01 icmp=rs option=sll:{B.mac}",
            "nd",
            f"MAC in the option {B.mac} is not bound to {A_VIF}, but to {B_VIF}",
        ),
        (
            "vif=vm01 icmp=na ext=dst",
            "nd",
            "neighbour discovery passes right behind the IPv6 header, about bound addresses, with no option or the own MAC as the only one",
        ),
        (
            "vif=vm01 icmp=ra",
            "router",
            "guests have no router's role: no advertisement, redirect, membership query or node information, and no part of a packet that a bridge may take for one",
        ),
        (
            "vif=vm01 igmp=report frag=later",
            "router",
            "guests have no router's role: no advertisement, redirect, membership query or node information, and no part of a packet that a bridge may take for one",
        ),
        (
            f"vif=vm01 dst={B.v6} frag=0 ext=dst",
            "v6",
            "it has no source address that passes there, or a header behind which nobody can look",
        ),
        (
            "vif=vm01 vlan=7",
            "type",
            "a VLAN tag, VLAN 7 is refused: only IPv4, ARP and IPv6 without a tag pass",
        ),
        ("vif=vm01 type=pppoe", "type", "type 0x8864 is refused: only IPv4, ARP and IPv6 without a tag pass"),
        (
            "vif=vm01 type=0x26",
            "type",
            "802.3 with a length in place of a type is refused: only IPv4, ARP and IPv6 without a tag pass",
        ),
        (
            "vif=vm01 dmac=01:80:c2:00:00:01",
            "bridge",
            "the bridge itself drops it before any rule: a source MAC that is none, a pause frame, or a tag that is cut off",
        ),
        (
            "vif=eth0 smac=00:00:5e:00:53:01 src=203.0.113.9",
            "",
            "eth0 is an uplink of xenbr0: what comes in by it is not judged",
        ),
        (
            "vif=new smac=00:00:5e:00:53:77 src=203.0.113.9",
            "unknown",
            "new is bound to no domU and no uplink: unknownVifs lets pass what comes in by it",
        ),
        (
            "vif=new bridge=br9 smac=00:00:5e:00:53:77 src=203.0.113.9",
            "",
            "br9 is no bridge of this host's specification: what crosses it is not judged",
        ),
    ],
)
def test_the_reason_is_told_in_plain_words(words: str, reason: str, why: str) -> None:
    answer = ask(words)

    assert (answer.way.reason, answer.why) == (reason, why)
    assert answer.way.verdict == ("drop" if reason not in {"", "unknown"} else "pass")


def test_the_whole_answer_stands_on_one_screen() -> None:
    answer = ask(f"vif=vm01 op=reply src={GATEWAY.v4} dst={B.v4}")
    rules = text(answer).partition("  rules, as the nftables backend has them:\n")[2]

    assert len(rules.splitlines()) == len(answer.way.hops)
    assert text(answer) == (
        f"drop (arp): sender address of the ARP {GATEWAY.v4} is not bound to {A_VIF}, and is the gateway of xenbr0\n"
        f"  frame: {A.mac} > {B.mac}, ARP {GATEWAY.v4} > {B.v4}, operation 2, 42 bytes\n"
        f"  claims: source MAC {A.mac} (bound)\n"
        f"  claims: sender MAC of the ARP {A.mac} (bound)\n"
        f"  claims: sender address of the ARP {GATEWAY.v4} (the gateway of xenbr0)\n"
        f"  bound to {A_VIF}: {A.mac}, 192.0.2.11, 2001:db8::11, 192.0.2.12, 198.51.100.16/28, 2001:db8:a::/64, {A.link_local}\n"
        f"  rules, as the nftables backend has them:\n{rules}"
    )
    assert rules.startswith("    prerouting: iifname vmap @ports -> goto from_guest\n")
    assert rules.endswith("    refused: drop\n")


def test_data_and_text_tell_the_same() -> None:
    answer = ask(f"vif=vm01 src={B.v4}")
    told = document(answer)

    assert json.loads(json.dumps(told)) == told
    assert told["format_version"] == "1.0"
    assert (told["verdict"], told["reason"], told["why"]) == ("drop", "v4", answer.why)
    assert told["rule"] == {"chain": "refused", "rule": "drop", "to": "drop"} == told["rules"][-1]
    assert told["bound"]["address"] == "domu.web.vif.0"
    holder = {"address": "domu.mail.vif.0", "interface": "vm02", "mac": B.mac, "mode": "enforce"}
    assert told["claims"][1] == {"what": "source address", "value": B.v4, "bound": False, "holders": [holder]}
    assert bytes.fromhex(told["frame"]["hex"]) == answer.frame
    nowhere = document(ask("vif=vm01 dmac=01:80:c2:00:00:01"))
    assert (nowhere["rule"], nowhere["reason"]) == (None, "bridge")


def test_an_audited_vif_passes_and_is_told_what_it_would_have_been_refused_for() -> None:
    watched = guard(binding(A, A4_SECOND, A_NET4, A_NET6, mode="audit"), B_BINDING)

    answer = ask(f"vif=vm01 src={B.v4}", watched)

    assert answer.audited
    assert text(answer).startswith("pass (v4, audited): source address 192.0.2.21 is not bound to")
    assert answer.why.endswith("; the vif is audited, so it is counted and passes")
    assert not ask("vif=vm01", watched).audited
    # Nobody has locked its port, so the bridge gives this group to dom0's own stack.
    assert ask("vif=vm01 dmac=01:80:c2:00:00:0e", watched).why.startswith("no rule sees it")


def test_both_ports_of_an_hvm_guest_are_its_own() -> None:
    twin = guard(binding(A, emulated=True))

    assert ask("vif=vm01-emu", twin).why == f"it claims nothing but what is bound to {A_VIF}"
    assert ask("vif=vm01-emu src=203.0.113.9", twin).way.reason == "v4"


@pytest.mark.parametrize(
    ("frame", "line"),
    [
        (udp4(A.v4, B), f"{A.mac} > {B.mac}, IPv4 {A.v4} > {B.v4}, UDP 5000 > 4321, 45 bytes"),
        (udp4(A.v4, B)[:30], f"{A.mac} > {B.mac}, IPv4 192.0.2.11, 30 bytes"),
        (f.ethernet(B.mac, A.mac, f.IPV4, b""), f"{A.mac} > {B.mac}, IPv4, 14 bytes"),
        (
            arp(1, (A.mac, A.v4), (B.mac, B.v4))[:22],
            f"{A.mac} > ff:ff:ff:ff:ff:ff, ARP, operation 1, 22 bytes",
        ),
        (f.tagged(udp4(A.v4, B), 9), f"{A.mac} > {B.mac}, a VLAN tag, VLAN 9, 49 bytes"),
    ],
)
def test_a_frame_is_told_as_far_as_it_is_there(frame: bytes, line: str) -> None:
    assert shown(frame) == line


@pytest.mark.parametrize(
    ("words", "inside"),
    [
        (f"vif=vm01 dst={B.v6} icmp=echo", "ICMPv6 type 128"),
        ("vif=vm01 proto=tcp dport=25", "TCP 49152 > 25"),
        ("vif=vm01 frag=later", "UDP, a later fragment"),
        ("vif=vm01 proto=esp", "protocol 50"),
    ],
)
def test_what_is_inside_is_told(words: str, inside: str) -> None:
    assert inside in text(ask(words)).splitlines()[1]


def test_a_host_answers_for_all_its_domus_by_name_and_by_number() -> None:
    host = explainer(
        desired({"vm01": {}, "vm02": {"vifs": [{"mac": "00:16:3e:00:00:02", "bridge": "xenbr0"}]}})
    )

    assert host.ports
    for name, interface in host.ports.items():
        domu, _, index = name.partition("/")
        answer = answered(described([f"vif={name}"], host.judge.guard, host.ports), host.judge, host.people)
        assert answer.way.verdict == "pass"
        assert f"{interface} (domu.{domu} vif {index})" in answer.why
