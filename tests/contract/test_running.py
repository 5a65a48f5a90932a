"""One domU that runs: what is said of it where, and what can be changed of it."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from state.xl import SavedDisk, SavedVif
from tests.contract.here import marks
from tests.contract.host import MAX_MEMORY_MIB, MEMORY_MIB, Guest, Host, mac_of, uuid_of

pytestmark = marks(60)

NAME, NUMBER = "ct-run", 151
MAC, UUID = mac_of(NUMBER), uuid_of("ct-run")
BACKENDS = "/local/domain/0/backend"
EVERYBODY_ON_THE_AIR = "ff" * 6
ETH_P_ALL = 0x0003
# Ethernet's own type for local experiments.
FRAME = bytes.fromhex(f"{EVERYBODY_ON_THE_AIR}02000000dead88b5") + b"as it was sent".ljust(46, b".")


@dataclass(frozen=True, slots=True)
class Running:
    """The domU that all tests here look at."""

    host: Host
    domid: int
    guest: Guest

    def node(self, path: str) -> str | None:
        """A node of its own folder."""
        return self.host.node(f"/local/domain/{self.domid}/{path}")


@pytest.fixture(scope="module")
def running(host: Host) -> Iterator[Running]:
    domid = host.create(
        NAME, NUMBER, vif=f'["vifname={NAME},mac={MAC},ip=192.0.2.7,bridge=xenbr0,rate=10Mb/s@20ms"]'
    )
    guest = host.boot(NAME)
    host.wait(lambda: host.node(f"{BACKENDS}/vif/{domid}/0/state") == "4", "its vif is connected")
    host.wait(lambda: host.node(f"{BACKENDS}/vbd/{domid}/51712/state") == "4", "its disk is connected")
    yield Running(host, domid, guest)
    if domid in host.rows():
        host.xl("destroy", domid)


def test_it_is_listed_as_running(host: Host, running: Running) -> None:
    row = host.rows()[running.domid]

    assert (row.name, row.paused, row.dying, row.shutdown) == (NAME, False, False, None)
    # A little more than it was given belongs to every PV guest.
    assert host.size(running.domid)[0] in {MEMORY_MIB, MEMORY_MIB + 1}
    # It begins with all that it may have, and puts away what is offline.
    host.wait(lambda: host.size(running.domid)[1] == 1, "one vcpu")


def test_name_domid_and_uuid_lead_to_each_other(host: Host, running: Running) -> None:
    assert host.xl("domid", NAME).stdout == f"{running.domid}\n"
    assert host.xl("domname", running.domid).stdout == f"{NAME}\n"
    assert host.uuids()[running.domid] == UUID
    # xl takes no uuid for a name.
    assert host.xl("list", UUID).rc == 1


def test_what_it_was_made_from_is_kept(host: Host, running: Running) -> None:
    saved = host.saved(running.domid)

    assert saved is not None
    assert (saved.name, saved.uuid, saved.type) == (NAME, UUID, "pv")
    assert (saved.memory_mib, saved.max_memory_mib) == (MEMORY_MIB, MAX_MEMORY_MIB)
    assert (saved.vcpus, saved.max_vcpus) == (1, 2)
    assert saved.kernel == host.machine.boot["kernel"].strip('"')
    assert saved.vifs == (
        SavedVif(index=0, mac=MAC, bridge="xenbr0", interface=NAME, script="", rate=(25000, 20000)),
    )
    assert saved.disks == (SavedDisk("xvda", str(host.image(NAME)), "raw", writable=True, cdrom=False),)
    assert (saved.on_poweroff, saved.on_reboot, saved.on_crash) == ("destroy", "restart", "destroy")
    assert host.userdata(running.domid) == {"libxl-json"}
    assert host.monitors(NAME) == 1


def test_all_that_the_product_reads_of_it_fits_together(host: Host, running: Running) -> None:
    domain = host.domain(running.domid)

    assert domain is not None
    assert domain.running
    assert domain.saved is not None
    assert domain.staged is None


def test_its_vif_stands_in_xenstore_as_it_was_told_to_be(host: Host, running: Running) -> None:
    vif = host.vifs(running.domid)[0]

    assert (vif.mac, vif.bridge, vif.interface, vif.rate) == (MAC, "xenbr0", NAME, (25000, 20000))
    assert (vif.script, vif.hotplug_status) == ("/etc/xen/scripts/vif-bridge", "connected")
    backend = f"{BACKENDS}/vif/{running.domid}/0"
    assert {
        key: host.node(f"{backend}/{key}")
        for key in ("frontend", "frontend-id", "online", "handle", "type", "ip")
    } == {
        "frontend": f"/local/domain/{running.domid}/device/vif/0",
        "frontend-id": str(running.domid),
        "online": "1",
        "handle": "0",
        "type": "vif",
        "ip": "192.0.2.7",
    }
    assert running.node("device/vif/0/backend") == backend
    assert running.node("device/vif/0/state") == "4"
    assert host.node(f"/libxl/{running.domid}/device/vif/0/mac") == MAC


def test_its_disk_stands_in_xenstore_behind_a_loop_device(host: Host, running: Running) -> None:
    backend = f"{BACKENDS}/vbd/{running.domid}/51712"

    node = host.node(f"{backend}/node")
    assert node is not None
    assert node.startswith("/dev/loop")
    number = Path(node).stat().st_rdev
    assert host.node(f"{backend}/physical-device") == f"{os.major(number):x}:{os.minor(number):x}"
    assert [host.node(f"{backend}/{key}") for key in ("dev", "mode", "params", "type")] == [
        *("xvda", "w", str(host.image(NAME)), "phy")
    ]
    assert host.files.holders([str(host.image(NAME))]) == {str(host.image(NAME)): node}


def test_its_own_folder_says_what_it_has(host: Host, running: Running) -> None:
    assert running.node("name") == NAME
    assert running.node("vm") == f"/vm/{UUID}"
    assert running.node("domid") == str(running.domid)
    assert running.node("memory/target") == str(MEMORY_MIB * 1024)
    assert running.node("memory/static-max") == str(MAX_MEMORY_MIB * 1024)
    assert [running.node(f"cpu/{number}/availability") for number in (0, 1)] == ["online", "offline"]
    assert running.node("control/shutdown") == ""
    assert (host.node(f"/vm/{UUID}/name"), host.node(f"/vm/{UUID}/uuid")) == (NAME, UUID)
    assert host.node(f"/libxl/{running.domid}/type") == "pv"


def test_its_console_is_a_terminal_that_root_can_open(running: Running) -> None:
    tty = running.node("console/tty")

    assert tty is not None
    assert stat.S_ISCHR(Path(tty).stat().st_mode)
    assert [running.node(f"console/{key}") for key in ("type", "output", "limit")] == [
        *("xenconsoled", "pty", "1048576")
    ]


def test_a_guest_writes_its_frontends_and_reads_the_rest(host: Host, running: Running) -> None:
    domid = running.domid

    own = host.permissions(f"/local/domain/{domid}")
    theirs = host.permissions(f"{BACKENDS}/vif/{domid}/0")
    private = host.permissions(f"/libxl/{domid}")

    assert {key: own[key] for key in ("name", "vm", "domid", "memory/target", "cpu/0/availability")} == {
        **dict.fromkeys(("name", "vm", "domid", "memory/target", "cpu/0/availability"), f"n0,r{domid}")
    }
    assert {key: own[f"device/vif/0/{key}"] for key in ("backend", "state", "mac", "handle")} == {
        **dict.fromkeys(("backend", "state", "mac", "handle"), f"n{domid},r0")
    }
    assert own["control/shutdown"] == f"n{domid}"
    told = ("mac", "bridge", "frontend", "script", "vifname", "rate", "online", "hotplug-status")
    assert {theirs[key] for key in told} == {f"n0,r{domid}"}
    assert {owner.split(",")[0] for owner in private.values()} == {"n0"}
    assert not any("w" in each or "b" in each for each in private.values())


def test_its_port_is_up_on_the_bridge_under_its_name(host: Host, running: Running) -> None:
    network = host.network()

    assert network.ports[NAME].bridge == "xenbr0"
    assert network.links[NAME].up
    assert f"vif{running.domid}.0" not in network.links
    assert Path(f"/sys/class/net/{NAME}/address").read_text("ascii") == "fe:ff:ff:ff:ff:ff\n"
    # What the script of 4.15 and later leaves behind where a vif has a name of its own.
    assert host.node(f"/local/domain/{NAME}/device/vif/{NAME}/mtu") == "1500"


def test_its_devices_are_listed_with_their_backends(host: Host, running: Running) -> None:
    vifs = host.xl("network-list", running.domid).stdout.splitlines()
    disks = host.xl("block-list", running.domid).stdout.splitlines()

    assert vifs[0].split()[:4] == ["Idx", "BE", "Mac", "Addr."]
    assert [(row.split()[:5], row.split()[-1]) for row in vifs[1:]] == [
        (["0", "0", MAC, "0", "4"], f"{BACKENDS}/vif/{running.domid}/0")
    ]
    assert disks[0].split()[:4] == ["Vdev", "BE", "handle", "state"]
    assert [(row.split()[:4], row.split()[-1]) for row in disks[1:]] == [
        (["51712", "0", str(running.domid), "4"], f"{BACKENDS}/vbd/{running.domid}/51712")
    ]


def test_it_is_reached(host: Host, running: Running) -> None:
    running.guest.configure([f"{host.machine.address.rpartition('.')[0]}.{NUMBER}/24"])

    host.wait(lambda: running.guest.ping(host.machine.address), "an answer")


def test_a_frame_leaves_it_as_it_was_sent(host: Host, running: Running) -> None:
    # Every kind of frame: for a single one, Linux asks only behind the bridge, which has taken it by then.
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as ear:
        ear.bind((NAME, 0))
        ear.settimeout(10 * host.machine.slower)
        running.guest.send(FRAME)

        while ear.recv(2048) != FRAME:
            continue


def test_a_second_domain_of_its_name_is_refused(host: Host, running: Running) -> None:
    again = host.xl("create", "-q", "-f", f"/etc/xen/{NAME}.cfg")

    assert again.rc == 3
    assert f'Domain with name "{NAME}" already exists.' in again.stderr
    assert host.domid(NAME) == running.domid
    assert host.monitors(NAME) == 1


def test_it_is_paused_and_goes_on(host: Host, running: Running) -> None:
    assert [host.xl("pause", running.domid).rc for _ in range(2)] == [0, 0]
    paused = host.rows()[running.domid].paused
    letters = host.state(running.domid)
    # Xen counts: as often as it was paused it has to be set going.
    while host.rows()[running.domid].paused:
        assert host.xl("unpause", running.domid).rc == 0

    assert paused
    # The second letter says whether all its vcpus were idle at that moment.
    assert letters[2:] == "p---"
    host.wait(lambda: running.guest.ping(host.machine.address), "an answer")


def test_its_memory_changes_up_to_its_ceiling(host: Host, running: Running) -> None:
    more = MEMORY_MIB + 32

    assert host.xl("mem-set", running.domid, more).rc == 0
    host.wait(lambda: abs(host.size(running.domid)[0] - more) <= 1, "ballooned")
    target = running.node("memory/target")
    refused = host.xl("mem-set", running.domid, MAX_MEMORY_MIB + 1)
    saved = host.saved(running.domid)
    assert host.xl("mem-set", running.domid, MEMORY_MIB).rc == 0
    host.wait(lambda: abs(host.size(running.domid)[0] - MEMORY_MIB) <= 1, "ballooned back")

    assert target == str(more * 1024)
    assert refused.rc == 1
    assert saved is not None
    assert (saved.memory_mib, saved.max_memory_mib) == (more, MAX_MEMORY_MIB)


def test_its_vcpus_change_up_to_their_ceiling(host: Host, running: Running) -> None:
    # -i: a real host may have no second processor, and xl asks.
    assert host.xl("vcpu-set", "-i", running.domid, 2).rc == 0
    host.wait(lambda: host.size(running.domid)[1] == 2, "a second vcpu")
    refused = host.xl("vcpu-set", "-i", running.domid, 3)
    saved = host.saved(running.domid)
    assert host.xl("vcpu-set", "-i", running.domid, 1).rc == 0
    host.wait(lambda: host.size(running.domid)[1] == 1, "one vcpu")

    assert refused.rc == 1
    assert saved is not None
    assert (saved.vcpus, saved.max_vcpus) == (2, 2)


def test_more_vcpus_than_processors_have_to_be_insisted_on(host: Host) -> None:
    """`xl create` takes them without a word."""
    processors = int(host.xl("info", "nr_cpus").stdout)
    domid = host.create("ct-many", NUMBER + 2, "-p", maxvcpus=str(processors + 1))

    refused = host.xl("vcpu-set", domid, processors + 1)
    insisted = host.xl("vcpu-set", "-i", domid, processors + 1)
    saved = host.saved(domid)
    assert host.xl("destroy", domid).rc == 0

    assert (refused.rc, insisted.rc) == (1, 0)
    assert "use --ignore-host to continue" in refused.stderr
    assert saved is not None
    assert saved.vcpus == processors + 1


def test_a_rate_is_what_xenstore_says_and_what_was_saved_stays(host: Host, running: Running) -> None:
    path = f"{BACKENDS}/vif/{running.domid}/0/rate"

    assert host.run("xenstore-write", path, "1000,50000").rc == 0
    limited = host.vifs(running.domid)[0].rate
    assert host.run("xenstore-rm", path).rc == 0
    free = host.vifs(running.domid)[0].rate
    assert host.run("xenstore-write", path, "25000,20000").rc == 0

    assert (limited, free) == ((1000, 50000), None)
    saved = host.saved(running.domid)
    assert saved is not None
    assert saved.vifs[0].rate == (25000, 20000)


def test_it_is_renamed_unless_another_has_the_name(host: Host, running: Running) -> None:
    taken = host.xl("rename", running.domid, "Domain-0")
    assert host.xl("rename", running.domid, "ct-other").rc == 0
    renamed, saved = host.rows()[running.domid].name, host.saved(running.domid)
    kept = (host.node(f"/vm/{UUID}/name"), host.monitors(NAME), NAME in host.network().ports)
    assert host.xl("rename", running.domid, NAME).rc == 0

    assert (taken.rc, taken.stderr.splitlines()[-1]) == (1, f"Can't rename domain '{running.domid}'.")
    assert renamed == "ct-other"
    assert saved is not None
    assert saved.name == "ct-other"
    # Its monitor and its port keep what they were called.
    assert kept == ("ct-other", 1, True)
    assert host.domid(NAME) == running.domid


def test_a_request_to_shut_down_can_be_acknowledged_and_ignored(host: Host, running: Running) -> None:
    running.guest.ignore_shutdown()
    try:
        done = host.xl("shutdown", running.domid)

        assert done.rc == 0
        assert running.node("control/shutdown") == ""
        assert host.rows()[running.domid].shutdown is None
        assert running.guest.ping(host.machine.address, 10 * host.machine.slower)
    finally:
        running.guest.ignore_shutdown(False)


def test_a_domain_of_the_same_uuid_is_taken_and_takes_the_others_folder_with_it(
    host: Host, running: Running
) -> None:
    twin = host.create("ct-twin", NUMBER + 1, "-p", uuid=f'"{UUID}"')
    both = [domid for domid, uuid in host.uuids().items() if uuid == UUID]
    shared = host.node(f"/vm/{UUID}/name")
    assert host.xl("destroy", twin).rc == 0

    assert both == [running.domid, twin]
    assert shared == "ct-twin"
    assert host.node(f"/vm/{UUID}/name") is None
    assert host.rows()[running.domid].shutdown is None


def test_destroyed_it_leaves_nothing(host: Host, running: Running) -> None:
    assert host.xl("destroy", running.domid).rc == 0
    rows = host.rows()
    left = [
        *(host.node(f"/local/domain/{running.domid}/name"), host.node(f"/libxl/{running.domid}/type")),
        *(
            host.node(f"{BACKENDS}/{kind}/{running.domid}/{index}/state")
            for kind, index in (("vif", 0), ("vbd", 51712))
        ),
    ]

    assert running.domid not in rows
    assert left == [None] * 4
    assert host.userdata(running.domid) == frozenset()
    host.wait(lambda: NAME not in host.network().links, "its interface is gone")
    host.wait(lambda: host.monitors(NAME) == 0, "the end of its monitor")
    host.wait(lambda: host.loops(host.image(NAME)) == 0, "its loop device is let go")


def test_all_that_a_destroyed_domain_had_is_free_at_once_but_its_domid(host: Host) -> None:
    """Its name, its uuid, its port's name and its image: a change that needs a new domain is this."""
    first = host.create(NAME, NUMBER, "-p")
    assert host.xl("destroy", first).rc == 0
    again = host.create(NAME, NUMBER, "-p")

    assert again == first + 1
    assert host.uuids()[again] == UUID
    assert host.state(again) == "--p---"
    assert host.vifs(again)[0].hotplug_status == "connected"
    assert host.network().ports[NAME].bridge == "xenbr0"
    assert host.xl("destroy", again).rc == 0
