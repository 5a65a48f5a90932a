"""A plan as JSON, as text, as Markdown and as a page: the same facts, stable."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from reconciler.diff import make_plan
from reconciler.plan import Plan, Source
from reconciler.plan_document import plan_document
from reconciler.plan_text import last_line, plan_html, plan_markdown, plan_text, revision_text
from reconciler.policy import Policy
from schemas.diagnostic import Diagnostic
from tests.unit.deviations import situation
from tests.unit.worlds import backwards, shuffled

WORDS = {
    "about": "A rate, a second disk, and one | that is <too> much",
    "applied": {"vm01": {}, "vm02": {}},
    "git": {
        "vm01": {"vifs": [{"rate": "10Mb/s"}], "disks": [{}, {}]},
        "vm02": {"state": "absent"},
        "vm03": {"vifs": [{"name": "none"}], "memory": "64GiB", "maxMemory": "64GiB"},
    },
    "live": {"strangers": {"foreign": {}}},
}
NOTHING: dict[str, object] = {"git": {"vm01": {}}}


def plan(words: object = WORDS) -> Plan:
    assert isinstance(words, dict)
    return make_plan(situation(words), Policy())


def test_the_document_is_json_and_the_same_for_the_same_plan() -> None:
    found = situation(WORDS)
    texts = {
        json.dumps(
            plan_document(make_plan(replace(found, observed=each, ledger=ledger), Policy()), timestamp="t")
        )
        for each in (found.observed, *shuffled(found.observed))
        for ledger in (found.ledger, backwards(found.ledger))
    }

    ids = {json.loads(text)["plan_id"] for text in texts}
    assert ids == {plan().plan_id}
    assert {json.dumps(json.loads(text)["resource_changes"]) for text in texts} == {
        json.dumps(plan_document(plan(), timestamp="t")["resource_changes"])
    }


def test_the_documents_keys_are_the_ones_that_were_promised() -> None:
    document = plan_document(plan(), timestamp="2026-01-01T00:00:00Z")

    assert set(document) == {
        "format_version", "tool_version", "plan_id", "timestamp", "host", "source", "prior_state",
        "applyable", "complete", "errored", "empty", "summary", "resource_changes", "resource_drift",
        "notes", "diagnostics",
    }  # fmt: skip
    assert set(document["resource_changes"][0]) == {
        "address", "type", "name", "index", "change", "symbol", "action_reason", "cause", "impact", "when",
        "layer", "blocked", "uuid", "domid", "counts", "fingerprint", "expect", "commands", "inverse", "digest",
    }  # fmt: skip
    assert document["format_version"] == "1.0"


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("domu.vm01.vif.0", ("vif", "vm01", 0)),
        ("domu.vm01.disk.xvdb", ("disk", "vm01", "xvdb")),
        ("domu.vm03", ("domu", "vm03", None)),
        ("guard", ("guard", "guard", None)),
        ("file./etc/xen/vm01.cfg", ("file", "/etc/xen/vm01.cfg", None)),
    ],
)
def test_an_address_is_taken_apart(address: str, place: tuple[str, str, object]) -> None:
    changes = {each["address"]: each for each in plan_document(plan(), timestamp="")["resource_changes"]}

    assert (changes[address]["type"], changes[address]["name"], changes[address]["index"]) == place


def test_a_plan_says_whether_it_is_applyable_complete_empty_and_errored() -> None:
    def facts(found: Plan) -> tuple[object, ...]:
        document = plan_document(found, timestamp="")
        return tuple(document[name] for name in ("applyable", "complete", "empty", "errored"))

    wrong = Diagnostic("a", 1, 1, "DG1", "no")
    warned = replace(wrong, severity="warning")

    assert facts(plan()) == (True, False, False, False)
    assert facts(plan(NOTHING)) == (False, True, True, False)
    assert facts(replace(plan(NOTHING), diagnostics=(wrong,))) == (False, False, True, True)
    assert facts(replace(plan(NOTHING), diagnostics=(warned,))) == (False, True, True, False)


def test_drift_is_what_was_not_changed_by_git() -> None:
    drifted = {"git": {"vm01": {}}, "live": {"vm01": {"memory": "128"}}}

    assert plan_document(plan(), timestamp="")["resource_drift"] == []
    assert [each["address"] for each in plan_document(plan(drifted), timestamp="")["resource_drift"]] == [
        "domu.vm01"
    ]


def test_two_plans_that_mean_the_same_have_one_id_whenever_they_were_made() -> None:
    other = replace(plan(), source=replace(plan().source, subject="another subject"))
    moved = replace(plan(), source=Source("0" * 40))

    assert plan().plan_id == other.plan_id != moved.plan_id
    assert plan().plan_id.startswith("sha256:")


def test_every_format_ends_with_or_holds_the_same_last_line() -> None:
    document = plan_document(plan(), timestamp="")
    line = "Plan: 0 to add, 3 to change, 1 to remove, 1 staged, 1 blocked."

    assert last_line(document) == line
    assert plan_text(document).splitlines()[-1] == line
    assert f"**{line}**" in plan_markdown(document)
    assert f"<strong>{line}</strong>" in plan_html(document)


def test_a_plan_from_the_journal_reads_like_a_fresh_one() -> None:
    words = {**WORDS, "live": {"vm01": {"kernel": "/other", "vifs": {"0": {"port": "odd"}}}}}
    fresh = plan_document(plan(words), timestamp="")

    assert plan_text(json.loads(json.dumps(fresh))) == plan_text(fresh)


def test_markdown_is_not_ended_by_a_commit_whose_subject_is_a_fence() -> None:
    document = {
        **plan_document(plan(), timestamp=""),
        "source": {"revision": "c" * 40, "branch": "", "author": "", "subject": "```"},
    }

    page = plan_markdown(document)

    assert f"\n````\n{plan_text(document)}````\n</details>\n" in page


def test_markdown_has_a_row_for_every_change_and_none_when_there_is_none() -> None:
    full, bare = (plan_markdown(plan_document(plan(words), timestamp="")) for words in (WORDS, NOTHING))

    assert full.count("\n| `") == len(plan().changes)
    assert (
        "| `!` | `domu.vm03` | intentional | guest notices nothing | needs 65536 MiB, 8192 MiB are free |"
        in full
    )
    assert "| |" not in bare


def test_a_page_is_escaped_and_whole() -> None:
    page = plan_html(plan_document(plan(), timestamp=""))

    assert page.startswith("<!DOCTYPE html>")
    assert "&lt;too&gt;" in page
    assert "<too>" not in page


@pytest.mark.parametrize(
    ("revision", "branch", "shown"),
    [
        ("c0ffee00" * 5, "main", "main@c0ffee00c0ff"),
        ("c0ffee00" * 5, "", "commit@c0ffee00c0ff"),
        ("worktree:" + "ab" * 32, "", "worktree@abababababab"),
    ],
)
def test_a_revision_is_shown_short(revision: str, branch: str, shown: str) -> None:
    source = {"revision": revision, "branch": branch}

    assert revision_text({"source": source}) == shown


def test_who_wrote_the_commit_is_left_out_where_nobody_is_known() -> None:
    found = replace(plan(NOTHING), source=Source("c0ffee00" * 5))

    assert plan_text(plan_document(found, timestamp="")) == (
        "Plan for dom0-a from commit@c0ffee00c0ff\n\nNo changes. dom0-a matches commit@c0ffee00c0ff.\n"
    )
