"""The commands of the iptables backend as they are, word by word: `python -m tests.unit.test_iptables_cases` writes them anew."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.guard import iptables
from reconciler.guard.binding import Step
from tests.unit.test_iptables_guard import GUARD, VM1, VM10, tables

FOLDER = Path(__file__).resolve().parents[1] / "cases" / "guard"
CHANGED = replace(
    GUARD, bindings=(replace(VM1, addresses=(*VM1.addresses, VM10.addresses[0])), replace(VM10, mode="audit"))
)
CASES: Mapping[str, Callable[[], Iterable[Step]]] = {
    "iptables_full": lambda: iptables.full(GUARD),
    "iptables_change": lambda: iptables.transition(tables(GUARD).loaded(), CHANGED)[0],
    "iptables_undo": lambda: iptables.undo(tables(GUARD).loaded(), CHANGED),
    "iptables_late_binding": lambda: iptables.binding_steps(replace(VM10, interface="@PORT@")),
    "iptables_remove_legacy": lambda: iptables.remove(tables(GUARD).loaded(), variant="legacy"),
}  # fmt: skip


def text_of(steps: Iterable[Step]) -> str:
    """Steps as somebody would type them."""
    return "\n".join(
        f"$ {shlex.join(step.argv)}{'  # may fail' if step.optional else ''}\n{step.stdin}" for step in steps
    )


@pytest.mark.parametrize("case", CASES)
def test_the_commands_are_those_of_the_case(case: str) -> None:
    assert text_of(CASES[case]()) == (FOLDER / f"{case}.txt").read_text(encoding="utf-8")


def test_no_file_is_without_a_case() -> None:
    assert {path.stem for path in FOLDER.glob("iptables_*.txt")} == {*CASES}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, steps in CASES.items():
        (FOLDER / f"{name}.txt").write_text(text_of(steps()), encoding="utf-8")
