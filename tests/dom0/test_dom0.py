"""What the simulated dom0 has of its own: a network, and guests that can be driven. How Xen's part behaves: tests/contract."""

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
    run,
    wait_until,
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


def bridge_ports() -> set[str]:
    return {path.name for path in Path("/sys/class/net/xenbr0/brif").iterdir()}


def test_a_fresh_dom0_has_no_domains_and_an_uplink() -> None:
    assert domids() == {}
    assert xl("list").stdout.splitlines()[1].startswith("Domain-0")
    assert bridge_ports() == {"eth0"}
    assert GATEWAY.ping(DOM0)
    assert GATEWAY.ping("2001:db8:39::2")


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


def test_memory_and_vcpus_follow_their_targets() -> None:
    create("vm12", 112)
    Guest("vm12").wait_booted()
    free_mib = int(xl("info", "free_memory").stdout)

    assert xl("mem-set", "vm12", "400").returncode == 0
    assert xl("vcpu-set", "vm12", "2").returncode == 0

    wait_until(lambda: xl("list", "vm12").stdout.split()[-4:-2] == ["400", "2"], "ballooned, vcpu online")
    assert int(xl("info", "free_memory").stdout) == free_mib - 144
    assert xl("mem-set", "vm12", "600").returncode == 1


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


def test_the_shell_command_guest_reaches_the_same_guest() -> None:
    create("vm16", 116)
    Guest("vm16").wait_booted()

    assert run("/usr/local/bin/guest", "vm16", "ping", GATEWAY_ADDRESS).returncode == 0
    assert run("/usr/local/bin/guest", "vm16", "poweroff").returncode == 0

    wait_until(lambda: domids() == {}, "destroyed")
    assert run("/usr/local/bin/guest", "vm16", "poweroff").returncode == 1
