"""A guest's console and its settings over the real toolstack: attached to, shown, changed, and no password told."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dom0.toolstack import domids, node, wait_until, xl
from tests.end_to_end.provider import STATE, Provider, booted

pytestmark = pytest.mark.dom0
SECRETS = Path("/etc/domgit/secrets")
PASSWORD = "tr0ub4dor"  # noqa: S105  # no one's
LET_GO = b"\x1d"
VNC = {"vnc": {"listen": "127.0.0.1", "display": 5, "passwordSecret": "vm01-vnc"}}


@pytest.fixture
def secret() -> Iterator[Path]:
    SECRETS.mkdir(parents=True, exist_ok=True)
    path = SECRETS / "vm01-vnc"
    path.write_text(f"{PASSWORD}\n")
    path.chmod(0o600)
    yield path
    path.unlink()


def talk(argv: list[str], until: bytes) -> tuple[bytes, int]:
    """What a command shows on a terminal before it is let go, and how it ended."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        shown, deadline = b"", time.monotonic() + 60.0
        while until not in shown and time.monotonic() < deadline:
            if select.select([ours], [], [], 0.2)[0]:
                shown += os.read(ours, 4096)
        os.write(ours, LET_GO)
        code = process.wait(60.0)
        os.close(ours)
    return shown, code


def test_a_console_is_attached_to_and_shown_and_there_is_none_of_a_guest_that_is_off(
    provider: Provider,
) -> None:
    provider.domu("vm01", 1)
    provider.settled()
    guest = booted("vm01")
    domid = domids()["vm01"]

    shown, code = talk([*provider.argv("console", "vm01")], b"boot 1 complete")
    get, facts = provider.domgit("get", "vm01"), provider.domgit("get", "vm01", "--json").json

    assert b"vm01: boot 1 complete" in shown
    assert code == 0
    path = node(f"/local/domain/{domid}/console/tty")
    assert f"console       hvc0, no screen; live: xenconsoled {path}, no screen\n" in get.out
    assert "boot          run  kernel=/srv/xen/vmlinuz  cmdline=root=/dev/xvda console=hvc0\n" in get.out
    assert facts["console"]["live"] == {"type": "xenconsoled", "path": path, "vnc": None, "vnc_port": None}

    guest.poweroff()
    wait_until(lambda: "---s" in xl("list", "vm01").stdout, "the poweroff")
    provider.domgit("run", "--once")
    off = provider.domgit("console", "vm01")

    assert (off.code, off.out) == (1, "")
    assert "vm01 does not run: there is no console" in off.err
    assert "no domU 'vm02'" in provider.domgit("console", "vm02").err


def test_a_screen_waits_for_the_reboot_and_its_password_is_told_nowhere(
    provider: Provider, secret: Path
) -> None:
    """Of a running guest the screen is staged; of one that is off its file has it. Both are root's alone."""
    provider.domu("vm01", 1)
    provider.settled()
    domid = domids()["vm01"]
    provider.domu("vm01", 1, console=VNC)
    console = {"vnc": {**VNC["vnc"], "display": 6}}
    provider.domu("vm02", 2, state="halted", console=console)
    provider.commit()

    told = [provider.domgit("plan", "--json"), provider.domgit("apply", "--yes")]
    verbs = (("status",), ("get", "vm01"), ("get", "vm01", "--json"), ("history", "--json"))
    told += [provider.domgit(*verb) for verb in verbs]
    told.append(provider.domgit("show", told[-1].json["applied"][-1]["plan_id"], "--json"))

    fields = "vnc, vncPassword"
    assert f"PendingReboot domu.vm01: the guest's own next reboot brings {fields}\n" in told[2].out
    assert f"PendingReboot the guest's own next reboot brings {fields}\n" in told[3].out
    assert "screen 127.0.0.1 display 5 (password vm01-vnc); live: " in told[3].out
    staged = next(Path("/var/lib/xen").glob(f"userdata-d.{domid}.*.xl"))
    for path in (staged, Path("/etc/xen/vm01.cfg"), Path("/etc/xen/vm02.cfg")):
        assert f"vncpasswd={PASSWORD}" in path.read_text()
        assert path.stat().st_mode & 0o777 == 0o600
    assert [each.err + each.out for each in told if PASSWORD in each.err + each.out] == []
    kept = [path for folder in (STATE, Path("/run/domgit")) for path in folder.rglob("*") if path.is_file()]
    assert len(kept) > 5
    assert [path for path in kept if PASSWORD.encode() in path.read_bytes()] == []

    secret.write_text("an0ther-one\n")
    rotated = provider.domgit("apply", "--yes")

    assert rotated.code == 0, rotated.out
    assert "vncpasswd=an0ther-one" in staged.read_text()
    assert "vncpasswd=an0ther-one" in Path("/etc/xen/vm02.cfg").read_text()
    assert PASSWORD not in rotated.out + rotated.err
