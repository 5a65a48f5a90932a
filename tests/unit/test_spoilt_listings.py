"""What tools print, spoilt in ways that happen: cut anywhere, records twice, warnings in between, keys of other versions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from state import listing
from state.run import ReadError
from tests.unit.captures import CAPTURES, capture
from tests.unit.test_live_parsers import JSON_TEXTS, PARSERS, TEXTS, nodes

# These have no end of their own: a part that ends with a line is a listing like any other (tests/unit/test_contradictions.py).
OPEN_ENDED = {"xl-list-4", "xl-vm-list", "xl-info", "xenstore-ls", "xenstore-list"}
LINES = [(tool, name) for tool, name in TEXTS if (tool, name) not in JSON_TEXTS]
WARNING = "libxl: warning: libxl_dom.c:1: something\n"
# What no version leaves out, by listing: (place of the object, key).
REQUIRED: dict[str, list[tuple[tuple[str | int, ...], str]]] = {
    "ip-link-6.1.0-two-guests.json": [((0,), "ifname"), ((0,), "ifindex"), ((0,), "flags"), ((0,), "mtu")],
    "ip-address-6.1.0-two-guests.json": [((0,), "ifname")],
    "bridge-link-6.1.0-two-guests.json": [
        ((0,), "ifname"),
        ((0,), "learning"),
        ((0,), "locked"),
        ((0,), "isolated"),
    ],
    "bridge-fdb-6.1.0-two-guests.json": [((0,), "mac"), ((0,), "ifname"), ((0,), "state"), ((0,), "flags")],
    "xl-list-long-4.17.7-two-guests.json": [
        ((1,), "domid"),
        ((1, "config", "c_info"), "type"),
        ((1, "config", "c_info"), "uuid"),
        ((1, "config", "nics", 0), "devid"),
        ((1, "config", "nics", 0), "mac"),
        ((1, "config", "disks", 0), "vdev"),
    ],
}


def refused(tool: str, text: str) -> bool:
    try:
        PARSERS[tool](text)
    except ReadError:
        return True
    return False


def at(whole: Any, place: tuple[str | int, ...]) -> Any:
    for key in place:
        whole = whole[key]
    return whole


def test_every_capture_carries_its_tool_its_version_and_its_situation_in_its_name() -> None:
    tools = "bridge-(fdb|link)|ip-(link|address|route|route-get)|iptables-save|ip6?tables-(nft|legacy)-save|ebtables-nft-save|ipset-save|kmsg|nft-(list-table|tables)|xenstore-(ls|list)|xl-(info|list|list-long|vm-list)"
    pattern = re.compile(rf"(error-)?({tools})-\d+\.\d+(\.\d+)?(-[a-z0-9-]+)?\.(txt|json)")

    assert [path.name for path in CAPTURES.iterdir() if pattern.fullmatch(path.name) is None] == []


@pytest.mark.campaign
@pytest.mark.parametrize(("tool", "name"), TEXTS, ids=[name for _, name in TEXTS])
def test_a_capture_cut_at_any_byte_is_refused_unless_it_ends_with_a_line(tool: str, name: str) -> None:
    text = capture(name)

    for end in range(len(text.rstrip())):
        if end == 0 and tool.startswith("xenstore"):
            continue  # nothing is a folder that is there and empty
        at_a_line = tool in OPEN_ENDED and text[end - 1] == "\n"
        assert refused(tool, text[:end]) or at_a_line


def doubled(tool: str, text: str) -> Iterator[str]:
    """The text with one of its records twice."""
    if text.startswith("["):
        entries = [each for each in json.loads(text) if each]
        yield from (json.dumps([*entries, each]) for each in entries)
    else:
        lines = text.splitlines(keepends=True)
        records = [line for line in lines[1:] if ' = ""' not in line] if tool == "xenstore-ls" else lines[1:]
        yield from (text + line for line in records)


@pytest.mark.parametrize(
    ("tool", "name"),
    [
        (tool, name)
        for tool, name in TEXTS
        if tool not in {"bridge-fdb", "nft-list-table", "xl-info", "xenstore-list"}
    ],
    ids=lambda value: value,
)
def test_a_record_that_stands_twice_is_refused(tool: str, name: str) -> None:
    texts = [*doubled(tool, capture(name))]

    assert texts or "no-guests" in name
    assert [text for text in texts if not refused(tool, text)] == []


def test_a_forwarding_entry_may_stand_twice_for_it_says_the_same() -> None:
    text = capture("bridge-fdb-6.1.0-two-guests.json")

    assert all(
        PARSERS["bridge-fdb"](each) == PARSERS["bridge-fdb"](text) for each in doubled("bridge-fdb", text)
    )


@pytest.mark.parametrize(("tool", "name"), LINES, ids=[name for _, name in LINES])
def test_a_warning_among_the_lines_is_refused_wherever_it_stands(tool: str, name: str) -> None:
    lines = capture(name).splitlines(keepends=True)

    for place in range(len(lines) + 1):
        text = "".join([*lines[:place], WARNING, *lines[place:]])
        # xl info is `KEY : VALUE`, of whatever key: a line that is none of ours is none.
        assert refused(tool, text) or tool == "xl-info"


@pytest.mark.parametrize(("tool", "name"), JSON_TEXTS, ids=[name for _, name in JSON_TEXTS])
def test_keys_of_a_later_version_change_nothing(tool: str, name: str) -> None:
    text = capture(name)
    whole = json.loads(text)
    for container, key in [*nodes(whole)]:
        if isinstance(container[key], dict):
            container[key]["x-of-a-later-version"] = {"x": [None, 1.5]}

    assert PARSERS[tool](json.dumps(whole)) == PARSERS[tool](text)


@pytest.mark.parametrize(
    ("name", "place", "key"),
    [(name, *which) for name, required in REQUIRED.items() for which in required],
    ids=repr,
)
def test_a_record_without_what_every_version_writes_is_refused(
    name: str, place: tuple[str | int, ...], key: str
) -> None:
    whole = json.loads(capture(name))
    del at(whole, place)[key]
    tool = next(each for each, known in TEXTS if known == name)

    assert refused(tool, json.dumps(whole))


@pytest.mark.parametrize("text", ["NaN", "[{}, NaN]", "[" * 100_000, '{"a": ' * 100_000, '[{"a": 1}', "\x00"])
def test_what_is_no_json_is_refused_at_any_depth(text: str) -> None:
    with pytest.raises(ReadError, match=r"tool: (not JSON|nested too deep|not an array of objects)"):
        listing.parse_entries("tool", text)


@pytest.mark.parametrize("value", [-1, 2**64, 1.0, True, "1", None, [1]])
def test_a_number_is_a_whole_one_that_a_kernel_has(value: object) -> None:
    with pytest.raises(ReadError, match="tool: key is"):
        listing.Entry("tool", {"key": value}).number("key")


def test_what_is_missing_has_its_default_or_is_named() -> None:
    entry = listing.Entry("tool", {})

    assert (entry.text("key", "x"), entry.number("key", 7), entry.entries("key"), entry.numbers("key")) == (
        "x",
        7,
        (),
        (),
    )
    for read in (entry.text, entry.number, entry.flag, entry.words, entry.mac):
        with pytest.raises(ReadError, match="tool: an entry without key"):
            read("key")
