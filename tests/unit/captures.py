"""Captured output of the tools that state/ reads: `python -m tests.dom0 -- .venv/bin/python -m tests.unit.captures` takes it anew.

A file is called TOOL-VERSION-SITUATION; nothing in it was ever edited.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import get_args

from reconciler.guard import iptables, nftables
from reconciler.guard.binding import Binding, Bridge, Guard, LogLimit
from state import links, routes, xl
from state.iptables_guard import EBTABLES_SAVE, Variant, iptables_save
from state.nft import LIST_TABLE, LIST_TABLES, Features
from state.xenstore import LIST_DOMAINS, LIST_VIFS

CAPTURES = Path(__file__).resolve().parents[1] / "cases" / "captures"
XEN, NFT, IPROUTE, IPTABLES, IPSET = "4.17.7", "1.0.6", "6.1.0", "1.8.9", "7.17"
LOG = LogLimit("Dropped by firewall: ", "debug", 15, "minute")
UUID = "0d6f3f5e-5a4b-4c4e-9a53-0d6d3f0c2b11"
GUARD = Guard(
    bridges=(Bridge("xenbr0", ("eth0",)),),
    bindings=(
        Binding(
            "vm01",
            "00:16:3e:7c:1f:65",
            tuple(ip_network(text) for text in ("172.16.39.101", "172.16.39.64/29", "2001:db8:39::101/128")),
            UUID,
            0,
        ),
        Binding("vm02", "00:16:3e:7c:1f:66", (ip_network("172.16.39.102"),), UUID, 1, mode="audit"),
        Binding("vm03", "00:16:3e:7c:1f:67", (ip_network("2001:db8:39:1::/64"),), UUID, 2, emulated=True),
    ),
    unknown_vifs="drop",
    log=LOG,
    closed=("stranger",),
    alone=True,
)
BARE = Guard(bridges=(), bindings=(), unknown_vifs="report", log=LOG)
FEATURES = Features(ibrname=False)
GUARDS = {"three-bindings": GUARD, "no-bindings": BARE}


def capture(name: str) -> str:
    """The text that a tool printed once."""
    return (CAPTURES / name).read_text(encoding="utf-8")


def names(tool: str) -> list[str]:
    """All captures of one tool."""
    return sorted(path.name for path in CAPTURES.glob(f"{tool}-*.*"))


def take(name: str, *argv: str) -> None:
    from tests.dom0.toolstack import run

    done = run(*argv)
    if done.returncode != 0:
        sys.exit(f"{' '.join(argv)}: exit status {done.returncode}: {done.stderr}")
    (CAPTURES / name).write_text(done.stdout, encoding="utf-8")
    print(f"{name}: {len(done.stdout)} bytes")


def take_error(name: str, *argv: str) -> None:
    """What a tool says on stderr when what it is asked about is not there."""
    from tests.dom0.toolstack import run

    (CAPTURES / name).write_text(run(*argv).stderr, encoding="utf-8")


def take_xen(situation: str, *, long: bool = True) -> None:
    take(f"xl-list-{XEN}-{situation}.txt", *xl.LIST)
    take(f"xl-vm-list-{XEN}-{situation}.txt", *xl.VM_LIST)
    if long:
        take(f"xl-list-long-{XEN}-{situation}.json", *xl.LIST_LONG)


def take_network(situation: str) -> None:
    take(f"ip-link-{IPROUTE}-{situation}.json", *links.LINKS)
    take(f"ip-address-{IPROUTE}-{situation}.json", *links.ADDRESSES)
    take(f"bridge-link-{IPROUTE}-{situation}.json", *links.PORTS)
    take(f"bridge-fdb-{IPROUTE}-{situation}.json", *links.FDB)


def take_routes() -> None:
    """Last of all: it changes dom0's routes."""
    v4, v6 = routes.DEFAULTS

    def take_default(situation: str) -> None:
        take(f"ip-route-{IPROUTE}-{situation}-v4.json", *v4)
        take(f"ip-route-{IPROUTE}-{situation}-v6.json", *v6)

    take_default("one-gateway")
    _done("ip", "route", "add", "default", "via", "172.16.39.7", "dev", "xenbr0", "table", "100")
    _done("ip", "-6", "route", "add", "default", "via", "fe80::7", "dev", "xenbr0", "table", "100")
    _done("ip", "route", "add", "unreachable", "default", "table", "101")
    take_default("by-policy")
    _done("ip", "route", "flush", "table", "100")
    _done("ip", "-6", "route", "flush", "table", "100")
    _done("ip", "route", "flush", "table", "101")
    take(f"ip-route-get-{IPROUTE}-by-gateway.json", "ip", "-j", "route", "get", "192.0.2.7")
    hops = [word for last in "17" for word in ("nexthop", "via", f"172.16.39.{last}", "dev", "xenbr0")]
    _done("ip", "route", "replace", "default", *hops)
    _done("ip", "-6", "route", "append", "default", "via", "fe80::1", "dev", "xenbr0")
    take_default("two-gateways")
    _done("ip", "-4", "route", "replace", "default", "via", "inet6", "fe80::1", "dev", "xenbr0")
    _done("ip", "-6", "route", "replace", "unreachable", "default", "metric", "5")
    take_default("odd")
    _done("ip", "route", "flush", "exact", "default")
    _done("ip", "-6", "route", "flush", "exact", "default")
    take_default("none")


def load(script: str) -> None:
    path = Path("/run/captures.nft")
    path.write_text(script)
    _done("nft", "-f", str(path))


def _done(*argv: str) -> None:
    from tests.dom0.toolstack import run

    done = run(*argv)
    if done.returncode != 0:
        sys.exit(f"{' '.join(argv)}: exit status {done.returncode}: {done.stderr}")


def take_rules() -> None:
    for situation, guard in GUARDS.items():
        load(nftables.full(guard, FEATURES))
        take(f"nft-list-table-{NFT}-{situation}.txt", *LIST_TABLE)
    load("add chain bridge domgit foreign\nadd rule bridge domgit foreign ip saddr 192.0.2.1 drop\n")
    take(f"nft-list-table-{NFT}-foreign-chain.txt", *LIST_TABLE)
    load("add table inet filter\nadd table bridge other\n")
    take(f"nft-tables-{NFT}-three-families.txt", *LIST_TABLES)
    _done("iptables", "-A", "FORWARD", "-m", "physdev", "--physdev-in", "vm01", "-j", "DROP")
    take(f"iptables-save-{IPTABLES}-one-rule.txt", "iptables-save")


def take_iptables() -> None:
    """The guard as the tools of iptables save it, in both variants."""
    rules = Path("/run/captures.rules")
    for variant in get_args(Variant):
        for step in iptables.full(GUARD, variant=variant):
            rules.write_text(step.stdin)
            told = ("sh", "-c", f'exec "$@" <{rules}', "sh", *step.argv)
            _done(*(("sh", "-c", '"$@" || :', "sh", *told) if step.optional else told))
        for tool in ("iptables", "ip6tables"):
            take(f"{tool}-{variant}-save-{IPTABLES}-three-bindings.txt", *iptables_save(tool, variant))
    take(f"ebtables-nft-save-{IPTABLES}-three-bindings.txt", *EBTABLES_SAVE)
    take(f"ipset-save-{IPSET}-three-bindings.txt", "ipset", "save")
    rules.unlink()


def main(_argv: Sequence[str]) -> None:
    from reconciler.guard.port_lock import lock
    from tests.dom0 import ZOMBIE
    from tests.dom0.guest import Guest
    from tests.dom0.toolstack import create, domids, mac_of, wait_until
    from tests.dom0.toolstack import xl as call

    take(f"xl-info-{XEN}.txt", *xl.INFO)
    take_xen("no-guests")
    take_error(f"error-xenstore-list-{XEN}-no-domain-ever.txt", *LIST_DOMAINS)
    take_network("no-guests")

    two = f'["vifname=vm01,mac={mac_of(101)},ip=172.16.39.101,bridge=xenbr0,rate=10Mb/s@20ms", "mac={mac_of(111)},bridge=xenbr0"]'
    create(
        "vm01", 101, vcpus="2", maxvcpus="4", vif=two, on_poweroff='"preserve"', cmdline='"root=/dev/xvda ro"'
    )
    vif = f'["vifname=vm02,mac={mac_of(102)},ip=172.16.39.102,bridge=xenbr0"]'
    create("web 2", 102, vif=vif, type='"pvh"', on_crash='"preserve"', ramdisk='"/srv/xen/vmlinuz"')
    vm01, vm02 = Guest("vm01"), Guest("web 2")
    vm01.wait_booted()
    vm02.wait_booted()
    vm01.ping("172.16.39.1")
    take_xen("two-guests")
    take(f"xenstore-list-{XEN}-two-guests.txt", *LIST_DOMAINS)
    take(f"xenstore-ls-{XEN}-two-guests.txt", *LIST_VIFS)
    take_network("two-guests")

    for argv in lock("vm01", mac_of(101)):
        _done(*argv)
    vm02.ping("172.16.39.1")
    take_network("one-locked")

    call("network-attach", str(domids()["vm01"]), "devid=3", f"mac={mac_of(113)}", "bridge=nowhere")
    take(f"xenstore-ls-{XEN}-failed-hotplug.txt", *LIST_VIFS)

    call("config-update", str(domids()["vm01"]), "/etc/xen/vm01.cfg")
    vm01.poweroff()
    vm02.crash()
    wait_until(lambda: "---sc-" in call("list").stdout and "---s--" in call("list").stdout, "both stopped")
    create("vm03", 103)
    Guest("vm03").wait_booted()
    call("pause", "vm03")
    take_xen("poweroff-crash-paused")

    ZOMBIE.touch()
    call("destroy", "vm03")
    take_xen("zombie")
    take(f"xenstore-list-{XEN}-zombie.txt", *LIST_DOMAINS)
    ZOMBIE.unlink()
    for domid in domids().values():
        call("destroy", str(domid))
    take_error(f"error-xenstore-ls-{XEN}-no-vif-ever.txt", *LIST_VIFS)
    take_error(f"error-nft-list-table-{NFT}-no-table.txt", *LIST_TABLE)

    take_rules()
    take_iptables()
    take_routes()


if __name__ == "__main__":
    main(sys.argv[1:])
