"""One small plan, to the letter, in each of the formats that people and programs read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler import __version__
from reconciler.plan import IMPACTS, Change, Note, Phase, Plan, Source
from reconciler.plan_document import plan_document
from reconciler.plan_text import change_lines, last_line, plan_html, plan_markdown, plan_text
from reconciler.step import Remember, Run
from schemas.diagnostic import Diagnostic

UUID = "e608ed38-c1b9-532e-a769-0156b41e19e1"
REPLUGGED = Change(
    address="domu.vm01.vif.0",
    actions=("delete", "create"),
    cause="corrective",
    impact="link",
    phase=Phase.ADD,
    early=(Run(("xl", "network-detach", "7", "0")),),
    steps=(Remember(UUID, "owned", "vm01"), Run(("xl", "network-attach", "7", "devid=0"))),
    fingerprint=((f"domain:{UUID}", "7"),),
    before={"bridge": "xenbr9", "rate": None, "same": 1},
    after={"bridge": "xenbr0", "rate": 5, "ips": ("192.0.2.1", True, (False, 2)), "same": 1},
    counts=("domu.vm01",),
    inverse=(Run(("xl", "network-detach", "7", "0")),),
    expect=((f"vif:{UUID}:0", "*"),),
    layer=("live", "guard"),
    reason="replace_because_cannot_update",
    uuid=UUID,
    domid=7,
)
REFUSED = Change(
    address="guard",
    actions=("update",),
    cause="intentional",
    impact="none",
    phase=Phase.GUARD,
    steps=(Run(("nft", "-f", "-")),),
    fingerprint=(),
    before={},
    after={"vm01": ["192.0.2.1"]},
    counts=("domu.vm01", "domu.vm02"),
    blocked="a | b\n<c> & d",
    when="approval",
)
WARNING = Diagnostic("hosts/a.yaml", 3, None, "DG1234", "is <odd>", severity="warning", address="vifs[0]")
PLAN = Plan(
    host="dom0-a",
    source=Source("c0ffee00" * 5, "main", "Ann <a@example.net>", "one & two"),
    prior_state="sha256:before",
    changes=(REFUSED, REPLUGGED),
    notes=(Note("domu.vm03", "orphan", "left & alone"),),
    diagnostics=(WARNING,),
)
DOCUMENT = plan_document(PLAN, timestamp="2026-11-27T21:00:00Z")
TEXT = """\
Plan for dom0-a from main@c0ffee00c0ff by Ann <a@example.net>
  one & two

hosts/a.yaml:3: warning[DG1234]: is <odd>

  ! guard  (intentional)
        blocked: a | b
<c> & d
        vm01: (none) -> [192.0.2.1]
-/+ domu.vm01.vif.0  (corrective, guest's network is interrupted)
        bridge: xenbr9 -> xenbr0
        rate: none -> 5
        ips: (none) -> [192.0.2.1, true, [false, 2]]
        $ xl network-detach 7 0
        $ xl network-attach 7 devid=0
  # domu.vm03: left & alone [orphan]

Plan: 0 to add, 1 to change, 0 to remove, 0 staged, 2 blocked.
"""


def test_the_document_holds_every_fact() -> None:
    refused, replugged = DOCUMENT["resource_changes"]

    assert {
        name: value for name, value in DOCUMENT.items() if name not in {"resource_changes", "resource_drift"}
    } == {
        "format_version": "1.0",
        "tool_version": __version__,
        "plan_id": PLAN.plan_id,
        "timestamp": "2026-11-27T21:00:00Z",
        "host": {"name": "dom0-a"},
        "source": {
            "revision": "c0ffee00" * 5,
            "branch": "main",
            "author": "Ann <a@example.net>",
            "subject": "one & two",
        },
        "prior_state": {"digest": "sha256:before"},
        "applyable": True,
        "complete": False,
        "errored": False,
        "empty": False,
        "summary": {"add": 0, "change": 1, "remove": 0, "staged": 0, "blocked": 2},
        "notes": [{"address": "domu.vm03", "reason": "orphan", "message": "left & alone"}],
        "diagnostics": [
            {
                "severity": "warning",
                "code": "DG1234",
                "message": "is <odd>",
                "address": "vifs[0]",
                "file": "hosts/a.yaml",
                "line": 3,
                "column": None,
            }
        ],
    }
    assert DOCUMENT["resource_drift"] == [replugged]
    assert replugged == {
        "address": "domu.vm01.vif.0",
        "type": "vif",
        "name": "vm01",
        "index": 0,
        "change": {
            "actions": ["delete", "create"],
            "before": {"bridge": "xenbr9", "rate": None, "same": 1},
            "after": {"bridge": "xenbr0", "rate": 5, "ips": ["192.0.2.1", True, [False, 2]], "same": 1},
        },
        "symbol": "-/+",
        "action_reason": "replace_because_cannot_update",
        "cause": "corrective",
        "impact": "link",
        "when": "now",
        "layer": ["live", "guard"],
        "blocked": None,
        "uuid": UUID,
        "domid": 7,
        "counts": ["domu.vm01"],
        "fingerprint": {f"domain:{UUID}": "7"},
        "expect": {f"vif:{UUID}:0": "*"},
        "commands": [
            ["xl", "network-detach", "7", "0"],
            ["domgit:remember", UUID, "owned", "vm01"],
            ["xl", "network-attach", "7", "devid=0"],
        ],
        "inverse": [["xl", "network-detach", "7", "0"]],
        "digest": REPLUGGED.digest(),
    }
    assert refused["blocked"] == "a | b\n<c> & d"
    assert (refused["counts"], refused["when"]) == (["domu.vm01", "domu.vm02"], "approval")


def test_a_terminal_shows_who_wants_it_what_is_odd_what_changes_and_what_is_left_alone() -> None:
    assert plan_text(DOCUMENT) == TEXT


def test_a_pull_request_shows_a_table_and_folds_the_rest() -> None:
    assert plan_markdown(DOCUMENT) == (
        "### domgit: dom0-a from `main@c0ffee00c0ff`\n\n"
        "| | object | cause | impact | when |\n"
        "|---|---|---|---|---|\n"
        "| `!` | `guard` | intentional | guest notices nothing | a \\| b &lt;c&gt; &amp; d |\n"
        "| `-/+` | `domu.vm01.vif.0` | corrective | guest's network is interrupted | now |\n\n"
        "**Plan: 0 to add, 1 to change, 0 to remove, 0 staged, 2 blocked.**\n\n"
        f"<details><summary>Everything</summary>\n\n```\n{TEXT}```\n</details>\n"
    )


def test_a_page_shows_the_same_escaped() -> None:
    text = TEXT.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#x27;")

    assert plan_html(DOCUMENT) == (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>domgit: dom0-a from main@c0ffee00c0ff</title></head>'
        "<body>\n<h1>domgit: dom0-a from main@c0ffee00c0ff</h1>\n"
        "<table><tr><th></th><th>object</th><th>cause</th><th>impact</th><th>when</th></tr>"
        "<tr><td>!</td><td>guard</td><td>intentional</td><td>none</td><td>a | b\n&lt;c&gt; &amp; d</td></tr>"
        "<tr><td>-/+</td><td>domu.vm01.vif.0</td><td>corrective</td><td>link</td><td>now</td></tr></table>\n"
        "<p><strong>Plan: 0 to add, 1 to change, 0 to remove, 0 staged, 2 blocked.</strong></p>\n"
        f"<pre>{text}</pre>\n</body></html>\n"
    )


def test_a_plan_without_changes_says_whether_an_error_is_why() -> None:
    bare = {**DOCUMENT, "resource_changes": [], "notes": [], "diagnostics": []}

    assert last_line(bare) == "No changes. dom0-a matches main@c0ffee00c0ff."
    assert last_line({**bare, "errored": True}) == (
        "Nothing to do. dom0-a stays as last applied where errors hold it back."
    )
    assert plan_text({**bare, "source": {**bare["source"], "subject": "", "author": ""}}) == (
        "Plan for dom0-a from main@c0ffee00c0ff\n\nNo changes. dom0-a matches main@c0ffee00c0ff.\n"
    )
    assert "| |" not in plan_markdown(bare)


def test_every_impact_and_every_kind_of_waiting_has_its_words() -> None:
    def head(**words: object) -> str:
        return next(change_lines({**DOCUMENT["resource_changes"][1], **words})).partition("  (")[2]

    assert [head(impact=impact) for impact in IMPACTS] == [
        "corrective, guest notices nothing)",
        "corrective, guest's network is interrupted)",
        "corrective, guest reboots)",
        "corrective, guest is shut down)",
        "corrective, guest's data is touched)",
    ]
    reboot = "corrective, guest's network is interrupted, "
    assert head(when="next_guest_reboot") == f"{reboot}staged: the guest's own next reboot brings it)"
    assert (
        head(when="next_guest_reboot", commands=[])
        == f"{reboot}staged already, waits for the guest's reboot)"
    )
    assert head(when="approval") == f"{reboot}waits: replace_because_cannot_update)"
    assert head(when="window", action_reason=None) == f"{reboot}waits: window)"
    assert head(when="window", blocked="no") == "corrective)"


def _change(address: str, *counts: str, **more: Any) -> Change:
    return replace(
        REPLUGGED, **{"address": address, "counts": counts or (address,), "actions": ("update",), **more}
    )


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ([_change("domu.a")], "0 to add, 1 to change, 0 to remove, 0 staged, 0 blocked"),
        ([_change("domu.a", actions=("create",))], "1 to add, 0 to change, 0 to remove, 0 staged, 0 blocked"),
        ([_change("domu.a", actions=("delete",))], "0 to add, 0 to change, 1 to remove, 0 staged, 0 blocked"),
        ([_change("domu.a.vif.1", "domu.a", actions=("create",))], "0 to add, 1 to change, 0 to remove, 0 staged, 0 blocked"),
        ([_change("domu.a.vif.1", "domu.a", actions=("delete",))], "0 to add, 1 to change, 0 to remove, 0 staged, 0 blocked"),
        ([_change("domu.a", actions=("create",)), _change("file.x", "domu.a")], "1 to add, 0 to change, 0 to remove, 0 staged, 0 blocked"),
        ([_change("domu.a", actions=("delete",)), _change("domu.a", actions=("create",))], "1 to add, 0 to change, 0 to remove, 0 staged, 0 blocked"),
        ([_change("file.x", "domu.a"), _change("domu.a", actions=("delete",))], "0 to add, 0 to change, 1 to remove, 0 staged, 0 blocked"),
        ([_change("guard", "domu.a", "domu.b")], "0 to add, 2 to change, 0 to remove, 0 staged, 0 blocked"),
        ([_change("domu.a", when="next_guest_reboot")], "0 to add, 0 to change, 0 to remove, 1 staged, 0 blocked"),
        ([_change("domu.a", when="next_guest_reboot", blocked="no")], "0 to add, 0 to change, 0 to remove, 0 staged, 1 blocked"),
        ([_change("domu.a", when="next_guest_reboot"), _change("domu.a", blocked="no"), _change("domu.a")], "0 to add, 1 to change, 0 to remove, 1 staged, 1 blocked"),
        ([_change("domu.a", blocked="no"), _change("domu.a", blocked="no"), _change("domu.b", blocked="no")], "0 to add, 0 to change, 0 to remove, 0 staged, 2 blocked"),
        ([_change("domu.a", when="approval")], "0 to add, 1 to change, 0 to remove, 0 staged, 0 blocked"),
    ],
)  # fmt: skip
def test_an_object_is_counted_once_for_what_is_done_to_it_and_once_for_each_way_it_waits(
    changes: list[Change], line: str
) -> None:
    assert str(replace(PLAN, changes=tuple(changes)).summary) == f"Plan: {line}."


@pytest.mark.parametrize(
    ("address", "counts", "part"),
    [
        ("domu.a.b", ("domu.a.b",), ""),
        ("domu.a.vif.1.vif.0", ("domu.a.vif.1",), ".vif.0"),
        ("domu.a.disk.xvda", ("domu.a",), ".disk.xvda"),
        ("file./etc/xen/a.cfg", ("domu.a",), "file./etc/xen/a.cfg"),
        ("guard", ("domu.a", "guard"), "guard"),
    ],
)
def test_a_part_is_what_its_address_says_behind_the_object(
    address: str, counts: tuple[str, ...], part: str
) -> None:
    assert _change(address, *counts).part == part


@pytest.mark.parametrize(
    ("more", "due", "waits", "symbol"),
    [
        ({}, True, False, "~"),
        ({"early": ()}, True, False, "~"),
        ({"steps": ()}, True, False, "~"),
        ({"early": (), "steps": ()}, False, False, "~"),
        ({"blocked": "no"}, False, True, "!"),
        ({"when": "next_guest_reboot"}, True, False, "^"),
        ({"when": "next_guest_reboot", "blocked": "no"}, False, True, "!"),
        ({"when": "approval"}, False, True, "~"),
        ({"when": "window"}, False, True, "~"),
        ({"blocked": "no", "reason": "dark"}, False, False, "!"),
        ({"blocked": "no", "reason": "guard_weakened"}, False, False, "!"),
        ({"blocked": "no", "reason": "would_be_dark"}, False, True, "!"),
        ({"actions": ("create",)}, True, False, "+"),
        ({"actions": ("delete",)}, True, False, "-"),
        ({"actions": ("adopt",)}, True, False, "="),
        ({"actions": ("forget",)}, True, False, "."),
        ({"actions": ("delete", "create")}, True, False, "-/+"),
    ],
)
def test_a_change_is_due_or_waits_and_has_its_mark(
    more: dict[str, Any], due: bool, waits: bool, symbol: str
) -> None:
    change = _change("domu.a", **more)

    assert (change.due, change.waits, change.symbol) == (due, waits, symbol)


def test_a_digest_tells_apart_what_is_done_to_what_and_when_and_nothing_else() -> None:
    change = _change("domu.a")
    others = [
        {"address": "domu.b"},
        {"actions": ("create",)},
        {"before": {}},
        {"after": {}},
        {"when": "approval"},
        {"uuid": None},
        {"domid": 8},
        {"steps": ()},
        {"early": ()},
    ]
    same = [
        {"cause": "intentional"},
        {"impact": "none"},
        {"blocked": "no"},
        {"reason": None},
        {"counts": ()},
        {"order": 5},
    ]

    assert len({replace(change, **each).digest() for each in [{}, *others]}) == len(others) + 1  # type: ignore[arg-type]  # any field
    assert {replace(change, **each).digest() for each in same} == {change.digest()}  # type: ignore[arg-type]
    moved = replace(change, early=change.steps, steps=change.early)
    assert moved.digest() != change.digest()
    assert replace(PLAN, host="dom0-b").plan_id != PLAN.plan_id
    assert replace(PLAN, changes=PLAN.changes[::-1]).plan_id != PLAN.plan_id
    assert replace(PLAN, notes=(), prior_state="sha256:other").plan_id == PLAN.plan_id
