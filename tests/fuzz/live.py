"""What the tools and the kernel of a dom0 print."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Mapping
from functools import cache, partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from reconciler.foreign.judge import Judge, Place
from reconciler.foreign.path import Called
from reconciler.foreign.weaken import weaknesses
from reconciler.guard.loaded import Bound, bound
from reconciler.metrics import metrics_text
from state import drops, foreign, frames, ipset, kernel_log, links, nft, reach, routes, xenstore, xl
from state.foreign import parse_rules
from state.netfilter import Condition, Rules
from state.run import Completed, ReadError
from tests.fuzz.conform import conforms
from tests.fuzz.target import Target, demand, fixed
from tests.packets.corpora import CORPORA
from tests.unit.captures import capture, names
from tests.unit.test_violations import TABLE

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


@cache
def _seeds(tools: tuple[str, ...], more: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return (*(capture(name).encode() for name in names("*") if name.startswith(tools)), *more)


def _live(
    name: str,
    read: Callable[[str], object],
    *tools: str,
    structured: bool = False,
    more: tuple[bytes, ...] = (),
    weight: float = 1.0,
) -> Target:
    """A parser of a tool's text; bytes that are no text reach it as the runner hands them over."""

    def parse(data: bytes) -> object:
        return read(data.decode("utf-8", "backslashreplace"))

    return Target(
        name, partial(_seeds, tools, more), parse, (ReadError,), structured=structured, weight=weight
    )


def _records() -> tuple[bytes, ...]:
    return tuple(line.encode() for line in capture(next(iter(names("kmsg")))).splitlines(keepends=True))


def _list(text: str) -> object:
    rows = xl.parse_list(text)
    conforms(rows, tuple[xl.DomainRow, ...])
    demand(0 not in [row.domid for row in rows], "Domain-0 is among the domUs")
    demand(len({row.domid for row in rows}) == len(rows), "a domid stands twice")
    demand([row.domid for row in rows] == sorted(row.domid for row in rows), "not sorted")
    return rows


def _vm_list(text: str) -> object:
    uuids = xl.parse_vm_list(text)
    conforms(uuids, Mapping[int, str])
    demand(0 not in uuids, "Domain-0 is among the domUs")
    return uuids


def _list_long(text: str) -> object:
    saved = xl.parse_list_long(text)
    conforms(saved, Mapping[int, xl.SavedDomain])
    for domid, domain in saved.items():
        demand(domain.domid == domid, "another domid inside")
        demand(all(_MAC.fullmatch(vif.mac) for vif in domain.vifs), "a MAC that is none")
    return saved


def _info(text: str) -> object:
    info = xl.parse_info(text)
    conforms(info, xl.HypervisorInfo)
    return info


def _domains(text: str) -> object:
    domids = xenstore.parse_domains(text)
    conforms(domids, frozenset[int])
    demand(0 not in domids, "Domain-0 is among the domUs")
    return domids


def _vifs(text: str) -> object:
    vifs = xenstore.parse_vifs(text)
    conforms(vifs, tuple[xenstore.BackendVif, ...])
    demand(all(_MAC.fullmatch(vif.mac) for vif in vifs), "a MAC that is none")
    places = [(vif.domid, vif.index) for vif in vifs]
    demand(places == sorted(set(places)), "not in order, or twice")
    return vifs


def _links(text: str) -> object:
    found = links.parse_links(text)
    conforms(found, Mapping[str, links.Link])
    demand(all(name == link.name for name, link in found.items()), "another name inside")
    return found


def _addresses(text: str) -> object:
    found = links.parse_addresses(text)
    conforms(found, Mapping[str, tuple[IPv4Network | IPv6Network, ...]])
    return found


def _ports(text: str) -> object:
    found = links.parse_ports(text)
    conforms(found, Mapping[str, links.Port])
    return found


def _fdb(text: str) -> object:
    conforms(links.parse_own(text), frozenset[str])
    found = links.parse_fdb(text)
    conforms(found, tuple[links.FdbEntry, ...])
    demand(all(_MAC.fullmatch(entry.mac) for entry in found), "a MAC that is none")
    return found


def _table(text: str) -> object:
    table = nft.parse_table(text)
    conforms(table, nft.LoadedTable)
    for members in table.elements.values():
        demand(all(member == " ".join(member.split()) for member in members), "blanks in an element")
    return table


def _counted(text: str) -> object:
    found = drops.parse_drops(text)
    conforms(found, drops.Drops)
    held = bound(found.table)
    conforms(held, Mapping[str, Bound])
    demand(all(each.left_s >= 0 for each in found.bypassed.values()), "open for less than no time")
    metrics_text(found, {}, taken_s=0)
    return found


def _logged(text: str) -> object:
    """A refused frame; whatever a guest puts into it comes out as a value of a known form, or not at all."""
    found = kernel_log.parse_logged(text, "Dropped by firewall: ")
    if found is None:
        raise ReadError("no line of ours")
    conforms(found, kernel_log.LoggedFrame)
    demand(re.fullmatch(r"[A-Za-z0-9 ]{1,40}", found.untrusted_kind), "a kind of no known form")
    for mac in (found.untrusted_mac, found.untrusted_sender_mac):
        demand(mac is None or _MAC.fullmatch(mac), "a MAC that is none")
    for address in (found.untrusted_source, found.untrusted_target):
        demand(address is None or address == str(ip_address(address)), "an address that is none")
    return found


def _tables(text: str) -> object:
    found = foreign.parse_tables(text)
    conforms(found, tuple[tuple[str, str], ...])
    return found


def _routes(text: str) -> object:
    found = routes.parse_defaults(text)
    conforms(found, tuple[routes.Route, ...])
    return found


def _way(text: str) -> object:
    device = routes.parse_way(text)
    conforms(device, str)
    return device


def _servers(text: str) -> object:
    found = reach.parse_ahosts(text)
    conforms(found, tuple[IPv4Address | IPv6Address, ...])
    demand(len(set(found)) == len(found), "an address twice")
    return found


def _frame(untrusted_frame: bytes) -> object:
    """What anybody on the segment may send: it is an answer, or none."""
    found = frames.answer_of_arp(untrusted_frame), frames.answer_of_nd(untrusted_frame)
    conforms(found, tuple[IPv4Address | None, IPv6Address | None])
    return found


_FRAMES = (
    frames.request(b"\x00\x16\x3e\x00\x53\x01", None, IPv4Address("192.0.2.1")).replace(
        b"\0\1\x08", b"\0\2\x08"
    ),
    frames.solicitation(b"\x00\x16\x3e\x00\x53\x01", None, IPv6Address("2001:db8::1")),
)


def _others(source: str) -> Callable[[str], object]:
    """Rules of others, read as rules and judged: whatever they are, there is an answer."""

    def read(text: str) -> object:
        rules = parse_rules(foreign.Foreign({source: text}))
        conforms(rules, Rules)
        demand(
            bool(rules.tables) or bool(rules.unread) or not text.strip("\n"),
            "neither rules nor a reason why not",
        )
        judge = Judge(rules, {"xenbr0": Called(ip=True, ip6=True)})
        place = Place("vm01", "00:16:3e:00:53:01", "xenbr0", frozenset({"eth0"}), "vm02")
        for address in ("172.16.39.101", "2001:db8:39::101"):
            verdict = judge.address(place, ip_network(address))
            demand(
                all(event.rule.text or event.chain.hook for _, event in verdict.dark), "dark for no reason"
            )
        return rules, [*weaknesses(judge, [place])]

    return read


def _sets(text: str) -> object:
    sets = ipset.parse_sets(text)
    for name, sides in itertools.product(sets, ("src", "src,dst", "src,src,dst")):
        conforms(ipset.match_set(sets, name, sides, "4", negated=True), Condition)
    return sorted((name, each.parts, tuple(each.members)) for name, each in sets.items())


_FILTERS = (
    json.dumps(
        [
            {
                "protocol": "ip",
                "pref": 1,
                "kind": "matchall",
                "options": {
                    "actions": [
                        {
                            "kind": "mirred",
                            "mirred_action": "redirect",
                            "direction": "egress",
                            "to_dev": "eth0",
                        },
                        {"kind": "gact", "control_action": {"type": "drop"}},
                    ]
                },
            },
            {"protocol": "all", "pref": 2, "kind": "bpf", "options": {"direct-action": True}},
        ]
    ).encode(),
)


def _corpus(*suffixes: str) -> tuple[bytes, ...]:
    found = (path for path in sorted(CORPORA.iterdir()) if path.name.endswith(suffixes))
    return tuple(foreign.stateless(path.read_text(encoding="utf-8")).encode() for path in found)


def _message(text: str) -> object:
    """What a failed command is told with: one line that fits a log."""
    told = str(Completed(("xl", "list"), 1, "", text, 1, 0.0))
    demand("\n" not in told, "more than one line")
    demand(len(told) < 1000, "no line that fits a log")
    return told


def targets() -> tuple[Target, ...]:
    """A target for each parser of live state."""
    return (
        _live("xl-list", _list, "xl-list-4"),
        _live("xl-vm-list", _vm_list, "xl-vm-list"),
        _live("xl-list-long", _list_long, "xl-list-long", structured=True),
        _live("xl-info", _info, "xl-info"),
        _live("xenstore-ls", _vifs, "xenstore-ls"),
        _live("xenstore-list", _domains, "xenstore-list"),
        _live("ip-link", _links, "ip-link", structured=True),
        _live("ip-address", _addresses, "ip-address", structured=True),
        _live("bridge-link", _ports, "bridge-link", structured=True),
        _live("bridge-fdb", _fdb, "bridge-fdb", structured=True),
        _live("nft-list-table", _table, "nft-list-table"),
        _live("nft-list-tables", _tables, "nft-tables"),
        _live("nft-counters", _counted, "nft-list-table", more=(TABLE.encode(),)),
        _live("kernel-log", _logged, more=_records()),
        _live("iptables-save", foreign.stateless, "iptables-save"),
        _live("ip-route", _routes, "ip-route-6", structured=True),
        _live("ip-route-get", _way, "ip-route-get", structured=True, weight=0.5),
        _live(
            "getent-ahosts",
            _servers,
            more=(b"192.0.2.1       STREAM git.example.net\n2001:db8::1     DGRAM\n",),
        ),
        Target("answer-frame", fixed(*_FRAMES), _frame, (), weight=0.5),
        _live("rules-nft", _others("table inet t"), more=_corpus(".nft"), weight=2.0),
        _live("rules-iptables", _others("iptables-nft-save"), more=_corpus(".iptables.rules"), weight=2.0),
        _live("rules-ebtables", _others("ebtables-nft-save"), more=_corpus(".ebtables.rules")),
        _live("rules-tc", _others("tc filter show dev vm01 ingress"), more=_FILTERS, structured=True),
        _live("ipset-save", _sets, more=_corpus(".ipset.rules")),
        _live("stderr", _message, "error"),
    )
