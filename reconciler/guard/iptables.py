"""The guard of hosts that live in iptables, and the commands that bring a kernel there. Pure.

ebtables sees every frame first, and asks for MAC and address by itself. So it is told first what the old and the new
bindings both allow, then ipset, iptables and ip6tables are told the new ones, and ebtables last: each command is one
transaction, and at every moment between two of them only what both allow can pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal

from reconciler.guard import ebtables_rules, ip6tables_rules, iptables_rules
from reconciler.guard.binding import Binding, Guard, LogLimit, Step
from reconciler.guard.grants import Ports, both_allow, loaded_ports, wanted_ports
from reconciler.guard.iptables_rules import SET4, SET6
from reconciler.guard.xtables import (
    ENTRY,
    JUMP,
    LATE,
    RESERVE,
    UNKNOWN,
    Chains,
    Settings,
    port_chain,
    refusal,
    settings_of,
)
from state.iptables_guard import BUILTIN, Layout, Variant, late_ports, loaded_layout, normalised
from state.nft import LoadedTable

Kind = Literal["", "elements", "rules", "table"]
EBTABLES_RESTORE = ("ebtables-nft-restore", "--noflush")
IPSET_RESTORE = ("ipset", "restore", "-exist")
_OF_UNNAMED = re.compile(r" domgit/vif[0-9]+\.[0-9]+(?:-emu)?(?:/|$)")
_ABOUT_UNNAMED = re.compile(r"(?:^| )(?:-i|--physdev-in) vif[0-9]+\.[0-9]+(?:-emu)? ")
_SETS = {SET4: "inet", SET6: "inet6"}
# So many ports that the hotplug script has bound may stay one behind the other until something else changes.
_MOST_LATE = 64
# More than any host has; the kernel takes memory for what is there.
_SET_SIZE = 1048576
_EBTABLES = tuple(place for place in BUILTIN if place.startswith("ebtables "))
_IPTABLES = tuple(place for place in BUILTIN if place not in _EBTABLES)


def layout(ports: Ports, settings: Settings) -> Layout:
    """Everything that is to be loaded."""
    found = _placed(
        {
            "ebtables filter": ebtables_rules.filter_(ports, settings),
            "ebtables nat": ebtables_rules.nat(ports, settings),
            "iptables raw": iptables_rules.raw(ports, settings),
            "ip6tables raw": ip6tables_rules.raw(ports, settings),
        }
    )
    for name, family in _SETS.items():
        found[f"ipset {name}"] = (f"hash:net {family}", *_members(ports, name))
    return found


def _placed(tables: Mapping[str, Chains]) -> dict[str, tuple[str, ...]]:
    return {f"{place} {chain}": rules for place, chains in tables.items() for chain, rules in chains.items()}


def full(guard: Guard, *, variant: Variant = "nft", ibrname: bool = False) -> tuple[Step, ...]:
    """Commands that load the complete guard on a host of which nothing is known, also before its vifs exist.

    The jump to it is put first whatever stands there, and at no moment there is none: for that moment, `domgit.reserve`
    has its place. The last steps close ports of the managed bridges that no rule knows, where the kernel can.
    """
    settings = settings_of(guard, ibrname=ibrname)
    steps = _whole(layout(wanted_ports(guard), settings), variant)
    if not ibrname:
        unknown = tuple(f"-A {ENTRY} {ebtables_rules.unknown_on(each.name)}" for each in guard.bridges)
        steps += [
            Step(EBTABLES_RESTORE, _commit(place, unknown), optional=True)
            for place in BUILTIN
            if place in _EBTABLES
        ]
    return tuple(steps)


def _whole(wanted: Layout, variant: Variant) -> list[Step]:
    steps = [Step(IPSET_RESTORE, _filled_sets(wanted))]
    for place, builtin in BUILTIN.items():
        argv, chains = _restore(place, variant), _of(wanted, place)
        jump = chains[builtin][0]
        reserved = _reserved(jump)
        own = {name: rules for name, rules in chains.items() if name != builtin}
        loaded = (*_declared(place, own), *_ruled(own), f"-I {builtin} 1 {reserved}")
        steps += [
            Step(argv, _commit(place, loaded)),
            Step(argv, _commit(place, (f"-D {builtin} {jump}",)), optional=True),
            Step(argv, _commit(place, (f"-I {builtin} 1 {jump}", f"-D {builtin} {reserved}"))),
        ]
    return steps


def transition(
    loaded: LoadedTable | None, guard: Guard, *, variant: Variant = "nft", ibrname: bool = False
) -> tuple[tuple[Step, ...], Kind]:
    """Commands that bring a host from what is loaded to this guard, and what of it they replace; "" where it is there."""
    if loaded is None or _headless(loaded):
        return full(guard, variant=variant, ibrname=ibrname), "table"
    settings, after = settings_of(guard, ibrname=ibrname), wanted_ports(guard)
    there, wanted = loaded_layout(loaded), layout(after, settings)
    late = late_ports(there) & {*after.grants}
    unsorted = layout(replace(after, late=late), settings) if len(late) <= _MOST_LATE else wanted
    if _same(there, unsorted):
        return (), ""
    before = loaded_ports(loaded, late_ports(there))
    kind: Kind = "elements" if _same(there, layout(before, settings)) else "rules"
    return _between((there,), wanted, _meanwhile(before, after, there, settings), variant), kind


def undo(
    loaded: LoadedTable | None,
    guard: Guard,
    *,
    variant: Variant = "nft",
    ibrname: bool = False,
    beside: bool = False,
) -> tuple[Step, ...]:
    """Commands that take a transition back; harmless where it was not made, or half of it.

    A jump that was put right stays so. `beside`: see remove.
    """
    settings, after = settings_of(guard, ibrname=ibrname), wanted_ports(guard)
    wanted = layout(after, settings)
    if loaded is None or _headless(loaded):
        return _removal(wanted, variant, beside=beside)
    there = loaded_layout(loaded)
    before = loaded_ports(loaded, late_ports(there))
    jumps = {name: wanted[name] for name in (f"{place} {builtin}" for place, builtin in BUILTIN.items())}
    meanwhile = _meanwhile(before, after, there, settings)
    return _between((wanted, {**there, **jumps}), {**there, **jumps}, meanwhile, variant)


def remove(loaded: LoadedTable | None, *, variant: Variant = "nft", beside: bool = False) -> tuple[Step, ...]:
    """Commands that leave nothing of ours, and everything of others as it is.

    `beside`: the other variant of iptables has the guard as well, and what both share is left: ebtables and the sets.
    """
    return () if loaded is None else _removal(loaded_layout(loaded), variant, beside=beside)


def reload(loaded: LoadedTable, *, variant: Variant = "nft", named_alone: bool = False) -> tuple[Step, ...]:
    """Commands that load again what was loaded, whatever of it is there. As for `full`, the way to it comes first of all.

    `named_alone`: without the ports that are called after a domid, which is somebody else's after a reboot of the host.
    """
    entries = layout(Ports((), (), (), {}), settings_of(Guard((), (), "drop", _ANY_LOG), ibrname=False))
    # Of what somebody has deleted there is nothing to load, but a way to it and sets that others ask for.
    there = {**entries, **loaded_layout(loaded)}
    for place, builtin in BUILTIN.items():
        there[f"{place} {builtin}"] = entries[f"{place} {builtin}"]
    if named_alone:
        there = {
            name: tuple(rule for rule in rules if not _ABOUT_UNNAMED.search(rule))
            for name, rules in there.items()
            if not _OF_UNNAMED.search(name)
        }
    return tuple(_whole(there, variant))


def _headless(loaded: LoadedTable) -> bool:
    """Whether nothing is left in ebtables, by which all that is bound is known."""
    return not any(f"{place} {ENTRY}" in loaded_layout(loaded) for place in _EBTABLES)


def binding_steps(binding: Binding, *, variant: Variant = "nft") -> tuple[Step, ...]:
    """Commands that add one binding to a loaded guard; a later transition sorts it in among the others."""
    ports = wanted_ports(Guard((), (binding,), "drop", _ANY_LOG))
    lines: dict[str, list[str]] = {place: [] for place in BUILTIN}
    for port, grant in ports.grants.items():
        refused = ebtables_rules.late_rule(port, refusal("type", grant.mode))
        bridged = ebtables_rules.late_rule(port, port_chain(port))
        handed_over = iptables_rules.late_rule(port, port_chain(port))
        parts: tuple[tuple[str, Chains, str], ...] = (
            ("iptables raw", iptables_rules.port_chain_of(port, grant), handed_over),
            ("ip6tables raw", ip6tables_rules.port_chain_of(port, grant), handed_over),
            ("ebtables filter", {}, refused),
            ("ebtables nat", ebtables_rules.port_chain_of(port, grant), bridged),
        )
        for place, chains, way in parts:
            lines[place] += (*_declared(place, chains), *_ruled(chains), f"-I {LATE} 1 {way}")
    members = "".join(f"add {name} {each}\n" for name in _SETS for each in _members(ports, name))
    # The way to it in ebtables comes last: until then the port sends nothing.
    order = ("iptables raw", "ip6tables raw", *_EBTABLES)
    return (
        Step(IPSET_RESTORE, members),
        *(Step(_restore(place, variant), _commit(place, tuple(lines[place]))) for place in order),
    )


def _meanwhile(before: Ports, after: Ports, there: Layout, settings: Settings) -> Layout:
    """What ebtables has while the others change: what both allow."""
    dropped = "-j DROP" in there.get(f"ebtables nat {UNKNOWN}", ("-j DROP",))
    shared = both_allow(before, after, dropped_before=dropped, dropped_after=settings.unknown_dropped)
    both = replace(settings, unknown_dropped=dropped or settings.unknown_dropped)
    return _placed(
        {
            "ebtables filter": ebtables_rules.filter_(shared, both),
            "ebtables nat": ebtables_rules.nat(shared, both),
        }
    )


def _between(
    states: tuple[Layout, ...], wanted: Layout, meanwhile: Layout, variant: Variant
) -> tuple[Step, ...]:
    """From whichever of some layouts to another: ebtables to what both allow, the others, ebtables to its end."""
    steps = list[Step]()
    for place in _EBTABLES:
        steps += _changed(place, states, meanwhile, variant)
    if text := _changed_sets(states[0], wanted):
        steps.append(Step(IPSET_RESTORE, text))
    for place in _IPTABLES:
        steps += _changed(place, states, wanted, variant)
    for place in _EBTABLES:
        steps += _changed(place, (meanwhile,), wanted, variant)
    return tuple(steps)


def _changed(place: str, states: tuple[Layout, ...], wanted: Layout, variant: Variant) -> Iterator[Step]:
    """One transaction that makes the chains of a table what they should be, whichever of the states it is in.

    Chains that go are declared before they are deleted, so that it does not matter whether they are there: see _with_deleted.
    """
    builtin = BUILTIN[place]
    every, then = [_of(state, place) for state in states], _of(wanted, place)
    written = {
        name: rules
        for name, rules in then.items()
        if name != builtin and not all(_equal(now.get(name), rules) for now in every)
    }
    gone = {name: () for now in every for name in now if name not in then and name != builtin}
    # The hotplug script may bind one more meanwhile: nothing goes from there but what was read.
    bound = _fewer(every[0].get(LATE), then[LATE]) if len(every) == 1 and LATE in written else None
    if bound is not None:
        del written[LATE]
    jump = list[str]()
    if every[0].get(builtin, ()) != then[builtin]:
        # Those behind rules of others go, by what they say; the one that is left is the first of all.
        jump = [f"-D {builtin} {_rule_of(line)}" for line in every[0].get(builtin, ())]
        jump += [f"-I {builtin} 1 {line}" for line in then[builtin]]
    if written or gone or jump or bound:
        lines = (
            *_declared(place, {**written, **gone}),
            *_ruled(written),
            *(f"-D {LATE} {rule}" for rule in bound or ()),
            *jump,
        )
        yield from _with_deleted(place, variant, lines, gone, certain=len(every) == 1)


def _with_deleted(
    place: str, variant: Variant, lines: tuple[str, ...], gone: Chains, *, certain: bool
) -> Iterator[Step]:
    """What is changed of a table, with the chains that go, which have been declared; `certain`: they are there.

    ebtables cannot delete in the same transaction what that has made.
    """
    deleted = tuple(f"-X {name}" for name in sorted(gone))
    if gone and place in _EBTABLES and not certain:
        yield Step(_restore(place, variant), _commit(place, lines))
        lines = ()
    yield Step(_restore(place, variant), _commit(place, (*lines, *deleted)))


def _fewer(now: tuple[str, ...] | None, then: tuple[str, ...]) -> tuple[str, ...] | None:
    """The rules that are too many; None where others are missing, or in another order."""
    if now is None or tuple(rule for rule in now if rule in then) != then:
        return None
    return tuple(rule for rule in now if rule not in then)


def _removal(there: Layout, variant: Variant, *, beside: bool = False) -> tuple[Step, ...]:
    """Everything of a layout gone, the ways to it first."""
    steps = list[Step]()
    for place in _IPTABLES if beside else tuple(BUILTIN):
        builtin = BUILTIN[place]
        argv, chains = _restore(place, variant), _of(there, place)
        own = {name: () for name in chains if name != builtin}
        found = [_rule_of(line) for line in chains.get(builtin, ())]
        steps += [
            Step(argv, _commit(place, (f"-D {builtin} {line}",)), optional=True)
            for line in (*found, *(_reserved(line) for line in found))
        ]
        if own:
            steps += _with_deleted(place, variant, tuple(_declared(place, own)), own, certain=False)
    sets = sorted(name.removeprefix("ipset ") for name in there if name.startswith("ipset ") and not beside)
    return (*steps, *(Step(("ipset", "destroy", name), "", optional=True) for name in sets))


def _reserved(jump: str) -> str:
    """The same jump to the chain that keeps its place."""
    return jump.removesuffix(JUMP) + f"-j {RESERVE}"


def _rule_of(line: str) -> str:
    """A rule of a chain that is not ours, without the place that it was found at."""
    return line.partition(": ")[2] if line.startswith("at ") else line


def _declared(place: str, chains: Chains) -> Iterator[str]:
    """The lines that make chains, or empty them."""
    policy = "RETURN" if place in _EBTABLES else "- [0:0]"
    return (f":{name} {policy}" for name in sorted(chains))


def _ruled(chains: Chains) -> Iterator[str]:
    return (
        f"-A {name} {rule}"
        for name in sorted(chains)
        for rule in chains[name]
        if not rule.startswith("policy ")
    )


def _commit(place: str, lines: tuple[str, ...]) -> str:
    """The input of a restore command for one table, which takes all of it or nothing."""
    return f"*{place.split()[1]}\n" + "".join(f"{line}\n" for line in lines) + "COMMIT\n"


def _restore(place: str, variant: Variant) -> tuple[str, ...]:
    tool = place.partition(" ")[0]
    return EBTABLES_RESTORE if tool == "ebtables" else (f"{tool}-{variant}-restore", "--noflush", "-w")


def _of(there: Layout, place: str) -> dict[str, tuple[str, ...]]:
    return {
        name.removeprefix(f"{place} "): rules for name, rules in there.items() if name.startswith(f"{place} ")
    }


def _same(one: Layout, other: Layout) -> bool:
    return one.keys() == other.keys() and all(
        _equal(_ordered(name, one[name]), _ordered(name, other[name])) for name in one
    )


def _ordered(name: str, rules: tuple[str, ...]) -> tuple[str, ...]:
    """The rules, sorted where each is about another port and their order means nothing."""
    return tuple(sorted(rules)) if name.endswith(f" {LATE}") else rules


def _equal(one: tuple[str, ...] | None, other: tuple[str, ...]) -> bool:
    return one == other or (one is not None and tuple(map(normalised, one)) == tuple(map(normalised, other)))


def _members(ports: Ports, name: str) -> tuple[str, ...]:
    """The addresses of all guests, as ipset saves them."""
    version = 4 if name == SET4 else 6
    networks = {each for grant in ports.grants.values() for each in grant.of(version)}
    return tuple(
        sorted(
            str(each.network_address if each.prefixlen == each.max_prefixlen else each) for each in networks
        )
    )


def _filled_sets(wanted: Layout) -> str:
    """The input of ipset that makes the sets what they should be, whatever is in them."""
    text = ""
    for name, family in _SETS.items():
        spare = f"{name}.spare"
        text += f"{_created(name, family)}{_created(spare, family)}flush {spare}\n"
        text += "".join(f"add {spare} {member}\n" for member in wanted[f"ipset {name}"][1:])
        text += f"swap {name} {spare}\ndestroy {spare}\n"
    return text


def _changed_sets(there: Layout, wanted: Layout) -> str:
    """The input of ipset that adds what is missing, and takes away what is too much; "" for nothing."""
    text = ""
    for name, family in _SETS.items():
        now, then = there.get(f"ipset {name}"), wanted.get(f"ipset {name}")
        if then is None or now == then:
            continue
        have, want = set((now or ("",))[1:]), set(then[1:])
        text += "" if now else _created(name, family)
        text += "".join(f"del {name} {member}\n" for member in sorted(have - want))
        text += "".join(f"add {name} {member}\n" for member in sorted(want - have))
    return text


def _created(name: str, family: str) -> str:
    return f"create {name} hash:net family {family} maxelem {_SET_SIZE}\n"


# For what has no line of the log in it.
_ANY_LOG = LogLimit("", "debug", 1, "day")
