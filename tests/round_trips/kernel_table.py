"""The guard's table as `nft -j` tells it, and as a specification's own words want it: the same values, by two other ways than ours."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from fractions import Fraction
from ipaddress import ip_network
from typing import Any

from schemas.address import Address
from tests.round_trips.dice import Words
from tests.round_trips.expected import addresses

Table = Mapping[str, frozenset[Any]]
_GOTO, _ADDRESSES, _NUMBERS = (
    "goto",
    ("own_v4", "own_v6", "own_net4", "own_net6"),
    ("own_target", "own_inner_mac"),
)


def kernel_table(text: str) -> Table:
    """The elements in `nft -j list table`, by set; counters left out."""
    found: dict[str, frozenset[Any]] = {}
    for item in json.loads(text)["nftables"]:
        each = item.get("set") or item.get("map")
        if each and not each["name"].startswith("count_"):
            found[each["name"]] = frozenset(_element(each["name"], one) for one in each.get("elem", ()))
    return {name: members for name, members in found.items() if members}


def log_of(text: str) -> tuple[set[Any], Fraction]:
    """The (prefix, level) of all that is logged, and how many lines a second the rules let through together."""
    rules = [item["rule"]["expr"] for item in json.loads(text)["nftables"] if "rule" in item]
    logs = {
        (each["log"]["prefix"], each["log"].get("level", "warn"))
        for expr in rules
        for each in expr
        if "log" in each
    }
    # Each rule that logs has a limit of its own, and a port's share inside a set's element.
    assert all(
        ("log" in each) == ("limit" in each) for expr in rules for each in [{k for e in expr for k in e}]
    )
    limits = [each["limit"] for expr in rules for each in expr if "limit" in each]
    return logs, sum((per_second(each["rate"], each["per"]) for each in limits), Fraction())


def per_second(count: int, per: str) -> Fraction:
    """A rate in one unit, without rounding."""
    return Fraction(count, {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}[per])


def _element(name: str, element: Any) -> Any:
    if name == "ports":
        port, verdict = element
        return port, verdict[_GOTO]["target"] if _GOTO in verdict else next(iter(verdict))
    if isinstance(element, str):
        return element
    port, *rest = element["concat"]
    if name in _ADDRESSES:
        mac, address = rest
        return port, mac, ip_network(_prefix(address))
    if name in _NUMBERS:
        return port, _number(rest[0])
    if name == "own_target_net":
        return port, *(_number(each) for each in rest[0]["range"])
    return port, *rest


def _prefix(address: Any) -> str:
    return address if isinstance(address, str) else f"{address['prefix']['addr']}/{address['prefix']['len']}"


def _number(value: str | int) -> int:
    return value if isinstance(value, int) else int(value, 16)


def wanted_table(host: Words, domus: Iterable[Words]) -> Table:
    """The elements that a host's and its domUs' specifications ask for, unnamed vifs left out."""
    found: defaultdict[str, set[Any]] = defaultdict(set)
    for bridge in host["bridges"]:
        found["bridges"].add(bridge["name"])
        found["ports"] |= {(uplink, "accept") for uplink in bridge["uplinks"]}
    for domu in domus:
        for vif in domu.get("vifs", ()):
            if "name" in vif:
                twins = (vif["name"], f"{vif['name']}-emu") if domu["type"] == "hvm" else (vif["name"],)
                for port in twins:
                    add_vif(found, port, vif, vif.get("guard", host["guard"]["mode"]))
    return {name: frozenset(members) for name, members in found.items() if members}


def add_vif(found: defaultdict[str, set[Any]], port: str, vif: Words, mode: str) -> None:
    """What one port of a vif may send."""
    mac = vif["mac"].lower()
    number = int(mac.replace(":", ""), 16)
    found["ports"].add((port, "from_guest"))
    found["own_mac"].add((port, mac))
    found["own_inner_mac"].add((port, number))
    if mode == "audit":
        found["audited"].add(port)
    # RFC 4291, appendix A: ff:fe in the middle, the seventh bit turned round.
    local = 0xFE80 << 112 | ((number >> 24 ^ 0x020000) << 40) | 0xFFFE << 24 | (number & 0xFFFFFF)
    own = addresses(vif)
    for address in {*own, ip_network((local, 128))}:
        if address.prefixlen == address.max_prefixlen:
            found[f"own_v{address.version}"].add((port, mac, address))
            if address.version == 6:
                found["own_target"].add((port, int(address.network_address)))
        elif not any(_around(other, address) for other in own):
            found[f"own_net{address.version}"].add((port, mac, address))
            if address.version == 6:
                first = int(address.network_address)
                found["own_target_net"].add((port, first, first + address.num_addresses - 1))


def _around(outer: Address, inner: Address) -> bool:
    """Whether a prefix says all that the other does, and more: the two together would be refused."""
    return outer.version == inner.version and outer.prefixlen < inner.prefixlen and outer.overlaps(inner)
