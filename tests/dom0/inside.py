"""Process 1 of the simulated dom0: builds it, runs the command, collects orphans, leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.dom0 import INSIDE, ROOT, Dom0Error, hypervisor, kernel, mounts, network, players
from tests.dom0.loops import release_loops

START_S = 60.0  # each daemon is up in milliseconds; a machine under load gets more
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DAEMON_ENVIRONMENT = {"PATH": SYSTEM_PATH, "LC_ALL": "C.UTF-8", "HOME": "/root"}


def run_inside(command: list[str], *, bridge: bool, memory_mib: int) -> int:
    """The command's exit status, 128 + n for a signal, 1 with one line if the dom0 could not be built."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder = Path.cwd()
    try:
        kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC)
        mounts.lay_out(sys.executable, ROOT)
        socket.sethostname("dom0")
        hypervisor.initialise(memory_mib)
        network.build(bridge=bridge)
        start_xenstored()
        start_players()
    except (Dom0Error, OSError) as exc:
        print(f"dom0: {exc}", file=sys.stderr)
        return 1
    sys.stdout.flush()
    main_process = os.fork()
    if main_process == 0:
        become(command, folder)
    code = collect_until(main_process)
    end_all()
    return code


def start_xenstored() -> None:
    """The daemon xenstored as /etc/init.d/xen starts it, and Domain-0's own entries.

    Raises:
        Dom0Error: it does not come up.
    """
    with Path("/var/log/xen/xenstored.log").open("wb") as log:
        subprocess.Popen(  # a daemon of this dom0: it ends with process 1
            ["/usr/sbin/xenstored", "-N", "-I"],  # any other form of the C xenstored wants a real /dev/xen
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=DAEMON_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
    wait_for(Path("/run/xenstored/socket"), "xenstored")
    done = subprocess.run(
        ["/usr/lib/xen-4.17/bin/xen-init-dom0"],
        env={**DAEMON_ENVIRONMENT, "LD_PRELOAD": mounts.INSTALLED_SHIM},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Dom0Error(f"xen-init-dom0: {(done.stderr or done.stdout).strip()}")


def start_players() -> None:
    """The process that plays netback, blkback, consoles and guests, ready when this returns.

    Raises:
        Dom0Error: it does not get ready.
    """
    if os.fork() == 0:
        os.setsid()
        os._exit(players.play())
    wait_for(players.READY, "players (see /var/log/xen/players.log)")


def wait_for(path: Path, what: str) -> None:
    """Until the path exists.

    Raises:
        Dom0Error: it does not within START_S.
    """
    deadline = time.monotonic() + START_S
    while not path.exists():
        if time.monotonic() > deadline:
            raise Dom0Error(f"{what} did not start within {START_S:g} s")
        time.sleep(0.005)


def become(command: list[str], folder: Path) -> None:
    """The command, in the folder it was called from, with the terminal if there is one. Never returns."""
    os.chdir(folder)
    environment = dict(os.environ)
    environment["TMPDIR"] = str(INSIDE / "tmp")
    own = environment.get("PATH", SYSTEM_PATH).split(":")
    environment["PATH"] = ":".join(own + [p for p in SYSTEM_PATH.split(":") if p not in own])
    if os.isatty(0):
        os.setpgid(0, 0)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        os.tcsetpgrp(0, os.getpid())
    for number in (signal.SIGINT, signal.SIGTTOU, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606  the user's own command
    except OSError as exc:
        print(f"dom0: {command[0]}: {exc.strerror}", file=sys.stderr)
    os._exit(127)


def collect_until(main_process: int) -> int:
    """The main process's exit status; orphans (xl's monitors among them) are collected meanwhile."""
    while True:
        process, status = os.wait()
        if process == main_process:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def end_all() -> None:
    """Every process of this dom0 gone, and every loop device of its files released."""
    os.kill(-1, signal.SIGKILL)
    try:
        while True:
            os.wait()
    except ChildProcessError:
        release_loops()
