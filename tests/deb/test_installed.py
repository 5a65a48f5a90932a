"""A dom0 with guests, where the package is installed, upgraded, removed and purged: nobody is cut off, nothing is opened."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deb import SITE
from deb.tree import lay_out
from deb.wheels import CACHE, fetched
from reconciler import __version__
from tests.dom0.namespace import GATEWAY
from tests.dom0.toolstack import domids, run
from tests.end_to_end.conftest import provided
from tests.end_to_end.provider import STATE, Provider, booted

pytestmark = [
    pytest.mark.dom0,
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.shared,
    pytest.mark.skipif(not CACHE.exists(), reason="run `make setup-deb` first"),
]
SCRIPT = Path("/etc/xen/scripts/vif-domgit")
UNITS = Path("/etc/systemd/system")
KEPT = UNITS / "domgit-guard.service"
WANTED = UNITS / "sysinit.target.wants/domgit-guard.service"
EPOCH = 1_800_000_000
BOOTED = Path("/run/systemd/system")
LOCK = Path("/run/domgit/lock")
# What systemd would be asked, written down; the daemon's state is a file.
SYSTEMCTL = """#!/bin/sh
echo "$*" >>{folder}/asked
case "$*" in
    *ActiveState*) cat {folder}/state ;;
    *stop*domgit.service*) echo inactive >{folder}/state ;;
    *start*domgit.service*) echo active >{folder}/state ;;
esac
"""


class Machine:
    """dpkg, with packages of three versions and a systemd that writes down what it is asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        unpacked = folder / "unpacked"
        lay_out(unpacked, fetched(), EPOCH)
        control, script = unpacked / "DEBIAN/control", unpacked / SITE / "reconciler/guard/vif-domgit"
        text = control.read_text()
        # Patience as in the product would have the test wait for minutes.
        prerm = unpacked / "DEBIAN/prerm"
        prerm.write_text(prerm.read_text().replace("PATIENCE_S=330", "PATIENCE_S=1"))
        for version in ("0.0.8", "0.0.9"):
            control.write_text(text.replace(f"Version: {__version__}", f"Version: {version}"))
            with script.open("a") as file:
                file.write(f"# {version}\n")
            subprocess.run(
                ["dpkg-deb", "-Znone", "-b", unpacked, self.deb(version)],
                check=True,
                stdout=subprocess.DEVNULL,
            )
        shutil.rmtree(unpacked)
        self.says("inactive")
        (folder / "bin").mkdir()
        (folder / "bin/systemctl").write_text(SYSTEMCTL.format(folder=folder))
        (folder / "bin/systemctl").chmod(0o755)

    def deb(self, version: str) -> Path:
        return self.folder / f"domgit_{version}_amd64.deb"

    def says(self, state: str) -> None:
        (self.folder / "state").write_text(f"{state}\n")

    @property
    def state(self) -> str:
        return (self.folder / "state").read_text().strip()

    def dpkg(self, *words: str | Path, check: bool = True) -> str:
        """What dpkg and the maintainer scripts say, under a systemd."""
        BOOTED.mkdir(parents=True)
        try:
            done = subprocess.run(
                ["dpkg", "--no-triggers", *words],
                env={"PATH": f"{self.folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            shutil.rmtree("/run/systemd")
        assert (done.returncode == 0) is check, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("machine"))


@pytest.fixture
def dom0(machine: Machine, tmp_path: Path) -> Iterator[Provider]:
    """A dom0 with the older version installed, one guest running, and the guard loaded at boot."""
    machine.says("inactive")
    with provided(tmp_path) as provider:
        machine.dpkg("-i", machine.deb("0.0.8"))
        provider.domu("vm01", 1)
        provider.commit()
        assert domgit(provider, "apply", "--yes").returncode == 0
        booted("vm01").configure(["172.16.39.101/24"], gateway="172.16.39.1")
        WANTED.parent.mkdir(parents=True, exist_ok=True)
        WANTED.symlink_to("/lib/systemd/system/domgit-guard.service")
        try:
            yield provider
        finally:
            machine.dpkg("-P", "domgit")
            for path in (KEPT, WANTED):
                path.unlink(missing_ok=True)
            run("userdel", "domgit")


def domgit(provider: Provider, verb: str, *words: str) -> subprocess.CompletedProcess[str]:
    return run("/usr/bin/domgit", *provider.argv(verb, *words)[1:])


def protections() -> str:
    """Everything that keeps guests apart, as text; counters and the uses of a rule left out."""
    rules = run("nft", "-s", "list", "ruleset").stdout
    ports = run("bridge", "-d", "link", "show").stdout + run("bridge", "fdb", "show", "dev", "vm01").stdout
    files = "".join(
        f"{path} {path.read_bytes().hex()}\n"
        for path in sorted((STATE / "guard").iterdir())
        if path.is_file()
    )
    assert "table bridge domgit" in rules
    assert "locked on" in ports
    return rules + ports + files + SCRIPT.read_text()


def reboots(name: str = "vm01") -> None:
    """The guest reboots by itself, and has its network again: the hotplug script found all that it needs."""
    guest = booted(name)
    before = domids()[name]
    guest.reboot()
    guest.wait_booted()
    assert domids()[name] != before
    assert GATEWAY.ping("172.16.39.101", 20.0)


def test_an_upgrade_leaves_guard_and_script_to_the_next_pass_which_replaces_both(
    machine: Machine, dom0: Provider
) -> None:
    before, domid = protections(), domids()["vm01"]

    said = machine.dpkg("-i", machine.deb("0.0.9"))

    assert protections() == before
    assert domids()["vm01"] == domid
    assert "another version's, and so is the guard: they fit each other" in said
    assert "the daemon did not run, and is not started" in said
    assert machine.state == "inactive"
    reboots()
    assert "~ file./etc/xen/scripts/vif-domgit" in domgit(dom0, "plan").stdout
    assert domgit(dom0, "apply", "--yes").returncode == 0
    assert SCRIPT.read_text().endswith("# 0.0.9\n")
    reboots()


def test_a_daemon_that_ran_is_stopped_before_its_files_change_and_runs_behind(
    machine: Machine, dom0: Provider
) -> None:
    del dom0
    machine.says("active")
    (machine.folder / "asked").write_text("")

    said = machine.dpkg("-i", machine.deb("0.0.9"))

    asked = (machine.folder / "asked").read_text()
    stop, start = (asked.index(f"{word} domgit.service") for word in ("stop", "start"))
    assert stop < start
    assert machine.state == "active"
    assert "guard" not in asked
    assert "stopping the daemon" in said


def test_nothing_is_replaced_under_somebody_who_changes_the_host(machine: Machine, dom0: Provider) -> None:
    before = protections()
    machine.says("active")
    LOCK.parent.mkdir(exist_ok=True)
    with subprocess.Popen(
        ["flock", "--no-fork", LOCK, "sh", "-c", "echo held; exec sleep 600"],
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        said = machine.dpkg("-i", machine.deb("0.0.9"), check=False)
        holder.kill()

    assert "changes this host just now" in said
    assert (
        run("dpkg-query", "-W", "-f", "${Version} ${Status}", "domgit").stdout == "0.0.8 install ok installed"
    )
    assert machine.state == "active", said
    assert protections() == before
    assert domgit(dom0, "plan").returncode == 0


@pytest.mark.parametrize("word", ["-r", "-P"])
def test_removed_or_purged_it_leaves_every_protection_and_says_so(
    machine: Machine, dom0: Provider, word: str
) -> None:
    before = protections()
    ledger = (STATE / "ledger.json").read_bytes()
    (STATE / "mirror.git").mkdir()
    machine.says("active")

    said = machine.dpkg(word, "domgit")

    assert machine.state == "inactive"
    assert not Path("/usr/bin/domgit").exists()
    assert protections() == before
    assert (STATE / "ledger.json").read_bytes() == ledger
    assert (STATE / "mirror.git").exists() is (word == "-r")
    assert Path("/srv/xen/images/vm01.img").exists()
    assert "THE GUARD STAYS LOADED" in said
    never = run("apt-config", "dump", "APT::NeverAutoRemove").stdout
    assert all(f'"^{name}$"' in never for name in ("nftables", "iproute2", "iptables", "ipset"))
    assert f"{SCRIPT} stays: 1 files in /etc/xen name it" in said
    reboots()
    # At the next boot: the unit needs nothing of the package, and neither does what it runs.
    assert WANTED.readlink() == KEPT
    assert "ExecStart=/bin/sh /var/lib/domgit/guard/boot.sh\n" in KEPT.read_text()
    assert run("systemd-analyze", "verify", str(KEPT)).stderr == ""
    run("nft", "flush", "ruleset")
    assert run("sh", "/var/lib/domgit/guard/boot.sh").returncode == 0
    assert "table bridge domgit" in run("nft", "list", "ruleset").stdout
    reboots()

    machine.dpkg("-i", machine.deb("0.0.9"))

    assert machine.state == "inactive"
    assert not KEPT.exists()
    assert WANTED.readlink() == Path("/lib/systemd/system/domgit-guard.service")
    assert domgit(dom0, "plan").returncode == 0


def test_where_nothing_was_ever_applied_a_purge_leaves_nothing(machine: Machine, dom0: Provider) -> None:
    run("xl", "destroy", "vm01")
    shutil.rmtree(STATE / "guard")
    for path in (*STATE.iterdir(), SCRIPT, Path("/etc/xen/vm01.cfg")):
        path.unlink()
    del dom0

    said = machine.dpkg("-P", "domgit")

    assert "GUARD" not in said
    assert not any(
        os.path.lexists(path) for path in (KEPT, WANTED, "/etc/apt/apt.conf.d/50domgit", "/usr/lib/domgit")
    )


def test_an_installation_by_hand_that_is_in_the_way_is_named(machine: Machine, dom0: Provider) -> None:
    del dom0
    by_hand = UNITS / "domgit.service"
    program = Path("/usr/local/sbin/domgit")
    by_hand.write_text("[Service]\nExecStart=/opt/domgit/bin/domgit run\n")
    program.write_text("#!/bin/sh\n")
    try:
        said = machine.dpkg("-i", machine.deb("0.0.9"))
    finally:
        by_hand.unlink()
        program.unlink()

    assert f"{by_hand} is used instead of the package's" in said
    assert f"{program} is found before /usr/bin/domgit" in said


def test_what_is_installed_runs_and_its_units_can_be_loaded(machine: Machine, dom0: Provider) -> None:
    del machine
    odd = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere"}
    version = subprocess.run(
        ["domgit", "--version"], env=odd, cwd=dom0.root, capture_output=True, text=True, check=False
    )
    units = [f"/lib/systemd/system/{name}.service" for name in ("domgit", "domgit-guard")]
    examples = "/usr/share/doc/domgit/examples/repository"

    assert version.stdout == f"domgit, version {__version__}\n"
    assert "Commands:" in run("domgit", "--help").stdout
    assert run("domgit", "validate", examples).stdout.endswith("hosts: valid.\n")
    assert re.findall("^MISS .*", domgit(dom0, "doctor").stdout, re.MULTILINE) == []
    assert run("systemd-analyze", "verify", *units).stderr == ""
    assert run("getent", "passwd", "domgit").stdout.endswith(":/nonexistent:/usr/sbin/nologin\n")
    # Whatever ran has written nothing into the package; the script is what makes this one older.
    assert run("dpkg", "--verify", "domgit").stdout.splitlines() == [
        f"??5??????   /{SITE}/reconciler/guard/vif-domgit"
    ]
