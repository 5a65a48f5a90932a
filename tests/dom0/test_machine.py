"""A simulated dom0 leaves the machine that it runs on as it was. These tests look from outside."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dom0 import INSIDE, ROOT, SHIM, XEN
from tests.dom0.toolstack import wait_until

pytestmark = [
    pytest.mark.machine,
    pytest.mark.timeout(60),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(INSIDE.exists(), reason="looks from outside: run it on the machine itself"),
    pytest.mark.skipif(not (XEN.is_dir() and SHIM.exists()), reason="run `python -m tests.dom0.fetch` first"),
]

SCRIPT = """
set -e
echo kernel > /srv/xen/vmlinuz
truncate -s 1M {image}
cat > /etc/xen/vm01.cfg <<END
name = "vm01"
type = "pv"
kernel = "/srv/xen/vmlinuz"
memory = 64
disk = ["format=raw,vdev=xvda,access=rw,target={image}"]
vif = ["vifname=vm01,mac=00:16:3e:00:00:01,ip=172.16.39.9,bridge=xenbr0"]
END
xl create -q -f /etc/xen/vm01.cfg
touch /etc/domgit/x /var/lib/domgit/x /run/x /var/lock/x /usr/local/bin/x
sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=1 2>/dev/null || echo 1 > /proc/sys/net/ipv4/ip_forward
hostname changed
sleep {token} &
touch {image}.ready
"""


def dom0(*command: str) -> list[str]:
    return [sys.executable, "-m", "tests.dom0", "--", *command]


def snapshot() -> dict[str, str]:
    """What a simulated dom0 could have changed, as text."""
    commands = {
        "links": ["ip", "-details", "link"],
        "addresses": ["ip", "address"],
        "routes": ["ip", "route", "show", "table", "all"],
        "namespaces": ["ip", "netns"],
        "hostname": ["hostname"],
        "rules": ["nft", "--stateless", "list", "ruleset"],
    }
    taken = {
        name: subprocess.run(argv, capture_output=True, text=True, check=False).stdout
        for name, argv in commands.items()
    }
    taken["mounts"] = Path("/proc/self/mountinfo").read_text()
    for folder in (
        "/etc",
        "/etc/xen",
        "/run",
        "/run/netns",
        "/run/lock",
        "/srv",
        "/var/lib",
        "/var/log",
        "/usr/local/bin",
    ):
        path = Path(folder)
        taken[folder] = (
            " ".join(sorted(entry.name for entry in path.iterdir())) if path.is_dir() else "absent"
        )
    for setting in ("ipv4/ip_forward", "ipv6/conf/all/accept_dad", "ipv6/conf/default/accept_dad"):
        path = Path("/proc/sys/net") / setting
        taken[setting] = path.read_text() if path.exists() else "absent"
    return taken


def loops_on(image: Path) -> list[str]:
    return [str(p) for p in Path("/sys/block").glob("loop*/loop/backing_file") if str(image) in p.read_text()]


def processes_with(token: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_text()
        except OSError:  # ended meanwhile
            continue
        if token in text:
            found.append(text)
    return found


@pytest.fixture
def token() -> str:
    return f"9{uuid.uuid4().int % 10**9}"


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    """A disk image that inside and outside share."""
    path = tmp_path / f"{uuid.uuid4()}.img"
    yield path
    assert loops_on(path) == []


@pytest.fixture
def script(token: str, image: Path) -> str:
    return SCRIPT.format(token=token, image=image)


def test_a_run_leaves_the_machine_as_it_was(script: str, token: str) -> None:
    before = snapshot()

    done = subprocess.run(dom0("bash", "-c", script), cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert snapshot() == before
    assert processes_with(token) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_leaves_the_machine_as_it_was(
    script: str, token: str, image: Path, number: signal.Signals
) -> None:
    before = snapshot()
    process = subprocess.Popen(dom0("bash", "-c", f"{script}\nwait"), cwd=ROOT)
    wait_until(Path(f"{image}.ready").exists, "script done", timeout_s=20)
    assert loops_on(image)

    process.send_signal(number)

    assert process.wait(20) == -number if number == signal.SIGKILL else 128 + number
    wait_until(lambda: processes_with(token) == [], "processes gone")
    wait_until(lambda: loops_on(image) == [], "loop devices released")
    assert snapshot() == before


@pytest.mark.parametrize(("command", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)])
def test_the_exit_status_is_that_of_the_command(command: str, status: int) -> None:
    assert subprocess.run(dom0("sh", "-c", command), cwd=ROOT, check=False).returncode == status


def test_standard_input_and_the_working_folder_are_kept(tmp_path: Path) -> None:
    done = subprocess.run(
        dom0("sh", "-c", "pwd; cat"),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input="hello",
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == f"{tmp_path}\nhello"


def test_without_privileges_one_line_says_what_is_missing() -> None:
    done = subprocess.run(
        ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", *dom0("true")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "CAP_SYS_ADMIN" in done.stderr
