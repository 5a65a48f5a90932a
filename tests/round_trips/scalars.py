"""Single values at the edges of what a specification may say, from dice; now and then one just beyond.

What is accepted is for the schemas to say: a value that they refuse takes its document out of the draw.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network
from random import Random
from uuid import UUID

from schemas.address import Address

# How many of all texts get a character or a phrase that none of them may have.
WILD = 0.004
# Those that end a string or start the next key, option or statement most often.
_BEYOND = (
    *'",\\\n' * 12, *"';=-" * 4,
    *"\"\\,;'`$#%&|<>(){}[]*?!~^= \t\n\r\x7fé\u2028\u0131",
    "\\n", "$(reboot)", "@PORT@", "@domgit-secret:x@", "-", "--", "/../", "//", "/./", '"]\nname = "x', " } ; flush ruleset ;",
)  # fmt: skip
_LETTERS, _DIGITS = string.ascii_letters, string.digits
_PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F))
_COMMAND_LINE = _PRINTABLE.replace('"', "").replace("\\", "")
# What other readers of a command line, an xl.cfg or a shell would take for something else.
_PHRASES = (
    "root=/dev/xvda1 ro", "root=xbd0a", "extra=", "cmdline=", "vncpasswd=", "#", "; name=x", "']", "]", "+=", "'", "%s%n",
    "$(reboot)", "`id`", "${IFS}", "  ", "--args=", "-- console=hvc0", "memory = 1", "@PORT@", "&", "|", "\x7e",
)  # fmt: skip
_SIZES = {
    "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}  # fmt: skip

_MOST_MIB = 999_999_999
_SCALES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
_INTERVALS = {"us": 1, "ms": 10**3, "s": 10**6}


class Scalars:
    """Draws values, each at its edges as often as between them."""

    def __init__(self, dice: Random | int, wild: float = WILD) -> None:
        self.dice = Random(dice) if isinstance(dice, int) else dice  # noqa: S311  # reproducible, not secret
        self._wild = wild

    def chance(self, share: float) -> bool:
        return self.dice.random() < share

    def number(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both ends often."""
        pick = self.dice.random()
        if pick < 0.3:
            return low if pick < 0.15 else high
        return self.dice.randint(low, min(high, low + 16) if pick < 0.6 else high)

    def text(self, alphabet: str, longest: int, *, shortest: int = 0) -> str:
        """Letters of an alphabet, as short or as long as may be about as often as between."""
        return "".join(self.dice.choices(alphabet, k=self.number(shortest, longest)))

    def wild(self, text: str) -> str:
        """The text, now and then with something in it that does not belong there."""
        if self.dice.random() >= self._wild:
            return text
        place = self.dice.randint(0, len(text))
        return f"{text[:place]}{self.dice.choice(_BEYOND)}{text[place:]}"

    def domu_name(self) -> str:
        return self.wild(self.dice.choice(_LETTERS) + self.text(f"{_LETTERS}{_DIGITS}._-.-", 62))

    def name(self) -> str:
        return self.wild(
            self.dice.choice(string.ascii_lowercase)
            + self.text(f"{string.ascii_lowercase}{_DIGITS}._-.-", 62)
        )

    def secret_name(self) -> str:
        return self.wild(
            self.dice.choice(string.ascii_lowercase + _DIGITS)
            + self.text(f"{string.ascii_lowercase}{_DIGITS}._-", 62)
        )

    def label(self) -> str:
        return self.wild(self.text(_PRINTABLE, 120))

    def interface(self, longest: int = 15) -> str:
        if longest < 15 or self.chance(0.5):
            return self.wild(
                self.dice.choice(string.ascii_lowercase) + self.text(f"{string.ascii_lowercase}_-09", 10)
            )
        return self.wild(
            self.dice.choice(f"{_LETTERS}{_DIGITS}_.") + self.text(f"{_LETTERS}{_DIGITS}_.-.-", longest - 1)
        )

    def path(self, folder: str, *, longest: int = 255) -> str:
        """A path under `folder`, of one part or of many; one of the longest often."""
        text = folder
        room = min(longest, self.number(len(folder) + 2, longest))
        while room - len(text) >= 2:
            left = room - len(text) - 1
            length = self.number(1, min(60, left))
            length += left - length == 1  # a slash alone is no part
            part = self.text(f"{_LETTERS}{_DIGITS}._:@+-.:@+-", length, shortest=length)
            text += "/" + (part if part.strip(".") else f"{part[:-1]}x")
            if room < longest and self.chance(0.6):
                break
        return self.wild(text)

    def command_line(self) -> str:
        pick = self.dice.random()
        if pick < 0.4:
            return self.wild("".join(self.dice.choices(_PHRASES, k=self.dice.randint(0, 8))))
        return self.wild(self.text(_COMMAND_LINE, 255))

    def mac(self) -> str:
        """Any unicast address, in any spelling."""
        first = self.dice.choice((0, 2, 0xFE, 0x52, self.dice.getrandbits(7) << 1))
        rest = self.dice.choice((1, 2**40 - 2, self.dice.getrandbits(8), self.dice.getrandbits(40)))
        text = f"{first << 40 | rest or 1:012x}"
        text = ":".join(text[place : place + 2] for place in range(0, 12, 2))
        return self.wild(text.upper() if self.chance(0.2) else text)

    def uuid(self) -> str:
        text = str(UUID(int=self.dice.choice((self.dice.getrandbits(128), self.dice.getrandbits(30))) or 1))
        return self.wild(text.upper() if self.chance(0.2) else text)

    def rate(self) -> str:
        """Of any size; mostly one that has at least a byte, and less than 4 GiB, per interval."""
        while True:
            digits = self.dice.randint(1, 9)
            count = self.dice.choice((10 ** (digits - 1), 10**digits - 1, self.dice.randint(1, 10**digits)))
            scale, unit = self.dice.choice(tuple(_SCALES)), self.dice.choice("Bb")
            bytes_per_s = count * _SCALES[scale] // (8 if unit == "b" else 1)
            text, micros = f"{count}{scale}{unit}/s", 50_000
            if self.chance(0.5):
                per = self.dice.choice(tuple(_INTERVALS))
                interval = self.number(1, 10 ** self.dice.randint(1, 7) - 1)
                text, micros = f"{text}@{interval}{per}", interval * _INTERVALS[per]
            fits = micros < 2**32 and 1 <= bytes_per_s * micros // 10**6 < 2**32
            if fits or self.chance(0.005):
                return self.wild(text)

    def memory(self, mib: int) -> str:
        """A size in one of its spellings; now and then one whose other spelling is too long."""
        if self.dice.random() < self._wild:
            return f"{self.dice.randint(_MOST_MIB // 2000, _MOST_MIB)}GiB"
        return self.wild(f"{mib // 1024}GiB" if mib % 1024 == 0 and self.chance(0.7) else f"{mib}MiB")

    def memory_mib(self) -> int:
        digits = self.dice.randint(1, 9)
        count = self.dice.choice((1, 10**digits - 1, self.dice.randint(1, 10**digits - 1)))
        return count * 1024 if count * 1024 <= _MOST_MIB and self.chance(0.3) else count

    def size(self) -> str:
        unit = self.dice.choice(tuple(_SIZES))
        return self.wild(f"{self.number(1, 2**62 // _SIZES[unit])}{unit}")

    def device(self) -> str:
        """Any disk; mostly one that libxl has a number for."""
        kind = self.dice.choice(("xvd", "xvd", f"xvd{self.dice.choice('az')}", "hd", "sd"))
        last, most = {"hd": ("d", 63), "sd": ("p", 15)}.get(kind, ("z", 99))
        if self.chance(0.01):
            last, most = "z", 999
        letter = chr(self.number(ord("a"), ord(last)))
        return self.wild(f"{kind}{letter}{'' if self.chance(0.6) else self.number(1, most)}")

    def log_prefix(self) -> str:
        return self.wild(self.text(f"{_LETTERS}{_DIGITS} ._:/()[]-     ", 60))

    def log_limit(self) -> str:
        return f"{self.number(1, 99999)}/{self.dice.choice(('second', 'minute', 'hour', 'day'))}"

    def inside(self, network: Address) -> Address:
        """An address or a prefix inside a network, both of its ends often."""
        bits = network.max_prefixlen - network.prefixlen
        free = 0 if self.chance(0.7) else self.number(0, bits)
        offset = self.number(0, (1 << (bits - free)) - 1) << free
        return ip_network((int(network.network_address) + offset, network.max_prefixlen - free))

    def address(self, network: Address, *, single: bool = False) -> str:
        """An address or prefix in one of its spellings."""
        first = network.network_address
        text = str(first)
        if isinstance(first, IPv6Address):
            text = self.dice.choice((text, text, first.exploded, text.upper(), _dotted(first)))
        alone = network.prefixlen == network.max_prefixlen and (single or self.chance(0.95))
        return self.wild(text if alone else f"{text}/{network.prefixlen}")

    def link_local(self) -> Address:
        return IPv6Network((0xFE80 << 112 | self.dice.getrandbits(64), 128))

    def secret(self) -> str:
        """A password that a configuration can hold."""
        return self.text(f"{_LETTERS}{_DIGITS}._+=@:/-", 64, shortest=1)

    def choice(self, options: Sequence[str]) -> str:
        return self.wild(self.dice.choice(options))


def _dotted(address: IPv6Address) -> str:
    """The spelling that ends like an IPv4 address."""
    number = int(address)
    return f"{IPv6Address(number >> 32 << 32).exploded.rpartition(':')[0].rpartition(':')[0]}:{IPv4Address(number & 0xFFFFFFFF)}"
