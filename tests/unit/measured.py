"""What a process and all its children took of the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# wait4 counts what the child and those it waited for took. A process starts with the most memory that the one had which
# started it, so that one has to be small: neither pytest nor anything with modules loaded. Far too much ends the child.
_LAUNCHER = """
import json, os, resource, sys
child = os.fork()
if child == 0:
    resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
    os.execv(sys.argv[2], sys.argv[2:])
_, status, usage = os.wait4(child, 0)
with open(sys.argv[1], "w") as report:
    json.dump([os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024], report)
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """How a command ended. `cpu_s` is what it and its children took together, `rss_mib` what the largest of them had."""

    rc: int
    stdout: str
    stderr: str
    cpu_s: float
    rss_mib: float


def domgit(*arguments: str) -> Measured:
    """The whole of `domgit`, from this checkout, in processes of its own."""
    program = [sys.executable, "-P", "-c", "from reconciler.cli import main; main()", *arguments]
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        done = subprocess.run(
            [sys.executable, "-S", "-E", "-c", _LAUNCHER, report.name, *program],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd="/",
            capture_output=True,
            text=True,
            check=True,
        )
        rc, cpu_s, rss_mib = json.loads(Path(report.name).read_text())
    return Measured(rc, done.stdout, done.stderr, cpu_s, rss_mib)


def lines(found: Measured) -> Sequence[str]:
    """What it printed."""
    return found.stdout.splitlines()
