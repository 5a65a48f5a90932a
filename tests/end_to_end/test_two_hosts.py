"""A domU moves between two hosts of one repository, on one segment: at no moment can it send from both."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.dom0 import INSIDE, ROOT, SHIM, XEN
from tests.dom0.toolstack import wait_until
from tests.end_to_end.provider import DOMGIT, HOST, IMAGES, Provider, Run, mac

pytestmark = [
    pytest.mark.machine,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(INSIDE.exists(), reason="starts two of them: run it on the machine itself"),
    pytest.mark.skipif(not (XEN.is_dir() and SHIM.exists()), reason="run `python -m tests.dom0.fetch` first"),
]
REFUSED = f"the guard has no binding for vm01 with {mac(1)}"
ADDRESS, GATEWAY = "172.16.39.101", "172.16.39.1"


class Dom0:
    """One simulated dom0, entered from outside."""

    def __init__(self, name: str, process: int, repository: Path) -> None:
        self.name, self.process, self.repository = name, process, repository

    def run(self, *argv: str) -> Run:
        """A command in it."""
        enter = ["nsenter", f"--target={self.process}", "--mount", "--net", "--uts", "--ipc", "--pid", "--"]
        done = subprocess.run(
            [*enter, *argv],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            stdin=subprocess.DEVNULL,
            timeout=90,
        )
        return Run(done.returncode, done.stdout, done.stderr)

    def links(self, *lines: str) -> None:
        """Interfaces of it, as `ip` sets them up; the other dom0 is known by its process on the machine."""
        for line in lines:
            argv = ["nsenter", f"--target={self.process}", "--net", "--", "ip", *line.split()]
            subprocess.run(argv, check=True, capture_output=True)

    def domgit(self, verb: str, *argv: str) -> Run:
        """A verb, for this host."""
        where = ["--repo", str(self.repository), "--rev", "main", "--host", self.name]
        return self.run("env", f"PYTHONPATH={ROOT}", str(DOMGIT), verb, *where, *argv)

    def alive(self) -> bool:
        """Whether vm01 lives here."""
        return self.run("xl", "domid", "vm01").code == 0

    def reaches(self, address: str) -> bool:
        """Whether vm01, from here, gets an answer: it sends from its address and hears what comes back."""
        return self.run("guest", "vm01", "ping", address).out == f"{address}: answers\n"

    def binds(self) -> bool:
        """Whether the guard here lets anybody send from vm01's address."""
        return f". {ADDRESS}" in self.run("nft", "list", "table", "bridge", "domgit").out

    def started_by_hand(self) -> str:
        """How it ends when somebody who does not know better starts vm01 here, from the file as it was."""
        done = self.run("xl", "create", "-q", "-f", f"{IMAGES}/vm01.cfg")
        return "it runs" if self.alive() else done.err


@contextmanager
def running(name: str, repository: Path) -> Iterator[Dom0]:
    """A simulated dom0 until the end."""
    token = f"9{uuid.uuid4().int % 10**9}"
    command = f"mkdir -p {IMAGES} && echo kernel > /srv/xen/vmlinuz && echo ready && exec sleep {token}"
    with subprocess.Popen(
        [sys.executable, "-m", "tests.dom0", "--", "sh", "-c", command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        found: list[int] = []

        def entered() -> bool:
            found[:] = [
                int(path.parent.name)
                for path in Path("/proc").glob("[0-9]*/cmdline")
                if path.read_bytes() == f"sleep\0{token}\0".encode()
            ]
            return bool(found)

        wait_until(entered, "the simulated dom0")
        try:
            yield Dom0(name, found[0], repository)
        finally:
            process.terminate()


@pytest.fixture
def provider(tmp_path: Path) -> Provider:
    tmp_path.chmod(0o755)
    provider = Provider(tmp_path / "repository")
    host = HOST.replace("UNKNOWN", "report").replace("EXTRA", "")
    provider.write("hosts/dom0-a/host.yaml", host.replace("[eth0]", "[eth0, wire]"))
    provider.write("hosts/dom0-b/host.yaml", host.replace("dom0-a", "dom0-b"))
    return provider


@pytest.fixture
def hosts(provider: Provider) -> Iterator[tuple[Dom0, Dom0]]:
    """dom0-a with the gateway, and dom0-b behind it on a wire between the two bridges."""
    with ExitStack() as stack:
        here, there = (stack.enter_context(running(name, provider.root)) for name in ("dom0-a", "dom0-b"))
        there.links("link del eth0", "address flush dev xenbr0")
        here.links(
            f"link add wire type veth peer name eth0 netns {there.process}", "link set wire master xenbr0 up"
        )
        there.links(
            "link set eth0 address 00:16:3e:00:39:03 master xenbr0 up",
            "address add 172.16.39.3/24 dev xenbr0",
        )
        yield here, there


def move(provider: Provider) -> None:
    """The commit that places vm01 on dom0-b."""
    old = provider.root / "hosts/dom0-a/domus/vm01.yaml"
    text = old.read_text().replace(
        '"name": "vm01"\n', '"name": "vm01", "placement": {"epoch": 2, "from": "dom0-a"}\n', 1
    )
    assert "placement" in text
    provider.write("hosts/dom0-b/domus/vm01.yaml", text)
    old.unlink()
    provider.commit("vm01 moves to dom0-b")


def test_a_moved_domu_sends_from_where_it_was_and_then_from_where_it_is(
    provider: Provider, hosts: tuple[Dom0, Dom0]
) -> None:
    here, there = hosts
    provider.domu(
        "vm01", 1, disks=[{"vdev": "xvda", "path": f"{IMAGES}/vm01.img", "size": "8MiB", "adopt": True}]
    )
    provider.commit()
    for each in hosts:
        done = each.domgit("apply", "--yes")
        assert done.code == 0, done.out + done.err
        # A second copy of file and disk, for the hand that does not know better.
        each.run("cp", "/etc/xen/vm01.cfg", f"{IMAGES}/vm01.cfg")
    there.run("truncate", "-s", "8M", f"{IMAGES}/vm01.img")
    wait_until(lambda: here.reaches(GATEWAY), "vm01 on dom0-a")
    assert here.reaches("172.16.39.3")
    here.run("xl", "destroy", "vm01")
    assert here.started_by_hand() == "it runs"
    wait_until(lambda: here.reaches(GATEWAY), "vm01 on dom0-a, started by hand")
    config = here.run("cat", f"{IMAGES}/vm01.cfg").out
    there.run("sh", "-c", f"cat > {IMAGES}/vm01.cfg <<'END'\n{config}END")

    move(provider)
    passes = {each.name: each.domgit("run", "--once") for each in hosts}
    status = {each.name: each.domgit("status").out for each in hosts}

    # While it lives on dom0-a: there it goes on, here nothing is bound, and nobody gets it to run.
    assert passes["dom0-a"].code == 0, passes["dom0-a"].out
    assert (
        "moved         domu.vm01: now placed on dom0-b: left alone here, guarded, until somebody ends it\n"
        in status["dom0-a"]
    )
    assert passes["dom0-b"].code == 4, passes["dom0-b"].out
    assert f"domu.vm01: MAC {mac(1)} is in use behind eth0 (it may still run on dom0-a; " in status["dom0-b"]
    refused = there.domgit("apply", "--yes")
    assert refused.code == 4, refused.out
    assert here.binds()
    assert not there.binds()
    assert REFUSED in there.started_by_hand()
    assert here.reaches(GATEWAY)

    # A human ends it there: what it had there is let go, and the new host still waits for a word.
    here.run("xl", "shutdown", "-w", "vm01")
    here.run("xl", "destroy", "vm01")
    there.run("bridge", "fdb", "del", mac(1), "dev", "eth0", "master")
    passes = {each.name: each.domgit("run", "--once") for each in hosts}
    status = {each.name: each.domgit("status").out for each in hosts}

    assert passes["dom0-a"].code == 0, passes["dom0-a"].out
    assert "domu.vm01" not in status["dom0-a"]
    assert passes["dom0-b"].code == 4, passes["dom0-b"].out
    assert "comes from another host: see that it has ended there, then `domgit apply`\n" in status["dom0-b"]
    assert not here.binds()
    assert not there.binds()
    assert REFUSED in here.started_by_hand()
    assert REFUSED in there.started_by_hand()

    # The word.
    done = there.domgit("apply", "--yes")

    assert done.code == 0, done.out + done.err
    wait_until(lambda: there.reaches(GATEWAY), "vm01 on dom0-b, across the wire")
    assert REFUSED in here.started_by_hand()
    assert not here.reaches(GATEWAY)
    assert there.reaches(GATEWAY)
    assert [each.domgit("run", "--once").code for each in hosts] == [0, 0]
