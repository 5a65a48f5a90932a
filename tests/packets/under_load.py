"""`python -m tests.packets.under_load [--frames N] [--reconciles N] [--seed S]`: the guard changes while two guests send flat out; root.

Bindings of two guests stay; around them the guard is changed in every way that there is, by the scripts that `apply` and its
watchdog give to nft, and the one who loads them is killed in the middle. The last line is its own count.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from reconciler.guard import nftables
from reconciler.guard.binding import Binding, Bridge, Guard
from reconciler.guard.nftables import LOAD
from state.nft import Features, probe_features, read_listing, read_table
from tests.packets import frames as f
from tests.packets.cases import STRANGER
from tests.packets.lab import Lab
from tests.packets.parties import (
    A_NET4,
    A_NET6,
    B_NET4,
    B_NET6,
    DOM0,
    GATEWAY,
    GUARD,
    A,
    B,
    Party,
    addresses,
    binding,
)
from tests.packets.streams import FORGED_MAC, LEGAL_MAC, Sent, Sink, Stream, mouth

_PORTS = (5000, 5001)
_SPARE = (
    "192.0.2.61",
    "192.0.2.62",
    "2001:db8::61",
    "2001:db8::62",
)  # change hands; nobody's stream has them
_CROWD = 40  # bindings of others
_MOST_KILL_S = 0.03
# Replacing sets, and the whole table, is for what cannot be changed in place. The kernel fills a new set of prefixes a moment after
# the new rules are in force, and empties an old map before the old rules are out of force: a legal frame may be refused in between
# (Linux 6.18). None that is forged passes: a guest's port that the map does not know is known by its group.
REPLACING = frozenset({"table restored", "table made anew"})
# Sources of their streams that are in a prefix of theirs, which is now and then that one address.
_PREFIXED = {A.port: "2001:db8:a::77", B.port: "198.51.100.35"}


def legal(party: Party) -> list[bytes]:
    """Frames of bindings that stay as they are: single addresses and one prefix."""
    mine = (party.mac, party.v4)
    sources = (party.v4, party.v6, party.link_local, _PREFIXED[party.port])
    found = [_udp(party, source) for source in sources]
    found.append(f.ethernet(LEGAL_MAC, party.mac, f.ARP, f.arp(2, mine, (LEGAL_MAC, GATEWAY.v4))))
    body = f.icmpv6(
        party.v6, GATEWAY.v6, f.NA, f.neighbor(party.v6, 0x60) + f.link_layer_option(2, party.mac)
    )
    found.append(f.ethernet(LEGAL_MAC, party.mac, f.IPV6, f.ipv6(party.v6, GATEWAY.v6, f.ICMPV6, body)))
    return found


def forged(party: Party, other: Party) -> list[bytes]:
    """Frames that no binding of the campaign ever allows, to the sink and to dom0."""
    found = [_udp(party, source) for source in (other.v4, other.v6, GATEWAY.v4, GATEWAY.v6, "203.0.113.9")]
    found += [_udp(party, party.v4, hardware) for hardware in (other.mac, GATEWAY.mac, STRANGER)]
    theirs = (party.mac, GATEWAY.v4)
    found.append(f.ethernet(FORGED_MAC, party.mac, f.ARP, f.arp(2, theirs, (FORGED_MAC, other.v4))))
    body = f.icmpv6(party.v6, B.v6, f.NA, f.neighbor(GATEWAY.v6, 0xE0) + f.link_layer_option(2, party.mac))
    found.append(f.ethernet(FORGED_MAC, party.mac, f.IPV6, f.ipv6(party.v6, B.v6, f.ICMPV6, body)))
    body = f.icmpv6(party.link_local, "ff02::1", f.RA, f.router_advertisement(party.mac))
    found.append(
        f.ethernet(FORGED_MAC, party.mac, f.IPV6, f.ipv6(party.link_local, "ff02::1", f.ICMPV6, body))
    )
    found.append(f.tagged(_udp(party, GATEWAY.v4, party.mac), 0))
    found = [f.mac(FORGED_MAC) + frame[6:] for frame in found]
    return [each for frame in found for each in (frame, f.mac(DOM0.mac) + frame[6:])]


def _udp(party: Party, source: str, hardware: str = "") -> bytes:
    target = GATEWAY.v6 if ":" in source else GATEWAY.v4
    datagram = f.udp(source, target, _PORTS, b"stream")
    packet = (f.ipv6 if ":" in source else f.ipv4)(source, target, f.UDP, datagram)
    return f.ethernet(LEGAL_MAC, hardware or party.mac, f.IPV6 if ":" in source else f.IPV4, packet)


@dataclass(slots=True)
class Outcome:
    """What a campaign saw. `queued`: frames that a device's queue dropped, which no rule has to do with."""

    sent: Sent = field(default_factory=Sent)
    heard: Sent = field(default_factory=Sent)
    queued: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    astray: frozenset[tuple[str, str]] = frozenset()

    @property
    def lost(self) -> int:
        return self.sent.legal - self.heard.legal

    def __str__(self) -> str:
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(self.kinds.items()))
        return (
            f"{kinds}\n{self.sent.frames} frames sent, {self.kinds.total()} reconciles: of {self.sent.forged} forged frames "
            f"{self.heard.forged} heard, of {self.sent.legal} legal ones {self.lost} lost ({self.queued} by queues), "
            f"{len(self.astray)} entries of the forwarding table astray"
        )


class Campaign:
    """One guard under two streams, changed again and again."""

    def __init__(self, lab: Lab, seed: int, kinds: Collection[str] = ()) -> None:
        self._lab, self._draw = lab, random.Random(seed)  # noqa: S311  # no secret
        self._features: Features = probe_features(lab.dom0)
        self._spare = {A.port: [_SPARE[0], _SPARE[2]], B.port: [_SPARE[1], _SPARE[3]]}
        self._nets = {A.port: [A_NET4], B.port: [B_NET6]}
        self._kept = {A.port: [A_NET6], B.port: [B_NET4]}
        self._crowd = dict.fromkeys(range(_CROWD), 1)
        self._guard = GUARD
        self._ways: dict[str, Callable[[], None]] = {
            "no change": self.reconcile,
            "binding added": self.add,
            "binding removed": self.remove,
            "address changed": self.change_address,
            "addresses swapped": self.swap,
            "prefix changed": self.change_prefix,
            "address widened to its prefix or back": self.widen,
            "bridge added or removed": self.change_bridges,
            "rules changed": self.change_rules,
            "rules spoilt": self.spoil_rules,
            "taken back": self.take_back,
            "loader killed": self.kill_loader,
            "daemon killed": self.kill_daemon,
            "table restored": self.restore_listing,
            "table made anew": self.make_anew,
        }
        self.kinds = sorted(kinds or self._ways.keys() - REPLACING)

    def wanted(self) -> Guard:
        """The guard as git has it now."""
        kept = [
            binding(each, *self._kept[each.port], *self._spare[each.port], *self._nets[each.port])
            for each in (A, B)
        ]
        crowd = [_other(number, generation) for number, generation in self._crowd.items()]
        self._guard = replace(self._guard, bindings=tuple(sorted([*kept, *crowd])))
        return self._guard

    def run(self, reconciles: int, frames: int) -> Outcome:
        """At least so many reconciles, and on until so many frames are sent."""
        lab, outcome, sink = self._lab, Outcome(), Sink(self._lab)
        try:
            lab.load(nftables.full(self.wanted(), self._features))
            sink.count_in_dom0((A.mac, B.mac, GATEWAY.mac, STRANGER))
            lab.restore()
            for party in (A, B):
                # As on every host; the lock of the port would keep forged MACs from the rules.
                lab.mark(party)
            known = set(lab.forwarding().items())
            mouths = [mouth(lab.namespace(party.port)) for party in (A, B)]
            while outcome.sent.frames < frames or outcome.kinds.total() < reconciles:
                pairs = zip(mouths, (A, B), (B, A), strict=True)
                streams = [Stream(raw, legal(own), forged(own, other)) for raw, own, other in pairs]
                for kind in self._drawn():
                    self._ways[kind]()
                    outcome.kinds[kind] += 1
                outcome.sent = sum((stream.end() for stream in streams), outcome.sent)
            outcome.heard = sink.heard(outcome.sent)
            outcome.queued = sum(lab.dropped(party.port) for party in (A, B)) + lab.dropped("sink")
            outcome.astray = frozenset(set(lab.forwarding().items()) - known)
            for raw in mouths:
                raw.close()
        finally:
            sink.close()
        return outcome

    def _drawn(self) -> list[str]:
        """Every kind once, in any order."""
        return self._draw.sample(self.kinds, len(self.kinds))

    # ---- ways to change ----

    def reconcile(self) -> None:
        """What a pass does: read, compare, load the difference, and read that nothing is left to do."""
        for step in nftables.move(read_table(self._lab.dom0), self.wanted(), self._features).steps:
            self._lab.dom0.must(*step.argv, stdin=step.stdin)
        assert self._script() == "", "a reconcile left something to do"

    def _script(self) -> str:
        return nftables.script(read_table(self._lab.dom0), self.wanted(), self._features)[0]

    def add(self) -> None:
        if self._crowd.keys() >= set(range(2 * _CROWD)):
            self._crowd.clear()
        self._crowd[min(set(range(2 * _CROWD)) - self._crowd.keys())] = 1
        self.reconcile()

    def remove(self) -> None:
        del self._crowd[self._draw.choice(sorted(self._crowd))]
        self._crowd = self._crowd or dict.fromkeys(range(_CROWD), 1)
        self.reconcile()

    def change_address(self) -> None:
        port = self._draw.choice((A.port, B.port))
        self._spare[port] = [] if self._spare[port] else [_SPARE[0 if port == A.port else 1]]
        number = self._draw.choice(sorted(self._crowd))
        self._crowd[number] += 1
        self.reconcile()

    def swap(self) -> None:
        a, b = A.port, B.port
        self._spare[a], self._spare[b] = self._spare[b], self._spare[a]
        self.reconcile()

    def change_prefix(self) -> None:
        choices = {A.port: [[], [A_NET4], ["198.51.100.16/29"]], B.port: [[], [B_NET6], ["2001:db8:c::/48"]]}
        port = self._draw.choice(sorted(choices))
        self._nets[port] = self._draw.choice([each for each in choices[port] if each != self._nets[port]])
        self.reconcile()

    def widen(self) -> None:
        """Beside others that change: what the kernel does in between takes the longer."""
        for port, net in ((A.port, A_NET6), (B.port, B_NET4)):
            self._kept[port] = [net] if self._kept[port] != [net] else [_PREFIXED[port]]
        self._crowd = {number: generation + 1 for number, generation in self._crowd.items()}
        self.reconcile()

    def change_bridges(self) -> None:
        more = (*GUARD.bridges, Bridge("xenbr9", ("eth9",)))
        self._guard = replace(self._guard, bridges=GUARD.bridges if self._guard.bridges == more else more)
        self.reconcile()

    def change_rules(self) -> None:
        log = self._guard.log
        self._guard = replace(
            self._guard, log=replace(log, level="info" if log.level == "debug" else "debug")
        )
        self.reconcile()

    def spoil_rules(self) -> None:
        """Somebody has changed our rules, harmlessly for the streams: they are put back."""
        self._lab.load("add rule bridge domgit from_arp ether daddr 00:00:5e:00:53:fe drop\n")
        self.reconcile()

    def take_back(self) -> None:
        """A change of elements that is confirmed by nobody: what the watchdog does."""
        before = read_table(self._lab.dom0)
        assert before is not None
        self._crowd[self._draw.choice(sorted(self._crowd))] += 1
        undo = nftables.undo_delta(before, self.wanted())
        self.reconcile()
        self._lab.load(undo)
        self.reconcile()

    def restore_listing(self) -> None:
        """A change of rules that is taken back: the watchdog puts back the whole table as it was listed."""
        self._lab.load(nftables.restored(read_listing(self._lab.dom0)))
        self.reconcile()

    def make_anew(self) -> None:
        """A set and a map are of another make, as of another version of this program: they are replaced by ours."""
        table = read_table(self._lab.dom0)
        assert table is not None
        theirs = ("map ports", "set own_net6")
        other, names = table.rules, "|".join(theirs)
        for name in theirs:
            assert f"{name}\n" in other
            other = other.replace(f"{name}\n", f"{name}\n\tsize 65536\n")
        script = nftables.reload_rules(replace(table, rules=other), self.wanted(), self._features)
        self._lab.load(re.sub(rf"\t({names}) {{\n", "\\g<0>\t\tsize 65536\n", script))
        assert "delete map" in self._script()
        self.reconcile()

    def kill_loader(self) -> None:
        """Nft itself is killed while it loads."""
        self._crowd[self._draw.choice(sorted(self._crowd))] += 1
        self._swap_rules_too()
        with self._lab.dom0.inside():
            loader = subprocess.Popen(LOAD, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert loader.stdin is not None
        loader.stdin.write(self._script())
        loader.stdin.flush()
        with contextlib.suppress(BrokenPipeError):
            loader.stdin.close()
        time.sleep(self._draw.uniform(0, _MOST_KILL_S))  # anywhere in its life
        loader.kill()
        loader.wait()
        self.reconcile()

    def kill_daemon(self) -> None:
        """Who reads, compares and starts nft is killed; an nft that it has started goes on."""
        self._crowd[self._draw.choice(sorted(self._crowd))] += 1
        self._swap_rules_too()
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                self.reconcile()
            os._exit(0)
        time.sleep(self._draw.uniform(0, 3 * _MOST_KILL_S))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        self._settle()

    def _swap_rules_too(self) -> None:
        if self._draw.random() < 0.5:
            log = self._guard.log
            self._guard = replace(self._guard, log=replace(log, count=log.count % 20 + 1))

    def _settle(self) -> None:
        """A script may meet another one that is under way; the next pass is its retry."""
        for _ in range(20):
            with contextlib.suppress(AssertionError):
                self.reconcile()
                return
            time.sleep(_MOST_KILL_S)
        self.reconcile()


def _other(number: int, generation: int) -> Binding:
    mac = f"00:00:5e:00:54:{number:02x}"
    bound = addresses(f"203.0.113.{number + 1}", f"2001:db8:f::{number + 1:x}:{generation:x}")
    return Binding(f"other{number:03}", mac, bound, f"uuid-of-{number}", 0)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 1 when a forged frame was heard or a legal one lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.packets.under_load", description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--reconciles", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--kind", action="append", default=[], help="this kind of reconcile alone; may be repeated"
    )
    options = parser.parse_args(argv)
    lab, started = Lab(), time.monotonic()
    try:
        outcome = Campaign(lab, options.seed, options.kind).run(options.reconciles, options.frames)
    finally:
        lab.close()
    print(f"{outcome} in {time.monotonic() - started:.0f} s")
    lost = outcome.lost and not REPLACING & outcome.kinds.keys()
    return 1 if outcome.heard.forged or lost or outcome.astray else 0


if __name__ == "__main__":
    sys.exit(main())
