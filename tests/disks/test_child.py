"""The process that forks for each disk: whatever one reader does, each disk gets its word."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

# What stands for reading a disk does what a reader does that a prepared disk has got hold of.
PROGRAM = """
import json, os, signal, socket, sys, time
from state.confined import confine
from state.inside.child import Scan

def limits():
    confine(keep_capabilities=False, cpu_limit_s=1, memory_limit_bytes=256 * 1024 * 1024, shut=True)

def answer(request):
    limits()
    match request["does"]:
        case "well":
            return {"fine": request["path"]}
        case "sleeps":
            time.sleep(60)
        case "burns":
            while True:
                pass
        case "floods":
            return {"much": "x" * 1_000_000}
        case "eats":
            return {"much": len(bytearray(1 << 30))}
        case "dies":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "raises":
            raise RuntimeError("a defect")
        case "opens":
            return {"opened": refused(lambda: os.open("/etc/passwd", os.O_RDONLY))}
        case "connects":
            return {"opened": refused(socket.socket)}
        case "says":
            os.write(1, b"{}" * 10)
            return {}
    return {}

def refused(act):
    try:
        act()
    except OSError as exc:
        return exc.strerror
    return "it could"

Scan(json.load(sys.stdin), answer, wall_limit_s=float(sys.argv[1])).run()
"""


def scanned(*does: str, wall_limit_s: float = 20.0) -> list[tuple[object, object]]:
    """What was said of each disk, and what went wrong, in the order of the requests."""
    wanted = [{"path": str(number), "does": each} for number, each in enumerate(does)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(wall_limit_s)],
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    lines = sorted((json.loads(line) for line in done.stdout.splitlines()), key=lambda each: each["index"])
    assert [each["index"] for each in lines] == [*range(len(does))]
    return [(each["said"] and json.loads(each["said"]), each["error"]) for each in lines]


@pytest.mark.parametrize(
    ("does", "error"),
    [
        ("burns", "it takes more than 10 s of processor time to read"),
        ("floods", "its reader says too much"),
        ("eats", "its reader ended with exit status 1"),
        ("dies", "its reader ended with exit status -11"),
        ("raises", "its reader ended with exit status 1"),
    ],
)
def test_what_one_reader_does_wrong_is_said_of_its_disk_alone(does: str, error: str) -> None:
    assert scanned("well", does, "well", "well") == [
        ({"fine": "0"}, None),
        (None, error),
        ({"fine": "2"}, None),
        ({"fine": "3"}, None),
    ]


def test_one_that_does_not_answer_is_ended_and_the_others_are_not_kept_waiting() -> None:
    started = time.monotonic()
    found = scanned("sleeps", "well", "sleeps", "well", wall_limit_s=1.0)

    assert [error for _, error in found] == ["no answer within 1 s", None, "no answer within 1 s", None]
    assert time.monotonic() - started < 30


def test_a_reader_can_open_nothing_more() -> None:
    nothing = ({"opened": "Too many open files"}, None)

    assert scanned("opens", "connects") == [nothing, nothing]


def test_what_a_reader_writes_beside_its_answer_reaches_nobody() -> None:
    assert scanned("says", "well") == [({}, None), ({"fine": "1"}, None)]
