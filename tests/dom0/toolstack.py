"""What a test types on a simulated dom0: xl, xenstore-read, a configuration file; and waiting for a state."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid5

IMAGES = Path("/srv/xen")
CONFIGURATIONS = Path("/etc/xen")
UUID_SPACE = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
# A clean environment, as a daemon has it: what works here needs nothing from a login shell.
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}
COMMAND_S = 90.0
POLL_S = 0.02


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    """The command's end, whatever its exit status.

    Raises:
        subprocess.TimeoutExpired: it hangs.
    """
    return subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
        env=ENVIRONMENT,
    )


def xl(*arguments: str) -> subprocess.CompletedProcess[str]:
    """See run."""
    return run("xl", *arguments)


def domids() -> dict[str, int]:
    """Domain names and ids in `xl list`, without Domain-0."""
    rows = (line.rsplit(None, 5) for line in xl("list").stdout.splitlines()[1:])
    return {row[0].strip(): int(row[1]) for row in rows if row[1] != "0"}


def node(path: str) -> str | None:
    """A xenstore node's value, or None."""
    done = run("xenstore-read", path)
    return done.stdout.rstrip("\n") if done.returncode == 0 else None


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
    """Until the condition holds.

    Raises:
        TimeoutError: it did not in time; says what was waited for.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(POLL_S)


def address_of(number: int) -> str:
    """The IPv4 address of the domU with this number."""
    return f"172.16.39.{number}"


def mac_of(number: int) -> str:
    """The MAC address of the domU with this number."""
    return f"00:16:3e:7c:1f:{number:02x}"


def write_configuration(name: str, number: int, **changes: str) -> Path:
    """A PV domU with one disk and one vif on xenbr0, written to /etc/xen; `changes` are raw values by key.

    Its kernel and its disk image are made too, the image empty.
    """
    IMAGES.joinpath("vmlinuz").write_text("any non-empty file is a kernel here\n")
    image = IMAGES / f"{name}.img"
    if not image.exists():
        with image.open("wb") as file:
            file.truncate(16 << 20)
    addresses = f"{address_of(number)} 2001:db8:39::{number}"
    values = {
        "name": f'"{name}"',
        "uuid": f'"{uuid5(UUID_SPACE, name)}"',
        "type": '"pv"',
        "kernel": f'"{IMAGES}/vmlinuz"',
        "memory": "256",
        "maxmem": "512",
        "vcpus": "1",
        "maxvcpus": "2",
        "disk": f'["format=raw,vdev=xvda,access=rw,target={image}"]',
        "vif": f'["vifname={name},mac={mac_of(number)},ip={addresses},bridge=xenbr0"]',
        **changes,
    }
    path = CONFIGURATIONS / f"{name}.cfg"
    path.write_text("".join(f"{key} = {value}\n" for key, value in values.items()))
    return path


def create(name: str, number: int, **changes: str) -> int:
    """The domid of a new, running domU; see write_configuration.

    Raises:
        AssertionError: xl refused.
    """
    done = xl("create", "-q", "-f", str(write_configuration(name, number, **changes)))
    if done.returncode != 0:
        raise AssertionError(f"xl create {name}: exit status {done.returncode}: {done.stderr}")
    return domids()[name]
