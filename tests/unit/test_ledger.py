"""The ledger: the only licence to stop a domU or to make a disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler import ledger
from reconciler.ledger import Owned, remember
from state.run import ReadError

VM01, VM02 = "e608ed38-c1b9-532e-a769-0156b41e19e1", "d8eac4cc-8e11-58b9-9e67-207d9472a37d"
BOTH = {
    VM01: Owned("vm01", disks={"/srv/xen/images/vm01.img": "2049:1"}, powered_off=True, protect=True),
    VM02: Owned("vm02"),
}


def test_a_ledger_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    ledger.save(tmp_path / "ledger.json", BOTH)

    assert ledger.load(tmp_path / "ledger.json") == BOTH
    assert (tmp_path / "ledger.json").stat().st_mode & 0o777 == 0o600


def test_a_host_that_was_never_managed_has_an_empty_ledger(tmp_path: Path) -> None:
    assert ledger.load(tmp_path / "ledger.json") == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"format": 1}',
        '{"format": 1, "owned": []}',
        '{"format": 1, "owned": {"u": {}}}',
        '{"format": 1, "owned": {"u": {"name": "a", "more": 1}}}',
        '{"format": 1, "owned": {"u": 3}}',
    ],
)
def test_a_damaged_ledger_is_no_empty_ledger(tmp_path: Path, text: str) -> None:
    (tmp_path / "ledger.json").write_text(text)

    with pytest.raises(ReadError, match="damaged"):
        ledger.load(tmp_path / "ledger.json")


def test_a_ledger_of_a_newer_version_is_not_guessed_at(tmp_path: Path) -> None:
    (tmp_path / "ledger.json").write_text(json.dumps({"format": 2, "owned": {}}))

    with pytest.raises(ReadError, match="written in format 2, this version reads 1"):
        ledger.load(tmp_path / "ledger.json")


def test_a_ledger_that_cannot_be_read_is_a_read_error(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="directory"):
        ledger.load(tmp_path)


@pytest.mark.parametrize(
    ("fact", "value", "expected"),
    [
        ("owned", "web", Owned("web", BOTH[VM01].disks, powered_off=True, protect=True)),
        ("protect", "no", Owned("vm01", BOTH[VM01].disks, powered_off=True)),
        ("powered-off", "no", Owned("vm01", BOTH[VM01].disks, protect=True)),
        ("powered-off", "yes", BOTH[VM01]),
        ("install", "begun 12", replace(BOTH[VM01], install="begun 12")),
        (
            "disk",
            "/srv/a=b.img=2049:7",
            Owned("vm01", {**BOTH[VM01].disks, "/srv/a=b.img": "2049:7"}, powered_off=True, protect=True),
        ),
    ],
)
def test_a_fact_changes_its_own_entry_and_nothing_else(fact: str, value: str, expected: Owned) -> None:
    assert remember(BOTH, VM01, fact, value) == {VM01: expected, VM02: BOTH[VM02]}


def test_a_released_domu_is_forgotten_and_releasing_it_again_is_fine() -> None:
    once = remember(BOTH, VM01, "released", "")

    assert once == remember(once, VM01, "released", "") == {VM02: BOTH[VM02]}


def test_what_was_unknown_gets_an_entry() -> None:
    assert remember({}, VM01, "owned", "vm01") == {VM01: Owned("vm01")}


def test_a_fact_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown fact 'owner'"):
        remember({}, VM01, "owner", "vm01")
