"""Rule sets in the manner of other tools, from tests/cases/foreign, as commands that load them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.packets.foreign_rules import Script

CORPORA = Path(__file__).resolve().parents[1] / "cases" / "foreign"
VARIANTS = ("nft", "legacy")
# The guest that the rules made by hand know, as the files have it.
KNOWN = "172.16.39.101"


def corpora() -> tuple[str, ...]:
    """`STYLE TOOL` for every rule set, those for iptables once for each variant, sorted."""
    return tuple(sorted(_names()))


def _names() -> Iterator[str]:
    for path in CORPORA.iterdir():
        match path.name.split("."):
            case [style, "iptables", "rules"]:
                yield from (f"{style} iptables-{variant}" for variant in VARIANTS)
            case [style, "nft"]:
                yield f"{style} nft"
            case [style, "ebtables", "rules"]:
                yield f"{style} ebtables"
            case _:
                continue  # loaded with another one, or no rules at all


def loaded_by(name: str, *, known: str = KNOWN) -> tuple[Script, ...]:
    """The commands that load a rule set; `known` is the address of the guest that the rules made by hand know."""
    style, tool = name.split()
    if tool == "nft":
        return (Script(("nft", "-f", "-"), _text(f"{style}.nft", known)),)
    if tool == "ebtables":
        return (Script(("ebtables-nft-restore",), _text(f"{style}.ebtables.rules", known)),)
    variant = tool.removeprefix("iptables-")
    return tuple(
        Script((f"{family}-{variant}-restore",), _text(f"{style}.{family}.rules", known))
        for family in ("iptables", "ip6tables")
        if (CORPORA / f"{style}.{family}.rules").exists()
    )


def _text(name: str, known: str) -> str:
    return (CORPORA / name).read_text(encoding="utf-8").replace(KNOWN, known)
