"""Rules of others that take frames past the guard, or change what it has verified: at which ports, and how surely."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.foreign.judge import Judge, Place
from reconciler.foreign.weaken import rewritten, weaknesses
from schemas.address import Address
from tests.unit.test_foreign_judge import MAC, OTHER, PLACE, UPLINK, V4, V6, dark, judge, legacy

BESIDE = replace(PLACE, port=OTHER, mac="00:16:3e:00:53:02", other="vm01")
TWO_WAYS = replace(PLACE, away=frozenset({UPLINK, "eth1"}))
FLOWTABLE = """table inet t {
	flowtable f {
		hook ingress priority 0
		devices = { vm01, eth9 }
	}
	chain c {
		type filter hook forward priority 0; policy accept;
		meta l4proto tcp flow add @f
	}
}
"""


def found(judged: Judge, *places: Place) -> set[tuple[str, str, bool]]:
    """Port, what is said behind the rule's text, and whether it is certain."""
    return {
        (each.port, each.how.rpartition("` ")[2], each.sure)
        for each in weaknesses(judged, places or (PLACE,))
    }


def early(*lines: str, priority: int = -310) -> Judge:
    head = f"type filter hook prerouting priority {priority}; policy accept;"
    body = "".join(f"\t\t{line}\n" for line in (head, *lines))
    return judge({"table bridge t": f"table bridge t {{\n\tchain c {{\n{body}\t}}\n}}\n"})


def ingress(port: str, line: str) -> Judge:
    head = f'type filter hook ingress device "{port}" priority 0; policy accept;'
    return judge({"table netdev t": f"table netdev t {{\n\tchain c {{\n\t\t{head}\n\t\t{line}\n\t}}\n}}\n"})


def test_what_a_flowtable_holds_passes_by_at_its_own_devices() -> None:
    judged = judge({"table inet t": FLOWTABLE})

    (one,) = weaknesses(judged, [PLACE, BESIDE])

    assert (one.port, one.sure, one.table.address) == ("vm01", True, "foreign.inet.t")
    assert one.how == "nft table inet t: what its flowtable holds passes by the guard"


def test_every_port_is_asked_where_frames_are_changed_before_the_guard() -> None:
    changes = "changes frames before the guard sees them"
    at_both = {("vm01", changes, True), ("vm02", changes, True)}

    assert found(early("ether saddr set 00:00:5e:00:53:01"), PLACE, BESIDE) == at_both
    assert found(early('iifname "vm02" ether saddr set 00:00:5e:00:53:01'), PLACE, BESIDE) == {
        ("vm02", changes, True)
    }
    assert found(early('iifname "vm*" ether saddr set 00:00:5e:00:53:01'), PLACE, BESIDE) == at_both
    assert found(early("ether saddr set 00:00:5e:00:53:01", priority=-309), PLACE, BESIDE) == set()
    assert found(ingress("vm02", 'dup to "eth0"'), PLACE, BESIDE) == {
        ("vm02", "copies frames past the guard", True)
    }
    assert found(ingress("vm01", 'fwd to "eth0"')) == {("vm01", "takes frames past the guard", True)}
    assert found(ingress(UPLINK, 'fwd to "eth1"')) == set()


@pytest.mark.parametrize(
    "line",
    [
        "ip saddr 10.0.0.1",
        "ip saddr 255.255.255.255",
        "ip daddr 0.0.0.0",
        "ip6 saddr ::",
        "ip6 daddr ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "ip protocol 0",
        "meta l4proto 255",
        "tcp sport 0",
        "udp dport 65535",
        "tcp flags == 0x0",
        "icmp type 255",
        "icmpv6 type 0",
        "arp operation 65535",
        "arp saddr ip 255.255.255.255",
        "arp daddr ether ff:ff:ff:ff:ff:ff",
        "ether saddr ff:ff:ff:ff:ff:ff",
        "ether daddr 00:00:00:00:00:00",
        "ether type 0x88cc",
        "ether type 8021q",
        "meta mark 0x00000000",
        "meta pkttype multicast",
        "meta pkttype broadcast",
        "meta pkttype host",
        "ip frag-off & 0x1fff != 0x0",
    ],
)
def test_whatever_a_guest_can_forge_is_met_before_the_guard(line: str) -> None:
    assert found(early(f"{line} ether saddr set 00:00:5e:00:53:01")) == {
        ("vm01", "changes frames before the guard sees them", True)
    }


def test_what_no_frame_of_a_guest_can_be_is_met_by_none() -> None:
    for line in (
        'iifname "eth0"',
        "meta mark 0x00000001",
        "ct state new",
        "arp operation 1 ip saddr 192.0.2.1",
    ):
        assert found(early(f"{line} ether saddr set 00:00:5e:00:53:01")) == set(), line


def said(judged: Judge, address: Address = V4, place: Place = PLACE) -> list[tuple[str, bool]]:
    return sorted(
        {
            (each.how.rpartition("` ")[2], each.sure)
            for each in rewritten(judged, place, judged.address(place, address).rewritten)
        }
    )


def test_a_source_that_is_changed_behind_the_guard_weakens_it_for_what_a_guest_sends() -> None:
    behind = "changes the source of frames behind the guard"

    def masquerade(asked: str) -> Judge:
        return legacy(f"-A POSTROUTING {asked} -j MASQUERADE", table="nat")

    assert said(masquerade("-o xenbr0")) == [(behind, True)]
    assert said(masquerade("-m physdev --physdev-in vm01")) == [(behind, True)]
    assert said(masquerade("-m physdev --physdev-out vm01")) == []
    assert said(masquerade("-m physdev --physdev-out vm02")) == [(behind, True)]
    assert said(masquerade("-p icmp")) == [(behind, True)]
    assert said(masquerade("-s 172.16.39.102/32")) == []
    assert said(masquerade("-d 127.0.0.1/32")) == []
    assert said(masquerade("-m mark --mark 0x1")) == []
    assert said(masquerade("-m physdev --physdev-out eth1"), place=TWO_WAYS) == [(behind, True)]
    assert said(masquerade("-m u32 --u32 0")) == [(behind, False)]
    assert said(masquerade("-o xenbr0"), V6) == []
    assert said(early("ether saddr set 00:00:5e:00:53:01")) == []
    assert said(early("ether saddr set 00:00:5e:00:53:01", priority=-309)) == [(behind, True)]


def test_a_frame_that_was_marked_on_its_way_can_be_named() -> None:
    behind = "changes the source of frames behind the guard"
    masquerade = "-A POSTROUTING -m mark --mark 0x1/0x1 -j MASQUERADE"

    def marked(*asked: str) -> list[tuple[str, bool]]:
        marks = [f"-A PREROUTING {each} -j MARK --set-xmark 0x1/0x1" for each in asked]
        return said(legacy(*marks, masquerade, table="nat"))

    assert marked("-d 203.0.113.7/32") == [(behind, True)]
    assert marked("-d 203.0.113.7/32 -p tcp -m tcp --dport 80", "-d 203.0.113.8/32 -p udp") == [
        (behind, True)
    ]
    assert marked("-s 172.16.39.102/32") == []
    assert marked("-m u32 --u32 0") == [(behind, False)]


def test_the_rule_that_took_the_last_of_a_class_is_named() -> None:
    judged = legacy(
        "-p tcp -m tcp --dport 0:1023 -j DROP",
        "-p tcp -j DROP",
        "-p udp -m physdev --physdev-in vm01 -j DROP",
    )
    verdict = judged.address(PLACE, V4)

    assert {what: event.rule.text for what, event in verdict.dark} == {
        "what it sends": "-A FORWARD -p tcp -j DROP",
        "the answers to it": "-A FORWARD -p tcp -j DROP",
    }
    assert verdict.partly == ()
    neighbours = legacy("-j DROP").address(PLACE, V4).dark
    assert [what for what, _ in neighbours] == ["what it sends", "what is sent to it"]


def test_a_vif_that_nothing_leads_away_from_has_no_frames_to_lose() -> None:
    alone = Place("vm01", MAC, PLACE.bridge, frozenset(), "")

    assert dark(legacy("-j DROP"), place=alone) == set()
    assert legacy("-j DROP").address(alone, V4).partly == ()
    assert legacy("-m physdev --physdev-out vm02 -j DROP").address(replace(PLACE, other=""), V4).partly == ()


def test_what_one_side_leaves_untracked_has_no_answers_for_it() -> None:
    strict = "*filter\n:FORWARD ACCEPT\n-A FORWARD -m conntrack --ctstate NEW,UNTRACKED -j ACCEPT\n-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT\n-A FORWARD -j DROP\nCOMMIT\n"
    for port, lost in (("vm01", "the answers to it"), (UPLINK, "its answers")):
        raw = f"*raw\n:PREROUTING ACCEPT\n-A PREROUTING -m physdev --physdev-in {port} -j NOTRACK\nCOMMIT\n"
        assert dark(judge({"iptables-legacy-save": raw + strict})) == {lost}
