"""What our guard has counted in ebtables, iptables and ip6tables: argv and parser side by side.

Each refusal is a rule of a port's own chain that leads to the reason's, and the kernel counts by rule. A chain that is
loaded anew begins at nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from state.iptables_guard import EBTABLES_SAVE, VARIANTS, iptables_save
from state.nft import Loader
from state.run import Runner, read

_COUNTED = re.compile(
    r"\[(?P<packets>[0-9]{1,20}):(?P<bytes>[0-9]{1,20})\] -A domgit(?P<chain>\S*) "
    r"(?P<rule>.*)-[jg] domgit\.(?:(?P<mode>drop|note)\.(?P<reason>[a-z0-9]{1,16})|(?P<unknown>unknown))"
)
_WAY = re.compile(r"(?:^| )(?:-i|--physdev-in) (?P<port>\S+) ")
_PREFIX = re.compile(r'--log-prefix (?:"(?P<quoted>[^"]*)"|(?P<plain>\S+))')
_Key = tuple[str, str, str]  # port, reason, packets or bytes


def read_saved(runner: Runner, by: Loader) -> tuple[str, ...]:
    """What the save commands print, counters included.

    Raises:
        ReadError: one of them failed.
    """
    variant = VARIANTS[by]
    commands = (EBTABLES_SAVE, iptables_save("iptables", variant), iptables_save("ip6tables", variant))
    return tuple(read(runner, (*argv, "-c")) for argv in commands)


def parse_counts(saved: Iterable[str]) -> Mapping[str, Mapping[str, tuple[int, int]]]:
    """(packets, bytes) by port and reason.

    What is dropped is counted by the tool that does so. What passes all the same meets every tool, and is counted once.

    Source: iptables-save(8), ebtables-nft(8), iptables 1.8.9.
    """
    dropped, noted = Counter[_Key](), Counter[_Key]()
    for text in saved:
        by_tool = Counter[_Key]()
        for match in filter(None, map(_COUNTED.fullmatch, text.splitlines())):
            port = _port(match)
            for unit in ("packets", "bytes") if port else ():
                counts = by_tool if match["mode"] == "note" else dropped
                counts[port, match["reason"] or "unknown", unit] += int(match[unit])
        noted |= by_tool
    found: dict[str, dict[str, tuple[int, int]]] = {}
    every = dropped + noted
    for port, reason, unit in every:
        if unit == "packets":
            found.setdefault(port, {})[reason] = (every[port, reason, unit], every[port, reason, "bytes"])
    return found


def _port(match: re.Match[str]) -> str:
    """The port of a rule: its chain is that port's own, or leads to ports by their names; "" for none."""
    if match["chain"].startswith("/"):
        return match["chain"].split("/")[1]
    way = _WAY.search(match["rule"])
    return "" if way is None or way["port"].endswith("+") else way["port"]


def prefix_of(saved: Iterable[str]) -> str | None:
    """What a line of the log begins by; None where no rule logs with one."""
    match = next((found for text in saved if (found := _PREFIX.search(text))), None)
    return None if match is None else match["quoted"] or match["plain"]
