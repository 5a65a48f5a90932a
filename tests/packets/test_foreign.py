"""Random rules of others: what is said of them against what they do to frames."""

from __future__ import annotations

import os
from ipaddress import ip_network
from random import Random

import pytest

from reconciler.foreign.frames import answering, frames
from reconciler.foreign.match import one
from reconciler.foreign.path import numbers
from tests.packets.foreign_bench import SERIAL, certain, clear, judge, load, opened, parties, said, single
from tests.packets.foreign_rules import OWN, Tool, scripts
from tests.packets.parties import A
from tests.packets.wire import Sent, Wire

pytestmark = pytest.mark.netns
TOOLS: tuple[Tool, ...] = ("iptables-nft", "iptables-legacy", "nft", "nft bridge", "ebtables")
ROUNDS = int(os.environ.get("DOMGIT_FOREIGN_ROUNDS", "40"))


@pytest.mark.parametrize("tool", TOOLS)
def test_what_is_said_of_random_rules_is_what_they_do_to_frames(wire: Wire, tool: Tool) -> None:
    counts = {True: 0, False: 0, None: 0}
    for seed in range(ROUNDS):
        dice = Random(f"{tool} {seed}")  # noqa: S311  # the same rules for the same seed
        loaded = scripts(tool, dice)
        for script in loaded:
            load(wire.lab, script)
        judged = judge(wire.lab)
        batch: list[Sent] = []
        expected: list[bool | None] = []
        for version in (4, 6):
            for own in OWN[version]:
                for frame in frames(A.mac, ip_network(own)):
                    fields = single(frame, dice, next(SERIAL))
                    if frame.kind == "reply":
                        # To conntrack, the first answer to a SYN is valid as SYN and ACK alone.
                        fields["tcp_flags"] = one(0x12)
                        first, before = opened(fields, frame)
                        verdict, left = said(judged, first, before)
                        if not verdict or left is None:
                            continue
                        fields = answering(
                            {**fields, "ctmark": left.fields["ctmark"]}, numbers(left, "tracked")
                        )
                        batch.append(Sent(*parties(first), before))
                        expected.append(True)
                    verdict, _ = said(judged, frame, fields)
                    whole = certain(judged, frame)
                    assert whole is None or frame.kind == "reply" or verdict in {None, whole}, (
                        seed,
                        frame,
                        fields,
                    )
                    batch.append(Sent(*parties(frame), fields))
                    expected.append(verdict)
        got = wire.arrives(batch)
        wrong = [
            f"seed {seed}: {sent.sender.port} to {sent.target.port} was said to {'arrive' if verdict else 'be dropped'}: {sent.fields}"
            for sent, verdict, found in zip(batch, expected, got, strict=True)
            if verdict is not None and verdict != (found is not None)
        ]
        assert wrong == [], "\n".join([*wrong[:5], *(script.text for script in loaded)])
        for verdict in expected:
            counts[verdict] += 1
        clear(wire.lab)
    print(
        f"{tool}: {ROUNDS} rule sets, {counts[True]} frames said to arrive, {counts[False]} to be dropped, {counts[None]} open"
    )
    assert counts[True] > ROUNDS
    assert counts[False] > ROUNDS
