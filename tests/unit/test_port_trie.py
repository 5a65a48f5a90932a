"""Dispatch by name: every name leads to its own rules, and to no other's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler.guard.port_trie import matchable, nodes

# Few letters: names that begin alike, and that end where others go on.
NAMES = st.text("ab1_.-", min_size=1, max_size=15).filter(matchable)


def found(tree: dict[str, tuple[str, ...]], name: str) -> tuple[str, ...]:
    """All that a frame from a port meets, as the tools read `NAME` and `PREFIX+`, and how many rules it passed."""
    met = list[str]()
    chains = [""]
    while chains:
        for asked in tree[chains.pop()]:
            if asked.endswith("+"):
                if name.startswith(asked[:-1]):
                    chains.append(asked[:-1])
            elif asked == name:
                met.append(asked)
    return tuple(met)


@given(st.sets(NAMES, max_size=40), st.sets(NAMES, max_size=10))
def test_any_set_of_names_is_told_apart_as_by_a_dictionary(names: set[str], others: set[str]) -> None:
    tree = dict(nodes(names))

    assert {name: found(tree, name) for name in names | others} == {
        name: (name,) if name in names else () for name in names | others
    }


@given(st.sets(NAMES, max_size=40))
def test_the_order_of_names_and_rules_means_nothing(names: set[str]) -> None:
    tree = list(nodes(sorted(names)))

    assert tree == list(nodes(sorted(names, reverse=True)))
    for _, asked in tree:
        patterns = [each.removesuffix("+") for each in asked if each.endswith("+")]
        # At most one way on fits any name: none of a chain's beginnings begins another, or is a name beside it.
        assert not [(a, b) for a in patterns for b in patterns if a != b and b.startswith(a)]
        assert not [(a, b) for a in patterns for b in asked if not b.endswith("+") and b.startswith(a)]


def test_a_name_that_another_begins_with_is_told_from_it() -> None:
    assert dict(nodes(["vm1", "vm10", "vm2"])) == {
        "": ("vm+",),
        "vm": ("vm1+", "vm2"),
        "vm1": ("vm1", "vm10"),
    }


def test_a_frame_meets_a_few_rules_however_many_ports_there_are() -> None:
    def most(count: int) -> int:
        tree = dict(nodes(f"vm{number:04}" for number in range(count)))
        return max(
            sum(len(tree[name[:end]]) for end in range(len(name)) if name[:end] in tree)
            for name in (f"vm{number:04}" for number in range(count))
        )

    assert (most(10), most(100), most(1000), most(4000)) == (11, 21, 31, 35)


def test_what_the_tools_would_read_as_something_else_is_no_name_for_a_rule() -> None:
    odd = ["", "vm+", "a b", '"x"', "-i", "sixteen-letters-", "a/b", "!x", "ä"]

    assert [name for name in odd if matchable(name)] == []
    assert matchable("vif10.0-emu")
