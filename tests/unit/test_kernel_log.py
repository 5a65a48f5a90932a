"""What is read from the kernel's ring: total on whatever stands there, and nothing but MACs, addresses and numbers comes out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.kernel_log import LoggedFrame, parse_logged, read_kernel_log
from tests.unit.captures import CAPTURES

PREFIX = "Dropped by firewall: "
RECORDS = (CAPTURES / "kmsg-6.18.44-refused-frames.txt").read_text(encoding="ascii").splitlines(keepends=True)
HEAD = "7,149568,35500825535,-;"
FRAME = (
    "IN=vm01 OUT= MAC=00:00:5e:00:53:0b:00:00:5e:00:53:ee:08:00 SRC=192.0.2.11 DST=192.0.2.21 LEN=31 TOS=0x00 "
    "PREC=0x00 TTL=64 ID=1 PROTO=UDP SPT=5000 DPT=4321 LEN=11 "
)


def logged(text: str, prefix: str = PREFIX, head: str = HEAD) -> LoggedFrame | None:
    return parse_logged(f"{head}{prefix}{text}\n", PREFIX)


def test_a_line_about_a_datagram_tells_who_says_to_be_whom() -> None:
    assert logged(FRAME) == LoggedFrame(
        port="vm01",
        uptime_s=35500.825535,
        untrusted_kind="UDP 5000 to 4321",
        untrusted_mac="00:00:5e:00:53:ee",
        untrusted_source="192.0.2.11",
        untrusted_target="192.0.2.21",
    )


def test_a_line_about_arp_tells_what_is_claimed_to_belong_together() -> None:
    line = "IN=vm01 OUT= ARP HTYPE=1 PTYPE=0x0800 OPCODE=2 MACSRC=00:00:5e:00:53:0a IPSRC=192.0.2.1 MACDST=00:00:00:00:00:00 IPDST=192.0.2.21"

    assert logged(line) == LoggedFrame(
        port="vm01",
        uptime_s=35500.825535,
        untrusted_kind="ARP reply",
        untrusted_sender_mac="00:00:5e:00:53:0a",
        untrusted_source="192.0.2.1",
        untrusted_target="192.0.2.21",
    )


def test_addresses_of_version_6_come_in_their_short_form() -> None:
    line = "IN=vm01 OUT= MAC=33:33:00:00:00:01:00:00:5e:00:53:0a:86:dd SRC=2001:0db8:0000:0000:0000:0000:0000:0021 DST=ff02:0000:0000:0000:0000:0000:0000:0001 LEN=48 TC=0 HOPLIMIT=255 FLOWLBL=0 PROTO=ICMPv6 TYPE=134 CODE=0 "

    found = logged(line)

    assert found is not None
    assert (found.untrusted_source, found.untrusted_target, found.untrusted_kind) == (
        "2001:db8::21",
        "ff02::1",
        "ICMPv6 type 134",
    )


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("IN=vm01 OUT= MAC=33:33:00:00:00:16:00:00:5e:00:53:0a:88:47 ", "type 0x8847"),
        ("IN=vm01 OUT= MAC=01:80:c2:00:00:04:00:00:5e:00:53:0a:08:00 TRUNCATED", "unknown"),
        ("IN=vm01 OUT= SRC=192.0.2.1 DST=192.0.2.2 LEN=28 PROTO=2 ", "protocol 2"),
        ("IN=vm01 OUT= SRC=192.0.2.1 DST=192.0.2.2 LEN=28 TRUNCATED", "IPv4"),
        ("IN=vm01 OUT= SRC=2001:0db8::1 DST=2001:0db8::2 LEN=28 TRUNCATED", "IPv6"),
        ("IN=vm01 OUT= ARP HTYPE=6 PTYPE=0x0800 OPCODE=1", "ARP request"),
        ("IN=vm01 OUT= ARP HTYPE=1 PTYPE=0x0800 OPCODE=9", "ARP"),
        ("IN=vm01 OUT= ARP TRUNCATED", "ARP"),
    ],
)
def test_what_a_line_leaves_out_is_left_out(line: str, kind: str) -> None:
    found = logged(line)

    assert found is not None
    assert found.untrusted_kind == kind


def test_a_packet_inside_a_packet_does_not_speak_for_it() -> None:
    line = "IN=vm01 OUT= MAC=00:00:5e:00:53:0b:00:00:5e:00:53:0a:08:00 SRC=192.0.2.11 DST=192.0.2.21 LEN=56 PROTO=ICMP TYPE=3 CODE=1 [SRC=203.0.113.9 DST=192.0.2.1 PROTO=TCP SPT=1 DPT=2 ] "

    found = logged(line)

    assert found is not None
    assert (found.untrusted_source, found.untrusted_kind) == ("192.0.2.11", "ICMP type 3")


def test_a_line_of_iptables_names_the_port_behind_the_bridge() -> None:
    found = logged(f"IN=xenbr0 OUT=xenbr0 PHYSIN=vm01 PHYSOUT=eth0 {FRAME.removeprefix('IN=vm01 OUT= ')}")

    assert found is not None
    assert found.port == "vm01"


@pytest.mark.parametrize(
    "record",
    [
        f"{HEAD}{FRAME}\n",  # another prefix
        f"{HEAD}{PREFIX}\n",
        f"{HEAD}{PREFIX}hello\n",
        f"{HEAD}said {PREFIX}{FRAME}\n",
        f"12,149568,35500825535,-;{PREFIX}{FRAME}\n",  # of a program, not of the kernel
        f"{PREFIX}{FRAME}\n",
        "",
        "\0",
        f"{HEAD}{PREFIX}IN= OUT=vm01 {FRAME}\n",
        f"{HEAD}{PREFIX}IN=a_name_that_no_interface_has OUT= {FRAME}\n",
        f"{'9' * 5000},1,1,-;{PREFIX}{FRAME}\n",
    ],
)
def test_what_no_rule_of_ours_wrote_is_no_frame(record: str) -> None:
    assert parse_logged(record, PREFIX) is None


@pytest.mark.parametrize("record", RECORDS)
def test_every_line_that_a_kernel_wrote_is_read(record: str) -> None:
    found = parse_logged(record, PREFIX)

    assert found is not None
    assert found.port == "vm01"
    assert found.untrusted_kind != ""
    assert found.untrusted_mac is not None or " ARP " in record


SAFE = re.compile(r"[A-Za-z0-9:. ]{0,60}")


def harmless(found: LoggedFrame) -> bool:
    values = (
        found.untrusted_kind,
        found.untrusted_mac,
        found.untrusted_sender_mac,
        found.untrusted_source,
        found.untrusted_target,
    )
    return all(each is None or SAFE.fullmatch(each) for each in values)


@given(st.text(), st.sampled_from(RECORDS), st.integers(min_value=0), st.integers(min_value=0))
def test_no_text_makes_it_fail_and_nothing_but_values_comes_out(
    text: str, record: str, begin: int, length: int
) -> None:
    at = begin % len(record)
    spoilt = record[:at] + text + record[at + length % 40 :]

    for each in (text, spoilt, f"{HEAD}{PREFIX}IN=vm01 OUT= {text}"):
        found = parse_logged(each, PREFIX)
        assert found is None or harmless(found)


@given(
    st.sampled_from(["SRC", "DST", "MAC", "PROTO", "SPT", "DPT", "TYPE", "IPSRC", "MACSRC", "OPCODE"]),
    st.text(),
)
def test_a_value_of_another_form_is_left_out(key: str, value: str) -> None:
    found = parse_logged(f"{HEAD}{PREFIX}IN=vm01 OUT= {key}={value} ARP", PREFIX)

    assert found is None or harmless(found)


@pytest.mark.parametrize(
    "address", ["fe80::1%\x1bc", "fe80::1%eth0", "192.0.2.300", "::::", "1", "", "fe80::1/64"]
)
def test_a_source_that_is_no_address_is_left_out(address: str) -> None:
    found = logged(f"IN=vm01 OUT= SRC={address} DST=192.0.2.1 PROTO=UDP")

    assert found is not None
    assert (found.untrusted_source, found.untrusted_target) == (None, "192.0.2.1")


def test_a_ring_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    assert read_kernel_log(tmp_path / "kmsg") is None
    assert read_kernel_log(tmp_path) is None


def test_a_ring_is_read_to_its_end(tmp_path: Path) -> None:
    ring = tmp_path / "kmsg"
    ring.write_bytes(b"7,1,2,-;a\xff\n")

    assert read_kernel_log(ring) == ("7,1,2,-;a\N{REPLACEMENT CHARACTER}\n",)
