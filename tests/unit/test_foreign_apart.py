"""Addresses and vifs that no rule tells apart are judged once; those that one does are judged each by itself."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from reconciler.foreign.judge import Judge, Place
from schemas.address import Address
from tests.unit.test_foreign_judge import (
    BRIDGE,
    MAC,
    OTHER,
    PLACE,
    UPLINK,
    V4,
    V6,
    bridge,
    dark,
    judge,
    legacy,
)

LOWER, HIGHER = ip_network("172.16.39.100"), ip_network("172.16.39.102")
ODD_MAC, HIGHER_MAC = "00:16:3e:00:53:03", "00:16:3e:00:53:02"
INGRESS = 'table netdev t {\n\tchain c {\n\t\ttype filter hook ingress device "vm07" priority 0; policy drop;\n\t}\n}\n'


def at(port: str = PLACE.port, mac: str = MAC, other: str = OTHER) -> Place:
    return replace(PLACE, port=port, mac=mac, other=other)


@pytest.mark.parametrize(
    ("judged", "other", "address"),
    [
        (legacy("-s 172.16.39.101/32 -j DROP"), PLACE, LOWER),
        (legacy("-s 172.16.39.101/32 -j DROP"), PLACE, HIGHER),
        (legacy("-d 172.16.39.101/32 -j DROP"), PLACE, HIGHER),
        (legacy("-s 172.16.39.0/24 -j DROP"), PLACE, V6),
        (legacy("-s 172.16.39.101/32 -j DROP"), PLACE, ip_network("172.16.39.101/32").supernet(2)),
        (legacy("-s 172.16.39.100/31 -j DROP"), PLACE, ip_network("172.16.39.100/30")),
        (legacy("-s 0.0.0.1/0.0.0.1 -j DROP"), PLACE, HIGHER),
        (legacy("-m physdev --physdev-in vm01 -j DROP"), at("vm07"), V4),
        (legacy("-m physdev --physdev-in vm+ -j DROP"), at("eth7"), V4),
        (bridge("ether saddr 00:16:3e:00:53:01 drop"), at(mac=HIGHER_MAC), V4),
        (bridge("ether saddr & 00:00:00:00:00:02 == 00:00:00:00:00:00 drop"), at(mac=ODD_MAC), V4),
        (bridge("arp saddr ether 00:16:3e:00:53:01 drop"), at(mac=HIGHER_MAC), V4),
        (judge({"table netdev t": INGRESS.replace("vm07", "vm01")}), at("vm07"), V4),
    ],
)  # fmt: skip
def test_what_a_rule_tells_apart_is_judged_apart(judged: Judge, other: Place, address: Address) -> None:
    first, second = dark(judged), dark(judged, address, other)

    assert first != second
    fresh = Judge(judged.rules, judged.called)
    assert (dark(fresh, address, other), dark(fresh)) == (second, first)


@pytest.mark.parametrize(
    ("judged", "other", "address"),
    [
        (legacy("-s 172.16.39.200/32 -j DROP", "-p udp -j DROP"), at("vm07", ODD_MAC), HIGHER),
        (legacy("-s 172.16.39.0/24 -m physdev --physdev-in vm+ -j DROP"), at("vm07", ODD_MAC), HIGHER),
        (legacy("-s 0.0.0.4/0.0.0.4 -j DROP"), PLACE, ip_network("172.16.39.109")),
        (bridge("ether saddr 00:16:3e:00:53:09 drop"), at("vm07", ODD_MAC), HIGHER),
        (legacy("-j DROP"), at(other="vm09"), HIGHER),
    ],
)  # fmt: skip
def test_what_no_rule_tells_apart_is_judged_once(judged: Judge, other: Place, address: Address) -> None:
    assert judged.address(PLACE, V4) is judged.address(other, address)


def test_other_bridges_other_ways_out_and_another_neighbour_are_told_apart() -> None:
    judged = legacy(f"-m physdev --physdev-out {UPLINK} -j DROP", f"-m physdev --physdev-out {OTHER} -j DROP")
    judged.called = {**judged.called, "xenbr1": judged.called[BRIDGE]}

    assert dark(judged) == {"what it sends"}
    assert dark(judged, place=replace(PLACE, away=frozenset({"eth1"}))) == set()
    assert [event.rule.text for event in judged.address(replace(PLACE, away=frozenset({"eth1"})), V4).partly]
    quiet = replace(PLACE, away=frozenset({"eth1"}), other="vm09")
    assert judged.address(quiet, V4).partly == ()
    assert judged.address(replace(quiet, bridge="xenbr1"), V4) is not judged.address(quiet, V4)
    assert judged.alike(PLACE) == judged.alike(replace(PLACE, port="vm07", mac=ODD_MAC))
    assert judged.alike(PLACE) != judged.alike(replace(PLACE, port=OTHER))
    assert judged.alike(PLACE) != judged.alike(replace(PLACE, bridge="xenbr1"))
