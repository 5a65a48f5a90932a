"""A dom0 with a thousand running VPSs, as files and as tools that print at once what the real ones would print.

The in-memory dom0 of the tests knows what that is. What the real tools take themselves is not in these figures: it is
Xen's, and the same for everybody.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from reconciler import ledger
from reconciler.diff_guard import specified_guard
from reconciler.guard import nftables
from reconciler.guard.nftables import LOAD
from reconciler.hotplug import PATH, script
from reconciler.last_good import LastGood, save
from reconciler.ledger import Ledger
from reconciler.plan import Source
from reconciler.render_xl import config_path, render_xl
from reconciler.step import Run
from state import links, nft, routes, xenstore, xl
from state.desired import Desired
from state.nft import Features
from tests.model.host import Host, make_host
from tests.model.world import World

TOOLS = Path("/usr/local/sbin")
STATE = Path("/var/lib/domgit")
_READS = (
    xl.LIST,
    xl.LIST_LONG,
    xl.VM_LIST,
    xl.INFO,
    xenstore.LIST_VIFS,
    xenstore.LIST_DOMAINS,
    links.LINKS,
    links.PORTS,
    links.FDB,
    links.ADDRESSES,
    *routes.DEFAULTS,
    nft.LIST_TABLE,
    nft.LIST_TABLES,
)


def settle(desired: Desired, revision: str) -> None:
    """Make this (simulated) dom0 one on which `desired` was applied and nothing has changed since."""
    host = _running(desired)
    for path, text in host.files.texts.items():
        if path.startswith(("/etc/xen/", "/srv/xen/", "/etc/machine-id")):
            _write(Path(path), text)
    owned: Ledger = {}
    for domu in desired.domus:
        owned = ledger.remember(owned, domu.uuid, "owned", domu.name)
        for disk in domu.disks:
            image = Path(disk.path)
            image.parent.mkdir(parents=True, exist_ok=True)
            image.touch()
            os.truncate(image, disk.size_bytes or 0)
            found = image.stat()
            owned = ledger.remember(owned, domu.uuid, "disk", f"{disk.path}={found.st_dev}:{found.st_ino}")
    ledger.save(STATE / "ledger.json", owned)
    save(STATE / "last-good.json", LastGood(Source(revision, "main", "", ""), desired))
    _interfaces(host)
    _print_at_once(host)


def _interfaces(host: Host) -> None:
    """The kernel's own list of interfaces is held against what `ip` prints: so these are real, if not vifs."""
    missing = sorted(set(host.links.by_name) - {path.name for path in Path(links.INTERFACES).iterdir()})
    batch = "".join(f"link add name {name} type bridge\n" for name in missing)
    subprocess.run(["ip", "-batch", "-"], input=batch, text=True, check=True)


def _running(desired: Desired) -> Host:
    host = make_host()
    host.toolstack.total_mib = 1024 * (len(desired.domus) + 8)
    host.files.write(PATH, script(), 0o755)
    _must(host, LOAD, nftables.full(specified_guard(desired.host, desired.domus), Features(ibrname=False)))
    for domu in desired.domus:
        for disk in domu.disks:
            host.files.make_image(disk.path, disk.size_bytes or 0)
        host.files.write(config_path(domu.name), render_xl(domu), 0o644)
        _must(host, ("xl", "create", "-q", "-f", config_path(domu.name)))
    # Nothing is ours in this world's records, so all that its plan wants to do is what the guard still lacks.
    with tempfile.TemporaryDirectory() as folder:
        for change in World(Path(folder), host).plan(desired).due:
            for step in change.steps:
                if change.address == "guard" and isinstance(step, Run):
                    _must(host, step.argv, step.stdin)
    return host


def _must(host: Host, argv: tuple[str, ...], stdin: str = "") -> None:
    done = host.run(argv, stdin=stdin)
    if done.rc != 0:
        raise RuntimeError(str(done))


def _print_at_once(host: Host) -> None:
    """Tools under TOOLS, first on domgit's path: each knows its argv, and says what the dom0 in memory says."""
    answers = STATE.parent / "answers"
    answers.mkdir(parents=True, exist_ok=True)
    scripts: dict[str, list[str]] = {}
    for number, argv in enumerate(_READS):
        answer = host.run(argv)
        (answers / str(number)).write_text(answer.stdout)
        scripts.setdefault(argv[0], []).append(
            f'if [ "$*" = {shlex.quote(" ".join(argv[1:]))} ]; then exec cat {answers}/{number}; fi'
        )
    scripts["nft"].append(
        "if grep -q ibrname; then exit 1; fi; exit 0"
    )  # the probes, as on the kernel played here
    scripts["tc"] = ["echo '[]'"]
    for tool, lines in scripts.items():
        _write(TOOLS / tool, "\n".join(["#!/bin/sh", *lines, 'echo "$0 $*" >&2', "exit 1", ""]), 0o755)


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
