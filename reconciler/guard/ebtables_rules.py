"""The ebtables half of the iptables backend: the MAC, the kind of frame, ARP, and the addresses of IP. Pure.

The table `nat` sees every frame in prerouting at -300: before br_netfilter, and before the bridge learns. It needs no
switch of the bridge, and what it allows is no more than the bindings' addresses: what it cannot see inside IP packets
is for iptables and ip6tables behind it.

ebtables has no goto, and a frame that may go on must come back for the rules of others: that it may is noted in a bit
of its mark, which is taken off it again, as all that is noted there, before any of those sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from reconciler.guard.binding import Address
from reconciler.guard.grants import Grant, Ports
from reconciler.guard.xtables import (
    ENTRY,
    FOR_DOM0,
    JUMP,
    LATE,
    LOG,
    RESERVE,
    UNKNOWN,
    Chains,
    Settings,
    limit_match,
    port_chain,
    prefix_of,
    refusal,
    ways,
)

ALLOW = "-j mark --mark-or 0x80000000 --mark-target RETURN"
ALLOWED = "--mark 0x80000000/0x80000000"
_NOT_ALLOWED = "--mark ! 0x80000000/0x80000000"
_ROUTER = "-j mark --mark-or 0x40000000 --mark-target RETURN"
_OF_ROUTER = "--mark 0x40000000/0x40000000"
_FREE = "-j mark --mark-or 0x20000000 --mark-target RETURN"
_UNADDRESSED = "--mark 0x20000000/0x20000000"
# Targets are for ip6tables, which is told before ebtables is: till then nobody is told of a new one, or still of an old.
_NEIGHBOURS = "-p IPv6 --ip6-proto ipv6-icmp --ip6-icmp-type 135:136/0:255 -j DROP"
_CLEAN = "-j mark --mark-and 0x1fffffff --mark-target"
# The bridge takes frames to the MACs that 802.1D reserves past prerouting: it would learn from them, and dom0's own
# stack gets them on the port itself.
_RESERVED_GROUPS = "-d 01:80:c2:00:00:00/ff:ff:ff:ff:ff:f0"
_UNSPECIFIED, _ROLES, _KINDS = "domgit.unspecified", "domgit.roles", "domgit.kinds"
_REASONS = ("mac", "type", "arp", "v4", "v6", "dhcp", "router")


def nat(ports: Ports, settings: Settings) -> Chains:
    """The chains of the table `nat`."""
    chains = {
        "PREROUTING": (JUMP,),
        **_entry(ports, settings, port_chain, _for_dom0(settings)),
        # Without an address a guest may look for a DHCP server, report the groups it is in, look for routers and for whoever has its address.
        _UNSPECIFIED: (
            f"-p IPv4 --ip-dst 255.255.255.255 --ip-proto udp --ip-sport 68 --ip-dport 67 {_FREE}",
            *(
                f"-p IPv4 --ip-dst 224.0.0.0/4 --ip-proto igmp --ip-igmp-type {kind} {_FREE}"
                for kind in (
                    "membership-report-v1",
                    "membership-report-v2",
                    "leave-group",
                    "membership-report-v3",
                )
            ),
            *(
                f"-p IPv6{group} --ip6-proto ipv6-icmp --ip6-icmp-type {kind} {_FREE}"
                for group, kind in (
                    (" --ip6-dst ff02::/16", "131:132/0:255"),
                    (" --ip6-dst ff02::/16", "143/0:255"),
                    ("", "router-solicitation"),
                    (" --ip6-dst ff02::1:ff00:0/104", "neighbour-solicitation"),
                )
            ),
        ),
        # Only here a mark is set: a rule that does so takes ebtables-nft-restore ten times as long as one that returns.
        _KINDS: tuple(f"-p {kind} {ALLOW}" for kind in ("IPv4", "IPv6", "ARP")),
        # What only routers send; what is hidden behind headers that ebtables does not look behind, ip6tables sees.
        _ROLES: tuple(
            f"-p IPv6 --ip6-proto ipv6-icmp --ip6-icmp-type {kind} {_ROUTER}"
            for kind in (
                "130/0:255",
                "router-advertisement",
                "redirect",
                "139:142/0:255",
                "147/0:255",
                "151:153/0:255",
            )
        ),
        **_refusals(settings, _REASONS),
    }
    for port, grant in ports.grants.items():
        chains.update(port_chain_of(port, grant))
    return chains


def filter_(ports: Ports, settings: Settings) -> Chains:
    """The chains of the table `filter`: no guest sends anything to a MAC that 802.1D reserves."""
    return {
        "INPUT": (f"{_RESERVED_GROUPS} {JUMP}",),
        **_entry(ports, settings, lambda port: refusal("type", ports.grants[port].mode), ()),
        **_refusals(settings, ("type",)),
    }


def unknown_on(bridge: str) -> str:
    """The rule for frames from ports of a bridge that no other rule knows; a kernel may lack what it needs."""
    return f"--logical-in {bridge} -j {UNKNOWN}"


def late_rule(port: str, chain: str) -> str:
    """The rule that leads from the entry to one port."""
    return f"-i {port} -j {chain}"


def port_chain_of(port: str, grant: Grant) -> Chains:
    """The chain of one port: one, for the tools take time by the square of how many there are.

    Of the three kinds of frames each may go on once it was found to be the port's own, and is refused at its end.
    """

    def refuse(reason: str) -> str:
        return f"-j {refusal(reason, grant.mode)}"

    return {
        port_chain(port): (
            f"-s ! {grant.mac} {refuse('mac')}",
            f"-j {_KINDS}",
            f"{_NOT_ALLOWED} {refuse('type')}",
            f"-p IPv4 --ip-proto udp --ip-dport 68 {refuse('dhcp')}",
            # Not 48, multicast router discovery: ebtables-nft-save 1.8.9 writes a type that it has no name for so that
            # nobody, ebtables-nft-restore among them, can read it. iptables sees that one.
            f"-p IPv4 --ip-proto igmp --ip-igmp-type membership-query {refuse('router')}",
            *(f"-p IPv4 --ip-src {_written(each)} -j RETURN" for each in grant.of(4)),
            f"-p IPv4 --ip-src 0.0.0.0 -j {_UNSPECIFIED}",
            *((_NEIGHBOURS,) if grant.settling else ()),
            f"-p IPv6 --ip6-proto ipv6-icmp -j {_ROLES}",
            f"{_OF_ROUTER} {refuse('router')}",
            f"-p IPv6 --ip6-proto udp --ip6-dport 546 {refuse('dhcp')}",
            *(f"-p IPv6 --ip6-src {_written(each)} -j RETURN" for each in grant.of(6)),
            f"-p IPv6 --ip6-src :: -j {_UNSPECIFIED}",
            f"{_UNADDRESSED} -j RETURN",
            f"-p IPv4 {refuse('v4')}",
            f"-p IPv6 {refuse('v6')}",
            *_arp(grant),
            f"-p ARP {refuse('arp')}",
        )
    }


def _arp(grant: Grant) -> Iterator[str]:
    """Own addresses at the own MAC, and probes (RFC 5227) for them. That sizes and hardware are Ethernet's is asked with the MAC."""

    def line(operation: Literal["Request", "Reply"], addresses: str) -> str:
        return f"-p ARP --arp-op {operation} --arp-htype 1 --arp-ptype 0x800 {addresses} --arp-mac-src {grant.mac} -j RETURN"

    for each in grant.of(4):
        yield line("Request", f"--arp-ip-src {_written(each)}")
        yield line("Reply", f"--arp-ip-src {_written(each)}")
        yield line("Request", f"--arp-ip-src 0.0.0.0 --arp-ip-dst {_written(each)}")


def _from_uplinks(ports: Ports, macs: tuple[str, ...]) -> Iterator[str]:
    """The rules that let uplinks pass; what dom0 gets by them, or routes, is noted: a guest's address may be behind it."""
    for uplink in ports.uplinks:
        for mac in macs:
            for kind in ("IPv4", "IPv6"):
                yield f"-p {kind} -d {mac} -i {uplink} -j mark --mark-or {FOR_DOM0:#x} --mark-target RETURN"
        yield f"-i {uplink} -j RETURN"


def _for_dom0(settings: Settings) -> tuple[str, ...]:
    """The rules that note what is for dom0: iptables cannot see a frame's destination."""
    note = f"-j mark --mark-or {FOR_DOM0:#x} --mark-target CONTINUE"
    return tuple(f"-p {kind} -d {mac} {ALLOWED} {note}" for mac in settings.macs for kind in ("IPv4", "IPv6"))


def _entry(ports: Ports, settings: Settings, leaf: Callable[[str], str], noted: tuple[str, ...]) -> Chains:
    """The chains that lead to the ports'; `noted`: what is noted of frames that may go on."""

    def chain_of(port: str) -> str:
        if port in ports.shut:
            return refusal("type", "enforce")
        return leaf(port) if port in ports.grants else UNKNOWN

    (_, first), *deeper = ways(ports, chain_of, late_rule)
    unknown = tuple(map(unknown_on, ports.bridges)) if settings.ibrname else ()
    if not unknown and settings.alone:
        # Without knowing the frame's bridge a name must do, and only where no other bridge can have such names.
        unknown = (late_rule("vif+", UNKNOWN),)
    return {
        ENTRY: (
            *_from_uplinks(ports, settings.macs if noted else ()),
            f"{_CLEAN} CONTINUE",
            *first,
            f"-j {LATE}",
            *noted,
            f"{ALLOWED} {_CLEAN} RETURN",
            *unknown,
        ),
        **dict(deeper),
        LATE: tuple(late_rule(port, chain_of(port)) for port in sorted(ports.late & {*ports.grants})),
        RESERVE: (JUMP,),
    }


def _refusals(settings: Settings, reasons: tuple[str, ...]) -> Chains:
    log = settings.log
    prefix = f' --log-prefix "{prefix_of(log)}"' if log.prefix else ""
    line = f"{limit_match(log)} --limit-burst 5 --log-level {_level(log.level)}{prefix} -j CONTINUE"
    chains: dict[str, tuple[str, ...]] = {
        LOG: (line,),
        UNKNOWN: (f"-j {LOG}", "-j DROP") if settings.unknown_dropped else (),
    }
    for reason in reasons:
        chains[refusal(reason, "enforce")] = (f"-j {LOG}", "-j DROP")
        chains[refusal(reason, "audit")] = (f"-j {LOG}", *((ALLOW,) if reason == "type" else ()))
    return chains


def _level(name: str) -> str:
    """The level as ebtables writes it."""
    return {"emerg": "emerg", "err": "error", "warn": "warning"}.get(name, name)


def _written(network: Address) -> str:
    single = network.prefixlen == network.max_prefixlen
    return str(network.network_address if single else network)
