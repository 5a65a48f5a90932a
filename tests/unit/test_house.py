"""The house's own rules: linters are tests, imports flow one way, no file grows past reading."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("schemas", "state", "reconciler")
LINES_LIMIT = 400
BIN = Path(sys.executable).parent


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


@pytest.mark.long
@pytest.mark.parametrize(
    "argv",
    [
        ["ruff", "format", "--check", "."],
        ["ruff", "check", "."],
        ["mypy"],
        ["lint-imports"],
    ],
    ids=lambda argv: " ".join(argv[:2]),
)
def test_a_linter_has_nothing_to_say(argv: list[str]) -> None:
    done = subprocess.run([BIN / argv[0], *argv[1:]], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_no_other_distribution_ships_our_packages(package: str) -> None:
    shippers = {
        each.name for each in distributions() for file in each.files or () if file.parts[0] == package
    }

    assert shippers <= {"domgit"}  # an editable installation lists none of its modules


def test_no_file_is_longer_than_a_reader_holds_in_mind() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in sources()
        if (count := len(path.read_text().splitlines())) > LINES_LIMIT
    }

    assert long == {}


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sources()
        if ast.get_docstring(ast.parse(path.read_text())) is None
    ]

    assert silent == []


def test_only_the_command_line_prints_or_exits() -> None:
    loud: list[str] = []
    for path in sources():
        relative = path.relative_to(ROOT)
        if relative.parts[:2] == ("reconciler", "cli"):
            continue
        calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
        loud += [
            f"{relative}:{call.lineno}"
            for call in calls
            if ast.unparse(call.func) in {"print", "sys.exit", "exit"}
        ]

    assert loud == []


@pytest.mark.parametrize(
    ("thing", "files"),
    [
        ("vif rate", {"schemas/domu.py", "state/xenstore.py", "state/desired.py", "reconciler/diff_vif.py"}),
        ("disk size", {"schemas/domu.py", "state/files.py", "state/desired.py", "reconciler/diff_disk.py"}),
    ],
)
def test_schema_reader_decision_and_action_of_one_thing_stand_in_files_named_so(
    thing: str, files: set[str]
) -> None:
    word = thing.split()[1]

    assert {file for file in files if word in (ROOT / file).read_text()} == files
