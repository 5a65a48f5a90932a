"""Rules of others that see guests' frames too: told, never touched. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from reconciler.plan import Note
from state.desired import Host
from state.foreign import Foreign

# br_netfilter hands bridged frames to iptables where the whole host or the bridge says so.
_CALLS: Mapping[str, str] = {
    "iptables-save": "iptables",
    "iptables-legacy-save": "iptables",
    "ip6tables-save": "ip6tables",
    "ip6tables-legacy-save": "ip6tables",
}
_ACTS = re.compile(r"^(-A |:\w+ DROP)", re.MULTILINE)


def switches(host: Host) -> tuple[str, ...]:
    """The files that say whether bridged frames pass iptables, for the host and for each managed bridge."""
    families = sorted(set(_CALLS.values()))
    return (
        *(f"/proc/sys/net/bridge/bridge-nf-call-{family}" for family in families),
        *(
            f"/sys/class/net/{bridge}/bridge/nf_call_{family}"
            for bridge, _ in host.bridges
            for family in families
        ),
    )


def diff_foreign(host: Host, foreign: Foreign, files: Mapping[str, str | None]) -> Iterator[Note]:
    """What others' rules may do to guests' frames whatever the guard lets through."""
    for source, text in sorted(foreign.rules.items()):
        rules = len(_ACTS.findall(text))
        if source.startswith("table bridge ") and " hook " in text:
            yield Note(
                f"foreign.{source.removeprefix('table ').replace(' ', '.')}",
                "foreign_rules",
                "a table of others on the bridges: what it drops stays dropped, whatever the guard lets pass",
            )
        elif source in _CALLS and rules and _is_called(_CALLS[source], host, files):
            yield Note(
                f"foreign.{source.removesuffix('-save')}",
                "foreign_rules",
                f"{rules} rules of others see bridged frames (bridge-nf-call-{_CALLS[source]}): what they drop stays dropped",
            )


def _is_called(family: str, host: Host, files: Mapping[str, str | None]) -> bool:
    return any(
        (files.get(path) or "").strip() == "1"
        for path in switches(host)
        if path.endswith((f"-{family}", f"_{family}"))
    )
