"""The ip6tables half of the iptables backend: neighbour discovery, routers' roles, headers, addresses once more. Pure.

What a packet is, is found out once for all ports, and noted in four bits of its mark: neighbour messages by their exact
shape, for a second option would hide behind a correct first one. Only what is a guest's own is asked in its chains:
MAC, targets, sources. The bits are taken off what passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from ipaddress import IPv6Network

from reconciler.guard.grants import Grant, Ports
from reconciler.guard.iptables_rules import PASS, SET6, base, inner_mac, refusals
from reconciler.guard.xtables import Chains, Settings, port_chain, refusal

_MASK, _WORD = 0xF0000000, 0xFFFFFFFF
_CLEAN = f"-j MARK --set-xmark 0x0/{_MASK:#x}"
_NOTHING = f"-m mark --mark 0x0/{_MASK:#x}"
_HEADERS, _KINDS, _ICMP = "domgit.headers", "domgit.kinds", "domgit.icmp"
_REASONS = ("v6", "nd", "dhcp", "router")
_TRACKED = ("LOCAL", "MULTICAST")


class Kind(IntEnum):
    """What a packet is, where that decides more than its source.

    In the upper half the target must be the guest's own. Once it is found to be, the highest bit goes: what asks whether
    somebody else has that address is FREE then.
    """

    HIDDEN = 1
    ROUTER = 2
    DHCP = 3
    MALFORMED = 4
    FREE = 5  # without an address, and nothing of the guest's inside
    SOLICIT = 6  # a neighbour, with the own MAC as the one option
    SOLICIT_ROUTER = 7  # the same, of a router
    ADVERTISE = 8
    ADVERTISE_MAC = 9
    DETECT = 13  # a duplicate of the own address

    @property
    def mark(self) -> str:
        """The match for packets of this kind."""
        return f"-m mark --mark {self << 28:#x}/{_MASK:#x}"

    @property
    def note(self) -> str:
        """The target that notes it."""
        return f"-j MARK --set-xmark {self << 28:#x}/{_MASK:#x}"


def _u32(tests: str, *, negated: bool = False) -> str:
    return f'-m u32 {"! " if negated else ""}--u32 "{tests}"'


# Behind two other headers neither is looked for: it has to be said that there is none.
_DEEP = _u32("0x3&0xff=0x0,0x2b,0x3c&&0x28>>0x18=0x0,0x2b,0x3c")
_HARMLESS = f"-m ipv6header ! --header ipv6-frag --soft -m ipv6header ! --header ah --soft {_DEEP}"
_TARGETED = "-m mark --mark 0x80000000/0x80000000"
_UNTARGETED = "-j MARK --set-xmark 0x0/0x80000000"
_REFUSED = ((Kind.HIDDEN, "v6"), (Kind.ROUTER, "router"), (Kind.DHCP, "dhcp"), (Kind.MALFORMED, "nd"))


def raw(ports: Ports, settings: Settings) -> Chains:
    """The chains of ip6tables' table `raw`."""
    classes = (
        _CLEAN,
        f"{_u32('0x3&0xff=0x0,0x2b:0x2c,0x33,0x3c')} -j {_HEADERS}",
        f"{_NOTHING} -j {_KINDS}",
    )
    chains = {
        **base(ports, settings, classes, SET6),
        _HEADERS: (*(f"{match} {Kind.HIDDEN.note}" for match in _hiding()), f"{_HARMLESS} {_CLEAN}"),
        # Behind the headers: where the tools cannot tell a packet's protocol, asking for one drops it, audited or not.
        _KINDS: (
            # A later fragment has no ports. nft's kind of ip6tables asks for them all the same, and takes a flow label for them.
            f"-p udp -m udp --dport 546 -m ipv6header ! --header ipv6-frag --soft {Kind.DHCP.note}",
            f"-p udp -m udp --dport 546 -m frag --fragfirst {Kind.DHCP.note}",
            f"-p pim {Kind.ROUTER.note}",
            # So does asking for the type of a message that is shorter than most. Only routers send such ones.
            f"-p ipv6-icmp {_u32('0x3&0xff=0x3a&&0x4>>0x10=0x0:0x7')} {Kind.ROUTER.note}",
            f"-p ipv6-icmp {_NOTHING} -j {_ICMP}",
        ),
        _ICMP: tuple(_messages()),
        **refusals(settings, _REASONS, _TRACKED, (_CLEAN,)),
    }
    for port, grant in ports.grants.items():
        chains.update(port_chain_of(port, grant))
    return chains


def port_chain_of(port: str, grant: Grant) -> Chains:
    """The chain of one port. What is nothing special passes by its first rules."""

    def refuse(reason: str) -> str:
        return f"-g {refusal(reason, grant.mode)}"

    own = tuple(each for each in grant.of(6) if isinstance(each, IPv6Network))
    return {
        port_chain(port): (
            *(f"-s {each} {_NOTHING} -g {PASS}" for each in own),
            *(f"{kind.mark} {refuse(reason)}" for kind, reason in _REFUSED),
            *(
                f"{kind.mark} {_u32(_mac_at(offset, grant.mac), negated=True)} {refuse('nd')}"
                for kind, offset in ((Kind.SOLICIT, 66), (Kind.SOLICIT_ROUTER, 50), (Kind.ADVERTISE_MAC, 66))
            ),
            *(f"{_TARGETED} {_u32(_target_in(each))} {_UNTARGETED}" for each in own),
            f"{_TARGETED} {refuse('nd')}",
            f"{Kind.FREE.mark} -g {PASS}",
            *(f"-s {each} -g {PASS}" for each in own),
            refuse("v6"),
        )
    }


def _hiding() -> Iterator[str]:
    """What the tools do not look behind, or not all of them: headers behind a fragment header or AH.

    Either stands right behind IPv6's header, or behind one other header, whose length says where.
    """
    plain = "0x1:0x2a,0x2d:0x32,0x34:0x3b,0x3d:0xff"
    for what, plainly in ("0x2c", plain), ("0x33", plain.replace("0x34:0x3b", "0x34:0x39,0x3b")):
        # Asked for what may follow, and not for what may not: a header that is cut short hides as well.
        yield f"{_u32(f'0x3&0xff={what}')} {_u32(f'0x28>>0x18={plainly}', negated=True)}"
        behind = _u32(f"0x3&0xff=0x0,0x2b,0x3c&&0x28>>0x18={what}")
        yield f"{behind} {_u32(f'0x28>>0xd&0x7f8@0x30>>0x18={plainly}', negated=True)}"
    yield _DEEP


def _messages() -> Iterator[str]:
    """What ICMPv6 messages are. Neighbour discovery stands right behind the header and is as long as it must be."""
    for number in (130, 134, 137, 139, 140, 141, 142, 147, 151, 152, 153):
        yield f"-p ipv6-icmp {_type(number)} {Kind.ROUTER.note}"
    for number in (131, 132, 143):
        yield f"-s ::/128 -d ff02::/16 -p ipv6-icmp {_type(number)} {Kind.FREE.note}"
    for number in (133, 135, 136):
        yield f"-p ipv6-icmp {_type(number)} {Kind.MALFORMED.note}"
    addressed, unspecified = "! -s ::/128 -p ipv6-icmp", "-s ::/128 -p ipv6-icmp"
    detecting = "-s ::/128 -d ff02::1:ff00:0/104 -p ipv6-icmp"
    yield f"{unspecified} {_type(133)} {_long(8)} {Kind.FREE.note}"
    yield f"{addressed} {_type(133)} {_long(8)} {_CLEAN}"
    yield f"{addressed} {_type(133)} {_long(16, '0x30>>0x10=0x101')} {Kind.SOLICIT_ROUTER.note}"
    yield f"{addressed} {_type(135)} {_long(24)} {_CLEAN}"
    yield f"{addressed} {_type(135)} {_long(32, '0x40>>0x10=0x101')} {Kind.SOLICIT.note}"
    yield f"{detecting} {_type(135)} {_long(24)} {Kind.DETECT.note}"
    # Option 14 of one unit is the nonce of RFC 7527.
    yield f"{detecting} {_type(135)} {_long(32, '0x40>>0x10=0xe01')} {Kind.DETECT.note}"
    yield f"-p ipv6-icmp {_type(136)} {_long(24)} {Kind.ADVERTISE.note}"
    yield f"-p ipv6-icmp {_type(136)} {_long(32, '0x40>>0x10=0x201')} {Kind.ADVERTISE_MAC.note}"


def _type(number: int) -> str:
    return f"-m icmp6 --icmpv6-type {number}"


def _long(count: int, option: str = "") -> str:
    """The match of a message right behind IPv6's header, of so many bytes, with such an option."""
    return _u32(f"0x3&0xff=0x3a&&0x4>>0x10={count:#x}" + (f"&&{option}" if option else ""))


def _mac_at(offset: int, mac: str) -> str:
    high, low = inner_mac(mac)
    return f"{offset:#x}={high:#x}&&{offset + 2:#x}&0xffff={low:#x}"


def _target_in(network: IPv6Network) -> str:
    """The test of a message's target, 48 bytes into the packet, word by word."""
    number, mask = int(network.network_address), int(network.netmask)
    tests = []
    for word in range(4):
        shift = 96 - 32 * word
        wanted, bits = number >> shift & _WORD, mask >> shift & _WORD
        at = f"{48 + 4 * word:#x}"
        if bits:
            tests.append(f"{at}{'' if bits == _WORD else f'&{bits:#x}'}={wanted:#x}")
    return "&&".join(tests)
