"""`python -m tests.packets.fuzz [--frames N] [--seed S] [--shard I/N]`: drawn frames through the guard, each held against the oracle; root.

The last line is its own count. Frames go in blocks; shard I of N takes every N-th, so that shards in any order, on any
machine, at any time, are the whole together.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from reconciler.guard import nftables
from reconciler.guard.binding import Guard
from state.nft import Features, probe_features
from tests.packets.cases import EVERYBODY, reached
from tests.packets.dice import Dice
from tests.packets.lab import Lab, Tables, has_br_netfilter, variants
from tests.packets.oracle import Judgement, Oracle
from tests.packets.parties import A_BINDING, BRIDGE, GATEWAY, GUARD, UNKNOWN, A, B

BLOCK, BATCH = 2_000, 250
_LLDP = b"\x01\x80\xc2\x00\x00\x0e"
_PORTS = {party.mac: party.port for party in (A, B, GATEWAY, UNKNOWN)}
_AT_HOME = {address: party.mac for party in (B, GATEWAY) for address in (party.v4, party.v6)}


@dataclass(frozen=True, slots=True)
class Setting:
    """How the bench stands: with the second layer or without, with frames passing iptables or not."""

    locked: bool
    filtered: bool

    def __str__(self) -> str:
        return (
            f"port {'locked' if self.locked else 'unlocked'}, br_netfilter {'on' if self.filtered else 'off'}"
        )


@dataclass(frozen=True, slots=True)
class Violation:
    """A frame that got where it must not, or did not get where it must; `where` are those who heard it."""

    number: int
    frame: bytes
    judgement: Judgement
    where: frozenset[str]
    setting: Setting

    def __str__(self) -> str:
        heard = " ".join(sorted(self.where)) or "nobody"
        return (
            f"frame {self.number} must {self.judgement.verdict} ({self.judgement.why}), {self.setting}, "
            f"heard by {heard}: {self.frame.hex()}"
        )


@dataclass(slots=True)
class Tally:
    """What became of frames. `unheard`: legal frames that nobody hears without a guard either."""

    verdicts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    unheard: int = 0
    violations: list[Violation] = field(default_factory=list)

    @property
    def frames(self) -> int:
        return self.verdicts.total()


def settings() -> tuple[Setting, ...]:
    """Those that this kernel has."""
    filtered = (False, True) if has_br_netfilter() else (False,)
    return tuple(Setting(locked, each) for locked in (False, True) for each in filtered)


class Fuzzer:
    """Frames of one seed through one rule set."""

    def __init__(self, lab: Lab, script: str, seed: int, tally: Tally) -> None:
        self._lab, self._script, self._tally = lab, script, tally
        self._seed, self._dice, self._oracle = seed, Dice(seed), Oracle(A_BINDING)

    def block(self, number: int, setting: Setting | None = None) -> None:
        """The frames of one block, under the setting that is drawn for it."""
        setting = setting or random.Random(self._seed << 32 | number).choice(settings())  # noqa: S311  # no secret
        self._stand(setting)
        suspects: list[Violation] = []
        numbers = range(number * BLOCK, (number + 1) * BLOCK)
        for batch in _batches(self._frames(numbers)):
            judged = [(each, frame, self._judge(frame, setting)) for each, frame in batch]
            told = [each for each in judged if setting.locked or not each[1].startswith(_LLDP)]
            suspects.extend(self._send(told, setting))
            self._tally.verdicts.update(judgement.verdict for *_, judgement in judged)
            self._tally.reasons.update((judgement.verdict, judgement.why) for *_, judgement in judged)
        self._confirm(suspects)

    def _stand(self, setting: Setting) -> None:
        self._lab.clear()
        if has_br_netfilter():
            self._lab.filter_by_iptables(enabled=setting.filtered)
        self._lab.load(self._script)
        if setting.locked:
            self._lab.lock(A)
        self._lab.restore()

    def _frames(self, numbers: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        for number in numbers:
            yield number, self._dice.frame(number)

    def _judge(self, frame: bytes, setting: Setting) -> Judgement:
        found = self._oracle.judge(frame)
        if not frame.startswith(_LLDP):
            return found
        # Past every hook into dom0's own stack, unless the port lock has the bridge forward it.
        return (
            self._oracle.judge(b"\xff" * 6 + frame[6:])
            if setting.locked
            else Judgement("free", "LLDP's group, unlocked")
        )

    def _send(self, judged: Sequence[tuple[int, bytes, Judgement]], setting: Setting) -> Iterator[Violation]:
        where, tables = self._lab.send_together([frame for _, frame, _ in judged])
        for (number, frame, judgement), heard in zip(judged, where, strict=True):
            if (judgement.verdict == "drop" and heard) or (
                judgement.verdict == "pass" and not _whom(frame) <= heard
            ):
                yield Violation(number, frame, judgement, heard, setting)
        if self._astray(tables):
            for number, frame, judgement in judged:
                self._lab.restore()
                if self._astray(self._lab.send_together([frame])[1]):
                    yield Violation(number, frame, judgement, frozenset({"dom0's tables"}), setting)
            self._lab.restore()

    def _astray(self, tables: Tables) -> bool:
        """Whether the bridge or dom0 has somebody where he is not."""
        forwarding, neighbors = tables
        return any(_PORTS.get(mac) != port for mac, port in forwarding.items()) or any(
            mac != _AT_HOME.get(address, A.mac)
            or (address not in _AT_HOME and not self._oracle.owns_text(address))
            for address, mac in neighbors.items()
        )

    def _confirm(self, suspects: Sequence[Violation]) -> None:
        """A legal frame that nobody hears is the guard's fault only if it is heard without one."""
        blocked = [
            each
            for each in suspects
            if each.judgement.verdict == "pass" and "dom0's tables" not in each.where
        ]
        leaked = [each for each in suspects if each not in blocked]
        if blocked:
            self._lab.clear()
            where, _ = self._lab.send_together([each.frame for each in blocked])
            real = [each for each, heard in zip(blocked, where, strict=True) if _whom(each.frame) <= heard]
            self._tally.unheard += len(blocked) - len(real)
            leaked += real
        self._tally.violations.extend(leaked)


def _whom(frame: bytes) -> frozenset[str]:
    """Who hears a frame that passes; an unknown MAC is sought at every port, which dom0 is none of."""
    whom = reached(frame[:6].hex(":"))
    return whom - {BRIDGE} if whom == EVERYBODY and not frame[0] & 1 else whom


def _batches(frames: Iterable[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    """Batches in which no frame can be taken for another; one that could waits for the next."""
    waiting = list(frames)
    while waiting:
        batch: list[tuple[int, bytes]] = []
        later: list[tuple[int, bytes]] = []
        known: set[bytes] = set()
        for number, frame in waiting:
            looks = variants(frame)
            if len(batch) == BATCH or known & looks:
                later.append((number, frame))
                continue
            batch.append((number, frame))
            known |= looks
        yield batch
        waiting = later


def script(lab: Lab, guard: Guard = GUARD) -> tuple[str, Features]:
    """The guard as this kernel gets it."""
    features = probe_features(lab.dom0)
    return nftables.full(guard, features), features


def main() -> int:
    """Exit status 1 when there is a violation."""
    parser = argparse.ArgumentParser(prog="python -m tests.packets.fuzz", description=__doc__)
    parser.add_argument("--frames", type=int, default=100_000, help="in all shards together")
    parser.add_argument("--seed", type=int, default=1, help="always the same frames from the same seed")
    parser.add_argument("--shard", default="0/1", help="only part I of N, as I/N")
    options = parser.parse_args()
    shard, shards = (int(part) for part in options.shard.split("/"))
    lab, tally, started = Lab(), Tally(), time.monotonic()
    try:
        fuzzer = Fuzzer(lab, script(lab)[0], options.seed, tally)
        for block in range(shard, -(-options.frames // BLOCK), shards):
            fuzzer.block(block)
    finally:
        lab.close()
    return _told(tally, time.monotonic() - started)


def _told(tally: Tally, seconds: float) -> int:
    for (verdict, why), count in sorted(tally.reasons.items(), key=lambda item: (item[0][0], -item[1])):
        print(f"{count:>9} {100 * count / tally.frames:>5.1f} %  {verdict:<5} {why}")
    for violation in tally.violations:
        print(violation)
    shares = ", ".join(
        f"{name} {100 * count / tally.frames:.1f} %" for name, count in sorted(tally.verdicts.items())
    )
    print(
        f"{tally.frames} frames in {seconds:.0f} s ({shares}; {tally.unheard} that no bridge forwards), "
        f"{len(tally.violations)} violations"
    )
    return 1 if tally.violations else 0


if __name__ == "__main__":
    sys.exit(main())
