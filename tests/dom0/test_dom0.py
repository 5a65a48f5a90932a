"""The simulated dom0 behaves as the fact sheets say a real one does."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dom0 import INSIDE
from tests.dom0.guest import Guest
from tests.dom0.namespace import GATEWAY
from tests.dom0.network import DOM0_ADDRESSES
from tests.dom0.toolstack import (
    address_of,
    create,
    domids,
    mac_of,
    node,
    run,
    wait_until,
    write_configuration,
    xl,
)

pytestmark = [
    pytest.mark.dom0,
    pytest.mark.timeout(60),
    pytest.mark.skipif(not INSIDE.exists(), reason="runs inside: `python -m tests.dom0 -- pytest -m dom0`"),
]

DOM0 = DOM0_ADDRESSES[0].split("/")[0]
GATEWAY_ADDRESS = "172.16.39.1"


@pytest.fixture(autouse=True)
def _no_domains_left() -> Iterator[None]:
    yield
    for domid in domids().values():
        xl("destroy", str(domid))


def live(name: str) -> dict[str, object]:
    """The domain's configuration in `xl list -l`."""
    entries = json.loads(xl("list", "-l", name).stdout)
    assert len(entries) == 1
    config: dict[str, object] = entries[0]["config"]
    return config


def bridge_ports() -> set[str]:
    return {path.name for path in Path("/sys/class/net/xenbr0/brif").iterdir()}


def test_a_fresh_dom0_has_no_domains_and_an_uplink() -> None:
    assert domids() == {}
    assert xl("list").stdout.splitlines()[1].startswith("Domain-0")
    assert bridge_ports() == {"eth0"}
    assert GATEWAY.ping(DOM0)
    assert GATEWAY.ping("2001:db8:39::2")


def test_a_created_guest_is_listed_with_what_it_was_given() -> None:
    domid = create("vm01", 101)

    config = live("vm01")
    assert config["nics"] == [
        {
            "devid": 0,
            "mac": mac_of(101),
            "ip": "172.16.39.101 2001:db8:39::101",
            "bridge": "xenbr0",
            "ifname": "vm01",
            "nictype": "vif",
        }
    ]
    assert config["disks"] == [
        {
            "pdev_path": "/srv/xen/vm01.img",
            "vdev": "xvda",
            "format": "raw",
            "readwrite": 1,
            "colo_restore_enable": "False",
        }
    ]
    Guest("vm01").wait_booted()
    backend = f"/local/domain/0/backend/vif/{domid}/0"
    assert node(f"{backend}/vifname") == "vm01"
    assert node(f"{backend}/hotplug-status") == "connected"
    wait_until(lambda: node(f"{backend}/state") == "4", "backend connected")
    assert node(f"/local/domain/{domid}/device/vif/0/state") == "4"
    assert node(f"/libxl/{domid}/device/vif/0/mac") == mac_of(101)
    assert node("/local/domain/vm01/device/vif/vm01/mtu") == "1500"  # vif-bridge's junk, on a real dom0 too
    assert bridge_ports() == {"eth0", "vm01"}


def test_guests_reach_dom0_the_gateway_and_each_other() -> None:
    create("vm01", 101)
    create("vm02", 102)
    guest = Guest("vm01")
    guest.wait_booted()

    assert guest.ping(DOM0)
    assert guest.ping(GATEWAY_ADDRESS)
    assert guest.ping("2001:db8:39::1")
    assert guest.ping(address_of(102))
    assert guest.ping("2001:db8:39::102")
    assert not guest.ping(address_of(99), timeout_s=0.3)


def test_frames_leave_a_guest_as_they_were_sent() -> None:
    create("vm01", 101)
    guest = Guest("vm01")
    guest.wait_booted()
    assert guest.ping(GATEWAY_ADDRESS)
    frame = bytes.fromhex("ffffffffffff02000000dead88b5") + b"forged".ljust(46, b".")

    with GATEWAY.packet_socket() as sink:
        sink.settimeout(2)
        guest.send(frame)
        while sink.recv(2048) != frame:
            continue


def test_a_guest_reboot_gives_a_new_domid_and_the_network_works_again() -> None:
    before = create("vm01", 101)
    guest = Guest("vm01")
    guest.wait_booted()
    boots = guest.boots
    guest.configure(["172.16.39.101/24", "172.16.39.201/24"], gateway=GATEWAY_ADDRESS)
    assert GATEWAY.ping("172.16.39.201")

    guest.reboot()

    guest.wait_booted()
    assert guest.boots == boots + 1
    assert domids()["vm01"] > before
    assert GATEWAY.ping("172.16.39.201")
    assert bridge_ports() == {"eth0", "vm01"}


def test_a_guest_that_powers_off_is_destroyed() -> None:
    create("vm01", 101)
    guest = Guest("vm01")
    guest.wait_booted()

    guest.poweroff()

    wait_until(lambda: domids() == {}, "destroyed")
    assert bridge_ports() == {"eth0"}


def test_a_guest_that_powers_off_is_preserved_where_its_file_says_so() -> None:
    create("vm03", 103, on_poweroff='"preserve"')
    guest = Guest("vm03")
    guest.wait_booted()

    guest.poweroff()

    wait_until(lambda: "---s--" in xl("list", "vm03").stdout, "shut down")
    assert not GATEWAY.ping(address_of(103), timeout_s=0.3)


def test_a_crash_is_told_from_a_poweroff() -> None:
    create("vm04", 104, on_crash='"preserve"')
    guest = Guest("vm04")
    guest.wait_booted()

    guest.crash()

    wait_until(lambda: "---sc-" in xl("list", "vm04").stdout, "crashed")


def test_shutdown_is_obeyed() -> None:
    create("vm05", 105)
    Guest("vm05").wait_booted()

    assert xl("shutdown", "-w", "vm05").returncode == 0

    wait_until(lambda: domids() == {}, "destroyed")


def test_shutdown_can_be_acknowledged_and_ignored() -> None:
    domid = create("vm06", 106)
    guest = Guest("vm06")
    guest.wait_booted()
    guest.ignore_shutdown()

    assert xl("shutdown", "vm06").returncode == 0

    assert node(f"/local/domain/{domid}/control/shutdown") == ""
    assert domids() == {"vm06": domid}
    assert guest.ping(GATEWAY_ADDRESS)


def test_a_vif_is_attached_and_detached() -> None:
    domid = create("vm07", 107)
    guest = Guest("vm07")
    guest.wait_booted()
    guest.configure(["10.9.8.7/24"], device="eth1")

    attach = xl("network-attach", "vm07", "mac=00:16:3e:00:00:77", "bridge=xenbr0", "vifname=vm07b")

    assert attach.returncode == 0, attach.stderr
    assert bridge_ports() == {"eth0", "vm07", "vm07b"}
    assert node(f"/local/domain/0/backend/vif/{domid}/1/mac") == "00:16:3e:00:00:77"
    wait_until(lambda: "10.9.8.7" in guest.run(["ip", "address", "show", "eth1"]).stdout, "configured")
    detach = xl("network-detach", "vm07", "00:16:3e:00:00:77")
    assert detach.returncode == 0, detach.stderr
    assert bridge_ports() == {"eth0", "vm07"}
    assert node(f"/local/domain/0/backend/vif/{domid}/1/mac") is None


def test_a_failed_attach_leaves_the_vif_behind() -> None:
    domid = create("vm08", 108)
    Guest("vm08").wait_booted()
    script = Path("/srv/xen/vif-refuse")
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)

    attach = xl("network-attach", "vm08", "mac=00:16:3e:00:00:78", f"script={script}")

    assert attach.returncode == 1
    assert node(f"/local/domain/0/backend/vif/{domid}/1/mac") == "00:16:3e:00:00:78"
    assert xl("network-detach", "vm08", "1").returncode == 0
    assert node(f"/local/domain/0/backend/vif/{domid}/1/mac") is None


def test_a_second_domain_of_the_same_name_is_refused() -> None:
    domid = create("vm09", 109)

    again = xl("create", "-q", "-f", "/etc/xen/vm09.cfg")

    assert again.returncode == 3
    assert 'Domain with name "vm09" already exists.' in again.stderr
    assert domids() == {"vm09": domid}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kernel": '"/srv/xen/missing"'}, "xc_dom_kernel_file failed: No such file or directory"),
        ({"vif": '["bridge=nobr"]'}, "Could not find bridge device nobr"),
        ({"disk": '["format=raw,vdev=xvda,access=rw,target=/srv/xen/missing"]'}, "failed to stat"),
        ({"memory": "99999", "maxmem": "99999"}, "xc_dom_boot_mem_init failed"),
    ],
    ids=["kernel", "bridge", "disk", "memory"],
)
def test_a_create_that_fails_leaves_nothing(changes: dict[str, str], reason: str) -> None:
    refused = xl("create", "-q", "-f", str(write_configuration("vm10", 110, **changes)))

    assert refused.returncode == 3
    assert reason in refused.stderr
    assert domids() == {}
    assert bridge_ports() == {"eth0"}


def test_an_updated_configuration_is_used_at_the_next_guest_reboot() -> None:
    create("vm11", 111)
    guest = Guest("vm11")
    guest.wait_booted()
    path = write_configuration("vm11", 111, memory="384")

    assert xl("config-update", "vm11", str(path)).returncode == 0
    assert xl("list", "vm11").stdout.split()[-4] == "256"
    guest.reboot()
    guest.wait_booted()

    assert xl("list", "vm11").stdout.split()[-4] == "384"


def test_memory_and_vcpus_follow_their_targets() -> None:
    create("vm12", 112)
    Guest("vm12").wait_booted()
    free_mib = int(xl("info", "free_memory").stdout)

    assert xl("mem-set", "vm12", "400").returncode == 0
    assert xl("vcpu-set", "vm12", "2").returncode == 0

    wait_until(lambda: xl("list", "vm12").stdout.split()[-4:-2] == ["400", "2"], "ballooned, vcpu online")
    assert int(xl("info", "free_memory").stdout) == free_mib - 144
    assert xl("mem-set", "vm12", "600").returncode == 1


def test_a_disk_is_attached_and_detached() -> None:
    domid = create("vm13", 113)
    Guest("vm13").wait_booted()
    Path("/srv/xen/more.img").write_bytes(bytes(1 << 20))

    attach = xl("block-attach", "vm13", "format=raw,vdev=xvdb,access=rw,target=/srv/xen/more.img")

    assert attach.returncode == 0, attach.stderr
    wait_until(lambda: node(f"/local/domain/0/backend/vbd/{domid}/51728/state") == "4", "connected")
    assert "/srv/xen/more.img" in run("losetup", "-a").stdout
    detach = xl("block-detach", "vm13", "xvdb")
    assert detach.returncode == 0, detach.stderr
    wait_until(lambda: "/srv/xen/more.img" not in run("losetup", "-a").stdout, "loop device released")


def test_a_renamed_guest_is_the_same_guest() -> None:
    create("vm14", 114)
    Guest("vm14").wait_booted()

    assert xl("rename", "vm14", "vm14new").returncode == 0

    renamed = Guest("vm14new")
    renamed.wait_booted()
    assert renamed.ping(GATEWAY_ADDRESS)
    renamed.reboot()
    renamed.wait_booted()
    assert renamed.ping(GATEWAY_ADDRESS)


def test_a_guest_with_a_dead_monitor_stays_shut_down() -> None:
    create("vm15", 115, on_poweroff='"destroy"')
    guest = Guest("vm15")
    guest.wait_booted()
    assert run("pkill", "-KILL", "-f", "create -q -f /etc/xen/vm15.cfg").returncode == 0

    guest.poweroff()

    wait_until(lambda: "---s--" in xl("list", "vm15").stdout, "shut down")
    assert xl("destroy", "vm15").returncode == 0
    assert domids() == {}


def test_the_shell_command_guest_reaches_the_same_guest() -> None:
    create("vm16", 116)
    Guest("vm16").wait_booted()

    assert run("/usr/local/bin/guest", "vm16", "ping", GATEWAY_ADDRESS).returncode == 0
    assert run("/usr/local/bin/guest", "vm16", "poweroff").returncode == 0

    wait_until(lambda: domids() == {}, "destroyed")
    assert run("/usr/local/bin/guest", "vm16", "poweroff").returncode == 1
