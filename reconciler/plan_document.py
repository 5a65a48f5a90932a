"""A plan as the JSON document that `plan --json` prints, `apply PLAN` reads and `show` reprints. Pure.

Names are Terraform's where the meaning is the same. Minor versions add keys, major ones break.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic takes typing's own from 3.12 on

from reconciler import FORMAT_VERSION, __version__
from reconciler.plan import Change, Impact, Plan, digest_of
from reconciler.step import Step, commands

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


class _Said(TypedDict):
    actions: list[str]
    before: dict[str, Any]
    after: dict[str, Any]


class _ChangeShape(TypedDict):
    address: str
    change: _Said
    symbol: str
    action_reason: str | None
    cause: str
    impact: Impact
    when: str
    blocked: str | None
    uuid: str | None
    domid: int | None
    counts: list[str]
    commands: list[list[str]]
    digest: str


class _SourceShape(TypedDict):
    revision: str
    branch: str
    author: str
    subject: str


class _HostShape(TypedDict):
    name: str


class _NoteShape(TypedDict):
    address: str
    reason: str
    message: str


class _DiagnosticShape(TypedDict):
    severity: str
    code: str
    message: str
    file: str | None
    line: int | None
    column: int | None


class _SummaryShape(TypedDict):
    add: int
    change: int
    remove: int
    staged: int
    blocked: int


class _Shape(TypedDict):
    """What is used of a document that comes from outside; other keys are left as they are."""

    format_version: str
    plan_id: str
    host: _HostShape
    source: _SourceShape
    errored: bool
    summary: _SummaryShape
    resource_changes: list[_ChangeShape]
    notes: list[_NoteShape]
    diagnostics: list[_DiagnosticShape]


_SHAPE: TypeAdapter[_Shape] = TypeAdapter(_Shape)


def parse_document(text: str) -> Document:
    """A document that was saved with `plan --out`, as it was made.

    Raises:
        ValueError: it is none, is of another major version, or was changed since it was made.
    """
    try:
        document: Any = json.loads(text)
    except RecursionError as exc:
        raise ValueError("no plan: nested too deep") from exc
    except ValueError as exc:
        raise ValueError(f"no plan (expected a file from `plan --out`): {exc}") from exc
    return checked_document(document)


def checked_document(document: Any) -> Document:
    """A document from a file or from the journal, as it was made.

    Raises:
        ValueError: it is none, is of another major version, or was changed since it was made.
    """
    version = document.get("format_version") if isinstance(document, dict) else None
    if isinstance(version, str) and version.split(".")[0] != FORMAT_VERSION.split(".", maxsplit=1)[0]:
        raise ValueError(f"format {version} (expected 1.x)")
    try:
        _SHAPE.validate_python(document, strict=True)
    except ValidationError as exc:
        first = exc.errors()[0]
        raise ValueError(f"no plan: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from exc
    for change in document["resource_changes"]:
        said = change["change"]
        what = [change["address"], said["actions"], said["before"], said["after"]]
        if change["digest"] != digest_of(
            [*what, change["when"], change["uuid"], change["domid"], change["commands"]]
        ):
            raise ValueError(f"changed since it was made: {change['address']}")
    digests = [change["digest"] for change in document["resource_changes"]]
    made = digest_of([document["host"]["name"], document["source"]["revision"], digests])
    if document["plan_id"] != f"sha256:{made}":
        raise ValueError("changed since it was made: plan_id")
    return dict(document)


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
