"""The index of bad input, tests/cases/README.md, names what exists; and what a good repository's odd words do not reach."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from reconciler.diff_guard import specified_guard
from reconciler.guard import nftables
from reconciler.render_xl import config_path, render_xl
from schemas.fleet import view
from state.resolve import resolve
from tests.unit.captures import FEATURES
from tests.unit.fleets import documents, fleet_in

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "tests" / "cases"
ROWS = dict(re.findall(r"^\| (B\d\d) \| (.+) \|$", (CASES / "README.md").read_text(), re.MULTILINE))
WANTED = [f"B{number:02}" for number in (*range(1, 39), *range(40, 49))]


@cache
def names_in(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def named(row: str) -> Iterator[str]:
    """The cases and tests that a row names: code in its last column."""
    yield from re.findall(r"`([^`]+)`", row.rpartition(" | ")[2])


def exists(name: str) -> bool:
    file, _, test = name.partition("::")
    if test:
        return test.startswith("test_") and (ROOT / "tests" / file).is_file() and test in names_in(file)
    kind, _, _ = name.partition("/")
    return kind in {"spec", "plan"} and (CASES / name).is_dir()


def test_every_row_is_there_once_and_in_order() -> None:
    found = re.findall(r"^\| (B\d\d) \|", (CASES / "README.md").read_text(), re.MULTILINE)

    assert found == WANTED == list(ROWS)


@pytest.mark.parametrize("row", WANTED)
def test_a_row_names_cases_and_tests_that_exist(row: str) -> None:
    names = list(named(ROWS[row]))

    assert names
    assert [name for name in names if not exists(name)] == []


def test_there_are_at_least_150_bad_repositories_and_40_good_ones() -> None:
    names = [path.name for path in (CASES / "spec").iterdir() if path.is_dir()]
    good = [name for name in names if name.startswith("good_")]

    assert len(good) >= 40
    assert len(names) - len(good) >= 150


def rendered(case: str) -> tuple[str, dict[str, str]]:
    """The guard's whole load for the case's host, and the files of its domUs by path."""
    seen = view(fleet_in(CASES / "spec" / case), "dom0-a")
    assert seen.host is not None
    desired = resolve(seen.host, documents(seen), networks=seen.networks)
    guard = nftables.full(specified_guard(desired.host, desired.domus), FEATURES)
    return guard, {config_path(domu.name): render_xl(domu) for domu in desired.domus}


def test_a_label_reaches_neither_a_rule_nor_a_configuration() -> None:
    guard, files = rendered("good_labels")

    assert "172.16.39.105" in guard
    for word in ("4711", "ACCEPT", "customer", "tier"):
        assert word not in guard
        assert word not in "".join(files.values())


def test_names_that_begin_alike_share_nothing_in_the_guard_and_no_file() -> None:
    guard, files = rendered("good_names_that_differ_behind_31_characters")

    assert len(files) == 2
    assert [guard.count(f'"vm0{number}" . 00:16:3e:7c:1f:{0x6D + number:02x}') > 0 for number in (1, 2)] == [
        True,
        True,
    ]
    assert "customer-4711" not in guard
