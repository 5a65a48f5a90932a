"""The kinds as models: canonical JSON comes back as the same value, fields say what they cost, and schemas/json is fresh."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from schemas.domu import DomU, Spec
from schemas.host import Host
from schemas.json_schema import KINDS, all_schemas
from schemas.layout import place, shown_path
from schemas.network import Network
from tests.unit.fleets import fleet_in, merged

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
GOOD = sorted((ROOT / "tests" / "cases" / "spec").glob("good_*"))


def test_the_examples_have_no_error_and_no_warning() -> None:
    assert fleet_in(EXAMPLES).diagnostics == ()


@pytest.mark.parametrize("folder", [EXAMPLES, *GOOD], ids=lambda path: path.name)
def test_canonical_json_comes_back_as_the_same_value_and_is_stable(folder: Path) -> None:
    fleet = fleet_in(folder)
    documents: list[BaseModel] = [merged(claimant).domu for claimant in fleet.domus]
    documents += [*fleet.hosts.values(), *fleet.networks]

    assert documents
    for document in documents:
        for exclude in (False, True):
            text = document.model_dump_json(exclude_defaults=exclude)
            again = type(document).model_validate_json(text)

            assert again == document
            assert again.model_dump_json(exclude_defaults=exclude) == text


def test_the_defaults_of_a_host_do_nothing_by_themselves() -> None:
    document = {"apiVersion": "domgit/v1", "kind": "Host", "metadata": {"name": "dom0-a"}}
    spec = Host.model_validate(document).spec

    assert (spec.mode, spec.guard.mode, spec.guard.unknown_vifs, spec.disruption) == (
        "report",
        "audit",
        "report",
        "none",
    )
    assert (spec.guard.backend, spec.start.owner) == ("auto", "xendomains")
    assert (spec.limits.absent, spec.limits.restart.count, spec.limits.restart.per, spec.limits.detach) == (
        1,
        1,
        600,
        10,
    )
    assert (spec.images.roots, spec.images.kernels, spec.images.volume_groups) == (
        ["/srv/xen/images"],
        ["/srv/xen"],
        [],
    )


def test_keys_are_written_in_one_way_only() -> None:
    with pytest.raises(ValidationError):
        Spec.model_validate({"max_memory": "512MiB"})

    assert Spec.model_validate({"maxMemory": "512MiB"}).max_memory == 512


def test_a_document_cannot_be_changed_behind_the_checks() -> None:
    document = Network.model_validate(
        {
            "apiVersion": "domgit/v1",
            "kind": "Network",
            "metadata": {"name": "a"},
            "spec": {"subnet": "10.0.0.0/24", "bridge": "xenbr0"},
        }
    )

    with pytest.raises(ValidationError):
        setattr(document.spec, "bridge", "xenbr1")  # noqa: B010  # mypy would refuse the plain assignment


@pytest.mark.parametrize("kind", KINDS)
def test_the_published_json_schema_is_fresh(kind: str) -> None:
    """`domgit schema --out schemas/json` writes it anew."""
    published = json.loads((ROOT / "schemas" / "json" / f"{kind.lower()}.json").read_text())

    assert published == json.loads(json.dumps(all_schemas()[kind]))


def test_the_json_schema_of_a_profile_lacks_what_a_profile_cannot_bring() -> None:
    schema = all_schemas()["Profile"]

    assert {"profile", "state"}.isdisjoint(schema["properties"]["spec"]["properties"])
    assert {"mac", "ips"}.isdisjoint(schema["$defs"]["Vif"]["properties"])
    assert "path" not in schema["$defs"]["Disk"]["properties"]
    assert "required" not in schema["$defs"]["Disk"]


def fields(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, str]]:
    """(path, text) of every field, depth first."""
    for name, info in model.model_fields.items():
        yield f"{path}{info.alias or name}", info.description or ""
        for inner in models_in(info.annotation):
            yield from fields(inner, f"{path}{info.alias or name}.")


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for each in getattr(annotation, "__args__", ()) for found in models_in(each)]


@pytest.mark.parametrize("model", [DomU, Host, Network], ids=lambda model: model.__name__)
def test_every_field_says_what_it_is(model: type[BaseModel]) -> None:
    assert [path for path, text in fields(model) if not text] == []


def test_every_field_that_may_be_left_out_says_its_default() -> None:
    silent = {
        path
        for model in (DomU, Host, Network)
        for path, info in leaves(model)
        if not info.is_required() and "efault" not in (info.description or "")
    }

    # Needed after the merge or in one phase, so there is no default to say; a host's spec is all defaults.
    assert silent == {"spec", "spec.type", "spec.memory", "spec.boot"} | {
        f"spec.boot.{name}" for name in ("install", "run", "run.kernel", "run.bootloader", "run.firmware")
    }


def leaves(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, info in model.model_fields.items():
        yield f"{path}{info.alias or name}", info
        for inner in models_in(info.annotation):
            yield from leaves(inner, f"{path}{info.alias or name}.")


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("hosts/dom0-a/host.yaml", "Host"),
        ("hosts/dom0-a/domus/vm01.yaml", "DomU"),
        ("networks/a.yaml", "Network"),
        ("profiles/a.yaml", "Profile"),
        ("hosts/dom0-a/README.md", None),
        ("hosts/.keep", None),
        ("hosts/.hidden/host.yaml", None),
        ("README.md", None),
        ("docs/a.yaml", None),
        ("hosts/x.yaml", "DG1501"),
        ("hosts/dom0-a/domus/deep/a.yaml", "DG1501"),
        ("hosts/dom0-a/domus/a.yml", "DG1501"),
        ("hosts/Dom0/host.yaml", "DG1501"),
        ("networks/a.json", "DG1501"),
    ],
)
def test_where_a_file_lies_says_what_it_is(file: str, kind: str | None) -> None:
    found = place(file)

    assert getattr(found, "kind", getattr(found, "code", None)) == kind


@pytest.mark.parametrize("raw", [b"hosts/a\x1b[2J/host.yaml", b"networks/a\nb.yaml", b"profiles/\xff.yaml"])
def test_a_file_name_that_would_move_a_terminal_is_escaped_and_never_a_place(raw: bytes) -> None:
    text = shown_path(raw)

    assert text.isprintable()
    assert getattr(place(text), "code", None) == "DG1501"
