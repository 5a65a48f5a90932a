"""One random rule set, loaded, judged, and tried with frames: where what is said of it is not what it does."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from random import Random

from reconciler.foreign.frames import answering, frames
from reconciler.foreign.path import numbers
from tests.packets.foreign_bench import SERIAL, certain, judge, load, opened, parties, said, single
from tests.packets.foreign_rules import OWN, Tool, scripts
from tests.packets.parties import A
from tests.packets.wire import Sent, Wire


@dataclass(frozen=True, slots=True)
class Trial:
    """What was said of each frame (None: open), what of that was wrong, and the rules."""

    said: tuple[bool | None, ...]
    wrong: tuple[str, ...]
    texts: tuple[str, ...]


def tried(wire: Wire, tool: Tool, seed: int) -> Trial:
    """The random rules of a seed against frames of every class from and to guest A."""
    dice = Random(f"{tool} {seed}")  # noqa: S311  # the same rules for the same seed
    loaded = scripts(tool, dice)
    for script in loaded:
        load(wire.lab, script)
    judged = judge(wire.lab)
    batch: list[Sent] = []
    expected: list[bool | None] = []
    wrong: list[str] = []
    for own in (*OWN[4], *OWN[6]):
        for frame in frames(A.mac, ip_network(own)):
            fields = single(frame, dice, next(SERIAL))
            if frame.kind == "reply":
                # To conntrack, the first answer to a SYN is valid as SYN and ACK alone.
                fields["tcp_flags"] = ((0x12, 0x12),)
                first, before = opened(fields, frame)
                verdict, left = said(judged, first, before)
                if not verdict or left is None:
                    continue
                fields = answering({**fields, "ctmark": left.fields["ctmark"]}, numbers(left, "tracked"))
                batch.append(Sent(*parties(first), before))
                expected.append(True)
            verdict, _ = said(judged, frame, fields)
            whole = None if frame.kind == "reply" else certain(judged, frame)
            if whole is not None and verdict not in {None, whole}:
                wrong.append(
                    f"all {frame.kind} {frame.way} were said to be {whole}, one of them {verdict}: {fields}"
                )
            batch.append(Sent(*parties(frame), fields))
            expected.append(verdict)
    for sent, verdict, got in zip(batch, expected, wire.arrives(batch), strict=True):
        if verdict is not None and verdict != (got is not None):
            what = "arrive" if verdict else "be dropped"
            wrong.append(f"{sent.sender.port} to {sent.target.port} was said to {what}: {sent.fields}")
    return Trial(tuple(expected), tuple(wrong), tuple(script.text for script in loaded))
