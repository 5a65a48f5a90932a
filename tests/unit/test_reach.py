"""Where dom0's packets leave it, and how it is asked who answers: routes, names, frames."""

from __future__ import annotations

import json
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state import frames
from state.location import server
from state.reach import HostProber, Neighbour, Server, parse_ahosts, resolve_name
from state.routes import DEFAULTS, Route, parse_defaults, parse_way, read_defaults, read_way
from state.run import ReadError
from tests.unit.captures import capture
from tests.unit.machines import Machine

MAC = bytes.fromhex("00163e005301")
V4, V6 = IPv4Address("172.16.39.1"), IPv6Address("2001:db8:39::1")


def hops(situation: str) -> list[tuple[str, str]]:
    return [
        (each.device, str(each.gateway))
        for version in ("v4", "v6")
        for each in parse_defaults(capture(f"ip-route-6.1.0-{situation}-{version}.json"))
    ]


def test_a_default_route_has_a_gateway_behind_a_device() -> None:
    assert hops("one-gateway") == [("xenbr0", "172.16.39.1"), ("xenbr0", "2001:db8:39::1")]


def test_a_route_with_several_hops_has_each_of_them() -> None:
    assert [gateway for _, gateway in hops("two-gateways")] == [
        "172.16.39.1",
        "172.16.39.7",
        "2001:db8:39::1",
        "fe80::1",
    ]


def test_a_gateway_that_only_rules_lead_to_counts_as_well() -> None:
    assert hops("by-policy") == [
        ("xenbr0", "172.16.39.7"),
        ("xenbr0", "172.16.39.1"),
        ("xenbr0", "fe80::7"),
        ("xenbr0", "2001:db8:39::1"),
    ]


def test_a_gateway_of_the_other_family_counts_and_a_route_that_refuses_does_not() -> None:
    assert hops("odd") == [("xenbr0", "fe80::1"), ("xenbr0", "2001:db8:39::1"), ("xenbr0", "fe80::1")]


def test_a_host_without_a_default_route_has_none() -> None:
    assert hops("none") == []


def test_a_default_route_may_have_no_gateway() -> None:
    text = json.dumps([{"dst": "default", "dev": "xenbr0", "scope": "link", "flags": []}])

    assert parse_defaults(text) == (Route("xenbr0", None),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        '[{"dev": "xenbr0", "gateway": "x"}]',
        '[{"nexthops": 3}]',
        '[{"dev": "x", "via": {}}]',
    ],
)
def test_what_is_no_list_of_routes_is_refused(text: str) -> None:
    with pytest.raises(ReadError, match="ip route"):
        parse_defaults(text)


def test_the_hops_of_both_families_are_read_each_once_in_order() -> None:
    v4, v6 = (capture(f"ip-route-6.1.0-two-gateways-{each}.json") for each in ("v4", "v6"))
    turned = json.dumps([{**json.loads(v4)[0], "nexthops": json.loads(v4)[0]["nexthops"][::-1] * 2}])

    one = read_defaults(Machine(answers={DEFAULTS[0]: v4, DEFAULTS[1]: v6}))
    other = read_defaults(Machine(answers={DEFAULTS[0]: turned, DEFAULTS[1]: v6}))

    assert one == other
    assert len(one) == 4


def test_a_family_that_cannot_be_read_is_no_reading() -> None:
    machine = Machine(answers={DEFAULTS[0]: "[]"}, fails={DEFAULTS[1]})

    with pytest.raises(ReadError, match="ip -6"):
        read_defaults(machine)


def test_the_way_to_an_address_is_a_device_or_none() -> None:
    argv = ("ip", "-j", "route", "get", "192.0.2.7")
    there = Machine(answers={argv: capture("ip-route-get-6.1.0-by-gateway.json")})

    assert read_way(there, ip_address("192.0.2.7")) == "xenbr0"
    assert read_way(Machine(fails={argv}), ip_address("192.0.2.7")) is None
    with pytest.raises(ReadError, match="route get"):
        parse_way("[]")


# ---------------------------------------------------------------- the git server


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("ssh://git@git.example.net/fleet.git", ("git.example.net", 22)),
        ("ssh://git@git.example.net:2222/fleet.git", ("git.example.net", 2222)),
        ("https://git.example.net/fleet.git", ("git.example.net", 443)),
        ("https://[2001:db8::7]/fleet.git", ("2001:db8::7", 443)),
        ("git@git.example.net:fleet.git", ("git.example.net", 22)),
        ("git.example.net:fleet.git", ("git.example.net", 22)),
        ("/srv/fleet", None),
        ("file:///srv/fleet", None),
    ],
)
def test_a_url_names_the_server_that_it_is_fetched_from(url: str, found: tuple[str, int] | None) -> None:
    assert server(url) == found


def test_the_resolver_gives_each_address_once() -> None:
    text = "192.0.2.7  STREAM git\n192.0.2.7  DGRAM\n2001:db8::7 STREAM\nfe80::7%eth0 STREAM\n"

    assert [str(each) for each in parse_ahosts(text)] == ["192.0.2.7", "2001:db8::7", "fe80::7"]
    with pytest.raises(ReadError, match="getent"):
        parse_ahosts("no address\n")


def test_a_name_is_resolved_by_a_child_without_rights_or_not_at_all() -> None:
    machine = Machine(down=True)

    assert resolve_name(machine, "git.example.net") == ()
    machine = Machine()
    with pytest.raises(AssertionError, match=r"setpriv.*--reuid=65534.*getent.*git\.example\.net"):
        resolve_name(machine, "git.example.net")


# ---------------------------------------------------------------- frames


def test_a_request_asks_everybody_and_says_who_we_are() -> None:
    frame = frames.request(MAC, IPv4Address("172.16.39.2"), V4)

    assert len(frame) == 60
    assert frame[:14] == b"\xff" * 6 + MAC + b"\x08\x06"
    assert frame[14:42] == b"\0\1\x08\0\6\4\0\1" + MAC + bytes([172, 16, 39, 2]) + bytes(6) + V4.packed


def test_a_request_without_an_address_of_ours_is_a_probe() -> None:
    assert frames.request(MAC, None, V4)[28:32] == bytes(4)


def test_a_solicitation_is_a_sound_message_to_the_targets_own_group() -> None:
    own = IPv6Address("fe80::216:3eff:fe00:5301")
    frame = frames.solicitation(MAC, own, V6)

    assert frame[:6] == bytes.fromhex("3333ff000001")
    length, following, hops, source, group = struct.unpack("!4xHBB16s16s", frame[14:54])
    assert (length, following, hops, source) == (32, 58, 255, own.packed)
    assert IPv6Address(group) == IPv6Address("ff02::1:ff00:1")
    message = frame[54 : 54 + length]
    assert message[0] == 135
    assert message[8:24] == V6.packed
    assert message[24:] == b"\1\1" + MAC
    words = struct.unpack("!36H", source + group + struct.pack("!II", length, 58) + message)
    total = sum(words)
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF


def test_a_solicitation_without_an_address_of_ours_has_no_option() -> None:
    frame = frames.solicitation(MAC, None, V6)

    assert frame[22:38] == bytes(16)
    assert struct.unpack("!H", frame[18:20]) == (24,)


def test_an_answer_is_about_the_one_who_sends_it() -> None:
    asked = frames.request(MAC, None, V4)
    reply = asked[:20] + b"\0\2" + b"\0\x16\x3e\0\x39\1" + V4.packed + MAC + bytes(4)
    advertised = (
        bytes.fromhex("333300000001") + MAC + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, 24, 58, 255)
    )
    advertised += V6.packed + bytes(16) + b"\x88" + bytes(7) + V6.packed

    assert frames.answer_of_arp(reply) == V4
    assert frames.answer_of_arp(asked) is None
    assert frames.answer_of_nd(advertised) == V6
    assert frames.answer_of_nd(advertised[:20] + bytes([17]) + advertised[21:]) is None
    assert frames.answer_of_nd(advertised[:21] + bytes([64]) + advertised[22:]) is None
    assert frames.answer_of_nd(frames.solicitation(MAC, None, V6)) is None
    assert frames.answer_of_nd(reply) is None
    assert frames.answer_of_arp(advertised) is None


@given(st.binary(max_size=120))
def test_no_frame_of_a_guest_is_too_odd(frame: bytes) -> None:
    for kind in (b"\x08\x06", b"\x86\xdd"):
        whole = frame[:12] + kind + frame[12:]
        assert isinstance(frames.answer_of_arp(whole), IPv4Address | None)
        assert isinstance(frames.answer_of_nd(whole), IPv6Address | None)


# ---------------------------------------------------------------- asking


def test_nobody_answers_on_a_device_that_is_not_there() -> None:
    nowhere = Neighbour("nowhere0", V4), Neighbour("nowhere0", V6)

    assert HostProber().answering(nowhere, 0.05) == frozenset()
    assert HostProber().answering((), 60.0) == frozenset()


def test_targets_are_told_to_people() -> None:
    targets = Neighbour("xenbr0", V4), Server("git.example.net", 22, (V4,))

    assert [str(each) for each in targets] == ["172.16.39.1 on xenbr0", "git.example.net port 22"]
