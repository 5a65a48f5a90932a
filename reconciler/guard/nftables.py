"""Bindings as elements of the nftables table, and the scripts that bring a kernel there. Pure.

The rules are loaded once and stay; a change of bindings is a delta of elements in one transaction. Recreating
the table or a set under traffic loses frames.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Network, ip_network

from reconciler.guard.binding import Binding, Guard, Move, Step, What, outermost
from reconciler.guard.loaded import bypassed
from reconciler.guard.nftables_rules import (
    BYPASSED,
    SETS,
    TABLE,
    UNREADABLE,
    chain_text,
    chains,
    declarations,
    listed,
)
from schemas.address import eui64_link_local
from state.nft import Features, LoadedTable, normalised_rules, rule_blocks

LOAD = ("nft", "-f", "-")
# Where single values are, and where prefixes of the same kind.
_BESIDE = {"own_v4": "own_net4", "own_v6": "own_net6", "own_target": "own_target_net"}
Elements = Mapping[str, frozenset[str]]
_OPENED = re.compile(
    rf"(?P<head>\tset {BYPASSED.name} \{{\n(?:\t\t[tf][^\n]*\n)*)\t\telements = \{{[^}}]*\}}\n"
)
# Whatever of it is loaded, and also where nothing is.
UNLOADED = f"table {TABLE}\ndelete table {TABLE}\n"


def elements(guard: Guard) -> Elements:
    """The elements of every set that holds what this host allows, as nft writes them."""
    found: dict[str, set[str]] = {each.name: set() for each in SETS}
    for bridge in guard.bridges:
        found["bridges"].add(f'"{bridge.name}"')
        found["ports"].update(f'"{uplink}" : accept' for uplink in bridge.uplinks)
    found["ports"].update(f'"{port}" : goto refused_unknown' for port in guard.closed)
    for binding in guard.bindings:
        for port in _ports_of(binding):
            _bind(found, binding, port)
    return {name: frozenset(members) for name, members in found.items()}


def _ports_of(binding: Binding) -> tuple[str, ...]:
    twin = (f"{binding.interface}-emu",) if binding.emulated else ()
    return binding.interface, *twin


def _bind(found: dict[str, set[str]], binding: Binding, port: str) -> None:
    mac, inner = binding.mac, f"0x{int(binding.mac.replace(':', ''), 16):x}"
    found["ports"].add(f'"{port}" : goto from_guest')
    found["own_mac"].add(f'"{port}" . {mac}')
    found["own_inner_mac"].add(f'"{port}" . {inner}')
    if binding.mode == "audit":
        found["audited"].add(f'"{port}"')
    for network in (*outermost(binding.addresses), eui64_link_local(mac)):
        single = network.prefixlen == network.max_prefixlen
        version = "4" if isinstance(network, IPv4Network) else "6"
        written = str(network.network_address) if single else str(network)
        found[f"own_v{version}" if single else f"own_net{version}"].add(f'"{port}" . {mac} . {written}')
        if isinstance(network, IPv4Network):
            continue
        first = f"0x{int(network.network_address):x}"
        if single:
            found["own_target"].add(f'"{port}" . {first}')
        else:
            found["own_target_net"].add(f'"{port}" . {first}-0x{int(network.broadcast_address):x}')


def binding_script(binding: Binding) -> str:
    """A script that adds one binding to a loaded guard."""
    found: dict[str, set[str]] = {each.name: set() for each in SETS}
    for port in _ports_of(binding):
        _bind(found, binding, port)
    return "".join(statement("add", name, members) for name, members in sorted(found.items()))


def move(loaded: LoadedTable | None, guard: Guard, features: Features) -> Move:
    """What brings a kernel to this guard. Rules that are replaced are in the kernel's own listing alone: no undo."""
    text, what = script(loaded, guard, features)
    if loaded is None:
        return Move(_steps(text), _steps(UNLOADED), what)
    if what != "elements" or not text:
        return Move(_steps(text), (), what)
    late = _covered(loaded, guard)
    gone = "".join(statement("delete", name, members) for name, members in sorted(late.items()))
    if gone:
        text = delta(_without(loaded, late), guard)
    return Move(_steps(text, gone), _steps(undo_delta(loaded, guard)), what)


def _steps(*texts: str) -> tuple[Step, ...]:
    return tuple(Step(LOAD, text) for text in texts if text)


def _covered(loaded: LoadedTable, guard: Guard) -> Elements:
    """The single addresses, and targets, that go because a prefix of the same port comes in which they are.

    They go in a transaction of their own, behind the one in which it comes: of one alone, the kernel lets go of a single
    element at once, and looks into a new set of prefixes a moment later (Linux 6.18; 4,000 frames were lost while 1,000
    other vifs changed as well).
    """
    there, wanted = loaded.elements, elements(guard)
    found = {}
    for single, prefixes in _BESIDE.items():
        ranges: dict[str, list[tuple[int, int]]] = {}
        for member in wanted[prefixes] - there.get(prefixes, frozenset()):
            key, _, value = member.rpartition(" . ")
            ranges.setdefault(key, []).append(_range(value))
        goes = there.get(single, frozenset()) - wanted[single] if ranges else ()
        found[single] = frozenset(member for member in goes if _within(member, ranges))
    return found


def _within(member: str, ranges: Mapping[str, Iterable[tuple[int, int]]]) -> bool:
    key, _, value = member.rpartition(" . ")
    number, _ = _range(value)
    return any(first <= number <= last for first, last in ranges.get(key, ()))


def _range(value: str) -> tuple[int, int]:
    """The first and the last address of an element's last part: an address, a prefix, or numbers."""
    if value.startswith("0x"):
        first, _, last = value.partition("-")
        return int(first, 16), int(last or first, 16)
    network = ip_network(value)
    return int(network.network_address), int(network.broadcast_address)


def _without(loaded: LoadedTable, late: Elements) -> LoadedTable:
    """The table as if these were not there."""
    return replace(
        loaded,
        elements={name: each - late.get(name, frozenset()) for name, each in loaded.elements.items()},
    )


def script(loaded: LoadedTable | None, guard: Guard, features: Features) -> tuple[str, What]:
    """The script that brings a kernel to this guard, "" where it is there, and what of the table it replaces."""
    if loaded is None:
        return full(guard, features), "table"
    if rules_match(loaded, guard, features):
        return delta(loaded, guard), "elements"
    if "" in rule_blocks(loaded.rules):
        # What is no chain and no set was put there by somebody else, and goes with the table only.
        return full(guard, features), "rules"
    return reload_rules(loaded, guard, features), "rules"


def full(guard: Guard, features: Features, held: Elements | None = None) -> str:
    """A script that loads the complete guard in one transaction, whatever of it is loaded already; `held`: with these elements.

    Existing elements that the guard does not want are taken away with their sets, so under traffic this is
    for the first load only; later ones are deltas.
    """
    wanted = elements(guard) if held is None else held
    return f"{UNLOADED}{_table(guard, features)}" + "".join(
        statement("add", name, wanted[name]) for name in sorted(wanted)
    )


def reload_rules(loaded: LoadedTable, guard: Guard, features: Features) -> str:
    """A script that brings a kernel to this guard in one transaction, all rules loaded again; a set that can stay keeps its elements.

    The base chains stay as well: where one goes and its successor comes in one transaction, the one is without rules after
    the moment in which they change, the other before it, and a frame may meet both of them so.
    """
    there = rule_blocks(loaded.rules)
    gone = _outdated(loaded, there, rule_blocks(_rules(guard, features)))
    # Of two blocks the one that names the other goes first: rules, maps, and then what they name.
    text = _each("flush", (name for name in there if name.startswith("chain ")))
    for kind in ("map ", "set ", "chain "):
        text += _each("delete", sorted(name for name in gone if name.startswith(kind)))
    empty = rules = ""
    for name, lines in chains(guard, features):
        # A base chain starts with its hook; all others must exist before a rule may go to them.
        hook = lines[:1] if lines[0].startswith("type ") else ()
        empty += f"add chain {TABLE} {name}" + (
            f" {{ {hook[0].replace('; policy', ' ; policy')} }}\n" if hook else "\n"
        )
        rules += "".join(f"add rule {TABLE} {name} {line}\n" for line in lines[len(hook) :])
    left = {name: each for name, each in loaded.elements.items() if not gone & {f"set {name}", f"map {name}"}}
    changed = delta(replace(loaded, elements=left), guard)
    return f"{text}table {TABLE} {{\n{declarations()}}}\n{empty}{rules}{changed}"


def _each(verb: str, blocks: Iterable[str]) -> str:
    """That done to each of these, such as `set own_v4`."""
    return "".join(
        f"{verb} {kind} {TABLE} {name}\n" for kind, _, name in (each.partition(" ") for each in blocks)
    )


def delta(loaded: LoadedTable, guard: Guard) -> str:
    """A script that turns the loaded elements into the wanted ones in one transaction; "" when there is nothing to do.

    What goes is deleted before what comes is added: an address that changes hands never has two holders.
    """
    wanted = elements(guard)
    deletes = [
        statement("delete", name, loaded.elements.get(name, frozenset()) - wanted[name])
        for name in sorted(wanted)
    ]
    adds = [
        statement("add", name, wanted[name] - loaded.elements.get(name, frozenset()))
        for name in sorted(wanted)
    ]
    return "".join((_outlived(loaded, wanted["own_mac"]), *deletes, *adds))


def _outlived(loaded: LoadedTable, own_mac: frozenset[str]) -> str:
    """A script that closes what a human has opened of vifs that are gone, or have another MAC by now."""
    keys = [key for key in bypassed(loaded) if f'"{key[0]}" . {key[1]}' not in own_mac]
    return opened_script(keys, None)


def opened_script(keys: Iterable[tuple[str, str]], seconds: int | None, note: str = "") -> str:
    """A script that has the guard pass whatever (port, MAC) send for so many seconds from now on; None: no longer.

    The kernel does not prolong an element that is there, and refuses to delete one that is not, or not any more.
    """
    named = [f'"{port}" . {mac}' for port, mac in sorted(keys)]
    gone = statement("add", BYPASSED.name, named) + statement("delete", BYPASSED.name, named)
    if seconds is None:
        return gone
    return gone + statement(
        "add", BYPASSED.name, (f'{each} timeout {seconds}s comment "{note}"' for each in named)
    )


def undo_delta(loaded: LoadedTable, guard: Guard) -> str:
    """A script that takes a delta back in one transaction, and does nothing where the delta was not loaded.

    What others added meanwhile stays, such as the hotplug script's binding of a guest that has just rebooted.
    """
    wanted = elements(guard)
    undone = ""
    for each in SETS:
        there = loaded.elements.get(each.name, frozenset())
        comes, goes = wanted[each.name] - there, there - wanted[each.name]
        if "interval" in each.flags and (comes or goes):
            # An old and a new prefix may overlap, and would then not even for a moment fit beside each other.
            undone += f"flush set {TABLE} {each.name}\n{statement('add', each.name, there)}"
            continue
        # A port whose verdict has changed has its key before and after; all others are made to be there first.
        kept = {_key(member) for member in goes}
        undone += statement("add", each.name, (member for member in comes if _key(member) not in kept))
        undone += statement("delete", each.name, comes)
        undone += statement("add", each.name, goes)
    return undone


def _key(member: str) -> str:
    return member.partition(" : ")[0]


def restored(listing: str) -> str:
    """A script that puts the table back in one transaction as `nft list table` listed it, rules of others in it included."""
    # What a human had opened by then he may have closed since.
    return f"{UNLOADED}{readable(_OPENED.sub(lambda match: match['head'], listing))}"


def readable(listing: str) -> str:
    """A listing as nft reads it back."""
    for written, shown in UNREADABLE:
        listing = listing.replace(shown, written)
    return listing


def rules_match(loaded: LoadedTable, guard: Guard, features: Features) -> bool:
    """Whether the loaded rules are ours, unchanged."""
    return loaded.rules == _rules(guard, features)


def _outdated(
    loaded: LoadedTable, there: Mapping[str, tuple[str, ...]], wanted: Mapping[str, tuple[str, ...]]
) -> frozenset[str]:
    """The blocks that cannot stay: nobody wants them, or they are of another make, such as a set of another type or a chain at another place in the hook."""
    gone = {
        name
        for name, lines in there.items()
        if name not in wanted or _make(name, lines) != _make(name, wanted[name])
    }
    # No chain goes as long as a map names it.
    verdicts = {member.partition(" : goto ")[2] for each in loaded.elements.values() for member in each}
    if any(f"chain {name}" in gone for name in verdicts):
        gone |= {name for name in there if name.startswith("map ")}
    return frozenset(gone)


def _rules(guard: Guard, features: Features) -> str:
    return normalised_rules(f"table {TABLE} {{\n{listed(guard, features)}}}\n")


def _make(name: str, lines: tuple[str, ...]) -> tuple[str, ...]:
    """What of a block stays as it is for as long as the block is there."""
    if not name.startswith("chain "):
        return lines
    return tuple(line.partition("; policy")[0] for line in lines if line.startswith(("type ", "comment ")))


def _table(guard: Guard, features: Features) -> str:
    text = "".join(chain_text(name, lines) for name, lines in chains(guard, features))
    return f"table {TABLE} {{\n{declarations()}{text}}}\n"


def statement(verb: str, name: str, members: Iterable[str]) -> str:
    """One `add` or `delete` of elements; "" for none."""
    ordered = sorted(members)
    if not ordered:
        return ""
    if verb == "delete":
        ordered = [_key(member) for member in ordered]
    return f"{verb} element {TABLE} {name} {{ {', '.join(ordered)} }}\n"
