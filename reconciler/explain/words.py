"""The words that describe a packet, such as `vif=vm01 dst=172.16.39.1 proto=udp dport=53`: read, all that is wrong told at once. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from reconciler.explain.build import Part

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_NUMBER = re.compile(r"0x[0-9a-f]{1,8}|[0-9]{1,10}")
# A line of `tcpdump -XX` or `xxd`: where it begins, its bytes, and what they are as letters.
_DUMPED = re.compile(
    r"\s*(?:0x)?[0-9a-f]{4,8}:\s+(?P<bytes>(?:[0-9a-f]{2,4} ){0,15}[0-9a-f]{2,4})(?:\s{2,}.*)?"
)
_SHORTEST, _LONGEST = 14, 65535
PROTOCOLS: Mapping[str, int] = {
    "icmp": 1, "igmp": 2, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "icmpv6": 58, "ospf": 89, "vrrp": 112, "sctp": 132,
}  # fmt: skip
TYPES: Mapping[str, int] = {
    "ip": 0x0800, "arp": 0x0806, "ip6": 0x86DD, "mpls": 0x8847, "pppoe": 0x8864, "lldp": 0x88CC, "rarp": 0x8035,
}  # fmt: skip
MESSAGES: Mapping[str, int] = {
    "echo": 8, "echo-reply": 0, "unreachable": 3, "time-exceeded": 11,
}  # fmt: skip
MESSAGES6: Mapping[str, int] = {
    "echo": 128, "echo-reply": 129, "unreachable": 1, "time-exceeded": 3, "mld-query": 130, "mld-report": 131, "mld-done": 132,
    "rs": 133, "ra": 134, "ns": 135, "na": 136, "redirect": 137, "mld2-report": 143,
}  # fmt: skip
_IGMP: Mapping[str, int] = {"query": 0x11, "report1": 0x12, "report2": 0x16, "leave": 0x17, "report": 0x22}
_OPERATIONS: Mapping[str, int] = {"request": 1, "reply": 2}
_EXTENSIONS: Mapping[str, int] = {"hop": 0, "rt": 43, "frag": 44, "ah": 51, "dst": 60}
_OPTIONS: Mapping[str, int] = {"sll": 1, "tll": 2, "nonce": 14}


class PacketError(ValueError):
    """Words that describe no packet; one line for each thing that is wrong with them."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Word:
    """How the value of a word is read, and what is expected where it cannot be."""

    read: Callable[[str], Any]
    expected: str


def _mac(text: str) -> str:
    if _MAC.fullmatch(text.lower()) is None:
        raise ValueError(text)
    return text.lower()


def _number(most: int, names: Mapping[str, int] | None = None) -> Callable[[str], int]:
    def read(text: str) -> int:
        if names is not None and text in names:
            return names[text]
        if (
            _NUMBER.fullmatch(text.lower()) is None
            or (found := int(text, 16 if "x" in text.lower() else 10)) > most
        ):
            raise ValueError(text)
        return found

    return read


def _names(names: Mapping[str, int]) -> str:
    return ", ".join(names)


def _message(text: str) -> str | int:
    """An ICMP message, whose number depends on the family."""
    return text if text in MESSAGES or text in MESSAGES6 else _number(255)(text)


def _tags(text: str) -> tuple[tuple[int, int], ...]:
    found = []
    for each in text.split(","):
        kind, colon, vlan = each.rpartition(":")
        found.append((_number(0xFFFF)(kind) if colon else 0x8100, _number(0xFFFF)(vlan)))
    return tuple(found)


def _extensions(text: str) -> tuple[int, ...]:
    return tuple(_number(255, _EXTENSIONS)(each) for each in text.split(","))


def _part(text: str) -> Part:
    match text:
        case "first":
            return Part(0, more=True)
        case "later":
            return Part(3, more=False)
        case _:
            return Part(_number(0x1FFF)(text.removesuffix("+")), more=text.endswith("+"))


def _options(text: str) -> tuple[bytes, ...]:
    if text == "none":
        return ()
    found = []
    for each in text.split(","):
        name, _, value = each.partition(":")
        inside = b"nonce!" if name == "nonce" and not value else bytes.fromhex(_mac(value).replace(":", ""))
        found.append(bytes((_number(255, _OPTIONS)(name), 1)) + inside)
    return tuple(found)


def _hex(text: str) -> bytes:
    lines = [line for line in text.lower().splitlines() if line.strip()]
    dumped = [_DUMPED.fullmatch(line) for line in lines]
    digits = "".join(match["bytes"] for match in dumped if match) if all(dumped) else text
    found = bytes.fromhex(re.sub(r"[\s:]", "", digits))
    if not _SHORTEST <= len(found) <= _LONGEST:
        raise ValueError(text)
    return found


def _name(text: str) -> str:
    if not text or not text.isprintable() or " " in text:
        raise ValueError(text)
    return text


_MACS = Word(_mac, "six bytes such as 00:16:3e:7c:1f:6e")
_ADDRESS = Word(ip_address, "an IPv4 or IPv6 address")
_PORT = Word(_number(0xFFFF), "a number up to 65535")
WORDS: Mapping[str, Word] = {
    "vif": Word(_name, "the name of a port, or DOMU/INDEX"),
    "bridge": Word(_name, "the name of a bridge"),
    "hex": Word(
        _hex, "a whole frame of at least 14 bytes as hexadecimal digits, or a dump as of `tcpdump -XX`"
    ),
    "smac": _MACS,
    "dmac": _MACS,
    "vlan": Word(_tags, "[TYPE:]VLAN[,...], the outer tag first"),
    "type": Word(_number(0xFFFF, TYPES), f"{_names(TYPES)} or a number up to 0xffff"),
    "src": _ADDRESS,
    "dst": _ADDRESS,
    "proto": Word(_number(255, {**PROTOCOLS, "arp": -1}), f"arp, {_names(PROTOCOLS)} or a number up to 255"),
    "sport": _PORT,
    "dport": _PORT,
    "chaddr": _MACS,
    "icmp": Word(_message, f"{_names({**MESSAGES, **MESSAGES6})} or a number up to 255"),
    "code": Word(_number(255), "a number up to 255"),
    "target": _ADDRESS,
    "option": Word(_options, "KIND:MAC[,...] with sll, tll or a number for KIND, nonce, or none"),
    "igmp": Word(_number(255, _IGMP), f"{_names(_IGMP)} or a number up to 255"),
    "op": Word(_number(0xFFFF, _OPERATIONS), f"{_names(_OPERATIONS)} or a number up to 65535"),
    "sender-mac": _MACS,
    "target-mac": _MACS,
    "ext": Word(_extensions, f"{_names(_EXTENSIONS)} or numbers up to 255, with commas between them"),
    "frag": Word(_part, "first, later, or an offset in units of eight bytes, with a + where more follows"),
}


def read_words(words: Sequence[str]) -> dict[str, Any]:
    """The values by word.

    Raises:
        PacketError: a word is not known, there twice, or its value is no such value.
    """
    found: dict[str, Any] = {}
    problems = []
    for each in words:
        name, equals, text = each.partition("=")
        word = WORDS.get(name)
        if not equals or word is None:
            problems.append(f"{_shown(each)}: no such word (expected {'=..., '.join(WORDS)}=...)")
        elif name in found:
            problems.append(f"{_shown(each)}: {name} is there twice (expected once)")
        else:
            try:
                found[name] = word.read(text)
            except ValueError:
                found[name] = None
                problems.append(f"{name}: {_shown(text)} is no such value (expected {word.expected})")
    if "vif" not in found:
        problems.append("vif: missing (expected vif=NAME: which port the frame comes in by)")
    if problems:
        raise PacketError(problems)
    return found


def _shown(text: str) -> str:
    most = 40
    return repr(text if len(text) <= most else f"{text[:most]}...")
