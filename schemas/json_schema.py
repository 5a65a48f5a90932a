"""JSON Schema of the kinds, for editors. Pure: schemas/json/ holds what this gives, and a test keeps it so.

An editor sees less than `domgit validate`: references, claims and what a profile brings are beyond a schema,
so nothing that a profile may bring is required here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from schemas.domu import DomU, SharedIp, Spec
from schemas.host import Host
from schemas.network import Network
from schemas.profile import FORBIDDEN, Profile

KINDS: Mapping[str, type[BaseModel]] = {"DomU": DomU, "Host": Host, "Network": Network, "Profile": Profile}
_EXAMPLE = re.compile(r'Example: ("[^"]*"|.*?)\.(?=\s|$)')


def json_schema(kind: str) -> dict[str, Any]:
    """The schema of one kind.

    Raises:
        KeyError: there is no such kind.
    """
    schema = KINDS[kind].model_json_schema(by_alias=True, mode="validation")
    if kind == "Profile":
        _describe_profile(schema)
    if "Vif" in schema.get("$defs", {}):
        _describe_ips(schema["$defs"])
    _tidy(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"https://domgit.invalid/v1/{kind.lower()}.json",
        **schema,
        "title": f"domgit/v1 {kind}",
    }


def _describe_profile(schema: dict[str, Any]) -> None:
    """Says in the schema what Profile checks by hand: a DomU's spec, all optional, without some keys."""
    spec = Spec.model_json_schema(by_alias=True, mode="validation")
    definitions = spec.pop("$defs")
    spec["description"] = schema["properties"]["spec"]["description"]
    for key in FORBIDDEN[""]:
        del spec["properties"][key]
    for name, part in (("Vif", "vifs"), ("Disk", "disks")):
        for key in FORBIDDEN[part]:
            del definitions[name]["properties"][key]
    for definition in definitions.values():
        definition.pop("required", None)  # what a map of a profile lacks, its domUs bring
    schema["properties"]["spec"] = spec
    schema["$defs"] = {**schema.get("$defs", {}), **definitions}


def _describe_ips(definitions: dict[str, Any]) -> None:
    """Says what an item of `ips` may be, which a validator of ours decides and pydantic cannot know."""
    definitions["SharedIp"] = SharedIp.model_json_schema(by_alias=True, mode="validation")
    ips = definitions["Vif"]["properties"].get("ips")
    if ips is not None:  # a profile's vifs have none
        ips["items"] = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/SharedIp"}]}


def _tidy(node: Any) -> None:
    """Takes null out, which is an error everywhere, and titles that repeat the key; gives editors the examples."""
    if isinstance(node, list):
        for each in node:
            _tidy(each)
    if not isinstance(node, dict):
        return
    for each in node.values():
        _tidy(each)
    options = node.get("anyOf")
    if isinstance(options, list) and {"type": "null"} in options:
        options.remove({"type": "null"})
        if node.get("default", ...) is None:
            del node["default"]
        if len(options) == 1:
            del node["anyOf"]
            node.update({**options[0], **node})
    if isinstance(node.get("title"), str) and "type" in node and "properties" not in node:
        del node["title"]
    text = node.get("description")
    if isinstance(text, str) and (match := _EXAMPLE.search(text)) is not None:
        node["examples"] = [match[1].strip('"')]


def all_schemas() -> Mapping[str, dict[str, Any]]:
    """The schema of every kind by its name; schemas/json/ holds each as <kind>.json in lower case."""
    return {kind: json_schema(kind) for kind in KINDS}
