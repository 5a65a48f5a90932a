"""Commands as a text that a shell runs: what is written is read back, and a shell runs just that."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.guard.binding import Step
from reconciler.guard.runnable import runnable, steps_of
from reconciler.guard_watchdog import script

STEPS = (
    Step(("tee", "one"), "first line\n# a remark\n\tsecond * line\n\n"),
    Step(("tee", "empty")),
    Step(("false",), "nobody wants it\n", optional=True),
    Step(("tee", "two"), "\\n $HOME `id` 'x'\n"),
)
# The watchdog's own function, by itself.
LOAD = script()[script().index("load() {") : script().index("\nset -f")]

WORDS = st.lists(st.from_regex(r"[A-Za-z0-9_./=:-]{1,9}", fullmatch=True), min_size=1, max_size=4)
LINES = st.lists(
    st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=12).filter(
        lambda line: not line.startswith(("# run ", "# try ")) and line != "# end"
    ),
    max_size=4,
)


@given(st.lists(st.tuples(WORDS, LINES, st.booleans()), max_size=4))
def test_what_is_written_is_read_back(sections: list[tuple[list[str], list[str], bool]]) -> None:
    steps = tuple(
        Step(tuple(words), "".join(f"{line}\n" for line in lines), optional)
        for words, lines, optional in sections
    )

    assert steps_of(runnable(steps)) == steps


@pytest.mark.parametrize(
    "step",
    [
        Step(("tee", "a b")),
        Step(("tee", "$x")),
        Step(("tee", "")),
        Step(("tee", "a\nb")),
        Step(("tee", "a"), "x\n# run tee b\n"),
        Step(("tee", "a"), "x\n# try tee b\n"),
        Step(("tee", "a"), "x\n# end\ny"),
        Step(("tee", "a"), "# end"),
    ],
)
def test_what_would_be_read_back_as_something_else_is_not_written(step: Step) -> None:
    with pytest.raises(ValueError, match="cannot be written down"):
        runnable([step])


def test_no_beginning_of_a_text_is_taken_for_the_whole() -> None:
    text = runnable(STEPS)

    for length in range(len(text)):
        with pytest.raises(ValueError, match="not the whole"):
            steps_of(text[:length])


def _run(folder: Path, text: str) -> int:
    (folder / "file").write_bytes(text.encode())
    program = f"set -f\n{LOAD}\nload file\n"
    return subprocess.run(
        ["sh", "-c", program], cwd=folder, check=False, stdout=subprocess.DEVNULL
    ).returncode


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINES, min_size=1, max_size=4))
def test_a_shell_gives_each_command_its_own_input(tmp_path: Path, bodies: list[list[str]]) -> None:
    inputs = ["".join(f"{line}\n" for line in lines) for lines in bodies]
    steps = [Step(("tee", f"out{number}"), body) for number, body in enumerate(inputs)]

    assert _run(tmp_path, f"# a head\n{runnable(steps)}") == 0
    assert [(tmp_path / f"out{number}").read_bytes().decode() for number in range(len(inputs))] == inputs


def test_a_shell_stops_at_the_first_command_that_fails(tmp_path: Path) -> None:
    steps = (STEPS[2], STEPS[0], Step(("false",)), STEPS[3])

    assert _run(tmp_path, runnable(steps)) != 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "one"]
