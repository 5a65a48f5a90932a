"""Rules of others: seen, named where they can reach a guest's frames, and never touched, byte for byte."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.dom0.toolstack import run
from tests.end_to_end.provider import Provider, vif

pytestmark = pytest.mark.dom0
CALLS_IPTABLES = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
# What a provider has who binds addresses by hand.
BY_HAND = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m physdev --physdev-in vm09 -s 172.16.39.109/32 -j ACCEPT
-A FORWARD -m physdev --physdev-out vm09 -d 172.16.39.109/32 -j ACCEPT
-A FORWARD -m limit --limit 15/min -j LOG --log-prefix "Dropped by firewall: " --log-level 7
-A FORWARD -i eth9 -j DROP
COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
COMMIT
"""
TABLES = """\
table inet firewall {
	set blocked {
		type ipv4_addr
		elements = { 192.0.2.1, 192.0.2.7 }
	}
	chain input {
		type filter hook input priority filter; policy accept;
		ip saddr @blocked counter drop comment "not ours"
	}
}
table bridge others {
	chain forward {
		type filter hook forward priority 0; policy accept;
		ether daddr 00:00:5e:00:53:01 drop
	}
}
"""


def rules() -> Mapping[str, str]:
    """Everything in netfilter that is not ours, as its own tools list it."""
    listing = run("nft", "-s", "list", "ruleset").stdout
    tables = [
        f"table {each}" for each in listing.split("table ") if each and not each.startswith("bridge domgit")
    ]
    saved = {
        tool: "\n".join(line for line in run(tool).stdout.splitlines() if not line.startswith("#"))
        for tool in ("iptables-save", "ip6tables-save")
    }
    return {"nft": "".join(tables), **saved}


def test_rules_of_others_stay_as_they_are_through_every_kind_of_change(provider: Provider) -> None:
    subprocess.run(["iptables-restore"], input=BY_HAND, text=True, check=True)
    subprocess.run(["nft", "-f", "-"], input=TABLES, text=True, check=True)
    before = rules()
    assert "physdev-in vm09" in before["iptables-save"]
    assert "not ours" in before["nft"]
    provider.domu("vm01", 1)
    provider.domu("vm02", 2)
    provider.settled()
    provider.domu("vm01", 1, vifs=[vif("vm01", 1, ips=["172.16.39.150"], mac="00:16:3e:00:53:60")])
    provider.domu("vm02", 2, state="absent")
    provider.settled()
    run("nft", "delete", "table", "bridge", "domgit")
    assert provider.domgit("run", "--once").code == 0

    assert rules() == before


def test_rules_of_others_that_reach_guests_are_named(provider: Provider) -> None:
    subprocess.run(["iptables-restore"], input=BY_HAND, text=True, check=True)
    subprocess.run(["nft", "-f", "-"], input=TABLES, text=True, check=True)
    provider.domu("vm01", 1)
    provider.commit()
    if CALLS_IPTABLES.exists():
        CALLS_IPTABLES.write_text("1\n")
    try:
        notes = {each["address"]: each["message"] for each in provider.domgit("plan", "--json").json["notes"]}
    finally:
        if CALLS_IPTABLES.exists():
            CALLS_IPTABLES.write_text("0\n")

    assert "a table of others on the bridges" in notes["foreign.bridge.others"]
    assert ("foreign.iptables" in notes) == CALLS_IPTABLES.exists()
    assert "foreign.inet.firewall" not in notes
