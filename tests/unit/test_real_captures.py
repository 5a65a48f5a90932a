"""What a real Xen dom0 printed (tests/xen/captures.py), read: three guests of the example repository, one with two vifs."""

from __future__ import annotations

from state import links, nft, routes, xenstore, xl
from tests.unit.captures import capture

DOMIDS = {"mail": 3, "vm01": 9, "vm02": 10}
PORTS = {"mail": (3, 0), "mail-b": (3, 1), "vm01": (9, 0), "vm02": (10, 0)}
GUARD_GROUP = "6582125"


def test_xl_list_vm_list_and_the_long_list_tell_of_the_same_domains() -> None:
    rows = {row.name: row.domid for row in xl.parse_list(capture("xl-list-4.17.7-real-three-guests.txt"))}
    uuids = xl.parse_vm_list(capture("xl-vm-list-4.17.7-real-three-guests.txt"))
    saved = xl.parse_list_long(capture("xl-list-long-4.17.7-real-three-guests.json"))

    assert rows == DOMIDS
    assert {domid: each.uuid for domid, each in saved.items()} == uuids
    assert {each.name: domid for domid, each in saved.items()} == DOMIDS
    assert [vif.interface for vif in saved[3].vifs] == ["mail", "mail-b"]
    assert (saved[3].vcpus, saved[3].max_vcpus) == (1, 2)
    assert (saved[9].memory_mib, saved[9].max_memory_mib) == (160, 256)
    assert (saved[9].kernel, saved[9].on_poweroff) == ("/srv/xen/vmlinuz", "preserve")
    assert saved[9].disks[0].path == "/srv/xen/images/vm01.img"


def test_xen_itself() -> None:
    assert xl.parse_info(capture("xl-info-4.17.7-real.txt")) == xl.HypervisorInfo("4.17.7", 2559, 962)


def test_netbacks_own_keys_beside_the_toolstacks_are_left_out() -> None:
    text = capture("xenstore-ls-4.17.7-real-three-guests.txt")
    vifs = {vif.interface: vif for vif in xenstore.parse_vifs(text)}

    assert "feature-ctrl-ring" in text
    assert {name: (vif.domid, vif.index) for name, vif in vifs.items()} == PORTS
    assert {vif.hotplug_status for vif in vifs.values()} == {"connected"}
    assert (vifs["vm02"].mac, vifs["vm02"].rate) == ("00:16:3e:7c:1f:6f", (50000, 50000))
    assert xenstore.parse_domains(capture("xenstore-list-4.17.7-real-three-guests.txt")) == {*DOMIDS.values()}


def test_vifs_are_ports_that_learn_nothing_and_are_locked() -> None:
    found = links.parse_links(capture("ip-link-6.1.0-real-three-guests.json"))
    ports = links.parse_ports(capture("bridge-link-6.1.0-real-three-guests.json"))
    pinned = {each.port: each for each in links.parse_fdb(capture("bridge-fdb-6.1.0-real-three-guests.json"))}

    assert {name for name, link in found.items() if link.group == GUARD_GROUP} == set(PORTS)
    assert {(found[name].bridge, found[name].mac) for name in PORTS} == {("xenbr0", "fe:ff:ff:ff:ff:ff")}
    assert {name for name, port in ports.items() if port.locked and not port.learning} == set(PORTS)
    assert {(each.static, each.sticky) for each in pinned.values()} == {(True, True)}
    assert set(pinned) == set(PORTS)


def test_the_guard_that_is_loaded_binds_every_vif() -> None:
    table = nft.parse_table(capture("nft-list-table-1.0.6-real-three-guests.txt"))

    bound = {each.split('"')[1] for each in table.elements["own_mac"]}
    assert bound == set(PORTS)
    assert '"vm01" . 00:16:3e:7c:1f:6e . 172.16.39.120' in table.elements["own_v4"]


def test_gateways_are_found_also_one_that_a_router_has_advertised() -> None:
    found = [
        route
        for family in ("v4", "v6")
        for route in routes.parse_defaults(capture(f"ip-route-6.1.0-real-gateways-{family}.json"))
    ]

    assert {(str(route.gateway), route.device) for route in found} == {
        ("172.16.39.1", "xenbr0"),
        ("2001:db8:39::1", "xenbr0"),
        ("fe80::2", "ssh0"),
    }
