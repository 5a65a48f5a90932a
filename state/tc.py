"""What traffic control does with frames before any table sees them: argv and parser side by side.

Source: tc(8), tc-mirred(8), iproute2 6.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from state.listing import parse_entries
from state.netfilter import (
    ChainDraft,
    Hook,
    Leave,
    Rule,
    Sometimes,
    Step,
    Table,
    Unknown,
    Verdict,
    Within,
    ethertype_number,
    finished,
)
from state.run import ReadError, Runner, read

QDISCS = ("tc", "-j", "qdisc", "show")
FILTERS = ("tc", "-j", "-batch", "-")
SIDES = ("ingress", "egress")
_SHOW = re.compile(r"tc filter show dev (?P<device>\S+) (?P<side>\w+)")
# Who else uses an action says nothing about what it does.
_MOVING = re.compile(r',"(?:ref|bind)":\d+')
# What a device's frames meet first, before every chain at its ingress.
_FIRST = -(2**31)
_HARMLESS = frozenset({"csum", "ctinfo", "connmark", "police", "sample", "gate"})


def read_filters(runner: Runner) -> Mapping[str, str]:
    """The filters at the ingress and egress of devices that have any, as JSON, by the command that shows them.

    Raises:
        ReadError: tc failed, or printed something else; also where a device went meanwhile.
    """
    devices = sorted(set(_filtering(read(runner, QDISCS))))
    if not devices:
        return {}
    commands = [f"filter show dev {device} {side}" for device in devices for side in SIDES]
    shown = read(runner, FILTERS, stdin="".join(f"{command}\n" for command in commands)).splitlines()
    if len(shown) != len(commands):
        raise ReadError(f"tc: {len(shown)} answers to {len(commands)} questions")
    return {
        f"tc {command}": _MOVING.sub("", answer)
        for command, answer in zip(commands, shown, strict=True)
        if answer.strip() != "[]"
    }


def _filtering(text: str) -> Iterator[str]:
    for each in parse_entries("tc qdisc", text):
        if each.text("kind") in {"clsact", "ingress"}:
            yield each.text("dev")


def parse_filters(source: str, text: str) -> Table:
    """The filters of one device and side, as a chain there; `source` is the command that shows them.

    Raises:
        ValueError: it is not the JSON that tc writes.
    """
    match = _SHOW.fullmatch(source)
    if match is None:
        raise ValueError(source)
    device, side = match["device"], match["side"]
    draft = ChainDraft(Hook("netdev", side, _FIRST, devices=(device,)))
    try:
        draft.rules += [_rule(each.values) for each in parse_entries("tc filter", text) if _acts(each.values)]
    except (TypeError, KeyError, AttributeError, ReadError) as exc:
        raise ValueError(f"not as expected: {exc!r}") from exc
    return finished(source, f"foreign.tc.{device}.{side}", {side: draft})


def _acts(each: Mapping[str, Any]) -> bool:
    options = each.get("options", {})
    return "actions" in options or _decides(options)


def _decides(options: Mapping[str, Any]) -> bool:
    """Whether a program says itself what becomes of the frame."""
    return any(str(key).replace("_", "-") == "direct-action" for key in options)


def _rule(each: Mapping[str, Any]) -> Rule:
    kind, options = str(each["kind"]), each["options"]
    actions = [dict(action) for action in options.get("actions", ())]
    said = " ".join(filter(None, (_said(action) for action in actions)))
    text = f"protocol {each['protocol']} pref {each['pref']} {kind} {said}".strip()
    steps: list[Step] = []
    if each["protocol"] != "all":
        try:
            number = ethertype_number(str(each["protocol"]))
            steps.append(Within("ethertype", ((number, number),)))
        except ValueError:
            steps.append(Unknown(f"protocol {each['protocol']}"))
    if _decides(options):
        return Rule(text, (*steps, Unknown("a program"), Verdict("ask")))
    if kind != "matchall":
        steps.append(Sometimes())
    for action in actions:
        steps += _action(action)
    return Rule(text, tuple(steps))


def _said(action: Mapping[str, Any]) -> str:
    if action.get("kind") == "mirred":
        return f"mirred {action.get('direction')} {action.get('mirred_action')} dev {action.get('to_dev')}"
    ends = action.get("control_action", {}).get("type", "")
    return f"{action.get('kind')} {ends}".strip()


def _action(action: Mapping[str, Any]) -> tuple[Step, ...]:
    kind, ends = action["kind"], action.get("control_action", {}).get("type", "pipe")
    if kind == "mirred":
        return (Leave("fwd" if action["mirred_action"] == "redirect" else "dup", str(action["to_dev"])),)
    if kind == "gact":
        return {"drop": (Verdict("drop"),), "shot": (Verdict("drop"),), "pass": (Verdict("accept"),)}.get(
            ends, ()
        )
    return () if kind in _HARMLESS else (Verdict("ask"),)
