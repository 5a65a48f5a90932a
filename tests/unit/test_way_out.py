"""Who is asked whether this host is still reached, and what a device stands on. Blocked plans: tests/cases/plan/way_out_*."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from reconciler.way_out import MOST_ASKED, below, lost_uplink, members_of, neighbours
from state.desired import Desired
from state.links import Link
from state.observed import Interest
from state.routes import Route
from tests.unit.worlds import desired, settled

OWN = [
    ("xenbr0", "172.16.39.2"),
    ("xenbr0", "192.0.2.2"),
    ("xenbr0", "fe80::2"),
    ("xenbr0", "2001:db8:39::2"),
]


def link(name: str, *, kind: str = "", bridge: str | None = None, lower: str | None = None) -> Link:
    return Link(name, 1, "00:00:5e:00:53:01", up=True, mtu=1500, bridge=bridge, kind=kind, lower=lower)


# dom0's own veth, a VLAN upon the bridge, a bridge upon that VLAN, and a bond of two cards as the uplink.
LINKS = {
    each.name: each
    for each in (
        link("xenbr0", kind="bridge"),
        link("bond0", kind="bond", bridge="xenbr0"),
        link("eth0", bridge="bond0"),
        link("eth1", bridge="bond0"),
        link("eth2"),
        link("xenbr0.5", kind="vlan", lower="xenbr0", bridge="br5"),
        link("br5", kind="bridge"),
        link("veth0", kind="veth", lower="veth1"),
        link("veth1", kind="veth", lower="veth0", bridge="xenbr0"),
        link("loose", kind="veth", lower="in another namespace"),
    )
}


def asked(
    want: Desired,
    *routes: tuple[str, str],
    links: Mapping[str, Link] = LINKS,
    own: list[tuple[str, str]] = OWN,
) -> list[str]:
    hops = [Route(device, ip_address(gateway)) for device, gateway in routes]
    addresses = [(device, ip_network(text)) for device, text in own]
    return [f"{each} from {each.source}" for each in neighbours(want, links, addresses, hops)]


@pytest.mark.parametrize(
    ("device", "stands_on"),
    [
        ("xenbr0", {"xenbr0", "bond0", "eth0", "eth1", "veth1"}),
        ("xenbr0.5", {"xenbr0.5", "xenbr0", "bond0", "eth0", "eth1", "veth1"}),
        ("br5", {"br5", "xenbr0.5", "xenbr0", "bond0", "eth0", "eth1", "veth1"}),
        ("bond0", {"bond0", "eth0", "eth1"}),
        ("eth2", {"eth2"}),
        ("veth0", {"veth0", "xenbr0", "bond0", "eth0", "eth1", "veth1"}),
        ("loose", {"loose"}),
        ("nowhere", set()),
    ],
)
def test_a_device_stands_on_what_its_frames_pass(device: str, stands_on: set[str]) -> None:
    found = below(device, LINKS, members_of(LINKS))

    # veth1 is a port whose other end is veth0, which is on no bridge.
    assert found == stands_on


def test_the_gateways_behind_managed_bridges_are_asked_and_no_others() -> None:
    want = desired({})

    found = asked(want, ("xenbr0", "172.16.39.1"), ("eth2", "198.51.100.1"), ("br5", "203.0.113.1"))

    assert found == ["172.16.39.1 on xenbr0 from 172.16.39.2", "203.0.113.1 on br5 from None"]


def test_a_route_without_a_gateway_has_nobody_to_ask() -> None:
    hops, addresses = [Route("xenbr0", None)], [(device, ip_network(text)) for device, text in OWN]

    assert neighbours(desired({}), LINKS, addresses, hops) == ()


def test_a_question_is_asked_from_the_nearest_address_of_the_device() -> None:
    want = desired({})

    assert asked(want, ("xenbr0", "192.0.2.1")) == ["192.0.2.1 on xenbr0 from 192.0.2.2"]
    assert asked(want, ("xenbr0", "fe80::1")) == ["fe80::1 on xenbr0 from fe80::2"]
    assert asked(want, ("xenbr0", "2001:db8:39::1")) == ["2001:db8:39::1 on xenbr0 from 2001:db8:39::2"]
    assert asked(want, ("xenbr0", "192.0.2.1"), own=[]) == ["192.0.2.1 on xenbr0 from None"]


def test_the_gateways_of_the_guests_networks_are_asked_too_each_once() -> None:
    want = desired({"vm01": {}, "vm02": {"vifs": [{"ips": ["172.16.39.102", "2001:db8:39::102"]}]}})

    assert asked(want, ("xenbr0", "172.16.39.1"), own=[]) == [
        "172.16.39.1 on xenbr0 from None",
        "2001:db8:39::1 on xenbr0 from None",
    ]


def test_networks_without_a_guest_here_bridges_that_are_not_and_dom0_itself_are_asked_for_nothing() -> None:
    want = desired({"vm01": {}})

    assert asked(desired({})) == []
    assert asked(want, links={}) == []
    assert asked(want, own=[("xenbr0", "172.16.39.1")]) == []


def test_of_very_many_gateways_the_first_are_asked_dom0s_own_before_all() -> None:
    many = tuple(("xenbr0", ip_network(f"10.0.{number}.1")) for number in range(100))
    want = replace(desired({}), gateways=many)

    found = asked(want, ("xenbr0", "172.16.39.1"))

    assert len(found) == MOST_ASKED
    assert found[0] == "172.16.39.1 on xenbr0 from 172.16.39.2"


@pytest.mark.parametrize(
    ("uplink", "where"),
    [
        ("eth9", "its uplink eth9 does not exist"),
        ("eth2", "its uplink eth2 is on no bridge"),
        ("xenbr0.5", "its uplink xenbr0.5 is a port of br5"),
        ("eth1", "its uplink eth1 is inside bond0, which is the port: declare bond0"),
    ],
)
def test_a_lost_uplink_is_told_with_where_it_is(uplink: str, where: str) -> None:
    world = settled(None)
    world.bridged("bond0", "xenbr0")
    world.links |= LINKS

    assert lost_uplink(world.observed(Interest()), "xenbr0", uplink) == where
