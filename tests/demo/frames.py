"""The frames that the demo sends: what a customer can type into his own VPS, forged and honest."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

TAG = b"domgit-demo-"
BROADCAST = "ff:ff:ff:ff:ff:ff"
ALL_NODES = "33:33:00:00:00:01"


def mac(text: str) -> bytes:
    """Six bytes."""
    return bytes.fromhex(text.replace(":", ""))


def ether(to: str, source: str, kind: int, payload: bytes) -> bytes:
    """An Ethernet frame."""
    return mac(to) + mac(source) + struct.pack("!H", kind) + payload


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def udp4(source: str, to: str, payload: bytes, ports: tuple[int, int] = (40000, 9)) -> bytes:
    """An IPv4 packet with a UDP datagram (no UDP checksum, which IPv4 allows)."""
    datagram = struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload
    addresses = ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(to).packed
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(datagram), 1, 0, 64, 17, 0)
    head = head[:10] + struct.pack("!H", checksum(head + addresses))
    return head + addresses + datagram


def arp(operation: int, sender_mac: str, sender: str, target_mac: str, target: str) -> bytes:
    """An ARP message for IPv4 over Ethernet."""
    return (
        struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
        + mac(sender_mac)
        + ipaddress.IPv4Address(sender).packed
        + mac(target_mac)
        + ipaddress.IPv4Address(target).packed
    )


def icmp6(source: str, to: str, message: bytes) -> bytes:
    """An IPv6 packet with an ICMPv6 message; the checksum field of `message` is filled in."""
    addresses = ipaddress.IPv6Address(source).packed + ipaddress.IPv6Address(to).packed
    pseudo = addresses + struct.pack("!IHBB", len(message), 0, 0, 58)
    message = message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]
    return struct.pack("!IHBB", 6 << 28, len(message), 58, 255) + addresses + message


def advertisement(target: str, link_layer: str) -> bytes:
    """A neighbour advertisement with override, and the target's link-layer address."""
    return (
        struct.pack("!BBHI", 136, 0, 0, 0x20000000)
        + ipaddress.IPv6Address(target).packed
        + b"\x02\x01"
        + mac(link_layer)
    )


def router_advertisement(link_layer: str) -> bytes:
    """A router advertisement that makes its sender everybody's default router."""
    return struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + b"\x01\x01" + mac(link_layer)


@dataclass(frozen=True, slots=True)
class Party:
    """Somebody on the bridge."""

    mac: str
    ip: str
    ip6: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """A frame with what it tries."""

    name: str
    frame: bytes
    forged: bool


def cases(me: Party, neighbour: Party, gateway: Party, dom0: Party) -> tuple[Case, ...]:
    """What `me` sends: first honest frames, then the ways to be somebody else."""

    def payload(name: str) -> bytes:
        return TAG + name.encode()

    def forged(name: str, to: str, source: str, kind: int, content: bytes) -> Case:
        return Case(name, ether(to, source, kind, content), forged=True)

    tagged = struct.pack("!HH", 0, 0x0800) + udp4(neighbour.ip, gateway.ip, payload("vlan"))
    offer = b"\x02\x01\x06\x00" + bytes(232) + payload("dhcp")
    link_local = "fe80::1"
    return (
        Case(
            "own address to the gateway",
            ether(gateway.mac, me.mac, 0x0800, udp4(me.ip, gateway.ip, payload("own"))),
            forged=False,
        ),
        Case(
            "own address to the neighbour",
            ether(neighbour.mac, me.mac, 0x0800, udp4(me.ip, neighbour.ip, payload("own2"))),
            forged=False,
        ),
        Case(
            "own ARP request",
            ether(BROADCAST, me.mac, 0x0806, arp(1, me.mac, me.ip, "00:00:00:00:00:00", gateway.ip)),
            forged=False,
        ),
        forged(
            "neighbour's IP to the gateway",
            gateway.mac,
            me.mac,
            0x0800,
            udp4(neighbour.ip, gateway.ip, payload("ip")),
        ),
        forged(
            "gateway's IP to the neighbour",
            neighbour.mac,
            me.mac,
            0x0800,
            udp4(gateway.ip, neighbour.ip, payload("gw")),
        ),
        forged(
            "neighbour's IP to dom0 itself",
            dom0.mac,
            me.mac,
            0x0800,
            udp4(neighbour.ip, dom0.ip, payload("dom0")),
        ),
        forged("neighbour's IP behind a VLAN tag", gateway.mac, me.mac, 0x8100, tagged),
        forged(
            "neighbour's MAC", gateway.mac, neighbour.mac, 0x0800, udp4(me.ip, gateway.ip, payload("mac"))
        ),
        forged(
            "ARP: the gateway is at my MAC",
            neighbour.mac,
            me.mac,
            0x0806,
            arp(2, me.mac, gateway.ip, neighbour.mac, neighbour.ip),
        ),
        forged(
            "DHCP: I am your server",
            BROADCAST,
            me.mac,
            0x0800,
            udp4(me.ip, "255.255.255.255", offer, (67, 68)),
        ),
        forged(
            "IPv6: I am the gateway",
            ALL_NODES,
            me.mac,
            0x86DD,
            icmp6(gateway.ip6, "ff02::1", advertisement(gateway.ip6, me.mac)),
        ),
        forged(
            "IPv6: I am your router",
            ALL_NODES,
            me.mac,
            0x86DD,
            icmp6(link_local, "ff02::1", router_advertisement(me.mac)),
        ),
    )
