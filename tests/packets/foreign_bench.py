"""What tests of others' rules share: loading and clearing them, judging what is loaded, and single frames of a class."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from ipaddress import ip_network
from random import Random

from reconciler.foreign.frames import Frame
from reconciler.foreign.judge import Judge, Place, ports_of
from reconciler.foreign.match import Domain, common, one
from reconciler.foreign.path import Called, travel
from reconciler.foreign.walk import Flow
from state.files import Files, HostFiles
from state.foreign import parse_rules, read_foreign
from tests.packets.foreign_rules import PORTS, REMOTE, Script
from tests.packets.lab import Lab
from tests.packets.parties import BRIDGE, GATEWAY, UPLINK, A, B, Party

PLACE = Place(A.port, A.mac, BRIDGE, frozenset({UPLINK}), B.port)
HANDED = Called(ip=True, ip6=True)
# Each frame is a connection of its own: conntrack has forgotten the earlier one when a port comes again.
SERIAL = itertools.count(1)
TIMEOUTS = (
    "tcp_timeout_established",
    "tcp_timeout_syn_sent",
    "tcp_timeout_syn_recv",
    "udp_timeout",
    "icmp_timeout",
    "icmpv6_timeout",
)


CHAINS = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
}


def forget_quickly(lab: Lab) -> None:
    """Conntrack keeps a connection for seconds."""
    lab.dom0.sysctl({f"netfilter/nf_conntrack_{name}": 10 for name in TIMEOUTS})


def clear(lab: Lab) -> None:
    """No rule of anybody, and every policy to accept."""
    lab.dom0.must("nft", "flush", "ruleset")
    for tool, names in (
        ("iptables", "/proc/net/ip_tables_names"),
        ("ip6tables", "/proc/net/ip6_tables_names"),
    ):
        tables = (Inside(lab).read_text(names) or "").split()
        text = "".join(
            f"*{table}\n{''.join(f':{chain} ACCEPT' + chr(10) for chain in CHAINS[table])}COMMIT\n"
            for table in tables
        )
        lab.dom0.must(f"{tool}-legacy-restore", stdin=text)


class Inside:
    """The files of a network namespace."""

    def __init__(self, lab: Lab) -> None:
        self._lab, self._files = lab, HostFiles()

    def read_text(self, path: str) -> str | None:
        with self._lab.dom0.inside():
            return self._files.read_text(path.replace("/proc/net/", "/proc/thread-self/net/"))


def load(lab: Lab, script: Script) -> None:
    """Load what a tool takes of a script: rules that it refuses, such as two protocols at once, are left out."""
    lines = script.text.splitlines()
    for _ in range(20):
        done = lab.dom0.run(script.argv, stdin="\n".join([*lines, ""]))
        if done.rc == 0:
            return
        refused = re.search(r"line(?: |: )(\d+)|/dev/stdin:(\d+):", done.stderr)
        assert refused is not None, done.stderr
        del lines[int(refused[1] or refused[2]) - 1]
    raise AssertionError(script.text)


def judge(lab: Lab) -> Judge:
    """Everything that is loaded, as a plan would read it."""
    files: Files = Inside(lab)  # type: ignore[assignment]  # nothing but texts is read of it
    rules = parse_rules(read_foreign(lab.dom0, files))
    assert rules.unread == ()
    return Judge(rules, {BRIDGE: HANDED})


def single(frame: Frame, dice: Random, serial: int) -> dict[str, Domain]:
    """One frame of a class."""
    fields: dict[str, Domain] = {}
    for name, domain in frame.fields.items():
        assert not isinstance(domain, frozenset) or len(domain) == 1
        fields[name] = domain
        if isinstance(domain, tuple):
            low, high = dice.choice(domain)
            fields[name] = one(low if low == high else dice.randrange(low, high))
    version = 4 if "saddr4" in fields or "arp_saddr" in fields else 6
    remote = one(int(ip_network(dice.choice(REMOTE[version])).network_address))
    theirs = {
        "in": ("saddr", B if frame.way == "aside" else GATEWAY),
        "out": ("daddr", GATEWAY),
        "aside": ("daddr", B),
    }
    side, party = theirs[frame.way]
    for name in (f"{side}{version}", f"arp_{side}"):
        if name in fields and not (version == 6 and frame.kind == "ask" and frame.way == "out"):
            fields[name] = remote
    mac = one(int(party.mac.replace(":", ""), 16))
    addressed = fields["pkttype"] == frozenset({"other"})
    for name in ("smac", "arp_smac") if side == "saddr" else ("dmac", "arp_dmac") if addressed else ():
        if name in fields:
            fields[name] = mac
    if "sport" in fields and fields["proto"] != one(58) and fields["proto"] != one(1):
        # Each frame is a connection of its own; the other port is often one that rules ask for.
        fields["sport"] = one(10000 + serial % 50000)
        fields["dport"] = one(dice.choice(PORTS)) if dice.random() < 0.8 else fields["dport"]
        if common(fields["dport"], frame.fields["dport"]) == ():  # type: ignore[arg-type]  # ports are numbers
            fields["dport"] = one(9)
    return fields


def parties(frame: Frame) -> tuple[Party, Party]:
    other = B if frame.way == "aside" else GATEWAY
    return (other, A) if frame.way == "in" else (A, other)


def opened(fields: dict[str, Domain], frame: Frame) -> tuple[Frame, dict[str, Domain]]:
    """The frame that began the connection which this one answers."""
    swap = {"saddr4": "daddr4", "saddr6": "daddr6", "sport": "dport", "smac": "dmac"}
    swap |= {right: left for left, right in swap.items()}
    first = {swap.get(name, name): domain for name, domain in fields.items()}
    first |= {"tracked": one(8), "ctdir": one(0), "tcp_flags": one(2)}
    return replace(frame, way="out" if frame.way == "in" else "in", kind="tcp"), first


def said(judge: Judge, frame: Frame, fields: dict[str, Domain]) -> tuple[bool | None, Flow | None]:
    """Whether it is judged to arrive, None where that is open; and how it would."""
    left, events = travel(judge.walker, judge.way(BRIDGE, fields), ports_of(PLACE, frame), fields)
    if left is None:
        return False, None
    open_ = left.doubt or bool(events)
    return None if open_ else True, left


def certain(judge: Judge, frame: Frame) -> bool | None:
    """Whether a whole class is judged to arrive, or to be dropped; None where that is not so for all of it."""
    left, events = travel(judge.walker, judge.way(BRIDGE, frame.fields), ports_of(PLACE, frame), frame.fields)
    return False if left is None else None if events or left.doubt else True
