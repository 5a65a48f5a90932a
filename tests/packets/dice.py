"""Frames drawn by a dice: of every kind that a guest could think of, mostly nearly legal, towards everybody.

A frame is told by seed and number alone, whatever was drawn before it.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

from tests.packets import frames as f
from tests.packets.cases import CASES, FOREIGN4, FOREIGN6, STRANGER
from tests.packets.parties import A4_SECOND, DOM0, GATEWAY, A, B

_GROUPS4 = ("224.0.0.1", "224.0.0.22", "224.0.0.251", "233.252.0.5", "255.255.255.255")
_GROUPS6 = ("ff02::1", "ff02::2", "ff02::16", "ff02::1:2", "ff05::2", "ff0e::1234")
_OWN4 = (A.v4, A4_SECOND, "198.51.100.16", "198.51.100.22", "198.51.100.31")
_FOREIGN4 = (
    B.v4,
    GATEWAY.v4,
    DOM0.v4,
    FOREIGN4,
    "0.0.0.0",
    "127.0.0.1",
    "198.51.100.15",
    "198.51.100.32",
    "192.0.2.10",
)
_OWN6 = (A.v6, A.link_local, "2001:db8:a::5", "2001:db8:a::", "2001:db8:a::ffff:ffff:ffff:ffff")
_FOREIGN6 = (
    B.v6, GATEWAY.v6, DOM0.v6, GATEWAY.link_local, B.link_local, FOREIGN6, "::", "::1", "fe80::1",
    "2001:db8:b::1", "2001:db8:9:ffff:ffff:ffff:ffff:ffff", "2001:db8:a:1::", "2001:db8::10", f"::ffff:{A.v4}",
)  # fmt: skip
_MACS = (
    B.mac,
    GATEWAY.mac,
    DOM0.mac,
    STRANGER,
    "00:00:5e:00:53:8a",
    "ff:ff:ff:ff:ff:ff",
    "00:00:00:00:00:00",
)
_TYPES = (
    0x8100,
    0x88A8,
    0x9100,
    0x8847,
    0x8848,
    0x8863,
    0x8864,
    0x88CC,
    0x888E,
    0x88E5,
    0x0835,
    0x8035,
    0x0801,
    0x0600,
    46,
    0,
)
_PROTOCOLS6 = (
    f.ICMPV6,
    f.ICMPV6,
    f.ICMPV6,
    f.ICMPV6,
    f.UDP,
    f.UDP,
    f.TCP,
    41,
    4,
    47,
    50,
    59,
    89,
    103,
    112,
    132,
    135,
    136,
    139,
    140,
)
_PROTOCOLS4 = (f.UDP, f.UDP, f.UDP, f.ICMP, f.IGMP, f.IGMP, f.TCP, 4, 41, 47, 50, 89, 103, 112, 132, 136)
_PORTS = (67, 68, 546, 547, 53, 4321, 5353)
_KINDS6 = (
    f.RA,
    f.NS,
    f.NS,
    f.NA,
    f.NA,
    f.RS,
    128,
    129,
    130,
    131,
    132,
    137,
    139,
    140,
    141,
    142,
    143,
    147,
    151,
    152,
    153,
    1,
    2,
    200,
)
_FLAWED = 0.12  # of all frames: a byte changed, cut, or grown
_SEEDS = tuple(case.frame for case in CASES if case.sender == A)


class Dice:
    """Draws the frames of one seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._draw = random.Random()  # noqa: S311  # no secret

    def frame(self, number: int) -> bytes:
        """One frame, of at least an Ethernet header and at most 1,514 bytes."""
        draw = self._draw
        draw.seed(self._seed << 40 | number)
        if draw.random() < 0.2:
            made = self._flawed(draw.choice(_SEEDS))
        else:
            maker = draw.choices((self._arp, self._ipv4, self._ipv6, self._other), (3, 7, 12, 1))[0]
            made = maker()
            if draw.random() < _FLAWED:
                made = self._flawed(made)
        if draw.random() < 0.04:
            made = self._wrapped(made.ljust(14, b"\0"))
        if draw.random() < 0.2:  # as Ethernet pads, or as somebody hides something behind the packet's end
            made += draw.choice((bytes(draw.randrange(46)), draw.randbytes(draw.randrange(1, 32))))
        return made[:1514].ljust(14, b"\0")

    def _one(self, own: Sequence[str], others: Sequence[str], share: float = 0.8) -> str:
        return self._draw.choice(own if self._draw.random() < share else others)

    def _hardware(self, share: float = 0.85) -> str:
        return self._one((A.mac,), _MACS, share)

    def _flawed(self, frame: bytes) -> bytes:
        draw, changed = self._draw, bytearray(frame)
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            if not changed:
                break
            at = draw.randrange(min(len(changed), 110))
            kind = draw.randrange(5)
            if kind == 0:
                changed[at] ^= 1 << draw.randrange(8)
            elif kind == 1:
                changed[at] = draw.choice(
                    (0, 1, 2, 4, 5, 6, 17, 43, 44, 51, 58, 60, 134, 136, 255, draw.randrange(256))
                )
            elif kind == 2:
                del changed[max(at, 14) :]
            elif kind == 3:
                del changed[at : at + draw.randrange(1, 9)]
            else:
                other = draw.choice(_SEEDS)
                changed[at:] = other[at:]
        if draw.random() < 0.9:  # most stay in the guest's own name: what is inside is what is asked
            changed[6:12] = f.mac(A.mac)
        return bytes(changed)

    def _wrapped(self, frame: bytes) -> bytes:
        draw = self._draw
        kind = draw.randrange(4)
        if kind == 0:
            return f.snap(frame)
        if kind == 1:
            label = struct.pack("!I", draw.choice((0, 2, 16)) << 12 | 0x140)
            return frame[:12] + draw.choice((b"\x88\x47", b"\x88\x48")) + label + frame[14:]
        if kind == 2:
            point = b"\x00\x21" if frame[12:14] == b"\x08\0" else b"\x00\x57"
            session = struct.pack("!BBHH", 0x11, 0, 1, len(frame) - 12)
            return frame[:12] + b"\x88\x64" + session + point + frame[14:]
        for _ in range(draw.choice((1, 1, 2, 3))):
            frame = f.tagged(
                frame,
                draw.choice((0, 0, 1, 100, 4095, 0xE000)),
                draw.choice((0x8100, 0x8100, 0x88A8, 0x9100)),
            )
        return frame

    def _ethernet(self, kind: int, payload: bytes, group: str = "") -> bytes:
        draw = self._draw
        everyday = (B.mac, GATEWAY.mac, DOM0.mac, f.group_mac(group) if group else "ff:ff:ff:ff:ff:ff")
        odd = (
            "ff:ff:ff:ff:ff:ff",
            "00:00:5e:00:53:ff",
            A.mac,
            f"01:80:c2:00:00:{draw.randrange(16):02x}",
            "33:33:00:00:00:01",
        )
        to = f.group_mac(group) if group and draw.random() < 0.7 else self._one(everyday, odd, 0.9)
        return f.ethernet(to, self._hardware(0.93), kind, payload)

    def _other(self) -> bytes:
        return self._ethernet(self._draw.choice(_TYPES), self._draw.randbytes(self._draw.randrange(64)))

    def _arp(self) -> bytes:
        draw = self._draw
        operation = draw.choice((1, 1, 1, 2, 2, 2, 3, 4, 8, 9, 0, 0x100))
        sender = self._hardware(), self._one(_OWN4, _FOREIGN4, 0.6)
        if draw.random() < 0.2:
            operation, sender = draw.choice((1, 1, 1, 2)), (sender[0], "0.0.0.0")
        target = self._hardware(0.3), self._one(_OWN4, (*_FOREIGN4, *_GROUPS4), 0.4)
        odd = draw.random() < 0.08
        kind, protocol, sizes = (
            (
                draw.choice((1, 6, 0)),
                draw.choice((f.IPV4, f.IPV6)),
                draw.choice(((6, 4), (8, 4), (6, 16), (4, 6), (0, 0))),
            )
            if odd
            else (1, f.IPV4, (6, 4))
        )
        return self._ethernet(
            f.ARP, f.arp(operation, sender, target, kind=kind, protocol=protocol, sizes=sizes)
        )

    def _ipv4(self) -> bytes:
        draw = self._draw
        source = self._one(_OWN4, _FOREIGN4)
        target = draw.choice((B.v4, GATEWAY.v4, DOM0.v4, FOREIGN4, *_GROUPS4))
        if draw.random() < 0.12:
            source, target = (
                self._one(("0.0.0.0",), _OWN4),
                self._one(("255.255.255.255",), (GATEWAY.v4, *_GROUPS4), 0.6),
            )
        protocol = draw.choice(_PROTOCOLS4)
        if target in _GROUPS4[:-1] and draw.random() < 0.3:
            protocol = draw.choice((f.IGMP, f.IGMP, f.PIM))
        body = self._upper4(source, target, protocol)
        for _ in range(draw.choices((0, 1, 2), (92, 7, 1))[0]):
            body, protocol = self._authentication(protocol) + body, f.AH
        fragment, more = 0, False
        if draw.random() < 0.1:
            at = draw.randrange(0, len(body) + 8, 8)
            first = draw.random() < 0.5
            fragment, more, body = (
                (0, True, body[:at]) if first else (at // 8, draw.random() < 0.3, body[at:])
            )
        words = draw.choices((0, 1, 2, 10), (85, 8, 5, 2))[0]
        options = (
            draw.choice((b"\1\1\1\0", b"\x94\4\0\0", b"\x83\7\4" + bytes(1), b"\x44\4\5\0", b"\x88\4\0\1"))
            * words
        )
        packet = f.ipv4(
            source, target, protocol, body, fragment=fragment, more=more, options=options[: words * 4]
        )
        group = target if target in _GROUPS4[:-1] else ""
        return self._ethernet(f.IPV4, packet, group)

    def _authentication(self, following: int) -> bytes:
        words = self._draw.choice((1, 4, 4, 4, 5, 7))  # the length as it is written: words less two
        return bytes((following, words)) + bytes(2) + self._draw.randbytes((words + 2) * 4 - 4)

    def _ports(self) -> tuple[int, int]:
        draw = self._draw
        usual = ((68, 67), (67, 68), (546, 547), (547, 546), (5000, 4321), (5353, 5353))
        return (
            draw.choice(usual)
            if draw.random() < 0.6
            else (draw.choice(_PORTS), draw.choice((*_PORTS, draw.randrange(65536))))
        )

    def _upper4(self, source: str, target: str, protocol: int) -> bytes:
        draw = self._draw
        if protocol == f.IGMP:
            return f.igmp(
                draw.choice((0x11, 0x11, 0x12, 0x13, 0x14, 0x16, 0x17, 0x22, 0x22, 0x30, 0x31, 0x32)),
                draw.choice(_GROUPS4[:-1]),
            )
        if protocol == f.ICMP:
            return f.icmp(draw.choice((0, 3, 5, 8, 8, 9, 10, 11, 13)), draw.randbytes(draw.choice((4, 12))))
        if protocol != f.UDP:
            return draw.randbytes(draw.choice((0, 8, 20, 33)))
        ports = self._ports()
        payload = draw.randbytes(draw.randrange(20))
        if ports[1] in {67, 68} and draw.random() < 0.85:
            payload = f.bootp(draw.choice((1, 1, 1, 2)), self._hardware(0.75), draw.choice((1, 2, 3, 5)))
            payload = payload[: draw.choice((len(payload), len(payload), 28, 30, 33, 34))]
        return f.udp(source, target, ports, payload)

    def _ipv6(self) -> bytes:
        draw = self._draw
        source = self._one(_OWN6, _FOREIGN6)
        target = draw.choice(
            (B.v6, GATEWAY.v6, DOM0.v6, B.link_local, FOREIGN6, *_GROUPS6, f.solicited_node(GATEWAY.v6))
        )
        protocol, hops = draw.choice(_PROTOCOLS6), draw.choice((255, 255, 255, 255, 64, 1, 0))
        if draw.random() < 0.2:
            return self._from_nobody()
        if protocol == f.ICMPV6:
            body = self._icmp6(source, target)
        elif protocol == f.UDP:
            body = f.udp(source, target, self._ports(), draw.randbytes(draw.randrange(24)))
        else:
            body = draw.randbytes(draw.choice((0, 8, 20, 40)))
        return self._packet6(source, target, self._chain(protocol, body), hops)

    def _packet6(self, source: str, target: str, chained: tuple[int, bytes], hops: int) -> bytes:
        draw = self._draw
        # A kernel that has no place for ports reads two of its bytes.
        flow = draw.choice((0, 0, 0, 0x50222, 0x223, draw.getrandbits(20)))
        packet = f.ipv6(source, target, *chained, hops=hops, flow=flow)
        if draw.random() < 0.03:
            wrong = draw.choice(
                (0, 1, max(0, len(chained[1]) - draw.randrange(1, 30)), len(chained[1]) + 8, 0xFFFF)
            )
            packet = packet[:4] + struct.pack("!H", wrong) + packet[6:]
        return self._ethernet(f.IPV6, packet, target if target.startswith("ff") else "")

    def _chain(self, protocol: int, body: bytes) -> tuple[int, bytes]:
        """The body behind extension headers, from the last to the first; what a fragment header cuts off is lost."""
        draw = self._draw
        for _ in range(draw.choices((0, 1, 2, 3, 4), (60, 20, 10, 7, 3))[0]):
            kind = draw.choice((f.HOP_BY_HOP, f.DESTINATION, f.ROUTING, f.AH, f.FRAGMENT, f.FRAGMENT))
            if kind == f.AH:
                body = self._authentication(protocol) + body
            elif kind == f.FRAGMENT:
                at = draw.randrange(0, len(body) + 8, 8)
                part = draw.randrange(3)  # all of it, its beginning, its end
                offset = at // 8 if part == 2 else 0
                cut = (body, body[:at], body[at:])[part]
                body = f.fragment_header(protocol, offset, more=part == 1 or draw.random() < 0.1) + cut
            else:
                jumbo = struct.pack("!BBI", 0xC2, 4, draw.choice((0, 8, 70000)))
                options = draw.choice(
                    (b"\x01\x04\0\0\0\0", b"\x05\x02\0\0\1\0", jumbo, b"\x01\x0c" + bytes(12))
                )
                body = f.extension(protocol, options) + body
            protocol = kind
        return protocol, body

    def _option(self, kind: int) -> bytes:
        draw = self._draw
        kind = draw.choices((kind, 1, 2, 14, 5, draw.randrange(256)), (12, 2, 2, 2, 1, 1))[0]
        length = draw.choices((1, 0, 2, 3, 255), (20, 1, 2, 1, 1))[0]
        rest = draw.randbytes(8 * min(length, 3))
        return bytes((kind, length)) + f.mac(self._hardware(0.8)) + rest[: max(0, 8 * length - 8)]

    def _options(self, kind: int) -> bytes:
        count = self._draw.choices((0, 1, 2, 3), (30, 50, 15, 5))[0]
        options = b"".join(self._option(kind) for _ in range(count))
        return options + self._draw.choices((b"", b"\0", b"\1", bytes(8)), (92, 3, 3, 2))[0]

    def _icmp6(self, source: str, target: str) -> bytes:
        draw = self._draw
        kind = draw.choice(_KINDS6) if draw.random() < 0.97 else draw.randrange(256)
        makers: dict[int, Callable[[], bytes]] = {
            f.NS: lambda: f.neighbor(self._one((GATEWAY.v6, B.v6, *_OWN6), _FOREIGN6)) + self._options(1),
            f.NA: lambda: (
                f.neighbor(self._one(_OWN6, _FOREIGN6), draw.choice((0, 0x20, 0x60, 0xE0))) + self._options(2)
            ),
            f.RS: lambda: bytes(4) + self._options(1),
            f.RA: lambda: f.router_advertisement(A.mac),
        }
        body = makers.get(kind, lambda: draw.randbytes(draw.choice((4, 8, 20, 28))))()
        if draw.random() < 0.04:
            body = body[: draw.randrange(len(body) + 1)]
        return f.icmpv6(source, target, kind, body)

    def _from_nobody(self) -> bytes:
        """What a guest sends before it has an address, or something that looks like it."""
        draw = self._draw
        whose = self._one(_OWN6, _FOREIGN6, 0.7)
        kind = draw.choice((f.NS, f.NS, f.NS, f.RS, 131, 132, 143, 143, 130, f.NA, 128, f.RA))
        usual = {
            f.NS: f.solicited_node(whose),
            f.RS: "ff02::2",
            131: "ff02::1:ff00:11",
            132: "ff02::2",
            143: "ff02::16",
        }
        target = (
            usual.get(kind, "ff02::1")
            if draw.random() < 0.85
            else draw.choice((*_GROUPS6, B.v6, f.solicited_node(B.v6)))
        )
        bodies = {f.NS: f.neighbor(whose), f.NA: f.neighbor(whose), f.RS: bytes(4)}
        body = bodies.get(kind, draw.randbytes(20))
        if kind in {f.NS, f.RS} and draw.random() < 0.4:
            body += self._options(draw.choice((14, 14, 14, 1)))
        message = f.icmpv6("::", target, kind, body)
        reports = kind in {131, 132, 143, 130}
        chained: tuple[int, bytes] = f.ICMPV6, message
        if reports and draw.random() < 0.8:
            chained = f.HOP_BY_HOP, bytes((f.ICMPV6, 0)) + f.ROUTER_ALERT + message
        elif draw.random() < 0.15:
            chained = self._chain(*chained)
        return self._packet6("::", target, chained, draw.choice((1 if reports else 255,) * 9 + (64,)))
