"""The documentation against the code: a page that promises what is not there, or leaves out what is, fails here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from reconciler.cli import cli
from reconciler.hotplug import script
from state.files import digest
from tests.fuzz.targets import TARGETS
from tests.packets.cases import CASES
from tests.unit.fleets import fleet_of

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md"), *(ROOT / "systemd").glob("*.md")]
)
ALL_PAGES = sorted(
    [*PAGES, *(ROOT / folder / "README.md" for folder in ("examples", "tests/dom0", "tests/xen"))]
)
SCHEMAS = sorted((ROOT / "schemas" / "json").glob("*.json"))
# Words that stand behind `domgit` in prose and are no verbs.
NO_VERBS = {"itself"}
# What `domgit new` says, and what is said of a repository as a whole.
NO_FILE_SAYS = {"DG1202", "DG1505", "DG1601", "DG1602"}
ENVELOPE = {"apiVersion", "kind", "metadata", "spec"}
SECTIONS = {"DomU": ("DomU",), "Host": ("Host",), "Network": ("Network",), "Profile": ("Profile", "DomU")}
FENCE = re.compile(r"^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def codes_in_sources() -> set[str]:
    return {
        code
        for package in ("schemas", "state", "reconciler")
        for path in (ROOT / package).rglob("*.py")
        for code in re.findall(r"\bDG\d{4}\b", read(path))
    }


def documented_codes() -> list[str]:
    return re.findall(r"^### (DG\d{4})$", read(DOCS / "errors.md"), re.MULTILINE)


def verbs(command: click.Command) -> set[str]:
    """The verbs of the command line, those of a group with the group's name before them."""
    if not isinstance(command, click.Group):
        return set()
    context = click.Context(command)
    found = set()
    for name in command.list_commands(context):
        sub = command.get_command(context, name)
        assert sub is not None
        found |= {name, *(f"{name} {verb}" for verb in verbs(sub))}
    return found


def code_in(text: str) -> Iterator[str]:
    """What a page shows as code: blocks and spans."""
    yield from (match["text"] for match in FENCE.finditer(text))
    yield from re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


def verbs_named_in(text: str) -> set[str]:
    """The words behind `domgit ` where a page shows a command."""
    pattern = re.compile(r"(?:^|[#/$(|] ?|bin/)domgit ([a-z]+)\b(?! ?=)", re.MULTILINE)
    return {verb for code in code_in(text) for verb in pattern.findall(code)}


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(text: str) -> list[str]:
    return [
        target
        for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text))
        if not re.match(r"[a-z]+:", target)
    ]


def fields_of(schema: Any) -> Iterator[str]:
    """Every key that a schema knows, at any depth."""
    if isinstance(schema, dict):
        properties = schema.get("properties")
        if isinstance(properties, dict):
            yield from properties
        for each in schema.values():
            yield from fields_of(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from fields_of(each)


def repository_of(page: Path) -> dict[str, bytes | str]:
    """The files that a page shows: YAML blocks whose first line is a comment with the path."""
    found: dict[str, bytes | str] = {}
    for match in FENCE.finditer(read(page)):
        first, _, rest = match["text"].partition("\n")
        if match["kind"] == "yaml" and re.fullmatch(r"# [a-z0-9/._-]+\.yaml", first):
            assert first[2:] not in found, f"{first[2:]} is shown twice"
            found[first[2:]] = rest
    return found


def test_every_code_that_can_be_printed_is_explained_and_no_other() -> None:
    documented = documented_codes()

    assert sorted(documented) == sorted(codes_in_sources())


def test_every_explained_code_has_an_example_of_its_own_and_a_remedy() -> None:
    text = read(DOCS / "errors.md")
    poor = []
    for code in documented_codes():
        section = text.partition(f"\n### {code}\n")[2].partition("\n#")[0]
        example = FENCE.search(section)
        if example is None or f"[{code}]: " not in example["text"] or not section[example.end() :].strip():
            poor.append(code)

    assert poor == []


def test_every_example_of_a_problem_in_a_repository_is_what_some_case_says() -> None:
    said = {
        line
        for path in (ROOT / "tests" / "cases" / "spec").glob("*/expected.txt")
        for line in read(path).splitlines()
    }
    text = read(DOCS / "errors.md")
    examples = [
        line
        for code in documented_codes()
        for match in [FENCE.search(text.partition(f"\n### {code}\n")[2])]
        for line in (match["text"].splitlines() if match else ())
        if code not in NO_FILE_SAYS and f"[{code}]" in line
    ]

    assert len(examples) >= 30
    assert [line for line in examples if line not in said] == []


def test_reasons_of_blocked_changes_notes_and_waits_are_explained() -> None:
    text = read(DOCS / "errors.md")
    reasons = {
        reason
        for path in (ROOT / "reconciler").glob("*.py")
        for pattern in (
            r'blocked_life\(\s*life,\s*"(\w+)"',
            r'Note\(\s*(?:f"[^"]*"|[\w.]+),\s*"(\w+)"',
            r'blocked=.*?reason="(\w+)"',
            r'when="approval", reason="(\w+)"',
        )
        for reason in re.findall(pattern, read(path))
    }

    assert {"name_taken", "orphan", "protected", "awaiting_approval"} <= reasons
    assert [reason for reason in sorted(reasons) if reason not in text] == []


@pytest.mark.parametrize("page", ALL_PAGES, ids=name)
def test_every_verb_that_a_page_shows_exists(page: Path) -> None:
    assert verbs_named_in(read(page)) - NO_VERBS <= verbs(cli)


def test_every_verb_is_told_to_operators() -> None:
    told = {
        verb
        for page in ("operations.md", "start.md")
        for code in code_in(read(DOCS / page))
        for verb in verbs(cli)
        if re.search(rf"\bdomgit {verb}\b", code)
    }

    assert told == verbs(cli)


@pytest.mark.parametrize("page", ALL_PAGES, ids=name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in links(read(page)):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(read(there))):
            broken.append(target)

    assert broken == []


def test_the_repository_that_the_documentation_shows_is_valid_without_a_warning() -> None:
    files = repository_of(DOCS / "repository.md")
    fleet = fleet_of(files)

    assert [str(each) for each in fleet.diagnostics] == []
    assert sorted(fleet.hosts) == ["dom0-a"]
    assert {claimant.name for claimant in fleet.domus} == {"vm01", "netbsd"}


def test_the_new_domu_that_the_first_steps_show_is_valid() -> None:
    shown = next(
        match["text"]
        for match in FENCE.finditer(read(DOCS / "start.md"))
        if "# cat hosts/dom0-a/domus/vm01.yaml\n" in match["text"]
    )
    files = repository_of(DOCS / "repository.md")
    files = {path: text for path, text in files.items() if "/domus/" not in path}
    files["hosts/dom0-a/domus/vm01.yaml"] = shown.partition("vm01.yaml\napi")[2].join(["api", ""])

    assert [str(each) for each in fleet_of(files).diagnostics] == []


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda path: path.stem)
def test_every_field_is_explained_where_its_kind_is(schema: Path) -> None:
    text = FENCE.sub("", read(DOCS / "repository.md"))
    kind = json.loads(read(schema))["title"].split()[-1]
    # A profile holds a DomU's fields, which are explained there; the envelope is explained once for all kinds.
    sections = [
        part for part in re.split(r"^## ", text, flags=re.MULTILINE) if part.startswith(SECTIONS[kind])
    ]
    spans = re.findall(r"`([^`\n]+)`", "".join(sections))
    explained = {word for span in spans for word in re.findall(r"\w+", span)}

    assert set(fields_of(json.loads(read(schema)))) - ENVELOPE - explained == set()
    assert all(f"`{field}" in text for field in ("apiVersion", "kind", "metadata.name"))


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", read(ROOT / "Makefile"), re.MULTILINE))
    named = {
        target
        for page in PAGES
        for code in code_in(read(page))
        for target in re.findall(r"\bmake ([a-z-]+)", code)
    }

    assert {"demo", "test", "shell", "check"} <= named <= targets


def test_the_readme_fits_on_one_screen() -> None:
    assert len(read(ROOT / "README.md").splitlines()) <= 70


def test_the_readme_counts_the_kinds_of_frames_that_are_tried() -> None:
    assert f"({len(CASES)} kinds of frames)" in read(ROOT / "README.md")


def test_every_file_that_a_page_names_in_the_project_exists() -> None:
    named = {
        path
        for page in PAGES
        for code in code_in(read(page))
        for path in re.findall(r"(?<![\w/.-])((?:tests|state|schemas|reconciler|systemd)/[\w/.-]*\w)", code)
    }

    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_the_unit_keeps_guests_alive_and_runs_the_verb_that_the_documentation_names() -> None:
    unit = read(ROOT / "systemd" / "domgit.service").splitlines()

    assert {
        "ExecStart=/usr/bin/domgit run",
        "Environment=PYTHONSAFEPATH=1",
        "KillMode=process",
        "Restart=always",
        "StartLimitIntervalSec=0",
        "After=xendomains.service",
    } <= set(unit)
    assert not any(line.startswith(("ExecStop", "Private", "Protect", "MemoryMax")) for line in unit)


def test_the_first_plan_that_is_shown_writes_the_hotplug_script_of_this_version() -> None:
    shown = set(re.findall(r"vif-domgit 0755 (sha256:[0-9a-f]{64})", read(DOCS / "start.md")))

    assert shown == {digest(script())}


def test_the_fuzzed_readers_are_counted_right() -> None:
    assert f"feeds {len(TARGETS)} readers" in read(DOCS / "security.md")
