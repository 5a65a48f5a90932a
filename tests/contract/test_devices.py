"""Vifs and disks that come and go while a domU runs, and those that fail to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.contract.here import marks
from tests.contract.host import IMAGES, Guest, Host, mac_of

pytestmark = marks(60)

NAME, NUMBER = "ct-dev", 155
FIRST, SECOND = mac_of(NUMBER), mac_of(NUMBER + 1)
BACKENDS = "/local/domain/0/backend"
XVDB = 51728


@dataclass(frozen=True, slots=True)
class Running:
    """The domU that all devices here are attached to; `other` is one that does not get to run."""

    host: Host
    domid: int
    other: int
    guest: Guest

    def attach(self, *words: str) -> tuple[int, str]:
        """Exit status and stderr of `xl network-attach` of a second vif."""
        done = self.host.xl("network-attach", self.domid, "devid=1", *words)
        return done.rc, done.stderr

    def known(self) -> tuple[list[int], list[int]]:
        """The indices of its vifs in xenstore, and in what is kept for its next reboot."""
        saved = self.host.saved(self.domid)
        assert saved is not None
        return sorted(self.host.vifs(self.domid)), [vif.index for vif in saved.vifs]


@pytest.fixture(scope="module")
def running(host: Host) -> Iterator[Running]:
    domid = host.create(NAME, NUMBER)
    guest = host.boot(NAME)
    other = host.create("ct-idle", NUMBER + 2, "-p")
    host.wait(lambda: host.node(f"{BACKENDS}/vif/{domid}/0/state") == "4", "its vif is connected")
    yield Running(host, domid, other, guest)
    for each in (domid, other):
        host.xl("destroy", each)


@pytest.fixture
def second(running: Running) -> Iterator[Running]:
    """With a second vif, gone behind the test."""
    assert running.attach(f"mac={SECOND}", "bridge=xenbr0", "vifname=ct-dev2") == (0, "")
    yield running
    running.host.xl("network-detach", running.domid, "1")


def test_a_vif_is_attached(host: Host, second: Running) -> None:
    vif = host.vifs(second.domid)[1]

    assert (vif.mac, vif.bridge, vif.interface, vif.hotplug_status) == (
        SECOND,
        "xenbr0",
        "ct-dev2",
        "connected",
    )
    assert second.known() == ([0, 1], [0, 1])
    assert host.network().ports["ct-dev2"].bridge == "xenbr0"
    host.wait(
        lambda: host.node(f"{BACKENDS}/vif/{second.domid}/1/state") == "4", "the guest has connected it"
    )


def test_an_attached_vif_is_reached(host: Host, second: Running) -> None:
    network = host.machine.address.rpartition(".")[0]
    second.guest.configure([], device="eth0")
    second.guest.configure([f"{network}.{NUMBER + 1}/24"], device="eth1")

    host.wait(lambda: second.guest.ping(host.machine.address), "an answer")


def test_an_index_that_is_taken_is_refused(host: Host, second: Running) -> None:
    rc, words = second.attach(f"mac={mac_of(NUMBER + 3)}", "bridge=xenbr0", "vifname=ct-dev3")

    assert rc == 1
    assert "device already exists in xenstore" in words
    assert host.vifs(second.domid)[1].mac == SECOND
    assert "ct-dev3" not in host.network().links


@pytest.mark.parametrize("which", ["1", SECOND, SECOND.upper()], ids=["index", "MAC", "MAC in capitals"])
def test_a_vif_is_detached_by_its(host: Host, second: Running, which: str) -> None:
    detached = host.xl("network-detach", second.domid, which)
    listed = host.xl("list", "--long", second.domid)

    assert (detached.rc, detached.stderr) == (0, "")
    assert second.known() == ([0], [0])
    host.wait(lambda: "ct-dev2" not in host.network().links, "its interface is gone")
    # libxl keeps it in its file, and says so for ever after.
    assert listed.rc == 0
    assert "Device present in JSON but not in xenstore, ignored" in listed.stderr


def test_a_vif_is_detached_and_attached_again_under_its_name_at_once(host: Host, second: Running) -> None:
    """A change of a vif is this: the name has to be free when xl says that it is detached."""
    for mac in (FIRST, SECOND):
        assert host.xl("network-detach", second.domid, "1").rc == 0
        assert second.attach(f"mac={mac}", "bridge=xenbr0", "vifname=ct-dev2") == (0, "")

    assert host.vifs(second.domid)[1].hotplug_status == "connected"
    assert host.network().ports["ct-dev2"].bridge == "xenbr0"


@pytest.mark.parametrize("which", ["5", "00:16:3e:00:53:99"], ids=["index", "MAC"])
def test_a_vif_that_is_not_there_is_not_detached_by_its(host: Host, running: Running, which: str) -> None:
    done = host.xl("network-detach", running.domid, which)

    assert done.rc == 1
    assert f"Unknown device {which}." in done.stderr
    assert running.known() == ([0], [0])


@pytest.mark.parametrize("word", ["mac=no", "colour=red", "rate=fast"])
def test_an_attach_of_something_that_is_no_vif_does_nothing(running: Running, word: str) -> None:
    rc, words = running.attach(word, "bridge=xenbr0")

    assert rc == 1
    assert words
    assert running.known() == ([0], [0])


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("bridge=nobr", "vifname=ct-dev2"), "Could not find bridge device nobr"),
        (("bridge=xenbr0", "vifname=sixteen-letters-"), "exited with error status"),
        (("bridge=xenbr0", f"script={IMAGES}/missing"), "exited with error status 255"),
    ],
    ids=["a bridge that is not there", "a name that is too long", "a script that is not there"],
)
def test_an_attach_leaves_the_vif_behind_with(
    host: Host, running: Running, words: tuple[str, ...], reason: str
) -> None:
    rc, said = running.attach(f"mac={SECOND}", *words)
    left, known, ports = host.vifs(running.domid), running.known(), {*host.network().ports}
    again, _ = running.attach(f"mac={SECOND}", "bridge=xenbr0", "vifname=ct-dev2")
    detached = host.xl("network-detach", running.domid, "1")

    assert (rc, again, detached.rc) == (1, 1, 0)
    assert reason in said
    assert "libxl_device_nic_add failed." in said
    assert left[1].mac == SECOND
    assert left[1].hotplug_status in {"error", ""}  # "" of a script that did not even start
    assert known == ([0, 1], [0, 1])
    assert not ports & {"ct-dev2", f"vif{running.domid}.1"}
    assert running.known() == ([0], [0])


def test_a_vif_with_a_name_that_is_taken_takes_the_others_port_down_when_it_is_detached(
    host: Host, running: Running
) -> None:
    """The stock script cleans up behind a name, whosever that is."""
    rc, said = running.attach(f"mac={SECOND}", "bridge=xenbr0", f"vifname={NAME}")
    between = host.network()
    detached = host.xl("network-detach", running.domid, "1")
    after = host.network()
    for words in (("master", "xenbr0"), ("up",)):
        assert host.run("ip", "link", "set", "dev", NAME, *words).rc == 0

    assert (rc, detached.rc) == (1, 0)
    assert f"An interface with name {NAME} already exists." in said
    assert (between.ports[NAME].bridge, between.links[NAME].up) == ("xenbr0", True)
    assert NAME not in after.ports
    assert not after.links[NAME].up
    assert host.vifs(running.domid)[0].hotplug_status == "connected"


def test_a_script_that_refuses_says_why_in_xenstore(host: Host, running: Running) -> None:
    script = host.script(
        "vif-refuse",
        'xenstore-write "$XENBUS_PATH/hotplug-error" "not today"\n'
        'xenstore-write "$XENBUS_PATH/hotplug-status" error\nexit 1',
    )

    rc, said = running.attach(f"mac={SECOND}", "bridge=xenbr0", f"script={script}")
    left = host.vifs(running.domid)[1]
    reason = host.node(f"{BACKENDS}/vif/{running.domid}/1/hotplug-error")
    link = host.network().links.get(f"vif{running.domid}.1")
    assert host.xl("network-detach", running.domid, "1").rc == 0

    assert rc == 1
    assert "not today" in said
    assert (left.script, left.hotplug_status, reason) == (str(script), "error", "not today")
    # Its interface is there, in nobody's bridge and down.
    assert link is not None
    assert not link.up
    assert running.known() == ([0], [0])


def test_a_script_is_told_its_vif_by_its_environment(host: Host, running: Running) -> None:
    script = host.script("vif-tell", f'exec >"{IMAGES}/told.$1"; env; echo "$@"; exit 1')

    running.attach(f"mac={SECOND}", "bridge=xenbr0", "vifname=ct-dev2", f"script={script}")
    assert host.xl("network-detach", running.domid, "1").rc == 0

    lines = (IMAGES / "told.online").read_text().splitlines()
    told = dict(line.partition("=")[::2] for line in lines)
    assert "online type_if=vif" in lines
    assert told["XENBUS_PATH"] == f"backend/vif/{running.domid}/1"
    assert told["vif"] == f"vif{running.domid}.1"
    assert (told["XENBUS_TYPE"], told["XENBUS_BASE_PATH"], told["script"]) == ("vif", "backend", str(script))


def test_a_mac_that_another_vif_has_is_taken(host: Host, running: Running) -> None:
    attached = host.xl(
        "network-attach", running.other, "devid=1", f"mac={FIRST}", "bridge=xenbr0", "vifname=ct-dev2"
    )
    macs = {host.vifs(running.domid)[0].mac, host.vifs(running.other)[1].mac}
    detached = host.xl("network-detach", running.other, FIRST)

    assert attached.rc == 0
    assert macs == {FIRST}
    # The frontend of a domain that does not run lets nothing go: xl waits and forces it, or says that it failed.
    assert host.vifs(running.other).keys() == {0}
    assert detached.rc in {0, 1}


def disk(path: str, vdev: str = "xvdb") -> str:
    return f"format=raw,vdev={vdev},access=rw,target={path}"


def test_a_disk_is_attached_and_detached(host: Host, running: Running) -> None:
    image = host.image("ct-more")

    attached = host.xl("block-attach", running.domid, disk(str(image)))
    host.wait(lambda: host.node(f"{BACKENDS}/vbd/{running.domid}/{XVDB}/state") == "4", "the guest has it")
    saved, loops = host.saved(running.domid), host.loops(image)
    detached = host.xl("block-detach", running.domid, "xvdb")
    host.wait(lambda: host.loops(image) == 0, "its loop device is let go")
    after = host.saved(running.domid)

    assert (attached.rc, detached.rc, loops) == (0, 0, 1)
    assert saved is not None
    assert [each.vdev for each in saved.disks] == ["xvda", "xvdb"]
    assert after is not None
    assert [each.vdev for each in after.disks] == ["xvda"]
    assert host.node(f"{BACKENDS}/vbd/{running.domid}/{XVDB}/state") is None


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (disk("/srv/xen/missing"), "failed to stat"),
        (disk(f"{IMAGES}/ct-dev.img", "xvda"), "device already exists in xenstore"),
    ],
    ids=["no image", "a name that is taken"],
)
def test_a_disk_is_not_attached_with(host: Host, running: Running, words: str, reason: str) -> None:
    done = host.xl("block-attach", running.domid, words)

    assert done.rc == 1
    assert reason in done.stderr
    saved = host.saved(running.domid)
    assert saved is not None
    assert [each.vdev for each in saved.disks] == ["xvda"]
    assert host.loops(IMAGES / "ct-dev.img") == 1


def test_a_disk_that_is_not_there_is_not_detached(host: Host, running: Running) -> None:
    done = host.xl("block-detach", running.domid, "xvdq")

    assert done.rc == 1
    assert "Device xvdq not connected." in done.stderr


def test_nothing_keeps_two_domains_from_writing_to_one_image(host: Host, running: Running) -> None:
    """Debian's script compares a device number in hexadecimal with one in decimal, and never finds the other."""
    image = host.image(NAME)

    taken = host.xl("block-attach", running.other, disk(str(image)))
    loops = host.loops(image)
    detached = host.xl("block-detach", "-f", running.other, "xvdb")

    assert (taken.rc, detached.rc) == (0, 0)
    assert loops == 2


def test_a_block_device_that_a_domain_writes_to_is_refused_to_others(host: Host, running: Running) -> None:
    device = host.node(f"{BACKENDS}/vbd/{running.domid}/51712/node")
    assert device is not None

    refused = host.xl("block-attach", running.other, disk(device, "xvdc"))
    host.xl("block-detach", "-f", running.other, "xvdc")

    assert refused.rc == 1
    assert "is mounted in a guest domain" in refused.stderr
