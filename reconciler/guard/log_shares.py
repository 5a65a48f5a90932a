"""How the lines that a host may log are shared out, so that nobody who floods mutes somebody else. Pure.

The limit is split in two. A part is for first lines: each port has one an hour there, and whoever sends more has no
further claim on it. The rest is for everything else, and no port gets more than half of that. Both parts together are
the limit, in rate and in burst, so that it is never exceeded.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.guard.binding import LogLimit

# A port whose last drop is this long ago has a first line again. An hour: three hundred ports that never stop, at
# 15/minute, then take no more of the first lines than comes back.
QUIET = "1h"
# nft gives a limit without the word a burst of 5 packets: these are 5 together.
_FIRST_BURST, _COMMON_BURST = 2, 3
# Beside one that floods there is always one left of the common burst.
_PORT_BURST = 2
# Too few to be split are counted by a longer unit: 1/minute is 60/hour.
_LEAST = 3
_LONGER = {"second": (60, "minute"), "minute": (60, "hour"), "hour": (24, "day"), "day": (7, "week")}


@dataclass(frozen=True, slots=True)
class Shares:
    """Limits as nft 1.0.6 writes them: for the first lines of all ports, for all other lines, and of those for one port."""

    first: str
    common: str
    port: str
    one_first: str = "1/hour burst 1 packets"


def shares(limit: LogLimit) -> Shares:
    """The shares of a host's limit."""
    count, per = limit.count, str(limit.per)
    if count < _LEAST:
        times, per = _LONGER[per]
        count *= times
    first = count // 3
    common = count - first
    return Shares(
        first=f"{first}/{per} burst {_FIRST_BURST} packets",
        common=f"{common}/{per} burst {_COMMON_BURST} packets",
        port=f"{max(1, common // 2)}/{per} burst {_PORT_BURST} packets",
    )
