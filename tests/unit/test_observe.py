"""A dom0 read whole, and single facts of it by name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import pytest

from state import links, nft, routes, xenstore, xl
from state.facts import fact, ports_of, vif_ports
from state.files import FileStat, digest
from state.observed import (
    Domain,
    Interest,
    Observed,
    StaleStaging,
    interfaces,
    observe,
    observe_domains,
    observe_for,
)
from state.run import Completed, ReadError
from tests.unit.captures import capture
from tests.unit.machines import Machine
from tests.unit.worlds import desired, settled

VM01, WEB2 = "52234ac4-0786-5d16-9df3-145647962c6b", "515d7205-049a-5605-bb3e-53733f4711cd"
STAGED = f"/var/lib/xen/userdata-d.1.{VM01}.xl"
STALE = f"/var/lib/xen/userdata-d.9.{VM01}.xl"
LISTS = (xl.LIST, xl.VM_LIST, xl.LIST_LONG)
INTERFACES = ("bonding_masters", "eth0", "lo", "vif1.1", "vm01", "vm02", "xenbr0")
TWO = {
    xl.LIST: "xl-list-4.17.7-two-guests.txt",
    xl.VM_LIST: "xl-vm-list-4.17.7-two-guests.txt",
    xl.LIST_LONG: "xl-list-long-4.17.7-two-guests.json",
    xl.INFO: "xl-info-4.17.7.txt",
    xenstore.LIST_VIFS: "xenstore-ls-4.17.7-two-guests.txt",
    xenstore.LIST_DOMAINS: "xenstore-list-4.17.7-two-guests.txt",
    links.LINKS: "ip-link-6.1.0-two-guests.json",
    links.ADDRESSES: "ip-address-6.1.0-two-guests.json",
    links.PORTS: "bridge-link-6.1.0-one-locked.json",
    links.FDB: "bridge-fdb-6.1.0-one-locked.json",
    routes.DEFAULTS[0]: "ip-route-6.1.0-two-gateways-v4.json",
    routes.DEFAULTS[1]: "ip-route-6.1.0-two-gateways-v6.json",
    nft.LIST_TABLE: "nft-list-table-1.0.6-three-bindings.txt",
}


@dataclass(slots=True)
class Drawer:
    """Files in memory."""

    texts: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def read_text(self, path: str) -> str | None:
        self.asked.append(path)
        return self.texts.get(path)

    def stat(self, path: str) -> FileStat | None:
        if path in {"/", "/there"}:
            return FileStat("other", 1, 1, 4096)
        return FileStat("file", 1, 2, len(self.texts[path])) if path in self.texts else None

    def names(self, folder: str) -> tuple[str, ...]:
        if folder == links.INTERFACES:
            return INTERFACES
        return tuple(sorted(path.rpartition("/")[2] for path in self.texts if path.startswith(f"{folder}/")))

    def holders(self, paths: Iterable[str]) -> Mapping[str, str]:
        return {path: "loop0" for path in paths if path in self.texts}

    def monitors(self) -> frozenset[str]:
        return frozenset({"/etc/xen/vm01.cfg"})


class Tools(Machine):
    """A machine whose tools print what was captured; it can neither say everything nor load anything."""

    def __init__(self, changes: Mapping[tuple[str, ...], str] | None = None) -> None:
        super().__init__()
        self.printed = {argv: capture(name) for argv, name in TWO.items()} | dict(changes or {})
        self.errors: dict[tuple[str, ...], str] = {}

    def run(self, argv: Iterable[str], **_: object) -> Completed:
        command = tuple(argv)
        self.ran.append(command)
        if command in self.errors:
            return Completed(command, 1, "", self.errors[command], 1, 0.0)
        if command == nft.PROBE:
            return Completed(command, 0, "", "", 1, 0.0)
        return Completed(command, 0, self.printed.get(command) or self._of_one(command), "", 1, 0.0)

    def _of_one(self, command: tuple[str, ...]) -> str:
        """What is said of one domain when it is asked about alone: its part of the whole."""
        if command[:-1] == xl.LIST_LONG:
            entries = json.loads(self.printed[xl.LIST_LONG])
            return json.dumps([each for each in entries if each["domid"] == int(command[-1])])
        if command[:-1] == xenstore.LIST_VIFS[:-1]:
            lines = self.printed[xenstore.LIST_VIFS].splitlines(keepends=True)
            return "".join(line for line in lines if line.startswith(f"{command[-1]}/"))
        return ""


def drawer() -> Drawer:
    return Drawer({STAGED: "staged\n", STALE: "stale\n", "/a": "text", "/var/lib/xen/xenstored.pid": "7"})


def test_everything_is_read_at_once() -> None:
    seen = observe(
        Tools(), drawer(), Interest(files=("/a", "/b"), images=("/a", "/c", "/there/d", "/gone/e"))
    )

    assert [(domain.domid, domain.uuid, domain.name) for domain in seen.domains] == [
        (1, VM01, "vm01"),
        (2, WEB2, "web 2"),
    ]
    assert [vif.interface for vif in seen.domains[0].vifs] == ["vm01", "vif1.1"]
    assert seen.domains[0].staged == "staged\n"
    assert seen.domains[1].staged is None
    assert seen.stale == (StaleStaging(STALE, STALE.split(".")[2]),)
    assert seen.files == {"/a": "text", "/b": None}
    assert seen.images == {"/a": FileStat("file", 1, 2, 4), "/c": None, "/gone/e": None, "/there/d": None}
    assert seen.no_folder == {"/gone/e"}
    assert seen.holders == {"/a": "loop0"}
    assert seen.free_memory_mib == 15360
    assert [str(each.gateway) for each in seen.routes] == [
        "172.16.39.1",
        "172.16.39.7",
        "2001:db8:39::1",
        "fe80::1",
    ]
    assert seen.features.ibrname
    assert seen.monitors == {"/etc/xen/vm01.cfg"}


def test_a_host_without_vifs_and_without_our_table_is_a_host_all_the_same() -> None:
    nobody: dict[tuple[str, ...], str] = {
        argv: capture(name.replace("two-guests", "no-guests")) for argv, name in TWO.items() if argv in LISTS
    }
    tools = Tools(nobody)
    tools.errors = {
        xenstore.LIST_DOMAINS: capture("error-xenstore-list-4.17.7-no-domain-ever.txt"),
        xenstore.LIST_VIFS: capture("error-xenstore-ls-4.17.7-no-vif-ever.txt"),
        nft.LIST_TABLE: capture("error-nft-list-table-1.0.6-no-table.txt"),
    }

    seen = observe(tools, drawer(), Interest())

    assert seen.guard is None
    assert seen.domains == ()


@pytest.mark.parametrize("argv", [*TWO, xenstore.LIST_VIFS, nft.LIST_TABLE], ids=" ".join)
def test_a_tool_that_fails_makes_the_whole_reading_fail(argv: tuple[str, ...]) -> None:
    tools = Tools()
    tools.errors = {argv: "xencall: error: Could not obtain handle"}

    with pytest.raises(ReadError, match="Could not obtain handle"):
        observe(tools, drawer(), Interest())


def test_a_kernel_without_the_bridge_family_takes_no_rules_of_ours() -> None:
    tools = Tools()
    tools.errors = {nft.PROBE: "Error: Could not process rule: Operation not supported"}

    assert nft.probe_features(tools) == nft.Features(ibrname=False, backends=frozenset())


def test_a_kernel_that_cannot_be_asked_makes_the_reading_fail() -> None:
    tools = Tools()
    tools.errors = {nft.PROBE: "Operation not permitted (you must be root)"}

    with pytest.raises(ReadError, match="not permitted"):
        observe(tools, drawer(), Interest())


def test_a_domain_that_comes_while_it_is_read_makes_the_reading_fail() -> None:
    tools = Tools({xl.VM_LIST: capture("xl-vm-list-4.17.7-no-guests.txt")})

    with pytest.raises(ReadError, match="no domain 1, which came or went"):
        observe_domains(tools, drawer())


def test_two_living_domains_with_one_uuid_are_no_state_to_work_from() -> None:
    twice: dict[tuple[str, ...], str] = {
        argv: capture(TWO[argv]).replace(WEB2, VM01) for argv in (xl.VM_LIST, xl.LIST_LONG)
    }

    with pytest.raises(ReadError, match=f"domains 1 and 2 have the same uuid {VM01}"):
        observe(Tools(twice), drawer(), Interest())


def test_a_dying_domain_never_hides_the_living_one_of_its_uuid() -> None:
    seen = observe(Tools(), drawer(), Interest())
    living, dying = seen.domains[0], replace(seen.domains[1], uuid=VM01, dying=True)

    for order in ((living, dying), (dying, living)):
        assert replace(seen, domains=order).by_uuid[VM01] is living


def test_the_digest_follows_what_plans_are_made_from() -> None:
    seen = observe(Tools(), drawer(), Interest(files=("/a",)))

    assert seen.digest() == observe(Tools(), drawer(), Interest(files=("/a",))).digest()
    assert seen.digest() != replace(seen, files={"/a": "other"}).digest()
    assert seen.digest() != replace(seen, domains=()).digest()


# ---------------------------------------------------------------- as much as is needed


@pytest.mark.parametrize(
    ("key", "tools"),
    [
        (f"domain:{VM01}", {"xl", "xenstore-ls", "xenstore-list"}),
        ("name:vm01", {"xl", "xenstore-list"}),
        (f"vif:{VM01}:0", {"xl", "xenstore-ls", "xenstore-list"}),
        ("port:vm01", {"bridge", "ip"}),
        ("guard", {"nft"}),
        ("file:/a", set()),
        ("image:/a", set()),
    ],
)
def test_a_fact_is_read_by_the_tools_that_know_it_and_no_others(key: str, tools: set[str]) -> None:
    machine, files = Tools(), drawer()

    value = fact(observe_for(machine, files, [key]), key)

    assert {argv[0] for argv in machine.ran} == tools
    assert value == fact(observe(Tools(), drawer(), Interest(files=("/a",), images=("/a",))), key)
    assert value


# ---------------------------------------------------------------- facts


def seen(**more: object) -> Observed:
    want = desired({"vm01": {"vifs": [{"rate": "10Mb/s"}, {"name": "none"}]}, "vm02": {"type": "hvm"}})
    found = settled(want).observed(Interest(files=("/a",), images=("/i",)))
    return replace(found, **more)  # type: ignore[arg-type]  # fields of Observed


def domain(number: int = 0, **more: object) -> Observed:
    found = seen()
    changed = replace(found.domains[number], **more)  # type: ignore[arg-type]  # fields of Domain
    return replace(
        found, domains=tuple(changed if each is found.domains[number] else each for each in found.domains)
    )


UUID = desired({"vm01": {}}).domus[0].uuid


@pytest.mark.parametrize(
    ("key", "observed", "value"),
    [
        (f"domain:{UUID}", seen(), "1"),
        (f"domain:{UUID}", domain(shutdown="crash"), "1 shutdown crash"),
        (f"domain:{UUID}", domain(dying=True), "1 dying"),
        ("domain:none", seen(), ""),
        ("name:vm01", seen(), UUID),
        ("name:vm01", domain(dying=True), ""),
        ("name:nobody", seen(), ""),
        (f"memory:{UUID}", seen(), "256"),
        (f"memory:{UUID}", domain(saved=None), ""),
        (f"vcpus:{UUID}", seen(), "1"),
        (f"vcpus:{UUID}", domain(saved=None), ""),
        (f"staged:{UUID}", seen(), ""),
        (f"staged:{UUID}", domain(staged="text"), digest("text")),
        (f"vif:{UUID}:0", seen(), "00:16:3e:00:53:01 xenbr0 vm01 62500/50000"),
        (f"vif:{UUID}:1", seen(), "00:16:3e:00:51:01 xenbr0 vif1.1 -"),
        (f"vif:{UUID}:2", seen(), ""),
        ("vif:none:0", seen(), ""),
        ("port:vm01", seen(), "xenbr0 locked=True learning=False lldp=True group=True 00:16:3e:00:53:01"),
        ("port:none", seen(), ""),
        ("file:/a", seen(), ""),
        ("file:/a", seen(files={"/a": "text"}), digest("text")),
        ("image:/i", seen(), ""),
        ("image:/i", seen(images={"/i": FileStat("file", 1, 2, 3)}), "1:2 3"),
        ("guard", seen(guard=None), ""),
    ],
)
def test_a_fact_is_a_short_text(key: str, observed: Observed, value: str) -> None:
    assert fact(observed, key) == value


@pytest.mark.parametrize("key", ["nothing:x", "file:/not/asked/for", "image:/not/asked/for", ""])
def test_a_fact_that_nobody_asked_for_is_no_absent_one(key: str) -> None:
    with pytest.raises(KeyError):
        fact(seen(), key)


def test_the_guards_fact_follows_elements_and_rules() -> None:
    found = seen().guard
    assert found is not None

    values = {
        fact(seen(guard=each), "guard")
        for each in (found, replace(found, elements={}), replace(found, rules="other"))
    }

    assert len(values) == 3


def test_ports_are_a_bridges_and_a_vifs_with_its_twin() -> None:
    assert ports_of(seen(), "xenbr0") == ("eth0", "vif1.1", "vm01", "vm02", "vm02-emu")
    assert ports_of(seen(), "xenbr9") == ()
    assert {"vm01", "vm02", "vm02-emu", "vif1.1"} <= vif_ports(seen())
    assert "eth0" not in vif_ports(seen())


def test_a_dying_domain_has_no_interface_any_more() -> None:
    assert set(interfaces(domain(dying=True).domains)) == {"vm02"}


def test_a_domain_runs_unless_it_has_shut_down_or_dies() -> None:
    def runs(found: Domain) -> bool:
        return found.running

    assert runs(seen().domains[0])
    assert not runs(domain(shutdown="poweroff").domains[0])
    assert not runs(domain(dying=True).domains[0])
