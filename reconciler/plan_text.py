"""A plan document as text, Markdown and HTML, for people. Pure: the same for a fresh plan and for one from the journal."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from reconciler.plan import Summary
from reconciler.plan_document import Document

_IMPACTS = {
    "none": "guest notices nothing",
    "link": "guest's network is interrupted",
    "reboot": "guest reboots",
    "restart": "guest is shut down",
    "data": "guest's data is touched",
}


def plan_text(document: Document) -> str:
    """The plan as a terminal shows it; its last line counts the objects."""
    return "\n".join([*_lines(document), last_line(document)]) + "\n"


def last_line(document: Document) -> str:
    """`Plan: 1 to add, ...` or `No changes. ...`."""
    changes: list[Document] = document["resource_changes"]
    if not changes and document["errored"]:
        return f"Nothing to do. {document['host']['name']} stays as last applied where errors hold it back."
    if not changes:
        return f"No changes. {document['host']['name']} matches {revision_text(document)}."
    return str(Summary(**{each.name: document["summary"][each.name] for each in fields(Summary)}))


def revision_text(document: Document) -> str:
    """`main@<12 hex>`."""
    source = document["source"]
    kind, colon, digest = source["revision"].partition(":")
    if colon:
        return f"{kind}@{digest[:12]}"
    return f"{source['branch'] or 'commit'}@{kind[:12]}"


def _lines(document: Document) -> Iterator[str]:
    source = document["source"]
    author = f" by {source['author']}" if source["author"] else ""
    yield f"Plan for {document['host']['name']} from {revision_text(document)}{author}"
    if source["subject"]:
        yield f"  {source['subject']}"
    yield ""
    for diagnostic in document["diagnostics"]:
        place = ":".join(
            str(diagnostic[part]) for part in ("file", "line", "column") if diagnostic[part] is not None
        )
        yield f"{place}: {diagnostic['severity']}[{diagnostic['code']}]: {diagnostic['message']}"
    if document["diagnostics"]:
        yield ""
    for change in document["resource_changes"]:
        yield from change_lines(change)
    for note in document["notes"]:
        yield f"  # {note['address']}: {note['message']} [{note['reason']}]"
    if document["resource_changes"] or document["notes"]:
        yield ""


def change_lines(change: Document) -> Iterator[str]:
    """One change as it stands in a plan."""
    words = [change["cause"]]
    if change["blocked"] is None:
        words.append(_impact(change))
    if change["when"] == "next_guest_reboot" and change["blocked"] is not None:
        words.append("not staged")
    elif change["when"] == "next_guest_reboot":
        words.append(
            "staged: the guest's own next reboot brings it"
            if change["commands"]
            else "staged already, waits for the guest's reboot"
        )
    elif change["when"] != "now" and change["blocked"] is None:
        words.append(f"waits: {change['action_reason'] or change['when']}")
    yield f"{change['symbol']:>3} {change['address']}  ({', '.join(words)})"
    if change["blocked"] is not None:
        yield f"        blocked: {change['blocked']}"
    before, after = change["change"]["before"], change["change"]["after"]
    for key in [*before, *(key for key in after if key not in before)]:
        if before.get(key) != after.get(key):
            yield f"        {key}: {_value(before, key)} -> {_value(after, key)}"
    for argv in change["commands"] if change["blocked"] is None else []:
        if argv[:1] == ["domgit:remember"]:
            continue  # a note to ourselves is no news to a reviewer; the JSON has it
        yield f"        $ {' '.join(argv)}"


def _impact(change: Document) -> str:
    """What it costs the guests; the guard interrupts none, but for those who go on with an address that is not theirs any more."""
    before, after = change["change"]["before"], change["change"]["after"]
    taken = (
        each
        for key, was in before.items()
        if isinstance(was, list)
        for each in {*was} - {*after.get(key, ())}
    )
    if change["address"] == "guard" and change["impact"] == "none" and any(taken):
        return "old addresses stop working at once"
    return _IMPACTS[change["impact"]]


def _value(values: Mapping[str, Any], key: str) -> str:
    return _shown(values[key]) if key in values else "(none)"


def _shown(value: object) -> str:
    """A value as specifications write it, not as Python does."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_shown(each) for each in value) + "]"
    return "none" if value is None else str(value)


def plan_markdown(document: Document) -> str:
    """The plan for a pull request: a table of changes, the details folded away."""
    rows = [
        f"| `{change['symbol']}` | `{change['address']}` | {change['cause']} | {_impact(change)} | {_cell(change['blocked'] or change['when'])} |"
        for change in document["resource_changes"]
    ]
    head = f"### domgit: {document['host']['name']} from `{revision_text(document)}`\n\n"
    table = (
        "| | object | cause | impact | when |\n|---|---|---|---|---|\n" + "\n".join(rows) + "\n\n"
        if rows
        else ""
    )
    text = plan_text(document)
    # A commit's subject may be a fence itself: one that is longer than any in the text is not ended by it.
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    details = f"<details><summary>Everything</summary>\n\n{fence}\n{text}{fence}\n</details>\n"
    return f"{head}{table}**{last_line(document)}**\n\n{details}"


def plan_html(document: Document) -> str:
    """The plan as one self-contained page."""
    title = html.escape(f"domgit: {document['host']['name']} from {revision_text(document)}")
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td>{html.escape(str(cell))}</td>"
            for cell in (
                change["symbol"],
                change["address"],
                change["cause"],
                change["impact"],
                change["blocked"] or change["when"],
            )
        )
        + "</tr>"
        for change in document["resource_changes"]
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head><body>\n<h1>{title}</h1>\n'
        f"<table><tr><th></th><th>object</th><th>cause</th><th>impact</th><th>when</th></tr>{rows}</table>\n"
        f"<p><strong>{html.escape(last_line(document))}</strong></p>\n<pre>{html.escape(plan_text(document))}</pre>\n</body></html>\n"
    )


def _cell(text: str) -> str:
    return html.escape(text, quote=False).replace("|", "\\|").replace("\n", " ")
