"""The engine itself: which mistakes it makes, and that it tells a test that sees one from a test that does not."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation.mutants import mutants, rules

ROOT = Path(__file__).resolve().parents[2]
SOURCE = '''
"""Prose, and nothing that is changed."""
LIMIT = 3

def chosen(items: list[str], limit: int = 2) -> list[str]:
    """Prose."""
    if len(items) > limit and not items[0]:
        raise ValueError("too many, or none")
    return sorted(each for each in items if each != "none")
'''
SMOKE = """
import ast, json, sys
from importlib import import_module
from tests.mutation import campaign
from tests.mutation.mutants import mutants

MODULE = "reconciler.policy"
said = {}

def found(what, known):
    tree = ast.parse(campaign.source_of(MODULE).read_text())
    return next(each for each in mutants(MODULE, tree, known) if each.what == what), tree

mutant, tree = found("'restart' -> 'XXrestart'", {})
assert mutant.at_import
said["at import"] = campaign.attempt_at_import(mutant, tree, ["tests/unit/test_policy.py"], {})[0]

def then(items):
    module = import_module(MODULE)
    functions = campaign.functions_of(module)
    mutant, tree = found("len(removals) > limits.absent -> len(removals) >= limits.absent", vars(module))
    watched = [item for item in items if "watched" in item.name]
    assert watched
    for name, tests in (("no test of it", watched), ("all tests", items)):
        said[name] = campaign.attempt(mutant, tree, functions, tests, {}, cold=False)[0]

campaign.with_tests(then, ["tests/unit/test_policy.py"])
print(json.dumps(said))
"""


def test_every_change_is_one_that_a_test_could_see() -> None:
    tree = ast.parse(SOURCE)

    found = {each.what for each in mutants("m", tree, {"sorted": sorted})}

    assert found == {
        "3 -> 4",
        "2 -> 3",
        "len(items) > limit and (not items[0]) -> False",
        "len(items) > limit and (not items[0]) -> True",
        "len(items) > limit and (not items[0]) -> len(items) > limit or not items[0]",
        "len(items) > limit and (not items[0]) -> not items[0]",
        "len(items) > limit and (not items[0]) -> len(items) > limit",
        "len(items) > limit -> len(items) >= limit",
        "len(items) > limit -> len(items) <= limit",
        "not items[0] -> items[0]",
        "0 -> 1",
        "raise ValueError('too many, or none') -> pass",
        "return sorted((each for each in items if each != 'none')) -> return []",
        "sorted((each for each in items if each != 'none')) -> list((each for each in items if each != 'none'))",
        "each != 'none' -> nothing",
        "each != 'none' -> each == 'none'",
        "'none' -> 'XXnone'",
    }


def test_a_tree_is_as_before_when_a_mutant_is_over() -> None:
    tree = ast.parse(SOURCE)
    before = ast.dump(tree)

    for each in mutants("m", tree, {}):
        with each.applied():
            assert ast.dump(tree) != before
            compile(tree, "m.py", "exec")
        assert ast.dump(tree) == before


def test_a_rule_loses_a_line_turns_its_verdict_or_is_about_something_else() -> None:
    assert set(rules("udp dport 68 goto refused_dhcp\ntype { ip, arp } != 1 accept\n")) == {
        "type { ip, arp } != 1 accept\n",
        "udp dport 68 goto refused_dhcp\n",
        "udp dport 68 accept\ntype { ip, arp } != 1 accept\n",
        "udp dport 69 goto refused_dhcp\ntype { ip, arp } != 1 accept\n",
        "udp dport 68 goto refused_dhcp\ntype { ip, arp } != 1 drop\n",
        "udp dport 68 goto refused_dhcp\ntype { ip, arp } == 1 accept\n",
        "udp dport 68 goto refused_dhcp\ntype { ip } != 1 accept\n",
        "udp dport 68 goto refused_dhcp\ntype { arp } != 1 accept\n",
        "udp dport 68 goto refused_dhcp\ntype { ip, arp } != 2 accept\n",
    }


@pytest.mark.campaign
def test_a_mistake_is_killed_by_a_test_that_sees_it_and_survives_any_other() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SMOKE], cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
    )

    assert json.loads(done.stdout.splitlines()[-1]) == {
        "at import": "killed",
        "no test of it": "survived",
        "all tests": "killed",
    }
