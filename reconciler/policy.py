"""What may be done by itself, and what waits for a human. Pure.

Everything withheld stays in the plan with its reason; nothing else in the plan waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from reconciler.plan import IMPACTS, Change, Impact, Phase
from reconciler.scope import Situation
from state.desired import DomU

Disruption = Literal["none", "link", "reboot"]
# The most that a domU suffers under each word: a reboot and a restart are the same to its customer.
_ALLOWED: Mapping[Disruption, Impact] = {"none": "none", "link": "link", "reboot": "restart"}


@dataclass(frozen=True, slots=True)
class Policy:
    """Who acts. By hand, `mode: report` does not bind; `disruption` then replaces what the specs say.

    `retry`: a change of the guard that had to be taken back is tried again. `anew`: see Situation, which is made with it.
    """

    by_hand: bool = True
    disruption: Disruption | None = None
    retry: bool = False
    anew: frozenset[str] = frozenset()


def apply_policy(changes: Sequence[Change], situation: Situation, policy: Policy) -> tuple[Change, ...]:
    """The changes, with those withheld that the host's limits, modes and protections do not allow."""
    # A domU whose file has errors is brought back to what was applied, by that one's own word on disruption.
    domus = {**situation.applied, **{domu.uuid: domu for domu in situation.desired.domus}}
    over_limit = _over_limits(changes, situation)
    return tuple(
        _judge(change, domus.get(change.uuid or ""), situation, policy, over_limit) for change in changes
    )


def _judge(
    change: Change,
    domu: DomU | None,
    situation: Situation,
    policy: Policy,
    over_limit: Mapping[str, str],
) -> Change:
    # What is staged already waits for its guest alone: nothing of it could be withheld, or let through.
    if change.blocked is not None or not change.acts:
        return change
    if not policy.by_hand and "report" in {
        situation.desired.host.mode,
        "enforce" if domu is None else domu.mode,
    }:
        return replace(change, when="approval", reason="report_only")
    removal = change.reason == "tombstone"
    owned = situation.ledger.get(change.uuid or "")
    arrives = domu is not None and situation.life(domu).arrives
    if not policy.by_hand and arrives and change.phase is Phase.ADD:
        # Whether it has ended where it came from is for a human to know.
        return replace(change, when="approval", reason="move")
    destroys = removal or change.impact == "data"
    if destroys and owned is not None and (owned.protect or (domu is not None and domu.protect)):
        return replace(change, blocked="protected: needs an approval", reason="protected")
    if (why := over_limit.get("absent" if removal else "detach" if change.early else "")) is not None:
        return replace(change, blocked=why, reason="guard_exceeded")
    # `state: halted` and `state: absent` are said in so many words in git: no second word is asked for.
    # So is an installation that is to begin again, by whoever has named the domU.
    if domu is None or removal or change.after.get("state") == "halted" or change.impact == "data":
        return change
    allowed = _ALLOWED[policy.disruption or domu.disruption]
    if IMPACTS.index(change.impact) > IMPACTS.index(allowed):
        return replace(change, when="approval", reason="awaiting_approval")
    return change


def _over_limits(changes: Sequence[Change], situation: Situation) -> Mapping[str, str]:
    """The limits that the plan as a whole would pass, by kind, with the reason."""
    over = {}
    limits = situation.desired.host.limits
    removals = [change for change in changes if change.reason == "tombstone"]
    if len(removals) > limits.absent:
        over["absent"] = f"{len(removals)} domUs would be removed at once, limits.absent is {limits.absent}"
    detaches = sum(1 for change in changes if change.early and change.blocked is None)
    alive = [
        situation.observed.by_uuid[uuid] for uuid in situation.ledger if uuid in situation.observed.by_uuid
    ]
    all_vifs = max(
        sum(len(domu.vifs) for domu in situation.desired.domus), sum(len(domain.vifs) for domain in alive)
    )
    allowed = max(1, all_vifs * limits.detach_percent // 100)
    if detaches > allowed:
        over["detach"] = f"{detaches} vifs would be detached at once, limits.detach allows {allowed}"
    return over
