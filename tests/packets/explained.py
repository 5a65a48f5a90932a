"""The explainer beside the kernel: frames in groups that should end the same way, and what the kernel counted of each.

A refused frame raises one counter of ours, and one that is let through one of a witness right behind the guard. So where n
frames of a group raise the expected counters by n and no other by any, each of them ended as expected: nobody has to ask
frame by frame. Where they do not, halves of the group tell which frames it was.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reconciler.explain.judge import Judge
from reconciler.explain.walk import Way
from reconciler.guard.nftables_rules import REASONS
from tests.packets.lab import Lab
from tests.packets.parties import BRIDGE, Party

# One behind the guard's hooks. What the bridge reserves goes past prerouting, all else is let through there.
_WITNESS = """table bridge witness {{
	chain prerouting {{
		type filter hook prerouting priority -309; policy accept;
		iifname "{port}" counter comment "passed"
	}}
	chain input {{
		type filter hook input priority -309; policy accept;
		iifname "{port}" ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 ether daddr != {{ 01:80:c2:00:00:00, 01:80:c2:00:00:0e }} counter comment "passed"
	}}
}}
"""
_BRIDGE_GROUP = bytes.fromhex("0180c2000000")
_PASSED = re.compile(r'counter packets (\d+) bytes \d+ comment "passed"')


@dataclass(frozen=True, slots=True)
class Wrong:
    """A frame that did not end as explained."""

    frame: bytes
    explained: Way
    counted: Mapping[str, int]

    def __str__(self) -> str:
        said = (self.explained.verdict, self.explained.reason)
        return f"{self.frame.hex()}: explained as {said}, the kernel counted {dict(self.counted)}"


class Witness:
    """A bench with a guard loaded, and what its kernel counts of one sender's frames."""

    def __init__(self, lab: Lab, sender: Party) -> None:
        self._lab, self._sender = lab, sender
        lab.load(_WITNESS.format(port=sender.port))
        self._markers = Counter[str]()
        self._markers = self.counted([])  # the gateway sends some of those that end an observation

    def counted(self, frames: Sequence[bytes]) -> Counter[str]:
        """By how much each counter rose for these frames: `passed`, or the reason."""
        before = self._counters()
        for frame in frames:
            self._lab.sockets[self._sender.port].send(frame)
        self._lab.settle()
        after = self._counters()
        after.subtract(before)
        after.subtract(self._markers)
        return +after

    def _counters(self) -> Counter[str]:
        listed = self._lab.dom0.must("nft", "list", "table", "bridge", "domgit")
        found = Counter({reason: _count(listed, reason, self._sender.port) for reason in REASONS})
        witness = self._lab.dom0.must("nft", "list", "table", "bridge", "witness")
        found["passed"] = sum(int(number) for number in _PASSED.findall(witness))
        return found


def _count(listed: str, reason: str, port: str) -> int:
    block = listed.partition(f"\tset count_{reason} {{")[2].partition("\n\t}")[0]
    match = re.search(rf'"{re.escape(port)}" counter packets (\d+)', block)
    return 0 if match is None else int(match[1])


def disagreements(judge: Judge, witness: Witness, sender: Party, frames: Sequence[bytes]) -> list[Wrong]:
    """The frames of a sender that the kernel treats otherwise than the judge says; at most three of a group."""
    groups: dict[tuple[Way, int], list[bytes]] = defaultdict(list)
    ways: dict[tuple[str, str, bool, bool], Way] = {}
    for frame in frames:
        way = judge.way(frame, port=sender.port, bridge=BRIDGE)
        unseen = not way.base
        # What a port without STP forwards of the bridge's own group goes to the bridge as well, and is counted there again.
        twice = way.verdict == "pass" and frame[:6] == _BRIDGE_GROUP and not unseen
        groups[ways.setdefault((way.verdict, way.reason, unseen, twice), way), 1 + twice].append(frame)
    return [
        each
        for (way, times), members in groups.items()
        for each in list(_wrong(way, times, witness, members))[:3]
    ]


def _wrong(way: Way, times: int, witness: Witness, frames: Sequence[bytes]) -> Iterator[Wrong]:
    expected = Counter[str]()
    if way.base:
        expected += Counter({way.reason: times * len(frames)} if way.reason else {})
        expected += Counter({"passed": len(frames)} if way.verdict == "pass" else {})
    counted = witness.counted(frames)
    if counted == expected:
        return
    if len(frames) == 1:
        yield Wrong(frames[0], way, counted)
        return
    half = len(frames) // 2
    found = 0
    for part in (frames[:half], frames[half:]):
        for each in _wrong(way, times, witness, part):
            yield each
            found += 1
            if found >= 3:
                return
