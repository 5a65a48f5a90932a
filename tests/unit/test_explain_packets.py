"""Words that describe a packet: what frame they make, and what is said of those that make none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.explain.judge import Judge
from reconciler.explain.packet import Described, described
from reconciler.explain.words import WORDS, PacketError
from state.nft import Features
from tests.packets import frames as f
from tests.packets.cases import ANY_MAC, BROADCAST, arp, icmp6
from tests.packets.parties import BRIDGE, DOM0, GATEWAY, GUARD, UPLINK, A, B, binding, guard

SOMEBODY = "00:00:5e:00:53:01"  # who is on the other side where nobody is named; here the gateway's as well
REST = bytes(16)
JUDGE = Judge.of(GUARD, Features(ibrname=True))


def packet(text: str, **ports: str) -> Described:
    return described(text.split(), GUARD, ports)


def frame(text: str) -> bytes:
    return packet(f"vif={A.port} {text}").frame


def udp4(
    source: str, target: str, ports: tuple[int, int], payload: bytes = REST, *, to: str = SOMEBODY
) -> bytes:
    return f.ethernet(
        to, A.mac, f.IPV4, f.ipv4(source, target, f.UDP, f.udp(source, target, ports, payload), ident=0x4444)
    )


def test_an_address_and_a_port_make_a_whole_datagram() -> None:
    assert frame(f"dst={GATEWAY.v4} proto=udp dport=53") == udp4(A.v4, GATEWAY.v4, (49152, 53))
    assert frame(f"dst={B.v4} sport=1 dport=2") == udp4(A.v4, B.v4, (1, 2), to=B.mac)
    assert frame(f"src={B.v4} smac={B.mac}")[:14] == f.mac(BROADCAST) + f.mac(B.mac) + b"\x08\0"


def test_dhcp_is_asked_as_a_client_asks() -> None:
    asking = f.bootp(1, A.mac, 1)
    offering = f.bootp(2, B.mac, 2)
    same = slice(42 + 28, None)  # behind the transaction's own numbers

    assert frame("dport=67")[same] == udp4("0.0.0.0", "255.255.255.255", (68, 67), asking, to=BROADCAST)[same]
    assert (
        frame("dport=67")[26:38] == udp4("0.0.0.0", "255.255.255.255", (68, 67), asking, to=BROADCAST)[26:38]
    )
    assert (
        frame(f"dport=68 chaddr={B.mac}")[same]
        == udp4(A.v4, "255.255.255.255", (67, 68), offering, to=BROADCAST)[same]
    )
    assert frame("dport=547")[38:54] == bytes.fromhex("ff020000000000000000000000010002")


def test_arp_asks_for_and_tells_addresses() -> None:
    assert frame(f"op=request target={GATEWAY.v4}") == arp(1, (A.mac, A.v4), (ANY_MAC, GATEWAY.v4))
    assert frame(f"proto=arp src=0.0.0.0 target={A.v4}") == arp(1, (A.mac, "0.0.0.0"), (ANY_MAC, A.v4))
    assert frame(f"op=reply src={GATEWAY.v4} dst={B.v4}") == arp(
        2, (A.mac, GATEWAY.v4), (B.mac, B.v4), to=B.mac
    )
    inside = frame(f"type=arp op=7 sender-mac={B.mac} target-mac={DOM0.mac} smac={GATEWAY.mac}")
    assert inside == arp(7, (B.mac, A.v4), (DOM0.mac, A.v4), to=A.mac, hardware=GATEWAY.mac)


def test_neighbour_messages_have_the_options_that_they_usually_have() -> None:
    own, mine = f.link_layer_option(1, A.mac), f.link_layer_option(2, A.mac)
    group = f.solicited_node(GATEWAY.v6)

    assert frame(f"icmp=ns target={GATEWAY.v6}") == icmp6(A.v6, group, f.NS, f.neighbor(GATEWAY.v6) + own)
    assert frame(f"icmp=ns src=:: target={A.v6}") == icmp6(
        "::", f.solicited_node(A.v6), f.NS, f.neighbor(A.v6)
    )
    assert frame("icmp=na") == icmp6(A.v6, "ff02::1", f.NA, f.neighbor(A.v6, 0x20) + mine)
    assert (
        frame(f"icmp=na option=tll:{B.mac},nonce")[-16:] == f.link_layer_option(2, B.mac) + b"\x0e\x01nonce!"
    )
    assert frame("icmp=na option=none") == icmp6(A.v6, "ff02::1", f.NA, f.neighbor(A.v6, 0x20))
    assert frame("icmp=rs") == icmp6(A.link_local, "ff02::2", f.RS, bytes(4) + own)
    assert frame("icmp=ra")[54:55] == bytes((f.RA,))
    assert frame("icmp=redirect")[54:55] == b"\x89"


def test_messages_of_both_families_have_their_numbers_and_groups() -> None:
    assert frame("icmp=echo")[23:24] + frame("icmp=echo")[34:35] == b"\x01\x08"
    assert frame(f"icmp=echo dst={B.v6}") == icmp6(A.v6, B.v6, 128, bytes(4), to=B.mac)
    assert frame("icmp=mld2-report")[38:54] == bytes.fromhex("ff020000000000000000000000000016")
    assert frame("icmp=mld-done")[38:54] == bytes.fromhex("ff020000000000000000000000000002")
    assert frame("proto=icmpv6 icmp=130 code=3")[54:56] == b"\x82\x03"
    assert frame("igmp=query")[23:24] + frame("igmp=query")[34:35] == b"\x02\x11"
    assert frame("proto=ospf")[23:24] == b"\x59"
    assert frame("proto=tcp dport=25")[36:38] == b"\0\x19"


def test_headers_and_parts_stand_where_they_should() -> None:
    echo = f.icmpv6(A.v6, B.v6, 128, bytes(4))
    behind = f.ipv6(
        A.v6, B.v6, f.HOP_BY_HOP, f.extension(f.DESTINATION, b"\1\4\0\0\0\0") + f.extension(f.ICMPV6) + echo
    )

    assert frame(f"icmp=echo dst={B.v6} ext=hop,dst") == f.ethernet(B.mac, A.mac, f.IPV6, behind)
    assert frame("ext=ah")[23:24] == b"\x33"
    assert frame("frag=first")[20:22] == b"\x20\0"
    assert frame("frag=later")[20:22] == b"\0\x03"
    assert frame("frag=0x10+")[20:22] == b"\x20\x10"
    assert (
        frame(f"dst={B.v6} frag=later")[20:21] + frame(f"dst={B.v6} frag=later")[54:58] == b"\x2c\x11\0\0\x18"
    )
    assert frame(f"dst={B.v6} frag=0 ext=rt,frag")[54:58] == b"\x2b\0\0\0"


def test_tags_types_and_macs_are_taken_as_they_are() -> None:
    plain = frame("")

    assert frame("vlan=0") == plain[:12] + b"\x81\0\0\0" + plain[12:]
    assert frame("vlan=0x88a8:5,6") == plain[:12] + b"\x88\xa8\0\5\x81\0\0\6" + plain[12:]
    assert frame("type=lldp dmac=01:80:C2:00:00:0e") == f.ethernet(
        "01:80:c2:00:00:0e", A.mac, 0x88CC, bytes(46)
    )
    assert frame("type=ip6")[12:15] == b"\x86\xdd\x60"
    assert frame("dst=224.0.0.251")[:6] == f.mac("01:00:5e:00:00:fb")


def test_a_whole_frame_is_read_from_digits_and_from_dumps() -> None:
    digits = arp(1, (A.mac, A.v4), (ANY_MAC, GATEWAY.v4)).hex()
    tcpdump = "\n".join(
        f"\t0x{at // 2:04x}:  {' '.join(digits[at : at + 32][i : i + 4] for i in range(0, len(digits[at : at + 32]), 4))}  ...^.S..."
        for at in range(0, len(digits), 32)
    )
    hexed = [
        f"hex={text}"
        for text in (
            digits,
            digits.upper(),
            ":".join(digits[i : i + 2] for i in range(0, len(digits), 2)),
            tcpdump,
        )
    ]

    assert {described([f"vif={A.port}", each], GUARD, {}).frame.hex() for each in hexed} == {digits}


def test_a_port_is_named_by_itself_by_its_vif_or_is_nobodys() -> None:
    twin = guard(binding(A, emulated=True))

    assert packet("vif=web/0 bridge=br1", **{"web/0": A.port}) == Described(A.port, "br1", frame(""))
    assert described([f"vif={A.port}-emu"], twin, {}).port == f"{A.port}-emu"
    assert packet(f"vif={UPLINK} smac={GATEWAY.mac} src={GATEWAY.v4}").frame[6:12] == f.mac(GATEWAY.mac)
    assert packet("vif=x smac=00:00:5e:00:53:77 src=2001:db8::7").frame[22:38].hex().startswith("20010db8")
    bare = described(["vif=vm01"], guard(binding(A)), {}).frame
    assert bare == frame("")


@pytest.mark.parametrize(
    ("words", "problems"),
    [
        ("", ["vif: missing (expected vif=NAME: which port the frame comes in by)"]),
        (
            "vif=vm01 src=300.1.1.1 foo=1 bar smac=zz sport=70000 src=1.1.1.1",
            [
                "src: '300.1.1.1' is no such value (expected an IPv4 or IPv6 address)",
                f"'foo=1': no such word (expected {'=..., '.join(WORDS)}=...)",
                f"'bar': no such word (expected {'=..., '.join(WORDS)}=...)",
                "smac: 'zz' is no such value (expected six bytes such as 00:16:3e:7c:1f:6e)",
                "sport: '70000' is no such value (expected a number up to 65535)",
                "'src=1.1.1.1': src is there twice (expected once)",
            ],
        ),
        (
            "vif=nobody",
            [
                "smac and src: missing, and vif 'nobody' has no binding to take it from (expected smac=... src=...)"
            ],
        ),
        (
            "vif=vm1 src=192.0.2.1",
            [
                "smac: missing, and vif 'vm1' has no binding to take it from, did you mean 'vm01'? (expected smac=...)"
            ],
        ),
        (
            "vif=vm01 src=1.2.3.4 dst=::1",
            ["src, dst, target: both IPv4 and IPv6 (expected one of them)"],
        ),
        (
            "vif=vm01 proto=icmp dport=5 op=request",
            [
                "dport: means nothing in this packet (expected proto=udp or proto=tcp with it)",
                "op: means nothing in this packet (expected proto=arp with it)",
            ],
        ),
        (
            "vif=vm01 type=pppoe src=192.0.2.11 frag=later",
            ["frag: means nothing in this packet (expected an IP packet with it)"],
        ),
        (
            "vif=vm01 icmp=ns src=1.2.3.4",
            ["icmp: ns is no message of IPv4 (expected one of echo, echo-reply, unreachable, time-exceeded)"],
        ),
        (
            "vif=vm01 proto=arp src=::1",
            ["proto: arp is asked for IPv4 addresses only (expected icmp=ns for IPv6)"],
        ),
        ("vif=vm01 proto=icmpv6 src=1.2.3.4", ["proto: icmpv6 needs IPv6 addresses (expected proto=icmp)"]),
        ("vif=vm01 ext=hop", ["ext: IPv4 has no such header (expected ah)"]),
        (
            "vif=vm01 hex=ffffffffffff00005e00530a0806 dst=1.1.1.1 vlan=1",
            ["dst, vlan: the frame is given already (expected vif and bridge beside hex)"],
        ),
        (
            "vif=vm01 hex=00 option=sll:x frag=x vlan=x",
            [
                "hex: '00' is no such value (expected a whole frame of at least 14 bytes as hexadecimal digits, or a dump as of `tcpdump -XX`)",
                "option: 'sll:x' is no such value (expected KIND:MAC[,...] with sll, tll or a number for KIND, nonce, or none)",
                "frag: 'x' is no such value (expected first, later, or an offset in units of eight bytes, with a + where more follows)",
                "vlan: 'x' is no such value (expected [TYPE:]VLAN[,...], the outer tag first)",
            ],
        ),
    ],
)
def test_all_that_is_wrong_is_told_at_once(words: str, problems: list[str]) -> None:
    with pytest.raises(PacketError) as raised:
        packet(words)

    assert list(raised.value.problems) == problems


def test_long_values_are_cut_and_blanks_are_no_names() -> None:
    with pytest.raises(PacketError, match=r"hex: 'z{40}\.\.\.' is no such value"):
        described(["vif=a b", f"hex={'z' * 99}"], GUARD, {})


VALUES = {
    "vif": ["vm01", "vm02", "eth0", "nobody"],
    "bridge": [BRIDGE],
    "smac": [A.mac, B.mac],
    "dmac": [BROADCAST],
    "vlan": ["0", "0x88a8:1,2"],
    "type": ["ip", "ip6", "arp", "lldp", "4"],
    "src": [A.v4, B.v4, "0.0.0.0", A.v6, "::"],
    "dst": [GATEWAY.v4, GATEWAY.v6, "ff02::1", "224.0.0.1"],
    "proto": ["udp", "tcp", "icmp", "icmpv6", "igmp", "arp", "ospf", "0", "59"],
    "sport": ["1"],
    "dport": ["53", "67", "68", "546", "547"],
    "chaddr": [B.mac],
    "icmp": ["echo", "ns", "na", "ra", "mld-done", "143", "255"],
    "code": ["1"],
    "target": [A.v4, A.v6, B.v6],
    "option": ["none", "nonce", f"tll:{B.mac}"],
    "igmp": ["query", "report"],
    "op": ["request", "7"],
    "sender-mac": [B.mac],
    "target-mac": [B.mac],
    "ext": ["hop", "dst,ah", "frag", "7"],
    "frag": ["first", "later", "0", "8191+"],
}
WORDS_OF_ANY_KIND = st.dictionaries(st.sampled_from(sorted(VALUES)), st.integers(0, 99), max_size=7)


@given(WORDS_OF_ANY_KIND)
def test_any_words_make_a_frame_that_is_judged_or_are_told_to_make_none(chosen: dict[str, int]) -> None:
    words = [f"{name}={VALUES[name][number % len(VALUES[name])]}" for name, number in chosen.items()]
    try:
        found = described(words, GUARD, {})
    except PacketError as exc:
        said = exc.problems
    else:
        said = ()
        assert JUDGE.way(found.frame, port=found.port, bridge=BRIDGE).verdict in {"pass", "drop"}

    assert [each for each in said if "(expected " not in each] == []


def test_every_word_is_tried_above() -> None:
    assert {*VALUES, "hex"} == set(WORDS)
