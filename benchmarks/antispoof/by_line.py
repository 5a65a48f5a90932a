"""Which line of others' iptables rules lets which forged frame through: `python -m benchmarks.antispoof.by_line [--json]`. Needs root.

A frame that leaked is put down to every ACCEPT whose counter it moved, or, where no line of FORWARD met it, to none.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.antispoof.__main__ import rows, versions
from benchmarks.antispoof.peers import PEERS, Peer
from tests.packets import frames as f
from tests.packets.cases import FORGED, PORTS, RESERVED, Case, udp4
from tests.packets.foreign_bench import clear
from tests.packets.lab import Lab
from tests.packets.parties import GATEWAY, UPLINK, A, B
from tests.packets.test_frames import complaint

SAVE = ("iptables-nft-save", "-c", "-t", "filter")
_COUNTED = re.compile(r"^\[(\d+):\d+\] -A (FORWARD .*)$", re.MULTILINE)
NO_LINE = "(no line of FORWARD sees it)"
# The last frame of this is forged: what comes to a guest as an answer to what it asked itself.
ANSWER = "an answer of the gateway's into a connection of B's"


@dataclass(frozen=True, slots=True)
class Lines:
    """The names of the forged frames that leaked, by the line that let them through."""

    peer: Peer
    leaked: Mapping[str, tuple[str, ...]]
    sent: int


def lines(lab: Lab, peer: Peer, cases: Sequence[Case]) -> Lines:
    """Every frame through the rules of a peer, one after the other."""
    clear(lab)
    lab.clear()
    peer.load(lab)
    found: dict[str, list[str]] = {rule: [] for rule in _counts(lab) if rule.endswith("-j ACCEPT")}
    for case in cases:
        before = _counts(lab)
        leaked = complaint(case, lab.send(case.frame, case.sender)) is not None
        moved = [rule for rule, count in _counts(lab).items() if count > before[rule] and _about(case, rule)]
        for rule in moved if leaked else ():
            found[rule].append(case.name)
        if leaked and not moved:
            found.setdefault(NO_LINE, []).append(case.name)
    for rule in _by_a_forged_answer(lab):
        found[rule].append(ANSWER)
    return Lines(peer, {rule: tuple(names) for rule, names in found.items()}, len(cases) + 1)


def _counts(lab: Lab) -> dict[str, int]:
    return {rule: int(count) for count, rule in _COUNTED.findall(lab.dom0.must(*SAVE))}


def _about(case: Case, rule: str) -> bool:
    """Whether a line can have let this frame through, and not what the bench itself sends from B and from the gateway."""
    others = [party.port for party in (A, B) if party is not case.sender]
    return rule.endswith("-j ACCEPT") and (
        f"--physdev-in {case.sender.port} " in rule
        or any(f"--physdev-out {port} " in rule for port in others)
    )


def _by_a_forged_answer(lab: Lab) -> Iterator[str]:
    """The lines that let pass what A sends as the gateway, with the ports of a connection between B and the gateway."""
    here, there = PORTS
    to, back = (B.mac, B.v4, GATEWAY.mac, GATEWAY.v4), (GATEWAY.mac, GATEWAY.v4, B.mac, B.v4)
    for port, (smac, source, dmac, target), ports in (
        (B.port, to, (here, there)),
        (UPLINK, back, (there, here)),
    ):
        body = f.ipv4(source, target, f.UDP, f.udp(source, target, ports, b"honest"))
        lab.sockets[port].send(f.ethernet(dmac, smac, f.IPV4, body))
    lab.settle()
    before = _counts(lab)
    forged = udp4(GATEWAY.v4, B, payload=b"forged", ports=(there, here))
    (where,) = lab.send_all([forged], A)
    if B.port in where:
        for rule, count in _counts(lab).items():
            if count > before[rule] and rule.endswith("-j ACCEPT") and f"--physdev-out {B.port} " in rule:
                yield rule


def main() -> None:
    """Measure and print: a line of the rules, how many forged frames it let through, and of which kinds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.antispoof.by_line", description=__doc__)
    parser.add_argument("--json", action="store_true", help="every frame by name")
    options = parser.parse_args()
    lab = Lab()
    cases = (*FORGED, *RESERVED)
    found = [lines(lab, peer, cases) for peer in PEERS if peer.name in {"Xen antispoof", "by hand"}]
    if options.json:
        print(json.dumps({each.peer.name: each.leaked for each in found}, indent=2))
    else:
        kinds = {case.name: row for row, those in rows().items() for case in those}
        for each in found:
            print(f"{each.peer.name}: {each.sent} forged frames")
            for rule, names in each.leaked.items():
                print(f"  {len(names):4} {rule}")
                if names:
                    print(f"       {_kinds(names, kinds)}")
        print(", ".join(f"{name} {value}" for name, value in versions(lab).items()))
    lab.close()


def _kinds(names: Sequence[str], kinds: Mapping[str, str]) -> str:
    count: dict[str, list[str]] = {}
    for name in names:
        count.setdefault(kinds.get(name, "connection tracking"), []).append(name)
    return "; ".join(f"{len(those)} {kind} (`{those[0]}`)" for kind, those in count.items())


if __name__ == "__main__":
    main()
