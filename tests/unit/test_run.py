"""The one place where commands start: bounded in time and output, in a clean environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from state import run as module
from state.run import CLEAN_ENVIRONMENT, Completed, HostRunner, ReadError, read

ROOT = Path(__file__).resolve().parents[2]


def test_a_command_tells_how_it_ended_whatever_that_is() -> None:
    done = HostRunner().run(["sh", "-c", "echo out; echo one >&2; echo two >&2; exit 3"])

    assert (done.rc, done.stdout, done.stderr) == (3, "out\n", "one\ntwo\n")
    assert done.argv[0] == "sh"
    assert 0 < done.duration_s < 10


def test_every_call_has_a_number_of_its_own() -> None:
    runner = HostRunner()

    assert [runner.run(["true"]).call_id for _ in range(3)] == [1, 2, 3]


def test_a_command_ended_by_a_signal_has_a_negative_status() -> None:
    assert HostRunner().run(["sh", "-c", "kill -KILL $$"]).rc == -signal.SIGKILL


def test_a_command_starts_from_a_clean_environment_in_the_root_folder() -> None:
    done = HostRunner().run(["sh", "-c", "env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD=; pwd"])

    lines = done.stdout.splitlines()
    assert lines[-1] == "/"
    assert dict(line.split("=", 1) for line in lines[:-1]) == dict(CLEAN_ENVIRONMENT)


def test_a_command_may_be_given_another_environment() -> None:
    done = HostRunner().run(["/bin/sh", "-c", "echo $WORD"], environment={"WORD": "here"})

    assert done.stdout == "here\n"


def test_what_is_fed_in_comes_out_also_when_it_is_more_than_a_pipe_holds() -> None:
    text = "0123456789abcdef" * 20_000

    assert HostRunner().run(["cat"], stdin=text).stdout == text


def test_a_command_gets_all_of_its_input_though_we_are_killed_meanwhile(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["sh", "-c", f"sleep 0.5; cat >{out}.part; mv {out}.part {out}"]
    program = f"from state.run import HostRunner; HostRunner().run({command!r}, stdin='x' * 1_000_000)"
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as killed:
        while not _children(killed.pid):
            time.sleep(0.01)
        killed.kill()
    deadline = time.monotonic() + 20
    while not out.exists() and time.monotonic() < deadline:
        time.sleep(0.01)

    assert out.stat().st_size == 1_000_000


def test_a_command_that_does_not_read_its_input_is_no_problem() -> None:
    assert HostRunner().run(["true"], stdin="x" * 1_000_000).rc == 0


def test_without_input_a_command_reads_nothing() -> None:
    assert HostRunner().run(["cat"]).stdout == ""


def test_bytes_that_are_no_text_are_kept_visible() -> None:
    assert HostRunner().run(["printf", r"caf\351"]).stdout == r"caf\xe9"


def test_a_command_that_is_not_there_is_a_read_error() -> None:
    with pytest.raises(ReadError, match="no-such-tool"):
        HostRunner().run(["no-such-tool"])


def test_a_command_past_its_deadline_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"sleep 60 & echo $! >{pid}; wait"
    started = time.monotonic()

    with pytest.raises(ReadError, match=r"no answer within 0\.3 s"):
        HostRunner().run(["sh", "-c", script], timeout_s=0.3)

    assert time.monotonic() - started < 5
    assert not _alive(int(pid.read_text()))


def test_who_keeps_stderr_open_does_not_hold_us_up() -> None:
    started = time.monotonic()

    done = HostRunner().run(["sh", "-c", "sleep 3 >/dev/null </dev/null & echo done"])

    assert done.stdout == "done\n"
    assert time.monotonic() - started < 2.5


def test_more_output_than_any_tool_writes_is_refused() -> None:
    mib = module.OUTPUT_LIMIT_BYTES // 2**20 + 1

    with pytest.raises(ReadError, match="more than 67108864 bytes"):
        HostRunner().run(["head", "-c", f"{mib}M", "/dev/zero"])


def test_a_flood_is_cut_off_at_once_and_nothing_of_it_is_kept() -> None:
    started = time.monotonic()

    with pytest.raises(ReadError, match="yes: more than 1000 bytes of output"):
        HostRunner(1000).run(["yes"], timeout_s=60.0)
    with pytest.raises(ReadError, match="more than 1000 bytes of output"):
        HostRunner(1000).run(["sh", "-c", "yes >&2"], timeout_s=60.0)

    assert time.monotonic() - started < 30


@pytest.mark.campaign  # waits for what does not come
def test_output_that_did_not_end_is_no_answer() -> None:
    done = HostRunner().run(["sh", "-c", "echo half; sleep 600 & echo $! >&2"])
    os.kill(int(done.stderr), signal.SIGKILL)

    assert (done.rc, done.stdout, done.whole) == (0, "half\n", False)
    with pytest.raises(ReadError, match="its output did not end: somebody else holds it open"):
        done.output()


def test_what_is_told_of_a_failure_fits_a_line_of_a_log() -> None:
    told = str(Completed(("xl", "list"), 1, "", "x" * 100_000 + "\n", 1, 0.0))

    assert len(told) < 600
    assert told.endswith("xxx...")


def test_a_command_that_must_succeed_gives_its_output_or_a_read_error() -> None:
    assert read(HostRunner(), ["echo", "text"]) == "text\n"
    with pytest.raises(ReadError, match="sh -c 'echo no >&2; exit 1': exit status 1: no"):
        read(HostRunner(), ["sh", "-c", "echo no >&2; exit 1"])


def test_an_ending_without_a_word_is_told_by_its_status_alone() -> None:
    assert str(Completed(("xl", "list"), 1, "", "", 1, 0.0)) == "xl list: exit status 1"


def _children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie that nobody has waited for yet has ended all the same.
    return (
        "Z"
        not in subprocess.run(
            ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
        ).stdout
    )
