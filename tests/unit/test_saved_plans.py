"""A plan file comes from outside: what is no plan is refused in a sentence, and so is one that was changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.cli.output import printable
from reconciler.diff import make_plan
from reconciler.plan_document import parse_document, plan_document
from reconciler.plan_text import plan_html, plan_markdown, plan_text
from reconciler.policy import Policy
from tests.unit.deviations import situation

ESCAPE = "\x1b[2K\x1b[1Gnothing to see\x07"


def a_plan() -> dict[str, Any]:
    words = {"applied": {"vm01": {}}, "git": {"vm01": {"memory": "384MiB"}}}
    document = plan_document(make_plan(situation(words), Policy()), timestamp="2026-01-01T00:00:00Z")
    found: dict[str, Any] = json.loads(json.dumps(document))
    assert found["resource_changes"]
    return found


def test_a_saved_plan_comes_back_as_it_was() -> None:
    assert parse_document(json.dumps(a_plan())) == a_plan()


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "7", '"a plan"', "[" * 100_000, '{"a":' * 50_000])
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no plan"):
        parse_document(text)


@pytest.mark.parametrize(
    "key", sorted(a_plan()["resource_changes"][0].keys() & {"change", "commands", "uuid", "digest"})
)
def test_a_change_without_one_of_its_parts_is_refused(key: str) -> None:
    document = a_plan()
    del document["resource_changes"][0][key]

    with pytest.raises(ValueError, match=rf"no plan: resource_changes\.0\.{key}"):
        parse_document(json.dumps(document))


def _edited(document: dict[str, Any], what: str) -> None:
    change = document["resource_changes"][0]
    match what:
        case "command":
            change["commands"][0] = ["xl", "destroy", "0"]
        case "shown":
            change["change"]["after"]["anything"] = "harmless"
        case "domain":
            change["domid"] = 7
        case "left out":
            document["resource_changes"].pop()
        case "host":
            document["host"]["name"] = "dom0-b"
        case _:
            document["source"]["revision"] = "f" * 40


@pytest.mark.parametrize("what", ["command", "shown", "domain", "left out", "host", "revision"])
def test_a_plan_that_was_edited_is_refused(what: str) -> None:
    document = a_plan()
    _edited(document, what)

    with pytest.raises(ValueError, match="changed since it was made"):
        parse_document(json.dumps(document))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def _places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in items for place in _places(inner, (*path, key)))]


@given(st.sampled_from(_places(a_plan())[1:]), VALUES)
def test_whatever_stands_somewhere_in_it_a_plan_is_refused_or_can_be_shown(
    place: tuple[str | int, ...], value: Any
) -> None:
    document = a_plan()
    inner: Any = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value

    try:
        parsed: Mapping[str, Any] = parse_document(json.dumps(document))
    except ValueError:
        return

    assert plan_text(parsed)
    assert plan_markdown(parsed)
    assert plan_html(parsed)


def test_nothing_that_a_terminal_would_act_on_is_printed() -> None:
    document = a_plan()
    document["source"]["author"] = ESCAPE

    shown = printable(plan_text(parse_document(json.dumps(document))))

    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "nothing to see" in shown
    assert shown.endswith("\n")


@given(st.text())
def test_printable_text_stays_as_it_is_and_the_rest_becomes_visible(text: str) -> None:
    shown = printable(text)

    assert len(shown) == len(text)
    assert all(each.isprintable() or each in "\n\t" for each in shown)
    assert all(new == old for new, old in zip(shown, text, strict=True) if old.isprintable() or old in "\n\t")
