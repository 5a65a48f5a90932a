"""Which rules of a long chain are looked at for a class of frames: all that can concern it, and none of the other guests'."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from reconciler.foreign.index import Index
from reconciler.foreign.match import Domain, one
from state.netfilter import Chain, Masked, Named, Rule, SetMark, Step, Tuples, Verdict, Within

DROP, ACCEPT = Verdict("drop"), Verdict("accept")
SUBNET = 172 << 24 | 16 << 16 | 39 << 8
VM01: dict[str, Domain] = {"physin": frozenset({"vm01"}), "saddr4": one(SUBNET + 101)}
OTHERS = [Rule(f"vm{number}", (Named("physin", (f"vm{number}",)), DROP)) for number in range(10, 27)]


def port(*names: str, negated: bool = False) -> Named:
    return Named("physin", names, negated)


def source(first: int, last: int | None = None, *, negated: bool = False) -> Within:
    return Within("saddr4", ((SUBNET + first, SUBNET + (first if last is None else last)),), negated)


def rules(**steps: Sequence[Step]) -> list[Rule]:
    return [Rule(name, (*each, DROP)) for name, each in steps.items()]


def looked_at(found: Iterable[Rule], fields: dict[str, Domain]) -> list[str]:
    return [rule.text for rule in Index(Chain("c", tuple(found))).candidates(fields)]


def test_a_short_chain_is_looked_through_and_a_longer_one_is_not() -> None:
    assert looked_at(OTHERS[:16], VM01) == [rule.text for rule in OTHERS[:16]]
    assert looked_at(OTHERS, VM01) == []
    assert looked_at(OTHERS, {"physin": frozenset({"vm26"})}) == ["vm26"]


def test_rules_are_found_by_the_values_that_they_ask_for_and_in_their_order() -> None:
    found = rules(
        everybody=[],
        own_port=[port("vm01")],
        one_of_two_ports=[port("vm02", "vm01")],
        other_port_own_address=[port("vm02"), source(101)],
        own_port_other_address=[port("vm01"), source(102)],
        own_address=[source(101)],
        own_block=[source(96, 111)],
        own_large_block=[source(0, 255)],
        other_block=[source(112, 127)],
        block_beside=[source(80, 95)],
        of_two_blocks=[Within("saddr4", (one(SUBNET + 7)[0], one(SUBNET + 101)[0]))],
        no_block=[source(200, 202)],
        moved_block=[source(104, 119)],
        all_but_one=[source(101, negated=True)],
        all_but_a_port=[port("vm01", negated=True)],
        a_pattern=[port("eth*")],
        a_pattern_among_names=[port("vm03", "eth*")],
        eight_others=[port(*(f"vm{number}" for number in range(30, 38)))],
        nine_others=[port(*(f"vm{number}" for number in range(30, 39)))],
        masked=[Masked("saddr4", 0xFF, 7)],
        together=[Tuples(("physin", "saddr4"), ((("vm09",), one(7)),))],
    )

    assert looked_at([*OTHERS, *found], VM01) == [
        "everybody",
        "own_port",
        "one_of_two_ports",
        "own_port_other_address",
        "own_address",
        "own_block",
        "own_large_block",
        "of_two_blocks",
        "no_block",
        "moved_block",
        "all_but_one",
        "all_but_a_port",
        "a_pattern",
        "a_pattern_among_names",
        "nine_others",
        "masked",
        "together",
    ]
    assert looked_at([*found, *OTHERS, *rules(last=[])], {"physin": frozenset({"vm02"})}) == [
        each.text
        for each in (*found, *rules(last=[]))
        if each.text not in {"own_port", "own_port_other_address", "eight_others"}
    ]


def test_what_a_class_has_many_values_of_looks_no_rule_up() -> None:
    found = [*rules(own=[source(101)], other=[source(7)]), *OTHERS]

    assert looked_at(found, {"saddr4": ((SUBNET, SUBNET + 255),)}) == [rule.text for rule in found]
    assert looked_at(found, {}) == [rule.text for rule in found]


def test_of_many_rules_that_nothing_looks_up_those_for_other_frames_are_left_out() -> None:
    mail = [Rule(f"mail {at}", (Within("proto", one(6)), Within("dport", one(at)), DROP)) for at in range(17)]
    marked = rules(
        marked=[Within("mark", one(1))],
        connected=[Within("ctmark", one(1))],
        known=[Within("ctstate", one(2))],
        own=[source(200, 202)],
        absent=[Named("physout", ("vm01",))],
    )
    fields: dict[str, Domain] = {"mark": one(0), "ctmark": one(0), "ctstate": one(1), **VM01}
    udp: dict[str, Domain] = {**fields, "proto": one(17), "dport": ((0, 65535),)}
    tcp: dict[str, Domain] = {**udp, "proto": one(6)}
    seventh: dict[str, Domain] = {**tcp, "dport": one(7)}
    index = Index(Chain("c", (*OTHERS, *mail, *marked)))
    always = ["marked", "connected", "known", "own", "absent"]

    def texts(fields: dict[str, Domain]) -> list[str]:
        return [rule.text for rule in index.candidates(fields)]

    for _ in range(2):
        assert texts(udp) == always
        assert texts(tcp) == [*(rule.text for rule in mail), *always]
        assert texts(seventh) == ["mail 7", *always]
        assert texts({**udp, "mark": one(1)}) == always


def test_of_very_many_rules_that_drop_a_part_each_eight_are_looked_at_and_all_that_do_more() -> None:
    fields: dict[str, Domain] = {**VM01, "proto": one(6), "dport": ((0, 65535),), "mark": one(0)}
    parts = [Rule(f"part {at}", (Within("dport", one(at)), DROP)) for at in range(512)]
    more = [
        Rule("whole", (Within("proto", one(6)), DROP)),
        Rule("passes", (Within("dport", one(7)), ACCEPT)),
        Rule("marked", (Within("dport", one(7)), Within("mark", one(0)), DROP)),
        Rule("marks", (Within("dport", one(7)), SetMark("mark", 0, 1), DROP)),
        Rule("other", (Within("proto", one(17)), Within("mark", one(0)), DROP)),
    ]

    assert looked_at([*OTHERS, *parts], fields) == [rule.text for rule in parts]
    assert looked_at([*OTHERS, *parts, *more], fields) == [
        *(rule.text for rule in parts[:8]),
        "whole",
        "passes",
        "marked",
        "marks",
    ]


@pytest.mark.parametrize("name", ["physin", "physout", "iif", "oif"])
def test_rules_are_looked_up_by_every_name_that_tells_guests_apart(name: str) -> None:
    found = [Rule(port, (Named(name, (port,)), DROP)) for port in ("vm7", "vm8")]

    assert looked_at([*OTHERS, *found], {**VM01, name: frozenset({"vm7"})}) == ["vm7"]


@pytest.mark.parametrize(
    "name",
    [
        "saddr4",
        "daddr4",
        "saddr6",
        "daddr6",
        "arp_saddr",
        "arp_daddr",
        "smac",
        "dmac",
        "arp_smac",
        "arp_dmac",
    ],
)
def test_rules_are_looked_up_by_every_address_that_tells_guests_apart(name: str) -> None:
    found = [Rule(f"{at}", (Within(name, one(at)), DROP)) for at in (7, 8)]

    assert looked_at([*OTHERS, *found], {**VM01, name: one(7)}) == ["7"]


def test_two_addresses_that_are_no_block_are_asked_for_each_time() -> None:
    pair = rules(pair=[source(101, 102)], block=[source(102, 103)], other=[source(104, 105)])

    for last, texts in ((101, ["pair"]), (102, ["pair", "block"]), (103, ["pair", "block"])):
        fields: dict[str, Domain] = {**VM01, "saddr4": one(SUBNET + last)}
        assert looked_at([*OTHERS, *pair], fields) == texts


def test_few_rules_that_nothing_looks_up_are_all_looked_at() -> None:
    udp = [Rule(f"udp {at}", (Within("proto", one(17)), Within("dport", one(at)), DROP)) for at in range(17)]
    tcp: dict[str, Domain] = {**VM01, "proto": one(6), "dport": ((0, 65535),)}

    assert looked_at([*OTHERS, *udp[:16]], tcp) == [rule.text for rule in udp[:16]]
    assert looked_at([*OTHERS, *udp], tcp) == []
