"""Boots a real Xen dom0 under QEMU and tests the product in it: `python -m tests.xen [--shell] [-- PYTEST ARGUMENTS]`.

Exit status 0 when every test passed. The last line is the count. The machine's logs stay in build/results/xen when one
did not.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tests.xen import CARRIED, RESULTS, ROOT, RigError
from tests.xen.image import image, say
from tests.xen.machine import Machine

INSTALL_S = 600.0
DOCTOR_S = 300.0
PYTEST_S = 3600.0
CHECKOUT = "/root/checkout"
REPORTS = "/root/reports"
LOGS = ("/var/log/xen", "/run/domgit", "/var/lib/domgit/journal", "/root/journal.txt", REPORTS)
NO_TEST = 5  # pytest's exit status where none was selected


@dataclass(frozen=True, slots=True)
class Phase:
    """Some of the tests, run at once. `restart`: of the host, before them."""

    folder: str
    marks: str
    restart: bool = False


@dataclass(frozen=True, slots=True)
class Count:
    """How tests ended. `flakes`: what was tried again because the emulation had spoilt it."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    flakes: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(
            self.passed + other.passed,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.flakes + other.flakes,
        )

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


# What the simulated dom0 is held to comes first: it needs a dom0 on which nothing was applied yet.
PHASES = (
    Phase("tests/contract", "dom0"),
    Phase("tests/xen/end_to_end", "not after_boot"),
    Phase("tests/xen/end_to_end", "after_boot", restart=True),
)


def main(argv: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.xen", description=__doc__)
    parser.add_argument("--shell", action="store_true", help="a console of the machine on this terminal")
    parser.add_argument("pytest", nargs="*", help="more arguments for pytest, such as -k")
    options = parser.parse_args(argv)

    def end(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)  # through every `with` on the way

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
    try:
        return shell() if options.shell else test(options.pytest)
    except (RigError, OSError, subprocess.TimeoutExpired) as exc:
        print(f"xen: {exc}", file=sys.stderr)
        return 1


def shell() -> int:
    """The machine on this terminal until it is switched off."""
    with Machine(image(), RESULTS, terminal=True) as machine:
        say("starting: a minute or two to a shell as root; Ctrl-a x ends it")
        machine.start()
        machine.wait_off(None)
    return 0


def test(arguments: Sequence[str]) -> int:
    """The exit status of all tests."""
    began = time.monotonic()
    with Machine(image(), RESULTS) as machine:
        machine.start()
        say(f"up after {machine.wait_up():.0f} s")
        _install(machine)
        total = Count()
        for number, phase in enumerate(each for each in PHASES if (ROOT / each.folder).is_dir()):
            if phase.restart:
                say(f"host restarted: up after {machine.reboot():.0f} s")
            total += _pytest(machine, number, phase, arguments)
        machine.run(["sh", "-c", "journalctl -b --no-pager >/root/journal.txt"], timeout_s=DOCTOR_S)
        if total.failed:
            machine.take(LOGS, RESULTS / "machine")
    if not total.failed:
        shutil.rmtree(RESULTS)
    say(f"{time.monotonic() - began:.0f} s; tried again, for the emulation: {total.flakes}")
    print(total, flush=True)
    return 1 if total.failed or not total.passed else 0


def _install(machine: Machine) -> None:
    began = time.monotonic()
    done = machine.run(["sh", f"{CARRIED}/install"], timeout_s=INSTALL_S)
    if done.returncode != 0:
        raise RigError(f"the product cannot be installed: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    copied = machine.run(
        ["sh", "-c", f"cp -r {CARRIED}/checkout {CHECKOUT} && mkdir -p {REPORTS}"], timeout_s=INSTALL_S
    )
    if copied.returncode != 0:
        raise RigError(f"the tests cannot be copied: {copied.stderr}")
    say(f"installed after {time.monotonic() - began:.0f} s")


def _pytest(machine: Machine, number: int, phase: Phase, arguments: Sequence[str]) -> Count:
    report = f"{REPORTS}/{number}.xml"
    command = ["sh", f"{CARRIED}/pytest", "-m", phase.marks, f"--junitxml={report}", *arguments, phase.folder]
    began = time.monotonic()
    code = machine.watch(command, timeout_s=PYTEST_S)
    machine.take([report], RESULTS)
    count = counted(RESULTS / report.lstrip("/"), code)
    say(f"{phase.folder} ({phase.marks}): {count} in {time.monotonic() - began:.0f} s")
    return count


def counted(report: Path, code: int) -> Count:
    """What pytest wrote down; a run that ends badly without a failed test counts as one failure."""
    suite = ET.parse(report).getroot().find("testsuite") if report.exists() else None  # noqa: S314  # pytest's own
    count = Count()
    if suite is not None:
        failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped = int(suite.get("skipped", 0))
        flakes = sum(each.get("name") == "flake" for each in suite.iter("property"))
        count = Count(int(suite.get("tests", 0)) - failed - skipped, failed, skipped, flakes)
    if code not in {0, NO_TEST} and not count.failed:
        count += Count(failed=1)
    return count


if __name__ == "__main__":
    sys.exit(main())
