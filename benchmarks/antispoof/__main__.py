"""What leaks through each system's rules, and what legal frames they lose: `python -m benchmarks.antispoof [--json]`. Needs root.

The frames are those of the packet tests, judged as there: a forged one must be seen by nobody (other guests, the uplink,
dom0 and its sockets) and change no entry of the bridge's or of dom0's tables; a legal one must be heard by whom it is for.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.antispoof.peers import PEERS, Peer
from tests.packets.backends import forget
from tests.packets.cases import FORGED_BY_KIND, LEGAL_BY_KIND, RESERVED, Case
from tests.packets.lab import Lab
from tests.packets.test_frames import complaint

_TAGGED = ("VLAN", "802.1ad", "QinQ")


@dataclass(frozen=True, slots=True)
class Score:
    """How a system did, by row: those that leaked, or were lost, by name."""

    peer: Peer
    leaked: Mapping[str, tuple[str, ...]]
    lost: Mapping[str, tuple[str, ...]]


def row(kind: str, case: Case) -> str:
    """The line of the table that a forged frame counts in."""
    match kind:
        case "IPv4 source" | "IPv6 source":
            return f"{kind}, to dom0" if "to dom0" in case.name else f"{kind}, to guests and uplink"
        case "roles":
            return (
                "DHCP servers, other clients' DHCP"
                if "dhcp" in case.name
                else "queries and other roles of routers"
            )
        case "groups in fragments" | "IGMP from nobody":
            return "queries and other roles of routers"
        case "DHCP from odd ports":
            return "DHCP servers, other clients' DHCP"
        case "neighbour discovery in fragments":
            return "neighbour discovery"
        case "types":
            return (
                "VLAN tags"
                if any(word in case.name for word in _TAGGED)
                else "other types, LLC, spanning tree, cut headers"
            )
        case _:
            return kind


def rows() -> Mapping[str, Sequence[Case]]:
    """All forged frames by line of the table."""
    found: dict[str, list[Case]] = {}
    for kind, cases in {**FORGED_BY_KIND, "to 802.1D's reserved groups": RESERVED}.items():
        for case in cases:
            found.setdefault(row(kind, case), []).append(case)
    return found


def score(
    lab: Lab, peer: Peer, forged: Mapping[str, Sequence[Case]], legal: Mapping[str, Sequence[Case]]
) -> Score:
    """How a system does with these frames."""
    forget(lab)
    lab.clear()
    lab.filter_by_iptables(enabled=False)
    peer.load(lab)
    return Score(peer, _wrong(lab, forged), _wrong(lab, legal))


def _wrong(lab: Lab, rows: Mapping[str, Sequence[Case]]) -> dict[str, tuple[str, ...]]:
    return {
        name: tuple(case.name for case in cases if complaint(case, lab.send(case.frame, case.sender)))
        for name, cases in rows.items()
    }


def table(
    scores: Sequence[Score], forged: Mapping[str, Sequence[Case]], legal: Mapping[str, Sequence[Case]]
) -> str:
    """The scores as Markdown, a column a system."""
    head = ["", *(each.peer.name for each in scores)]
    lines = [head, ["---"] * len(head)]
    lines.append(
        [f"**leaked of {_count(forged)} forged**", *(f"**{_total(each.leaked)}**" for each in scores)]
    )
    lines += [
        [f"{name} ({len(cases)})", *(str(len(each.leaked[name])) for each in scores)]
        for name, cases in forged.items()
    ]
    lines.append([f"**lost of {_count(legal)} legal**", *(f"**{_total(each.lost)}**" for each in scores)])
    lines += [
        [f"{name} ({len(cases)})", *(str(len(each.lost[name])) for each in scores)]
        for name, cases in legal.items()
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _count(rows: Mapping[str, Sequence[Case]]) -> int:
    return sum(len(cases) for cases in rows.values())


def _total(found: Mapping[str, Sequence[str]]) -> int:
    return sum(len(names) for names in found.values())


def versions(lab: Lab) -> dict[str, str]:
    """What it was measured with."""
    tools = {
        "nft": ("nft", "--version"),
        "iptables": ("iptables-nft", "--version"),
        "ebtables": ("ebtables-nft", "--version"),
    }
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "kernel": platform.release(),
        **{name: lab.dom0.must(*argv).partition(" (")[0].split()[-1] for name, argv in tools.items()},
    }


def document(
    scores: Iterable[Score],
    lab: Lab,
    forged: Mapping[str, Sequence[Case]],
    legal: Mapping[str, Sequence[Case]],
) -> dict[str, Any]:
    """The scores as data, every frame that went wrong by name."""
    return {
        "measured": versions(lab),
        "forged": {name: len(cases) for name, cases in forged.items()},
        "legal": {name: len(cases) for name, cases in legal.items()},
        "systems": [
            {
                "name": each.peer.name,
                "basis": each.peer.basis,
                "leaked": _total(each.leaked),
                "lost": _total(each.lost),
                "leaked_frames": each.leaked,
                "lost_frames": each.lost,
            }
            for each in scores
        ],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.antispoof", description=__doc__)
    parser.add_argument("--json", action="store_true", help="every frame that went wrong, by system and row")
    options = parser.parse_args()
    lab, forged, scores = Lab(), rows(), []
    for peer in PEERS:
        bench = lab if peer.bench is Lab else peer.bench()
        scores.append(score(bench, peer, forged, LEGAL_BY_KIND))
        if bench is not lab:
            bench.close()
    if options.json:
        print(json.dumps(document(scores, lab, forged, LEGAL_BY_KIND), indent=2))
    else:
        print(table(scores, forged, LEGAL_BY_KIND), end="")
        print("\n" + ", ".join(f"{name} {value}" for name, value in versions(lab).items()))
        for each in scores:
            print(f"{each.peer.name}: {each.peer.basis}")
    lab.close()


if __name__ == "__main__":
    main()
