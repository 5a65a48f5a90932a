"""A listing that is shorter than the truth looks like any other: what another source knows gives it away."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from state import links, xenstore, xl
from state.observed import READ_ATTEMPTS, Interest, observe
from state.run import Completed, ReadError, TornError
from tests.unit.captures import capture
from tests.unit.test_observe import INTERFACES, TWO, VM01, Drawer, Tools

KEPT = f"/var/lib/xen/userdata-d.1.{VM01}.libxl-json"
Change = Callable[[str], str]


def without_line(part: str) -> Change:
    return lambda text: "".join(line for line in text.splitlines(keepends=True) if part not in line)


def without(**key: object) -> Change:
    """The listing without the objects that have this value."""

    def change(text: str) -> str:
        name, value = next(iter(key.items()))
        return json.dumps([each for each in json.loads(text) if each.get(name) != value])

    return change


def but(key: str, value: object, **which: object) -> Change:
    """The listing with another value in one object."""

    def change(text: str) -> str:
        name, wanted = next(iter(which.items()))
        entries: list[dict[str, Any]] = json.loads(text)
        return json.dumps([{**each, key: value} if each.get(name) == wanted else each for each in entries])

    return change


def replaced(old: str, new: str) -> Change:
    return lambda text: text.replace(old, new)


def empty(text: str) -> str:
    return "[]" if text.startswith("[") else ""


@dataclass(slots=True)
class Sleeper:
    """Counts how often was waited."""

    slept: int = 0

    def __call__(self, _: float) -> None:
        self.slept += 1


def shown(changes: Mapping[tuple[str, ...], Change]) -> Tools:
    return Tools({argv: change(capture(TWO[argv])) for argv, change in changes.items()})


@pytest.mark.parametrize(
    ("argv", "change", "said"),
    [
        (xl.LIST, without_line("vm01 "), "xl list: no domain 1, which xl vm-list has"),
        (xl.VM_LIST, without_line("  1    "), "xl vm-list: no domain 1"),
        (xl.LIST_LONG, without(domid=1), f"xl list --long: no domain 1, of which libxl has kept {KEPT}"),
        (xl.LIST_LONG, replaced(VM01, VM01.replace("5", "6")), "xl list --long: uuid of domain 1 is"),
        (xl.LIST_LONG, replaced('"vm01"', '"vm99"'), "xl list --long: name of domain 1 is 'vm99'"),
        (xenstore.LIST_VIFS, empty, "xenstore-ls: vif 0 of domain 1 is 'not there'"),
        (xenstore.LIST_VIFS, without_line("/vif/1/1"), "xenstore-ls: vif 1 of domain 1 is 'not there'"),
        (
            xenstore.LIST_VIFS,
            without_line("/vifname"),
            "'vif1.0'), in xl list --long ('00:16:3e:7c:1f:65', 'xenbr0', 'vm01')",
        ),
        (
            xenstore.LIST_VIFS,
            replaced('bridge = "xenbr0"', 'bridge = "xenbr1"'),
            "'xenbr1', 'vm01'), in xl list --long",
        ),
        (links.LINKS, without(ifname="vm01"), "ip link: without vm01, as against /sys/class/net"),
        (links.LINKS, without(ifname="xenbr0"), "ip link: without xenbr0, as against /sys/class/net"),
        (links.ADDRESSES, without(ifname="xenbr0"), "ip address: without xenbr0, as against /sys/class/net"),
        (links.ADDRESSES, empty, "ip address: without eth0, lo"),
        (links.PORTS, without(ifname="vm01"), "bridge link: without vm01, as against ip link"),
        (links.PORTS, empty, "bridge link: without eth0, vif1.1, vm01, vm02, as against ip link"),
        (links.PORTS, but("master", "xenbr1", ifname="vm01"), "bridge link: another bridge of a port"),
        (links.LINKS, but("master", "xenbr1", ifname="vm01"), "bridge link: with vm01, as against ip link"),
        (links.FDB, empty, "bridge fdb: nothing of xenbr0"),
    ],
)
def test_what_another_source_contradicts_is_read_again_and_then_refused(
    argv: tuple[str, ...], change: Change, said: str
) -> None:
    sleep = Sleeper()

    with pytest.raises(TornError, match=r".*") as raised:
        observe(shown({argv: change}), Drawer({KEPT: "{}"}), Interest(), sleep)

    assert said in str(raised.value)
    assert sleep.slept == READ_ATTEMPTS - 1


@pytest.mark.parametrize("argv", [xl.LIST, xl.VM_LIST, links.LINKS], ids=" ".join)
def test_a_listing_without_what_every_host_has_is_refused_at_once(argv: tuple[str, ...]) -> None:
    with pytest.raises(ReadError):
        observe(shown({argv: empty}), Drawer(), Interest())


def test_all_that_xl_says_cut_at_the_same_place_is_contradicted_by_libxls_own_records() -> None:
    nobody: dict[tuple[str, ...], str] = {
        argv: capture(TWO[argv].replace("two-guests", "no-guests"))
        for argv in (xl.LIST, xl.VM_LIST, xl.LIST_LONG)
    }

    with pytest.raises(TornError, match="xl list: no domain 1, which /libxl has"):
        observe(Tools(nobody), Drawer(), Interest(), Sleeper())


def test_a_domain_whose_configuration_libxl_has_not_kept_yet_is_just_being_made() -> None:
    seen = observe(shown({xl.LIST_LONG: without(domid=1)}), Drawer(), Interest())

    assert seen.domains[0].saved is None


def test_a_vif_that_another_domain_serves_stands_in_that_ones_folder() -> None:
    def driven(text: str) -> str:
        entries = json.loads(text)
        for nic in next(each for each in entries if each["domid"] == 1)["config"]["nics"]:
            nic["backend_domid"] = 7
        return json.dumps(entries)

    seen = observe(
        shown({xl.LIST_LONG: driven, xenstore.LIST_VIFS: without_line("/vif/1")}), Drawer(), Interest()
    )

    assert seen.domains[0].vifs == ()


def test_the_bonding_drivers_switch_is_no_interface() -> None:
    assert "bonding_masters" in INTERFACES
    assert "bonding_masters" not in observe(Tools(), Drawer(), Interest()).links


class Interrupted(Tools):
    """iproute2 on a host whose interfaces come and go: what it lists is not whole, and its exit status is 0."""

    def __init__(self, argv: tuple[str, ...], times: int) -> None:
        super().__init__()
        self.argv, self.times = argv, times

    def run(self, argv: Iterable[str], **options: object) -> Completed:
        done = super().run(argv, **options)
        if done.argv != self.argv or self.times == 0:
            return done
        self.times -= 1
        return Completed(done.argv, 0, "[]", "Dump was interrupted and may be inconsistent.\n", 1, 0.0)


@pytest.mark.parametrize("argv", [links.LINKS, links.PORTS, links.FDB, links.ADDRESSES], ids=" ".join)
def test_a_dump_that_the_kernel_calls_interrupted_is_read_again(argv: tuple[str, ...]) -> None:
    assert observe(Interrupted(argv, 2), Drawer(), Interest(), Sleeper()) == observe(
        Tools(), Drawer(), Interest()
    )
    with pytest.raises(TornError, match="came or went while they were listed"):
        observe(Interrupted(argv, READ_ATTEMPTS), Drawer(), Interest(), Sleeper())


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (xenstore.LIST_VIFS, "xenstore-ls: xs_open: No such file or directory"),
        (xenstore.LIST_DOMAINS, "xenstore-list: xs_open: No such file or directory"),
        (
            ("nft", "-s", "list", "table", "bridge", "domgit"),
            "nft: libnftables.so.1: No such file or directory",
        ),
    ],
)
def test_a_tool_that_cannot_even_ask_has_not_said_that_there_is_nothing(
    argv: tuple[str, ...], words: str
) -> None:
    tools = Tools()
    tools.errors = {argv: words}

    with pytest.raises(ReadError, match="No such file"):
        observe(tools, Drawer(), Interest())
