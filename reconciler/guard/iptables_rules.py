"""The iptables half of the iptables backend: DHCP and IGMP, addresses once more, and no connection tracking. Pure.

The table `raw` sees what br_netfilter hands over in prerouting at -300: still before the bridge learns. The port is
physdev's, for `-i` is the bridge. Every way is a goto: what a guest may send goes on to the rules of others behind ours.
"""

from __future__ import annotations

import re

from reconciler.guard.binding import LogLimit
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
    level_number,
    limit_match,
    port_chain,
    prefix_of,
    refusal,
    ways,
)

BRIDGE, UPLINK, PASS, OWN = "domgit.bridge", "domgit.uplink", "domgit.pass", "domgit.own"
SET4, SET6 = "domgit4", "domgit6"
_REASONS = ("v4", "dhcp", "router")
_TRACKED = ("LOCAL", "BROADCAST", "MULTICAST")
_KEPT = f"-m mark --mark {FOR_DOM0:#x}/{FOR_DOM0:#x} -g {OWN}"
_PLAIN, _WARNING = re.compile(r"[A-Za-z0-9_-]*"), 4
# A DHCP client takes an answer from whatever port, so the port that is asked or answered decides, not the sender's.
# A later fragment has no header behind IPv4's: what stands where one would be is payload, which nft's kind of iptables
# takes for ports.
_HEADED = "0x4&0x1fff=0x0"
_TO_CLIENT = f'-p udp -m udp --dport 68 -m u32 --u32 "{_HEADED}"'
_TO_SERVER = f'-p udp -m udp --dport 67 -m u32 --u32 "{_HEADED}"'
_UNFRAGMENTED = "0x4&0x3fff=0x0"
_BEHIND_HEADER = "0x0>>0x16&0x3c@"
# What makes a guest a router: membership queries, DVMRP, PIM of both versions, the messages of RFC 4286, and of ICMP
# redirects and advertisements. A later fragment of IGMP is nobody's message, and a bridge that snoops takes it for one: Linux does
# not look at the offset. Protocols by number: how a name is saved depends on /etc/protocols.
_OF_ROUTERS = (
    f'-m u32 --u32 "0x6&0xff=0x2&&{_HEADED}&&{_BEHIND_HEADER}0x0>>0x18=0x11,0x13:0x14,0x30,0x32"',
    '-m u32 --u32 "0x6&0xff=0x2&&0x4&0x1fff=0x1:0x1fff"',
    f'-m u32 --u32 "0x6&0xff=0x1&&{_HEADED}&&{_BEHIND_HEADER}0x0>>0x18=0x5,0x9"',
    '-m u32 --u32 "0x6&0xff=0x67"',
)
# What a guest sends that has no address yet: it looks for a DHCP server, and reports the groups that it is in (RFC 3376, 4.2.13).
_UNADDRESSED = (
    "-s 0.0.0.0/32 -d 255.255.255.255/32 -p udp -m udp --sport 68 --dport 67",
    f'-s 0.0.0.0/32 -d 224.0.0.0/4 -m u32 --u32 "0x6&0xff=0x2&&{_HEADED}&&{_BEHIND_HEADER}0x0>>0x18=0x12,0x16:0x17,0x22"',
)


def raw(ports: Ports, settings: Settings) -> Chains:
    """The chains of iptables' table `raw`."""
    chains = {**base(ports, settings, (), SET4), **refusals(settings, _REASONS, _TRACKED)}
    for port, grant in ports.grants.items():
        chains.update(port_chain_of(port, grant))
    return chains


def port_chain_of(port: str, grant: Grant) -> Chains:
    """The chain of one port."""

    def refuse(reason: str) -> str:
        return f"-g {refusal(reason, grant.mode)}"

    return {
        port_chain(port): (
            f"{_TO_CLIENT} {refuse('dhcp')}",
            f"{_TO_SERVER} {_not_from(grant.mac)} {refuse('dhcp')}",
            *(f"{match} {refuse('router')}" for match in _OF_ROUTERS),
            *(f"-s {each} -g {PASS}" for each in grant.of(4)),
            *(f"{match} -g {PASS}" for match in _UNADDRESSED),
            refuse("v4"),
        )
    }


def _not_from(mac: str) -> str:
    """The match of a DHCP message that is not whole, too short, or of another client: 36 bytes into UDP is its MAC."""
    high, low = inner_mac(mac)
    own = f"{_BEHIND_HEADER}0x24={high:#x}&&{_BEHIND_HEADER}0x26&0xffff={low:#x}"
    return f'-m u32 ! --u32 "{_UNFRAGMENTED}&&{own}"'


def inner_mac(mac: str) -> tuple[int, int]:
    """A MAC as its first four bytes and its last two."""
    number = int(mac.replace(":", ""), 16)
    return number >> 16, number & 0xFFFF


def base(ports: Ports, settings: Settings, classes: tuple[str, ...], guests: str) -> Chains:
    """The chains that lead to the ports'; `classes`: what is found out about a packet before, `guests`: the set of all addresses.

    Frames without a port are those to dom0 itself when the bridge does not hand frames over: they came past ebtables.
    """
    (_, first), *deeper = ways(
        ports,
        lambda port: port_chain(port) if port in ports.grants else UNKNOWN,
        late_rule,
        (f"-g {LATE}",),
    )
    late = tuple(late_rule(port, port_chain(port)) for port in sorted(ports.late & {*ports.grants}))
    return {
        "PREROUTING": (JUMP,),
        ENTRY: tuple(f"-i {bridge} -g {BRIDGE}" for bridge in ports.bridges),
        BRIDGE: (
            f"-m physdev ! --physdev-is-in -g {OWN}",
            *(late_rule(uplink, UPLINK) for uplink in ports.uplinks),
            *classes,
            *first,
            f"-g {LATE}",
        ),
        **dict(deeper),
        LATE: (*late, f"-g {UNKNOWN}"),
        RESERVE: (JUMP,),
        OWN: (f"-j MARK --set-xmark 0x0/{FOR_DOM0:#x}",),
        UPLINK: (_KEPT, f"-m set --match-set {guests} dst -j CT --notrack") if settings.macs else (),
    }


def late_rule(port: str, chain: str) -> str:
    """The rule that leads to one port's chain."""
    return f"-m physdev --physdev-in {port} -g {chain}"


def refusals(
    settings: Settings, reasons: tuple[str, ...], tracked: tuple[str, ...], clean: tuple[str, ...] = ()
) -> Chains:
    """The chains at which every packet's way ends; `clean`: what is taken off one that passes.

    `tracked`: the kinds of destinations that dom0 is, or is among: its own rules may ask for the state of a broadcast.

    What dom0 itself receives or routes stays tracked, for its own rules may ask. What only passes takes no entry, as
    far as it is known what dom0 does not get.
    """
    log = settings.log
    chains: dict[str, tuple[str, ...]] = {
        LOG: (f"-m limit {limit_match(log)} -j LOG{_log_options(log)}",),
        UNKNOWN: (f"-j {LOG}", "-j DROP") if settings.unknown_dropped else (*clean, f"-g {OWN}"),
        PASS: (*clean, *(_untracked(tracked) if settings.macs else ())),
    }
    for reason in reasons:
        chains[refusal(reason, "enforce")] = (f"-j {LOG}", "-j DROP")
        chains[refusal(reason, "audit")] = (f"-j {LOG}", f"-g {PASS}")
    return chains


def _untracked(tracked: tuple[str, ...]) -> tuple[str, ...]:
    return _KEPT, *(f"-m addrtype --dst-type {kind} -j RETURN" for kind in tracked), "-j CT --notrack"


def _log_options(log: LogLimit) -> str:
    """Prefix and level as iptables saves them: quoted where it has to be, and not the level that it assumes."""
    prefix, level = prefix_of(log), level_number(log)
    quoted = prefix if _PLAIN.fullmatch(prefix) else f'"{prefix}"'
    return (f" --log-prefix {quoted}" if prefix else "") + (
        "" if level == _WARNING else f" --log-level {level}"
    )
