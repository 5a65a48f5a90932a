"""What the kernel tells of changed rules and ports. Source: Linux 6.18, nftables 1.0.6, iproute2 6.1."""

from __future__ import annotations

import struct

import pytest

from state.events import Ports, RuleChange, parse_rule_changes

# `nft add table bridge domgit`, `add element bridge domgit s { x }`, and `flush ruleset` with what follows each.
ADDED = "3c000000000a000001000000777c0000070000020b000100646f6d676974000008000300000000000c00040000000000000000010800020000000000"
GENERATION = "2c0000000f0a000001000000777c00000000000208000100000000020800020000007c77080003006e667400"
ELEMENT = "480000000c0a000400000000587d0000070000040b000100646f6d67697400000600020073000000200003001c000100180001001400010078000000000000000000000000000000"
FLUSHED = (
    "340000000b0a000001000000c17d0000070000050b000100646f6d676974000006000200730000000c0010000000000000000001"
    "34000000020a000001000000c17d0000070000050b000100646f6d676974000008000300000000000c0004000000000000000001"
)


@pytest.mark.parametrize(
    ("told", "heard"),
    [
        (ADDED, ["table"]),
        (GENERATION, []),
        (ELEMENT, ["element"]),
        (FLUSHED, ["set", "table"]),
        (ADDED + GENERATION, ["table"]),
        (ADDED[:40], []),
        ("", []),
        ("00000000ffff", []),
        ("0800000000000000", []),
        ("0f000000020a00000100000000000000", []),
    ],
)
def test_a_change_says_which_table_and_what_of_it(told: str, heard: list[str]) -> None:
    changes = list(parse_rule_changes(bytes.fromhex(told)))

    assert changes == [RuleChange(7, "domgit", what) for what in heard]
    assert all(each.ours for each in changes)


def test_a_table_of_that_name_in_another_family_is_somebody_elses() -> None:
    (change,) = parse_rule_changes(bytes.fromhex(ADDED.replace("070000020b00", "020000020b00")))

    assert (change.family, change.table, change.ours) == (2, "domgit", False)


def told_of(kind: int, family: int, index: int, *attributes: tuple[int, bytes]) -> bytes:
    """A message as rtnetlink(7) has it."""
    body = struct.pack("=BxHiII", family, 1, index, 0, 0)
    for number, value in attributes:
        body += struct.pack("=HH", len(value) + 4, number) + value + b"\0" * (-len(value) % 4)
    return struct.pack("=IHHII", len(body) + 16, kind, 0, 0, 0) + body


NEW, GONE, LINK, PORT = 16, 17, 0, 7
MASTER = (10, b"\2\0\0\0")


def settings(*values: tuple[int, bytes]) -> tuple[int, bytes]:
    packed = b"".join(
        struct.pack("=HH", len(value) + 4, number) + value + b"\0" * (-len(value) % 4)
        for number, value in values
    )
    return 0x8000 | 12, packed


def name(text: str) -> tuple[int, bytes]:
    return 3, text.encode() + b"\0"


def test_a_port_is_told_of_when_it_is_otherwise_than_it_was_and_not_again() -> None:
    ports = Ports()
    unlocked, locked = settings((8, b"\1"), (39, b"\0")), settings((8, b"\0"), (39, b"\1"))

    steps = [
        (told_of(NEW, LINK, 5, name("vm01"), MASTER), ["vm01"]),
        (told_of(NEW, LINK, 5, name("vm01"), MASTER), []),
        (told_of(NEW, PORT, 5, name("vm01"), MASTER, unlocked), ["vm01"]),
        (told_of(NEW, PORT, 5, name("vm01"), MASTER, settings((8, b"\1"), (39, b"\0"), (1, b"\3"))), []),
        (told_of(NEW, PORT, 5, name("vm01"), MASTER, locked), ["vm01"]),
        (told_of(NEW, LINK, 5, name("other"), MASTER), ["other"]),
        (told_of(NEW, LINK, 5, name("other"), MASTER, (27, b"\7\0\0\0")), ["other"]),
        (told_of(GONE, PORT, 5, name("other"), MASTER), ["other"]),
        (told_of(NEW, LINK, 5, name("other")), []),
        (told_of(GONE, LINK, 5, name("other")), []),
    ]

    assert [list(ports.changed(message)) for message, _ in steps] == [heard for _, heard in steps]


def test_what_is_no_port_and_what_is_no_message_of_interfaces_is_left_out() -> None:
    ports = Ports()

    assert list(ports.changed(told_of(NEW, LINK, 1, name("eth7")))) == []
    assert list(ports.changed(told_of(NEW, LINK, 1, name("eth7"), MASTER)[:20])) == []
    assert list(ports.changed(bytes.fromhex(ADDED))) == []
    assert list(ports.changed(told_of(NEW, PORT, 9, MASTER))) == ["9"]
    assert list(ports.changed(struct.pack("=IHHII", 40, NEW, 0, 0, 0) + bytes(24))) == []
