"""What a living vif goes on with where no specification speaks of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from reconciler.granted import granted, standing
from reconciler.scope import Situation
from state.desired import Vif
from state.nft import LoadedTable
from state.observed import Domain
from state.xenstore import BackendVif
from tests.unit.deviations import situation

MAC, BY_HAND = "00:16:3e:00:53:01", "00:16:3e:00:53:66"
SETS = ("own_v4", "own_net4", "own_v6", "own_net6")


def loaded(port: str, mac: str, texts: Iterable[str]) -> dict[str, frozenset[str]]:
    """The elements of one port, each address in the set of its kind."""
    elements: dict[str, set[str]] = {"own_mac": {f'"{port}" . {mac}'}, **{name: set() for name in SETS}}
    for text in texts:
        name = f"own_{'net' if '/' in text or '-' in text else 'v'}{6 if ':' in text else 4}"
        elements[name].add(f'"{port}" . {mac} . {text}')
    return {name: frozenset(members) for name, members in elements.items()}


def host(elements: dict[str, frozenset[str]]) -> Situation:
    """vm01 and vm02 as they were applied, with these elements alone in the guard."""
    found = situation({"git": {"vm01": {"vifs": [{}, {}]}, "vm02": {}}})
    return replace(found, observed=replace(found.observed, guard=LoadedTable(elements, "")))


def living(found: Situation, index: int, mac: str) -> tuple[Domain, BackendVif]:
    domain = next(each for each in found.observed.domains if each.name == "vm01")
    return domain, replace(domain.vifs[index], mac=mac)


def texts(vif: Vif | None) -> list[str]:
    assert vif is not None
    return [str(each) for each in vif.addresses]


def test_it_has_what_the_guard_has_for_its_port_and_mac_in_one_order() -> None:
    given = ["2001:db8:39::7", "2001:db8:39:1::/64", *(f"172.16.39.{number}" for number in range(180, 190))]
    elements = loaded("vm01", BY_HAND, [*given, "172.16.39.64/29", "172.16.39.170-172.16.39.172"])
    link_local = f'"vm01" . {BY_HAND} . fe80::216:3eff:fe00:5366'
    elements["own_v6"] |= {link_local, '"vm02" . 00:16:3e:00:53:02 . 2001:db8:39::8'}
    elements["own_v4"] |= {f'"vm01" . {MAC} . 172.16.39.99'}
    found = host(elements)

    vif = granted(found, *living(found, 0, BY_HAND))

    assert texts(vif) == [
        "172.16.39.64/29",
        *(f"172.16.39.{number}/32" for number in range(180, 190)),
        "2001:db8:39::7/128",
        "2001:db8:39:1::/64",
    ]


def test_what_was_last_applied_to_another_domu_stays_that_ones() -> None:
    found = host(loaded("vm01", BY_HAND, ["172.16.39.102", "172.16.39.181", "172.16.39.101"]))

    assert texts(granted(found, *living(found, 0, BY_HAND))) == ["172.16.39.101/32", "172.16.39.181/32"]


def test_one_that_the_guard_does_not_know_with_its_mac_has_nothing() -> None:
    found = host(loaded("vm01", MAC, ["172.16.39.181"]))
    bare = replace(found, observed=replace(found.observed, guard=None))

    assert granted(found, *living(found, 0, BY_HAND)) is None
    assert granted(bare, *living(bare, 0, MAC)) is None


def test_it_is_audited_where_the_guard_audits_its_port() -> None:
    elements = loaded("vm01", BY_HAND, [])
    found, audited = host(elements), host({**elements, "audited": frozenset({'"vm01"'})})

    modes = [granted(each, *living(each, 0, BY_HAND)) for each in (found, audited)]

    assert [each.guard for each in modes if each is not None] == ["enforce", "audit"]


def test_what_stays_goes_on_with_what_was_applied_to_that_index_and_mac_and_else_with_what_the_guard_has() -> (
    None
):
    elements = loaded("vm01b", BY_HAND, ["172.16.39.181"])
    second = next(iter(loaded("vm01b", MAC, ["172.16.39.182"])["own_v4"]))
    elements["own_v4"] |= {second}
    elements["own_mac"] |= {f'"vm01b" . {MAC}'}
    found = host(elements)

    assert texts(standing(found, *living(found, 0, MAC))) == ["172.16.39.101/32"]
    assert texts(standing(found, *living(found, 1, BY_HAND))) == ["172.16.39.181/32"]
    assert texts(standing(found, *living(found, 1, MAC))) == ["172.16.39.182/32"]
    assert standing(found, *living(found, 0, BY_HAND)) is None
