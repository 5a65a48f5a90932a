"""A plan as the JSON document that `plan --json` prints, `apply PLAN` reads and `show` reprints. Pure.

Names are Terraform's where the meaning is the same. Minor versions add keys, major ones break.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from reconciler import __version__
from reconciler.plan import Change, Plan
from reconciler.step import Step, commands

FORMAT_VERSION = "1.0"
Document = Mapping[str, Any]
_INDEXED = re.compile(r"domu\.(?P<name>.+)\.(?P<type>vif|disk)\.(?P<index>[^.]+)")


def plan_document(plan: Plan, *, timestamp: str) -> Document:
    """The JSON document of a plan; `timestamp` is RFC 3339 and does not enter the plan's id."""
    changes = [_change(change) for change in plan.changes]
    summary = plan.summary
    return {
        "format_version": FORMAT_VERSION,
        "tool_version": __version__,
        "plan_id": plan.plan_id,
        "timestamp": timestamp,
        "host": {"name": plan.host},
        "source": {
            "revision": plan.source.revision,
            "branch": plan.source.branch,
            "author": plan.source.author,
            "subject": plan.source.subject,
        },
        "prior_state": {"digest": plan.prior_state},
        "applyable": bool(plan.due),
        "complete": not any(change.blocked for change in plan.changes) and not plan.errored,
        "errored": plan.errored,
        "empty": plan.empty,
        "summary": {
            "add": summary.add,
            "change": summary.change,
            "remove": summary.remove,
            "staged": summary.staged,
            "blocked": summary.blocked,
        },
        "resource_changes": changes,
        "resource_drift": [change for change in changes if change["cause"] == "corrective"],
        "notes": [
            {"address": note.address, "reason": note.reason, "message": note.message} for note in plan.notes
        ],
        "diagnostics": [
            {
                "severity": diagnostic.severity,
                "code": diagnostic.code,
                "message": diagnostic.message,
                "address": diagnostic.address,
                "file": diagnostic.file,
                "line": diagnostic.line,
                "column": diagnostic.column,
            }
            for diagnostic in plan.diagnostics
        ],
    }


def _change(change: Change) -> Document:
    return {
        "address": change.address,
        **_place(change.address),
        "change": {
            "actions": list(change.actions),
            "before": {key: _plain(value) for key, value in change.before.items()},
            "after": {key: _plain(value) for key, value in change.after.items()},
        },
        "symbol": change.symbol,
        "action_reason": change.reason,
        "cause": change.cause,
        "impact": change.impact,
        "when": change.when,
        "layer": list(change.layer),
        "blocked": change.blocked,
        "uuid": change.uuid,
        "domid": change.domid,
        "counts": list(change.counts),
        "fingerprint": dict(change.fingerprint),
        "expect": dict(change.expect),
        "commands": _commands((*change.early, *change.steps)),
        "inverse": _commands(change.inverse),
        "digest": change.digest(),
    }


def _plain(value: Any) -> Any:
    """The value as JSON gives it back: a plan from the journal reads like a fresh one."""
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _commands(steps: tuple[Step, ...]) -> list[list[str]]:
    return [list(argv) for step in steps for argv in commands(step)]


def _place(address: str) -> Document:
    if match := _INDEXED.fullmatch(address):
        index = match["index"]
        return {
            "type": match["type"],
            "name": match["name"],
            "index": int(index) if index.isdecimal() else index,
        }
    kind, _, name = address.partition(".")
    return {"type": kind, "name": name or kind, "index": None}
