"""Every directory under tests/cases/spec is a repository, beside expected.txt with all that is to be said about it.

`python -m tests.unit.test_spec_cases` writes expected.txt anew; the diff is then to be read like code.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from schemas.diagnostic import Diagnostic
from schemas.fleet import HostView, view
from tests.unit.fleets import fleet_in

CASES = Path(__file__).resolve().parents[1] / "cases" / "spec"


def said_about(repository: Path) -> str:
    """All diagnostics, then what each host makes of them."""
    fleet = fleet_in(repository)
    lines = [str(each) for each in fleet.diagnostics]
    lines += [
        f"{name}: {outcome(view(fleet, name))}"
        for name in sorted({*fleet.hosts, *(each.host for each in fleet.domus)})
    ]
    return "\n".join(lines) + "\n"


def outcome(seen: HostView) -> str:
    """What a host does with its part of the commit."""
    if seen.refused:
        return "stays at last-good"
    wanted = ", ".join(claimant.name for claimant in seen.domus) or "nothing"
    return f"wants {wanted}" + (f"; holds back {', '.join(seen.held)}" if seen.held else "")


def cases() -> list[Path]:
    return sorted(path for path in CASES.iterdir() if path.is_dir())


@pytest.mark.parametrize("case", cases(), ids=lambda path: path.name)
def test_all_that_is_said_about_a_repository_is_what_was_expected(case: Path) -> None:
    assert said_about(case) == (case / "expected.txt").read_text(encoding="utf-8")


def test_a_good_case_has_no_error_and_every_other_case_has_one() -> None:
    errors = {case.name: "error[" in (case / "expected.txt").read_text(encoding="utf-8") for case in cases()}
    # One good case is about an error of another host, which this one shrugs off.
    del errors["good_other_hosts_error_does_not_stop_this_one"]

    assert [name for name, has in errors.items() if has == name.startswith("good_")] == []


# Where a file is missing, or has more problems than are told, there is no line.
PLACED = re.compile(
    r"(?P<file>[^:]+):\d+:\d+: (error|warning)\[DG\d{4}\]: .+|[^:]+: error\[DG(1503|1506)\]: .+"
)


def test_every_problem_names_file_line_and_column_in_a_line_that_can_be_printed() -> None:
    said = [
        line
        for case in cases()
        for line in (case / "expected.txt").read_text(encoding="utf-8").splitlines()
        if "[DG" in line
    ]

    assert len(said) >= 500
    assert [line for line in said if PLACED.fullmatch(line) is None or not line.isprintable()] == []


def test_a_diagnostic_prints_its_place_only_as_far_as_it_is_known() -> None:
    assert str(Diagnostic("a.yaml", 12, 9, "DG1203", "no")) == "a.yaml:12:9: error[DG1203]: no"
    assert str(Diagnostic("a.yaml", None, None, "DG1503", "no")) == "a.yaml: error[DG1503]: no"
    assert str(Diagnostic(None, None, None, "DG1505", "no")) == "error[DG1505]: no"


if __name__ == "__main__":
    for directory in cases():
        (directory / "expected.txt").write_text(said_about(directory), encoding="utf-8")
