"""Who answers, asked on real links: with an address of our own and without, past a firewall, and of servers."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from state.reach import HostProber, Neighbour, Server, Target
from tests.packets.namespaces import Namespace

pytestmark = pytest.mark.netns
V4, V6 = "192.0.2.1", "2001:db8::1"


@pytest.fixture(scope="module")
def here() -> Iterator[Namespace]:
    """A bridge br0 with a neighbour behind its only port, which has both addresses."""
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces, raw sockets")
    here, there = Namespace(), Namespace()
    for each in (here, there):
        each.sysctl({"ipv6/conf/default/accept_dad": 0, "ipv6/conf/all/accept_dad": 0})
    here.must("ip", "link", "add", "p0", "type", "veth", "peer", "name", "eth0", "netns", there.path)
    here.must("ip", "link", "add", "br0", "type", "bridge", "forward_delay", "0")
    here.must("ip", "link", "set", "p0", "master", "br0", "up")
    here.must("ip", "link", "set", "br0", "up")
    there.must("ip", "link", "set", "eth0", "up")
    for address in (f"{V4}/24", f"{V6}/64"):
        there.must("ip", "address", "add", address, "dev", "eth0", *(("nodad",) if ":" in address else ()))
    for address in ("192.0.2.2/24", "2001:db8::2/64"):
        here.must("ip", "address", "add", address, "dev", "br0", *(("nodad",) if ":" in address else ()))
    here.must("ip", "link", "add", "down0", "type", "bridge")
    with there.inside():
        listening = socket.create_server((V4, 2222))
    yield here
    listening.close()
    here.close()
    there.close()


def ask(here: Namespace, *targets: Target, within_s: float = 5.0) -> set[str]:
    with here.inside():
        return {str(each) for each in HostProber().answering(targets, within_s)}


def neighbour(address: str, source: str | None = None, device: str = "br0") -> Neighbour:
    return Neighbour(device, ip_address(address), None if source is None else ip_address(source))


@pytest.mark.parametrize(
    ("address", "source"), [(V4, "192.0.2.2"), (V4, None), (V6, "2001:db8::2"), (V6, None)]
)
def test_a_neighbour_answers_whether_we_have_an_address_or_not(
    here: Namespace, address: str, source: str | None
) -> None:
    started = time.monotonic()

    assert ask(here, neighbour(address, source), within_s=20.0) == {f"{address} on br0"}
    assert time.monotonic() - started < 15.0  # it did not wait for the end


def test_nobody_answers_for_an_address_that_nobody_has_nor_on_a_link_that_is_down(here: Namespace) -> None:
    nobody = (neighbour("192.0.2.77", "192.0.2.2"), neighbour("2001:db8::77"), neighbour(V4, device="down0"))

    assert ask(here, *nobody, neighbour(V4), within_s=1.0) == {f"{V4} on br0"}


def test_our_own_neighbour_table_and_firewall_have_no_say(here: Namespace) -> None:
    here.must(
        "ip",
        "neigh",
        "replace",
        "192.0.2.88",
        "lladdr",
        "00:00:5e:00:53:88",
        "dev",
        "br0",
        "nud",
        "permanent",
    )
    here.must(
        "nft",
        "-f",
        "-",
        stdin="table inet f {\n chain o {\n  type filter hook output priority 0; policy drop;\n }\n}\n",
    )
    try:
        before = here.must("ip", "-s", "neigh")

        assert ask(here, neighbour(V4), neighbour("192.0.2.88"), within_s=1.0) == {f"{V4} on br0"}
        assert "192.0.2.88" in before
    finally:
        here.must("nft", "delete", "table", "inet", "f")


def test_a_server_answers_by_a_connection_or_by_refusing_one(here: Namespace) -> None:
    there, nowhere = ip_address(V4), ip_address("192.0.2.99")
    listens, refuses = Server("listens", 2222, (there,)), Server("refuses", 2223, (there,))

    found = ask(
        here,
        listens,
        refuses,
        Server("nobody", 22, (nowhere,)),
        Server("either", 2222, (nowhere, there)),
        within_s=2.0,
    )

    assert found == {"listens port 2222", "refuses port 2223", "either port 2222"}
