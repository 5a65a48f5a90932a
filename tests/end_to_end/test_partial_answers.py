"""Missing information changes nothing, with the real tools: a program earlier on PATH spoils what one of them prints, and ends well."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from state import links, nft, xenstore, xl
from tests.dom0.toolstack import domids, run
from tests.end_to_end.conftest import KERNELS, clean
from tests.end_to_end.provider import IMAGES, STATE, Provider, booted, mac, vif

pytestmark = [pytest.mark.dom0, pytest.mark.shared, pytest.mark.long]
EARLIER = Path("/usr/local/sbin")
MEMORY_LIMIT_KIB = 256 * 1024
FLOOD = "head -c 100000000 /dev/zero | tr '\\0' x"
# Python programs that print the JSON on stdin without one of its records.
WITHOUT_LAST = "import json, sys; json.dump(json.load(sys.stdin)[:-1], sys.stdout)"
ONE_LESS = "import json, sys; json.dump([each for each in json.load(sys.stdin) if each.get({key!r}) != {value!r}], sys.stdout)"


def one_less(key: str, value: object) -> str:
    return f"python3 -c {shlex.quote(ONE_LESS.format(key=key, value=value))}"


Spoil = Callable[[tuple[str, ...], str], None]
SPOILT: Mapping[str, tuple[tuple[str, ...], str]] = {
    "xl list cut behind the first guest": (xl.LIST, "head -n 3"),
    "xl list cut in a row": (xl.LIST, "head -c 200"),
    "xl list of a host without guests": (xl.LIST, "head -n 2"),
    "xl list garbled": (xl.LIST, "sed 's/-b----/\\xff\\xfe/'"),
    "xl list with a warning in it": (xl.LIST, "sed '3i libxl: warning: libxl_domain.c:1: something'"),
    "xl list flooding": (xl.LIST, FLOOD),
    "xl vm-list cut": (xl.VM_LIST, "head -n 3"),
    "xl list --long cut": (xl.LIST_LONG, "head -c 3000"),
    "xl list --long without a guest": (xl.LIST_LONG, f"python3 -c {shlex.quote(WITHOUT_LAST)}"),
    "xl list --long flooding": (xl.LIST_LONG, f"(echo '['; {FLOOD})"),
    "xl info cut": (xl.INFO, "head -n 12"),
    "xenstore-ls cut in a vif": (xenstore.LIST_VIFS, "head -n 9"),
    "xenstore-ls cut behind a guest": (xenstore.LIST_VIFS, "sed '/vif\\/[0-9]*\\/0\\/feature-ctrl-ring/q'"),
    "xenstore-ls empty": (xenstore.LIST_VIFS, "head -n 0"),
    "xenstore-ls without a bridge": (xenstore.LIST_VIFS, "sed '/\\/bridge = /d'"),
    "xenstore-ls flooding": (xenstore.LIST_VIFS, FLOOD),
    "ip link cut": (links.LINKS, "head -c 1500"),
    "ip link without the bridge": (links.LINKS, one_less("ifname", "xenbr0")),
    "ip link flooding": (links.LINKS, FLOOD),
    "ip address without the bridge": (links.ADDRESSES, one_less("ifname", "xenbr0")),
    "bridge link without a port": (links.PORTS, one_less("ifname", "vm01")),
    "bridge link without any": (links.PORTS, "echo '[]'"),
    "bridge fdb without any": (links.FDB, "echo '[]'"),
    "nft list table cut": (nft.LIST_TABLE, "head -n 20"),
    "nft list table with a warning in it": (nft.LIST_TABLE, "sed '2i # Warning: do not touch!'"),
    "nft list table flooding": (nft.LIST_TABLE, FLOOD),
    "nft list tables with something else": (nft.LIST_TABLES, "sed 's/^table/tabl/'"),
}


def unnamed(number: int) -> dict[str, object]:
    """A vif that the kernel gives its name."""
    return {"mac": mac(10 + number), "bridge": "xenbr0", "ips": [f"172.16.39.{120 + number}"]}


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """Two guests at rest, and a commit that waits: it gives one a second address, starts a third, and takes the other away."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in KERNELS:
        (IMAGES.parent / name).write_text("kernel\n")
    folder = tmp_path_factory.mktemp("partial")
    for path in (folder, *folder.parents[:2]):
        os.chmod(path, 0o755)  # noqa: PTH101, S103  # the reader runs as nobody and must get there
    provider = Provider(folder / "repository")
    provider.host(unknown="drop")
    for number in (1, 2):
        name = f"vm0{number}"
        provider.domu(name, number, vifs=[vif(name, number), unnamed(number)])
    provider.settled()
    for name in ("vm01", "vm02"):
        booted(name)
    more = vif("vm01", 1, ips=["172.16.39.101", "172.16.39.111"])
    provider.domu("vm01", 1, vifs=[more, unnamed(1)])
    provider.domu("vm02", 2, state="absent")
    provider.domu("vm03", 3)
    provider.commit()
    yield provider
    clean()


@pytest.fixture(scope="module")
def before(waiting: Provider) -> Mapping[str, object]:
    """The state that every test finds and leaves."""
    del waiting
    return state()


@pytest.fixture
def spoil() -> Iterator[Spoil]:
    made = []

    def put(argv: tuple[str, ...], filtering: str) -> None:
        """From now on this very command prints what is left of its output, with exit status 0; every other is as it was."""
        real = run("which", argv[0]).stdout.strip()
        script = f'#!/bin/sh\nif [ "$*" = "{" ".join(argv[1:])}" ]; then {real} "$@" | {filtering}; exit 0; fi\nexec {real} "$@"\n'
        path = EARLIER / argv[0]
        path.write_text(script)
        path.chmod(0o755)
        made.append(path)

    yield put
    for path in made:
        path.unlink(missing_ok=True)


def state() -> Mapping[str, object]:
    """All that must be as it was: guests, rules, ports, pins, files and records."""
    folders = (Path("/etc/xen"), STATE, IMAGES)
    files = {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        # What was checked of the repository is remembered by whoever may write: that is of no host.
        if path.is_file() and path.name != "checked-specs"
    }
    return {
        "guests": domids(),
        "rules": run("nft", "-s", "list", "ruleset").stdout,
        "ports": run("bridge", "-d", "link", "show").stdout,
        "pins": [line for line in run("bridge", "fdb", "show").stdout.splitlines() if " static" in line],
        "vifs": run("xenstore-ls", "-f", xenstore.BACKEND_VIF).stdout,
        "files": files,
    }


def measured(argv: list[str]) -> tuple[int, str, int]:
    """Exit status, what was said on stderr, and the most memory in KiB that it or a child of it had."""
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    return os.waitstatus_to_exitcode(status), said, usage.ru_maxrss


@pytest.mark.parametrize("what", SPOILT)
def test_what_a_tool_leaves_out_is_refused_and_nothing_changes(
    waiting: Provider, before: Mapping[str, object], spoil: Spoil, what: str
) -> None:
    spoil(*SPOILT[what])

    verb = ("run", "--once") if "flooding" in what else ("plan",) if "cut" in what else ("apply", "--yes")
    code, said, memory_kib = measured([*waiting.argv(*verb)])

    assert code == 1, said
    assert "Traceback" not in said
    assert "domgit: " in said
    assert memory_kib < MEMORY_LIMIT_KIB
    for made in EARLIER.glob("*"):
        made.unlink(missing_ok=True)
    assert state() == before


def test_what_was_waiting_is_still_to_be_done_and_is_done_when_the_tools_tell_all(waiting: Provider) -> None:
    plan = waiting.domgit("plan")
    done = waiting.domgit("apply", "--yes")

    assert plan.last == "Plan: 1 to add, 1 to change, 1 to remove, 0 staged, 0 blocked."
    assert done.code == 0, done.out + done.err
    assert set(domids()) == {"vm01", "vm03"}
