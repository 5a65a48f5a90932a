"""A host that lives in iptables: the whole life of its guests, with the real toolstack and real rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dom0.toolstack import domids, node, run, wait_until, xl
from tests.end_to_end.provider import STATE, Provider, booted, mac, vif

pytestmark = pytest.mark.dom0
GATEWAY = "172.16.39.1"
BACKEND = "{mode: enforce, unknownVifs: report, backend: iptables}"


def host(provider: Provider, guard: str) -> None:
    provider.host()
    path = provider.root / "hosts/dom0-a/host.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("{mode: enforce, unknownVifs: report}", guard), encoding="utf-8")


@pytest.fixture
def settled(provider: Provider) -> Iterator[Provider]:
    """Two guests that run, of which the second has a second vif without a name."""
    host(provider, BACKEND)
    provider.domu("vm01", 1)
    unnamed = {**vif("", 9, ips=["172.16.39.109"])}
    del unnamed["name"]
    provider.domu("vm02", 2, vifs=[vif("vm02", 2), unnamed])
    provider.settled()
    yield provider
    host(provider, "{mode: enforce, unknownVifs: report, backend: nftables}")
    assert provider.apply().code == 0
    assert ours() == {"nftables"}


def ours() -> set[str]:
    """Where anything of ours is loaded."""
    found = {"nftables"} if "domgit" in run("nft", "list", "tables").stdout else set()
    for tool in ("ebtables-nft", "iptables-nft", "ip6tables-nft"):
        found |= {tool} if ":domgit" in run(f"{tool}-save").stdout else set()
    return found | ({"ipset"} if "domgit" in run("ipset", "save").stdout else set())


def rules() -> str:
    """All that is loaded of ours, without what counts."""
    saved = [run("ebtables-nft-save").stdout]
    saved += [run(f"{tool}-nft-save", "-t", "raw").stdout for tool in ("iptables", "ip6tables")]
    return "\n".join(
        line for text in saved for line in text.splitlines() if "domgit" in line and "[" not in line
    )


def forges(name: str, address: str) -> bool:
    """Whether a guest gets an answer from the gateway with an address of its choice."""
    guest = booted(name)
    guest.run(["ip", "address", "add", f"{address}/24", "dev", "eth0"])
    try:
        return "1 received" in guest.run(["ping", "-c", "1", "-W", "1", "-I", address, GATEWAY]).stdout
    finally:
        guest.run(["ip", "address", "del", f"{address}/24", "dev", "eth0"])


def test_guests_are_bound_by_iptables_and_nothing_is_left_to_do(settled: Provider) -> None:
    assert ours() == {"ebtables-nft", "iptables-nft", "ip6tables-nft", "ipset"}
    assert booted("vm01").ping(GATEWAY)
    assert booted("vm02").ping("172.16.39.101")
    assert not forges("vm01", "172.16.39.102")
    assert settled.domgit("plan").last.startswith("No changes.")
    assert settled.domgit("status").code == 0
    found = settled.domgit("violations", "--json").json["violations"]
    assert [each["vif"] for each in found] == ["vm01"]
    # Whether it knew where the gateway is, or asked.
    assert {each["reason"] for each in found[0]["reasons"]} <= {"arp", "v4"}
    opened = settled.domgit("bypass", "vm01", "--for", "1h", "--reason", "a test")
    assert opened.code == 1
    assert "cannot open a vif for a time (expected `guard: audit` on that vif" in opened.err


def test_a_guest_that_reboots_comes_back_bound_under_its_new_domid(settled: Provider) -> None:
    before = domids()["vm02"]

    booted("vm02").reboot()
    wait_until(lambda: domids().get("vm02", before) != before, "the new domain")

    assert booted("vm02").ping(GATEWAY)
    unnamed = f"vif{domids()['vm02']}.1"
    assert f"-i {unnamed} -j domgit/{unnamed}" in rules()
    assert not forges("vm02", "172.16.39.101")
    assert settled.apply().code == 0
    assert f"vif{before}.1" not in rules()
    assert settled.domgit("plan").last.startswith("No changes.")


def test_an_address_changes_live(settled: Provider) -> None:
    settled.domu("vm01", 1, vifs=[vif("vm01", 1, ips=["172.16.39.150"])])

    assert settled.apply().code == 0

    assert not forges("vm01", "172.16.39.102")
    wait_until(lambda: forges("vm01", "172.16.39.150"), "an answer to the new address")
    assert not booted("vm01").ping(GATEWAY)  # it still has the former one


@pytest.mark.parametrize(
    "flush",
    [
        ("iptables-nft", "-t", "raw", "-F"),
        ("ebtables-nft", "-t", "nat", "-F"),
        ("nft", "flush", "ruleset"),
        ("ip", "link", "set", "dev", "xenbr0", "type", "bridge", "nf_call_iptables", "0"),
    ],
    ids=" ".join,
)
def test_what_somebody_flushes_is_back_after_the_next_pass(settled: Provider, flush: tuple[str, ...]) -> None:
    assert run(*flush).returncode == 0

    assert settled.domgit("plan", "--detailed-exitcode").code == 2
    assert settled.domgit("apply", "--yes").code == 0

    assert booted("vm01").ping(GATEWAY)
    assert not forges("vm01", "172.16.39.102")
    assert settled.domgit("plan").last.startswith("No changes.")


def test_the_name_and_mac_of_one_guest_are_refused_to_another(settled: Provider) -> None:
    settled.domu("vm01", 1, state="halted")
    settled.settled()
    domid = domids()["vm02"]

    words = ("devid=5", "script=vif-domgit", "bridge=xenbr0", "vifname=vm01", f"mac={mac(1)}")
    done = xl("network-attach", str(domid), *words)

    assert done.returncode != 0
    said = node(f"/local/domain/0/backend/vif/{domid}/5/hotplug-error")
    assert said == "the guard gives vm01 what was not planned for it on xenbr0"
    assert xl("network-detach", str(domid), "5").returncode == 0


@pytest.mark.parametrize(
    "spoilt",
    [
        "iptables-nft -t raw -F domgit.drop.v4",
        "iptables-nft -t raw -I domgit -j ACCEPT",
        "ebtables-nft -t nat -I domgit -j ACCEPT",
    ],
)
def test_rules_that_somebody_has_changed_keep_a_port_down(settled: Provider, spoilt: str) -> None:
    domid = str(domids()["vm01"])
    assert xl("network-detach", domid, "0").returncode == 0
    wait_until(lambda: not Path("/sys/class/net/vm01").exists(), "the end of the vif")
    assert run(*spoilt.split()).returncode == 0

    words = ("devid=0", "script=vif-domgit", "bridge=xenbr0", "vifname=vm01", f"mac={mac(1)}")
    assert xl("network-attach", domid, *words).returncode != 0

    found = node(f"/local/domain/0/backend/vif/{domid}/0/hotplug-error")
    assert found == "the rules of the guard are not those that were applied"
    assert xl("network-detach", domid, "0").returncode == 0
    wait_until(lambda: not Path(f"/sys/class/net/vif{domid}.0").exists(), "the end of the vif")
    assert settled.domgit("apply", "--yes").code == 0
    assert booted("vm01").ping(GATEWAY)


def test_the_guard_is_loaded_at_boot_as_it_was(settled: Provider) -> None:
    before = rules()
    assert run("nft", "flush", "ruleset").returncode == 0
    assert ours() <= {"ipset"}

    assert run("sh", str(STATE / "guard" / "boot.sh")).returncode == 0

    assert rules() == before
    assert settled.domgit("plan").last.startswith("No changes.")


def test_a_host_goes_to_nftables_and_back(settled: Provider) -> None:
    for backend, where in (
        ("nftables", {"nftables"}),
        ("iptables", {"ebtables-nft", "iptables-nft", "ip6tables-nft", "ipset"}),
    ):
        host(settled, BACKEND.replace("backend: iptables", f"backend: {backend}"))

        done = settled.apply()

        assert (done.code, ours()) == (0, where), done.err
        assert booted("vm01").ping(GATEWAY)
        assert not forges("vm01", "172.16.39.102")
        assert settled.domgit("plan").last.startswith("No changes.")
