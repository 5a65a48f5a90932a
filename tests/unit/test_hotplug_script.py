"""The hotplug script's own functions, in the shell that libxl starts, with an nft that answers as a test wants."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from reconciler import hotplug

FUNCTIONS = hotplug.script().partition('\ncase "${1:-}')[0]
# In place of the tools: what nft says is the next line of a file; what goes to xenstore is printed.
TOOLS = {
    "logger": "",
    "sleep": "",
    "xenstore-write": 'echo "$@"',
    "xenstore-read": "echo /vm/e608ed38-c1b9-532e-a769-0156b41e19e1",
    "nft": """
answer=$(head -n 1 answers)
sed -i 1d answers
case $answer in ok*) echo "$answer" ;; *) echo "$answer" >&2; exit 1 ;; esac
""",
}
# Source: nftables 1.0.6 while another process loads rules, and of a set that has no such element.
BUSY = "Error: Could not process rule: Interrupted system call"
ABSENT = "Error: Could not process rule: No such file or directory"
BOUND = 'ok table bridge domgit { map ports { elements = { "vm01" : goto from_guest } } }'


def shell(folder: Path, text: str, *answers: str) -> subprocess.CompletedProcess[str]:
    (folder / "answers").write_text("".join(f"{each}\n" for each in answers))
    for name, tool in TOOLS.items():
        (folder / name).write_text(f"#!/bin/sh\n{tool}\n")
        (folder / name).chmod(0o755)
    text = f"{FUNCTIONS}\nPATH=$PWD:$PATH\nXENBUS_PATH=backend/vif/7/0\n{text}"
    return subprocess.run(["sh", "-c", text], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([BOUND, "ok"], "yes"),
        ([BUSY, BOUND, BUSY, BUSY, "ok"], "yes"),
        ([ABSENT], "no"),
        ([BUSY, ABSENT], "no"),
        ([BOUND, ABSENT], "no"),
        (['ok "vm01" : goto refused_unknown'], "no"),
    ],
)
def test_a_port_is_a_guests_when_the_guard_says_so_and_is_asked_again_while_it_changes(
    tmp_path: Path, answers: list[str], said: str
) -> None:
    done = shell(tmp_path, "guest_port vm01 02:00:00:00:00:01 && echo yes || echo no", *answers)

    assert (done.returncode, done.stdout) == (0, f"{said}\n"), done
    assert (tmp_path / "answers").read_text() == ""


def test_a_guard_that_never_answers_leaves_the_port_down_and_says_so(tmp_path: Path) -> None:
    done = shell(tmp_path, "audited vm01; echo went on", *[BUSY] * 20)

    assert done.returncode == 1
    assert "went on" not in done.stdout
    assert f"hotplug-error cannot ask the guard: {BUSY}" in done.stdout
    assert "hotplug-status error" in done.stdout


def test_a_binding_is_never_added_to_a_port_of_which_the_guard_could_not_say_whether_it_has_one(
    tmp_path: Path,
) -> None:
    text = "TEMPLATES=$PWD; bind_unnamed vif7.0 && echo bound || echo refused"
    (tmp_path / "e608ed38-c1b9-532e-a769-0156b41e19e1.0.nft").write_text("add element\n")

    assert shell(tmp_path, text, BUSY, BOUND).stdout == "refused\n"
    assert shell(tmp_path, text, BUSY, ABSENT, "ok").stdout.endswith("bound\n")
