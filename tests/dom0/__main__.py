"""Runs a command in a fresh simulated dom0: `python -m tests.dom0 [--no-xenbr0] [--memory MIB] -- COMMAND ...`.

Exit status: the command's; 1 with one line on stderr where the simulation cannot run; 128 + n for a signal.
"""

import argparse
import os
import shutil
import signal
import sys
from types import FrameType

from tests.dom0 import SHIM, XEN, Dom0Error, kernel
from tests.dom0.inside import run_inside

TOOLS = ("ip", "losetup", "mount", "bash")


def main(argv: list[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.dom0", description=__doc__)
    parser.add_argument(
        "--no-xenbr0", action="store_true", help="no bridge: eth0 itself has dom0's addresses"
    )
    parser.add_argument("--memory", type=int, default=16384, metavar="MIB", help="the machine's memory")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    options = parser.parse_args(argv)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("no command given")
    try:
        check_machine()
        return supervise(command, bridge=not options.no_xenbr0, memory_mib=options.memory)
    except (Dom0Error, OSError) as exc:
        print(f"dom0: {exc}", file=sys.stderr)
        return 1


def check_machine() -> None:
    """Whether the simulation can run here.

    Raises:
        Dom0Error: what is missing, and how to get it.
    """
    if os.geteuid() != 0:
        raise Dom0Error("needs root (CAP_SYS_ADMIN: namespaces and mounts)")
    if not XEN.is_dir() or not SHIM.exists():
        raise Dom0Error("Xen's toolstack is not there: run `python -m tests.dom0.fetch`")
    missing = [
        tool
        for tool in TOOLS
        if shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None
    ]
    if missing:
        raise Dom0Error(f"not installed: {' '.join(missing)}")


def supervise(command: list[str], *, bridge: bool, memory_mib: int) -> int:
    """The command's exit status, once everything that it started is gone.

    The child that enters the new PID namespace dies with this process, and with it, by the kernel's hand, all others.

    Raises:
        Dom0Error: no namespaces here.
    """
    try:
        kernel.unshare(kernel.CLONE_NEWPID)  # for children; this process itself stays on the machine
    except OSError as exc:
        raise Dom0Error(f"needs CAP_SYS_ADMIN (a privileged container will do): {exc}") from exc
    init = os.fork()
    if init == 0:
        kernel.die_with_parent(signal.SIGKILL)
        os._exit(run_inside(command, bridge=bridge, memory_mib=memory_mib))

    def end(number: int, _frame: FrameType | None) -> None:
        os.kill(init, signal.SIGKILL)
        os.waitpid(init, 0)
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is for the command, which gets it from the terminal too
    _, status = os.waitpid(init, 0)
    take_terminal_back()
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def take_terminal_back() -> None:
    """Makes this process group the terminal's foreground again: the command had one of its own."""
    if not os.isatty(0):
        return
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        os.tcsetpgrp(0, os.getpgrp())
    except OSError as exc:
        print(f"dom0: terminal: {exc}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
