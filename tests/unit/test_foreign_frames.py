"""What is promised to an address, class by class, beside it in tests/cases/foreign/frames.txt: the table that judges go by.

`python -m tests.unit.test_foreign_frames` writes it anew; the diff is then to be read like code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path

import pytest

from reconciler.foreign.frames import answering, frames, wild
from reconciler.foreign.match import Domain, one
from state.netfilter import STATES, Ranges

TABLE = Path(__file__).resolve().parents[1] / "cases" / "foreign" / "frames.txt"
MAC = "00:16:3e:00:53:01"
# Of a prefix some classes: the others differ from those of an address in the same way.
PROMISED: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "172.16.39.101/32": (("tcp", "udp", "icmp", "reply"), ("ask", "answer")),
    "172.16.39.96/28": (("tcp",), ("ask", "answer")),
    "2001:db8:39::101/128": (("tcp", "udp", "icmp", "reply"), ("ask", "answer")),
    "2001:db8:39::/64": (("tcp",), ("ask", "answer")),
}


def _mac(number: int) -> str:
    return number.to_bytes(6, "big").hex(":")


def _written_as(name: str) -> Callable[[int], object]:
    if name.endswith("mac"):
        return _mac
    if name in {"saddr6", "daddr6"}:
        return IPv6Address
    if "addr" in name:
        return IPv4Address
    return hex if name in {"ethertype", "arp_ptype", "tcp_flags"} else str


def _shown(name: str, domain: Domain) -> str:
    if isinstance(domain, frozenset):
        return " or ".join(sorted(domain))
    text = _written_as(name)
    return ", ".join(f"{text(low)}" if low == high else f"{text(low)}-{text(high)}" for low, high in domain)


def _lines(classes: Mapping[str, Mapping[str, Domain]]) -> Iterator[str]:
    """What all have in common on the first line, then what each has of its own."""
    shown = {
        title: {name: _shown(name, domain) for name, domain in fields.items()}
        for title, fields in classes.items()
    }
    every = set.intersection(*({*fields.items()} for fields in shown.values()))
    for title, fields in {"all": dict(sorted(every)), **shown}.items():
        own = (
            f"{name} {text}" for name, text in fields.items() if title == "all" or (name, text) not in every
        )
        yield f"  {title}: {'; '.join(own)}"


def _table() -> Iterable[str]:
    for address, groups in PROMISED.items():
        found = [*frames(MAC, ip_network(address))]
        yield f"promised to {address} of {MAC}"
        for kinds in groups:
            yield from _lines(
                {f"{each.way} {each.kind}": each.fields for each in found if each.kind in kinds}
            )
    yield "sent by whoever forges what he can"
    yield from _lines(dict(zip(("IPv4", "IPv6", "ARP", "others"), wild(), strict=True)))


def test_what_is_promised_to_an_address_is_what_was_expected() -> None:
    assert "\n".join([*_table(), ""]) == TABLE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("first", "answers"),
    [
        (one(STATES["new"]), one(STATES["established"])),
        (one(STATES["untracked"]), one(STATES["invalid"])),
        (
            ((STATES["new"], STATES["new"]), (STATES["untracked"], STATES["untracked"])),
            ((STATES["invalid"], STATES["established"]),),
        ),
        ((), one(STATES["established"])),
    ],
)
def test_answers_are_known_to_conntrack_where_what_they_answer_was(first: Ranges, answers: Ranges) -> None:
    fields: dict[str, Domain] = {"proto": one(6), "tracked": one(0)}

    assert answering(fields, first) == {"proto": one(6), "tracked": answers}


if __name__ == "__main__":
    TABLE.write_text("\n".join([*_table(), ""]), encoding="utf-8")
