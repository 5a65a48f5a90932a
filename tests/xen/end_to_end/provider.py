"""The provider of tests/end_to_end on a real dom0: the example repository, real kernels, and patience."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.dom0.toolstack import domids, run
from tests.end_to_end import provider as simulated
from tests.end_to_end.provider import Run
from tests.xen import ROOT
from tests.xen.inside import CMDLINE, KERNEL, RAMDISK, Guest

REPOSITORY = Path("/srv/vps")
# What nobody can start here: a PVH guest needs nested virtualisation, NetBSD its own kernel and image.
LEFT_OUT = ("freebsd", "netbsd")
NAMES = ("mail", "vm01", "vm02")
DOMGIT_S = 600.0
PASS_S = 600.0  # of the daemon: emulated, it takes a minute
# What the emulation does to an apply: a kernel that was decompressed wrongly; a command that got no processor for seconds.
SPOILT = ("unable to XZ decompress kernel", "no answer within")
FLAKES: list[str] = []  # how often it did, for the count of the run
POLL_S = 1.0  # looking takes half a second of the one processor, which what is waited for needs
BOOT = {"run": {"kernel": KERNEL, "ramdisk": RAMDISK, "cmdline": CMDLINE}}
STATUS = Path("/run/domgit/status.json")
MAIL, VM01, VM02 = "00:16:3e:7c:1f:72", "00:16:3e:7c:1f:6e", "00:16:3e:7c:1f:6f"


class Provider(simulated.Provider):
    """The example repository in a git repository of its own, and domgit over it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(ROOT / "examples", root)
        for name in LEFT_OUT:
            self.remove(f"hosts/dom0-a/domus/{name}.yaml")
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.name", "Provider")
        self.git("config", "user.email", "noc@example.net")

    def domu(self, name: str, number: int, **spec: Any) -> None:
        """See tests.end_to_end.provider; with a kernel that boots."""
        super().domu(name, number, **{"memory": "96MiB", "maxMemory": "160MiB", "boot": BOOT, **spec})

    def domgit(self, verb: str, *argv: str, timeout_s: float = DOMGIT_S) -> Run:
        """See tests.end_to_end.provider."""
        return super().domgit(verb, *argv, timeout_s=timeout_s)

    def argv(self, verb: str, *argv: str) -> Sequence[str]:
        """See tests.end_to_end.provider; the program as it is installed."""
        return ["domgit", *super().argv(verb, *argv)[1:]]

    def path(self, name: str) -> str:
        """Where a domU's file is."""
        return f"hosts/dom0-a/domus/{name}.yaml"

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace a text that stands once in a file of the repository.

        Raises:
            AssertionError: it does not.
        """
        text = (self.root / path).read_text(encoding="utf-8")
        assert text.count(old) == 1, (path, old)
        self.write(path, text.replace(old, new))

    @contextmanager
    def edited(self, path: str, old: str, new: str) -> Iterator[None]:
        """The same, and back behind it; whoever uses it commits and applies both."""
        self.edit(path, old, new)
        try:
            yield
        finally:
            self.edit(path, new, old)

    def applied(self, *argv: str) -> Run:
        """Commit what is there, and apply it; once more if the emulation has spoilt it, which is counted.

        Raises:
            AssertionError: something was refused or failed.
        """
        done = self.apply(*argv)
        spoilt = [each for each in SPOILT if each in done.out + done.err]
        if done.code != 0 and spoilt:
            FLAKES.extend(spoilt[:1])
            done = self.domgit("apply", "--yes", *argv)
        assert done.code == 0, done.out + done.err
        return done

    def last_commit(self) -> str:
        """Its id."""
        return self.git("rev-parse", "HEAD").strip()


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = PASS_S) -> None:
    """Until the condition holds.

    Raises:
        TimeoutError: it did not in time; says what was waited for.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(POLL_S)


def status() -> Mapping[str, Any]:
    """What the daemon has last written down, nothing before its first pass."""
    try:
        found: Mapping[str, Any] = json.loads(STATUS.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


def wait_converged(revision: str) -> None:
    """Until the daemon has converged on this commit.

    Raises:
        TimeoutError: it has not in time.
    """
    wait_until(
        lambda: status().get("revision") == revision and status().get("converged"),
        f"a pass of the daemon's that ends converged at {revision[:12]}",
    )


def table() -> str:
    """Our table as nft lists it, without what counts; "" without one."""
    return run("nft", "-s", "list", "table", "bridge", "domgit").stdout


def monitors(name: str) -> list[int]:
    """The processes that watch over the domain that was made from this domU's file."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_text().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if f"/etc/xen/{name}.cfg" in words:
            found.append(int(path.parent.name))
    return found


def all_up(names: Sequence[str] = NAMES) -> None:
    """Until these run and answer."""
    wait_until(lambda: {*names} <= {*domids()}, f"{', '.join(names)} in xl list")
    for name in names:
        Guest(name).wait_booted()


def journal(unit: str, since: str) -> str:
    """What a unit has said since then, as journalctl reads times."""
    return subprocess.run(
        ["journalctl", "-u", unit, "--no-pager", "-o", "cat", "--since", since],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
