"""The hotplug script: what it takes out of xenstore and of templates are the specification's values, whatever letters they are made of."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from reconciler import hotplug
from reconciler.config import Paths
from reconciler.diff_guard import specified_guard
from reconciler.execute import HostDisk
from reconciler.guard import nftables
from reconciler.guard_record import Record
from reconciler.reconcile import interest
from reconciler.step import WriteFile
from state.desired import DomU, Vif
from state.links import FDB, LINKS, LLDP_GROUP, PORTS, FdbEntry, parse_fdb, parse_links, parse_ports
from state.nft import probe_features
from state.run import HostRunner, read
from tests.round_trips.accepted import SEED, Accepted, alive, fleets
from tests.round_trips.kernel_table import add_vif, kernel_table, wanted_table
from tests.round_trips.scalars import Scalars
from tests.unit.worlds import settled

pytestmark = [pytest.mark.dom0, pytest.mark.timeout(300)]
# Not under the backends: nobody is to play a netback here.
NODES, DOMID, PORT = "/round-trips/vif", 77, "vif77.0"
FUNCTIONS = hotplug.script().partition('\ncase "${1:-}')[0]
LIST_JSON = ("nft", "-j", "list", "table", "bridge", "domgit")
RUNNER = HostRunner()
RECORD = Record(Paths().guard, Paths().run, "boot")


@pytest.fixture(autouse=True)
def _clean_host() -> Iterator[None]:
    HostDisk(str).write(hotplug.PATH, hotplug.script(), 0o755)
    yield
    RUNNER.run(("nft", "delete", "table", "bridge", "domgit"))
    RUNNER.run(("xenstore-rm", NODES))
    RUNNER.run(("xenstore-rm", f"/local/domain/{DOMID}"))
    RECORD.path.unlink(missing_ok=True)
    Path(hotplug.PATH).unlink()
    shutil.rmtree(hotplug.TEMPLATES, ignore_errors=True)


def must(*argv: str, stdin: str = "", environment: Mapping[str, str] | None = None) -> str:
    done = RUNNER.run(argv, stdin=stdin, environment=environment)
    assert (done.rc, done.stderr) == (0, ""), done
    return done.stdout


def shell(text: str, *arguments: str) -> str:
    """What the script's own functions make of it, in the shell that libxl would start."""
    done = subprocess.run(
        ["sh", "-c", f"{FUNCTIONS}\n{text}", "sh", *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[:1000]
    return done.stdout


def test_the_script_takes_every_name_and_mac_that_is_accepted_and_nothing_that_a_tool_could_misread() -> None:
    draw = Scalars(SEED, wild=0.5)
    texts = [each for _ in range(2500) for each in (draw.interface(), draw.mac())]
    texts += ["", "-", "-x", "a\nb", "a b", "a;b", "a/b", "x" * 17, "x" * 18, "é", "*", "a\\b", "'", '"']
    for found in fleets(90, specs=1000):
        for domu in found.desired.domus:
            accepted = [
                each for vif in domu.vifs for each in (vif.mac, vif.bridge, vif.name) if each is not None
            ]
            assert all(_plain(each) for each in accepted)
            texts += accepted

    said = shell('for each in "$@"; do plain "$each" 17 && echo yes || echo no; done', *texts).split()

    assert [(text, answer == "yes") for text, answer in zip(texts, said, strict=True)] == [
        (text, _plain(text)) for text in texts
    ]
    assert {*said} == {"yes", "no"}


def _plain(text: str) -> bool:
    return re.fullmatch(r"(?!-)[A-Za-z0-9_.:-]{1,17}", text, re.ASCII) is not None


def test_the_template_of_a_vif_without_a_name_binds_its_port_and_nothing_else() -> None:
    features = probe_features(RUNNER)
    seen = 0
    for found in fleets(91, specs=300):
        host = found.desired.host
        must(*nftables.LOAD, stdin=nftables.full(specified_guard(host, ()), features))
        wanted: defaultdict[str, set[Any]] = defaultdict(set)
        words = found.host.model_dump(mode="json")["spec"]
        for name, members in wanted_table(words, ()).items():
            wanted[name] |= members
        arguments: list[str] = []
        for domid, domu in enumerate(alive(found).values(), 1000):
            unnamed = [vif for vif in domu.vifs if vif.name is None]
            if unnamed:
                _install_templates(found, domu)
                must("xenstore-write", f"/local/domain/{domid}/vm", f"/vm/{domu.uuid}")
            for vif in unnamed:
                arguments += [str(domid), str(vif.index)]
                described = found.words(domu)["vifs"][vif.index]
                mode = described.get("guard", words["guard"]["mode"])
                for twin in ("", "-emu") if domu.type == "hvm" else ("",):
                    add_vif(wanted, f"vif{domid}.{vif.index}{twin}", described, mode)

        refused = shell(_BIND_ALL, *arguments)
        for number in {*arguments[::2]}:
            must("xenstore-rm", f"/local/domain/{number}")

        assert refused == "", found.seed
        assert kernel_table(must(*LIST_JSON)) == {name: each for name, each in wanted.items() if each}, (
            found.seed
        )
        seen += len(arguments) // 2

    assert seen > 100


_BIND_ALL = """
while [ $# -gt 0 ]; do
    XENBUS_PATH=backend/vif/$1/$2
    bind_unnamed "vif$1.$2" || echo "$1 $2 refused"
    shift 2
done
"""


def _install_templates(found: Accepted, domu: DomU) -> None:
    """As a plan would."""
    observed = settled(None).observed(interest(found.desired, None, {}))
    for change in hotplug.diff_templates(domu, observed, None, "nftables"):
        for step in change.steps:
            assert isinstance(step, WriteFile)
            HostDisk(str).write(step.path, step.text, step.mode)


def test_the_script_puts_a_port_of_any_accepted_name_where_it_belongs() -> None:
    features = probe_features(RUNNER)
    seen = 0
    for found in fleets(92, specs=25, size=20):
        must(
            *nftables.LOAD,
            stdin=nftables.full(specified_guard(found.desired.host, found.desired.domus), features),
        )
        bridges = [name for name, _ in found.desired.host.bridges]
        for name in bridges:
            must("ip", "link", "add", "dev", name, "type", "bridge")
        table = must(*LIST_JSON)
        RECORD.save(RUNNER, _owners(found))
        for domu in alive(found).values():
            for vif in domu.vifs:
                if vif.name is not None:
                    _plug(found, domu, vif)
                    seen += 1
        assert must(*LIST_JSON) == table
        for name in bridges:
            must("ip", "link", "del", "dev", name)

    assert seen > 20


def _owners(found: Accepted) -> frozenset[str]:
    """As a pass has them, but that every vif here is one of devid 0."""
    vifs = [(vif, domu) for domu in alive(found).values() for vif in domu.vifs if vif.name is not None]
    return frozenset(f'"{vif.name}" {domu.uuid}.0 {vif.bridge}' for vif, domu in vifs)


def _plug(found: Accepted, domu: DomU, vif: Vif) -> None:
    """Plugs one vif as libxl does, looks at its ports, and takes them away."""
    node, twins = f"{NODES}/{DOMID}/0", domu.type == "hvm"
    kind, names = ("vif_ioemu", (vif.name, f"{vif.name}-emu")) if twins else ("vif", (vif.name,))
    for key, value in (("vifname", vif.name), ("mac", vif.mac), ("bridge", vif.bridge), ("type", kind)):
        must("xenstore-write", f"{node}/{key}", str(value))
    must("xenstore-write", f"/local/domain/{DOMID}/vm", f"/vm/{domu.uuid}")
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "XENBUS_PATH": node,
        "XENBUS_TYPE": "vif",
        "XENBUS_BASE_PATH": "backend",
        "script": hotplug.PATH,
        "vif": PORT,
        "INTERFACE": f"{PORT}-emu",
    }
    must("ip", "link", "add", "dev", PORT, "type", "veth", "peer", "name", "far77")
    must(hotplug.PATH, "online", "type_if=vif", environment=environment)
    if twins:
        must("ip", "link", "add", "dev", f"{PORT}-emu", "type", "veth", "peer", "name", "far78")
        must(hotplug.PATH, "add", "type_if=tap", environment=environment)

    links, ports = parse_links(read(RUNNER, LINKS)), parse_ports(read(RUNNER, PORTS))
    fdb = parse_fdb(read(RUNNER, FDB))
    enforced = vif.guard == "enforce"
    told = found.told(domu, vif)
    assert must("xenstore-read", f"{node}/hotplug-status") == "connected\n", told
    assert not {PORT, f"{PORT}-emu"} & links.keys(), told
    for name in names:
        assert name is not None
        assert (links[name].bridge, links[name].up) == (vif.bridge, True), told
        assert bool(links[name].group_fwd_mask & 1 << LLDP_GROUP) == enforced, told
        assert ports[name].locked == (enforced and not twins), told
    pinned = FdbEntry(str(vif.name), vif.mac, static=True, sticky=True)
    assert (pinned in fdb) == (enforced and not twins), told
    for name in names:
        must("ip", "link", "del", "dev", str(name))
