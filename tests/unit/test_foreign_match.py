"""Whether conditions hold for a class of frames: every number and name by itself, and sets of any size."""

from __future__ import annotations

import pytest

from reconciler.foreign.match import Domain, Truth, apart, common, holds, matches, one, single, without
from state.netfilter import Condition, Masked, Named, Ranges, Sometimes, Tuples, Unknown, Within

NO, ALL, SOME, UNKNOWN = Truth.NO, Truth.ALL, Truth.SOME, Truth.UNKNOWN
TWO: Ranges = ((0, 9), (20, 29))
PORTS = frozenset({"vm01", "vm02", "eth0"})


@pytest.mark.parametrize(
    ("left", "right", "both", "left_alone"),
    [
        ((), TWO, (), ()),
        (TWO, (), (), TWO),
        (one(9), TWO, one(9), ()),
        (one(10), TWO, (), one(10)),
        (one(19), TWO, (), one(19)),
        (one(20), TWO, one(20), ()),
        (one(30), TWO, (), one(30)),
        (((5, 24),), TWO, ((5, 9), (20, 24)), ((10, 19),)),
        (((9, 20),), TWO, ((9, 9), (20, 20)), ((10, 19),)),
        (((10, 19),), TWO, (), ((10, 19),)),
        (((0, 40),), TWO, TWO, ((10, 19), (30, 40))),
        (TWO, ((0, 40),), TWO, ()),
        (TWO, ((9, 20),), ((9, 9), (20, 20)), ((0, 8), (21, 29))),
        (TWO, ((2, 3), (5, 5), (25, 25)), ((2, 3), (5, 5), (25, 25)), ((0, 1), (4, 4), (6, 9), (20, 24), (26, 29))),
        (((22, 23),), ((0, 9), (20, 21), (22, 29)), ((22, 23),), ()),
    ],
)  # fmt: skip
def test_ranges_are_cut_at_their_edges(left: Ranges, right: Ranges, both: Ranges, left_alone: Ranges) -> None:
    assert common(left, right) == both
    assert without(left, right) == left_alone


@pytest.mark.parametrize(
    ("pattern", "name", "met"),
    [
        ("vm01", "vm01", True),
        ("vm01", "vm011", False),
        ("vm*", "vm01", True),
        ("vm*", "vm", True),
        ("vm*", "v", False),
        ("*", "eth0", True),
        ("vm*", "wvm", False),
    ],
)
def test_a_pattern_stands_for_all_names_that_begin_so(pattern: str, name: str, met: bool) -> None:
    assert matches(pattern, name) is met


def tuples(*members: tuple[Ranges | tuple[str, ...], ...], negated: bool = False) -> Tuples:
    return Tuples(("port", "n"), members, negated)


FEW: Domain = ((0, 63),)
MANY: Domain = ((0, 64),)


@pytest.mark.parametrize(
    ("condition", "truth", "taken"),
    [
        (Named("port", ("vm01",)), SOME, frozenset({"vm01"})),
        (Named("port", ("vm*",)), SOME, frozenset({"vm01", "vm02"})),
        (Named("port", ("eth0", "vm*")), ALL, None),
        (Named("port", ("vm01",), negated=True), SOME, frozenset({"vm02", "eth0"})),
        (Named("port", ("eth0", "vm*"), negated=True), NO, None),
        (Named("port", ("other",)), NO, None),
        (Named("port", ("other",), negated=True), ALL, None),
        (Named("n", ("vm01",)), NO, None),
        (Within("port", TWO), NO, None),
        (Within("n", ((5, 24),)), SOME, ((5, 9), (20, 24))),
        (Within("n", ((5, 24),), negated=True), SOME, ((0, 4), (25, 29))),
        (Within("n", ((0, 40),)), ALL, None),
        (Within("n", ((0, 40),), negated=True), NO, None),
        (Within("n", ((10, 19),), negated=True), ALL, None),
        (Masked("port", 1, 1), NO, None),
        (Masked("n", 8, 8), SOME, (*((each, each) for each in (8, 9, 24, 25, 26, 27, 28, 29)),)),
        (Masked("n", 0x80, 0), ALL, None),
        (Masked("n", 0x80, 0, negated=True), NO, None),
        (Masked("n", 0x80, 0x80), NO, None),
        (Masked("n", 0x80, 0x80, negated=True), ALL, None),
        (Masked("few", 0x20, 0x20), SOME, tuple((each, each) for each in range(32, 64))),
        (Masked("few", 0x20, 0x20, negated=True), SOME, tuple((each, each) for each in range(32))),
        (Masked("many", 0x20, 0x20), SOME, None),
        (Masked("many", 0x80, 0), SOME, None),
        (tuples((("vm01",), ((0, 40),))), SOME, None),
        (tuples((("vm*", "eth0"), ((0, 40),))), ALL, None),
        (tuples((("vm01",), ((0, 40),)), (("vm*", "eth0"), ((0, 40),))), ALL, None),
        (tuples((("vm*", "eth0"), ((0, 40),)), (("vm01",), ((0, 40),))), ALL, None),
        (tuples((("other",), ((0, 40),))), NO, None),
        (tuples((("vm01",), one(10))), NO, None),
        (tuples((("other",), ((0, 40),)), negated=True), ALL, None),
        (tuples((("vm*", "eth0"), ((0, 40),)), negated=True), NO, None),
        (tuples((("vm01",), ((0, 40),)), negated=True), SOME, None),
        (tuples(negated=True), ALL, None),
        (Sometimes(), SOME, None),
        (Unknown("?"), UNKNOWN, None),
    ],
)  # fmt: skip
def test_a_condition_holds_for_all_some_or_none_of_a_class(
    condition: Condition, truth: Truth, taken: Domain | None
) -> None:
    assert holds(condition, {"port": PORTS, "n": TWO, "few": FEW, "many": MANY}) == (truth, taken)


def test_of_a_large_set_the_members_are_found_by_the_frames_own_value() -> None:
    members = [((f"vm{at:02}",), one(at)) for at in range(100)]
    wild = (("et*",), one(7))
    many = (("vm03", "vm04"), one(9))
    found = tuples(*members, wild, many)

    def truth(port: str, n: Domain) -> Truth:
        return holds(found, {"port": frozenset({port}), "n": n})[0]

    assert truth("vm42", one(42)) is ALL
    assert truth("vm42", one(43)) is NO
    assert truth("vm42", ((0, 99),)) is SOME
    assert truth("eth0", one(7)) is ALL
    assert truth("eth0", one(8)) is NO
    assert truth("vm03", one(9)) is ALL
    assert truth("vm03", one(3)) is ALL
    assert truth("other", one(3)) is NO
    assert holds(found, {"port": PORTS, "n": one(7)})[0] is SOME
    assert holds(found, {"port": PORTS, "n": one(50)})[0] is NO
    assert holds(found, {"port": PORTS, "n": ((0, 99),)})[0] is SOME
    assert holds(found, {"port": PORTS})[0] is NO


def test_one_value_is_one_number_or_one_name() -> None:
    assert single(None) is None
    assert single(()) is None
    assert single(one(7)) == 7
    assert single(((7, 8),)) is None
    assert single((*one(7), *one(9))) is None
    assert single(frozenset({"vm01"})) == "vm01"
    assert single(PORTS) is None
    assert single(("vm01",)) == "vm01"


def test_what_is_left_of_a_class_is_told_by_the_one_field_that_tells_it_apart() -> None:
    fields: dict[str, Domain] = {"port": PORTS, "n": TWO, "m": TWO, "many": MANY}
    low, whole = Within("n", ((0, 4),)), Within("m", ((0, 40),))

    assert apart([low], fields) == ("n", ((5, 9), (20, 29)))
    assert apart([low, whole], fields) == ("n", ((5, 9), (20, 29)))
    assert apart([whole, low], fields) == ("n", ((5, 9), (20, 29)))
    assert apart([Within("n", ((0, 4),), negated=True)], fields) == ("n", ((0, 4),))
    assert apart([Named("port", ("vm*",))], fields) == ("port", frozenset({"eth0"}))
    assert apart([Named("port", ("vm*",), negated=True)], fields) == ("port", frozenset({"vm01", "vm02"}))
    assert apart([Masked("n", 8, 8)], fields) == ("n", ((0, 7), (20, 23)))
    assert apart([low, Within("m", ((0, 4),))], fields) is None
    assert apart([low, Sometimes()], fields) is None
    assert apart([Sometimes(), low], fields) is None
    assert apart([Masked("many", 1, 1)], fields) is None
    assert apart([tuples((("vm01",), ((0, 40),)))], fields) is None
    assert apart([], fields) is None
    assert apart([whole], fields) is None
