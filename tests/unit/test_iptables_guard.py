"""The guard of hosts that live in iptables: what is loaded, in which order, and what is read back."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.guard import iptables, nftables
from reconciler.guard.binding import Binding, Bridge, Guard, LogLimit
from reconciler.guard.grants import wanted_ports
from state.iptables_guard import Layout, Variant, foreign_listing, foreign_text, loaded_layout, parse
from state.run import ReadError
from tests.unit import captures
from tests.unit.captures import capture
from tests.unit.netfilter_tables import FakeTables

LOG = LogLimit(prefix="Dropped by firewall: ", level="debug", count=15, per="minute")
POOL = tuple(
    map(
        ip_network,
        (
            "192.0.2.11", "192.0.2.12", "198.51.100.16/28", "198.51.100.16/29", "198.51.100.17",
            "2001:db8::11", "2001:db8::12", "2001:db8:a::/64", "2001:db8:a::/63",
        ),
    )
)  # fmt: skip
MACS = ("00:00:5e:00:53:0a", "00:00:5e:00:53:0b", "00:00:5e:00:53:0c")
NAMES = ("vm1", "vm10", "vm2", "web", "vif3.0")
BINDINGS = st.builds(
    lambda name, mac, addresses, mode, emulated: Binding(
        name, mac, tuple(sorted(addresses, key=str)), f"uuid-of-{name}", 0, mode, emulated
    ),
    st.sampled_from(NAMES),
    st.sampled_from(MACS),
    st.sets(st.sampled_from(POOL), max_size=4),
    st.sampled_from(("enforce", "enforce", "audit")),
    st.booleans(),
)
GUARDS = st.builds(
    lambda bindings, uplinks, unknown, closed, mac: Guard(
        (Bridge("xenbr0", tuple(sorted(uplinks)), mac),),
        tuple(sorted(bindings)),
        unknown,
        LOG,
        tuple(sorted(closed)),
    ),
    st.lists(BINDINGS, max_size=4, unique_by=lambda each: each.interface),
    st.sets(st.sampled_from(("eth0", "eth1")), max_size=2),
    st.sampled_from(("report", "drop")),
    st.sets(st.sampled_from(("extra0", "odd+", "vm3")), max_size=2),
    st.sampled_from(("", "00:00:5e:00:53:02")),
)
VM1 = Binding("vm1", MACS[0], (POOL[0], POOL[5]), "uuid-of-vm1", 0)
VM10 = Binding("vm10", MACS[1], (POOL[1], POOL[2], POOL[7]), "uuid-of-vm10", 0)
GUARD = Guard((Bridge("xenbr0", ("eth0",), "00:00:5e:00:53:02"),), (VM1, VM10), "drop", LOG)
Allowed = tuple[str, str, IPv4Address | IPv6Address]
# What every address of the pool stands for, the ends of prefixes and their neighbours.
ADDRESSES = sorted(
    {address for network in POOL for address in (network[0], network[-1], network[0] - 1, network[-1] + 1)},
    key=str,
)
FOREIGN = (
    ("ebtables", "nat", "PREROUTING", "-i tap7 -j DROP"),
    ("iptables", "raw", "PREROUTING", "-s 203.0.113.9/32 -j DROP"),
    ("iptables", "raw", "OUTPUT", "-p udp -j CT --notrack"),
)


def tables(guard: Guard | None = None) -> FakeTables:
    """A host with rules of others, and a guard."""
    host = FakeTables()
    for tool, table, chain, rule in FOREIGN:
        host.chains[tool, table][chain].append(rule)
    host.sets["fail2ban"] = ("hash:ip family inet", {"203.0.113.1"})
    if guard is not None:
        host.apply(iptables.full(guard))
    return host


def known(guard: Guard) -> dict[str, frozenset[str]]:
    """The elements that the nftables backend has, but for names that no rule can mean."""
    return {
        name: frozenset(each for each in members if '"odd+"' not in each)
        for name, members in nftables.elements(guard).items()
    }


def allowed(host: FakeTables) -> set[Allowed]:
    """(port, MAC, source) of all that every tool lets through, by its rules for addresses alone."""
    loaded = host.loaded()
    assert loaded is not None
    layout = loaded_layout(loaded)
    found = set()
    for port in (*NAMES, "vm1-emu", "eth0", "eth1"):
        for mac in MACS:
            for address in ADDRESSES:
                if _passes(layout, port, mac, address):
                    found.add((port, mac, address))
    return found


def _passes(layout: Layout, port: str, mac: str, address: IPv4Address | IPv6Address) -> bool:
    version = address.version
    tool = "iptables raw" if version == 4 else "ip6tables raw"
    ways = {
        "ebtables nat": ("-i {} -j ", "-i {} -j RETURN"),
        tool: ("-m physdev --physdev-in {} -g ", "-m physdev --physdev-in {} -g domgit.uplink"),
    }
    for place, (way, through) in ways.items():
        chains = {name: rules for name, rules in layout.items() if name.startswith(f"{place} domgit")}
        rules = [rule for rules in chains.values() for rule in rules]
        if through.format(port) in rules:
            continue
        targets = [rule.rpartition(" ")[2] for rule in rules if rule.startswith(way.format(port))]
        if not targets or targets[0] == "domgit.unknown":
            if "-j DROP" in layout[f"{place} domgit.unknown"]:
                return False
            continue
        if not _bound(chains, place, targets[0], mac, address):
            return False
    return True


def _bound(chains: Layout, place: str, chain: str, mac: str, address: IPv4Address | IPv6Address) -> bool:
    own = every = chains[f"{place} {chain}"]
    if any("domgit.note." in rule for rule in every):
        return True
    if place == "ebtables nat" and not own[0].startswith(f"-s ! {mac} "):
        return False
    sources = [
        ip_network(rule.split("-src " if "-src " in rule else "-s ")[1].split()[0])
        for rule in every
        if ("-src " in rule or rule.startswith("-s ")) and "! " not in rule and "dst" not in rule and " -d " not in rule
        and "domgit.unspecified" not in rule
    ]  # fmt: skip
    return any(address.version == each.version and address in each for each in sources)


@given(GUARDS)
def test_what_is_loaded_reads_back_as_the_guard_with_the_elements_of_the_other_backend(guard: Guard) -> None:
    host = tables(guard)
    loaded = host.loaded()

    assert loaded is not None
    assert loaded.elements == known(guard)
    assert iptables.transition(loaded, guard) == ((), "")


@given(GUARDS)
def test_loading_it_twice_is_loading_it_once(guard: Guard) -> None:
    host = tables(guard)
    once = host.texts()

    host.apply(iptables.full(guard))

    assert host.texts() == once


@given(GUARDS, GUARDS)
def test_one_change_leads_from_any_guard_to_any_other_and_rests_there(before: Guard, after: Guard) -> None:
    host, fresh = tables(before), tables(after)
    steps, kind = iptables.transition(host.loaded(), after)

    host.apply(steps)

    assert host.loaded() == fresh.loaded()
    assert iptables.transition(host.loaded(), after) == ((), "")
    assert (kind == "") == (steps == ())
    if (before.unknown_vifs, before.bridges[0].mac) == (after.unknown_vifs, after.bridges[0].mac):
        assert kind in {"", "elements"}


@settings(max_examples=40)
@given(GUARDS, GUARDS)
def test_between_two_commands_nothing_passes_but_what_both_guards_allow(before: Guard, after: Guard) -> None:
    host = tables(before)
    steps, _ = iptables.transition(host.loaded(), after)
    old = allowed(tables(before))
    new = allowed(tables(after))
    was, is_ = wanted_ports(before).grants, wanted_ports(after).grants
    unchanged = {port for port in was if was[port] == is_.get(port)}
    kept = {each for each in old & new if each[0] in unchanged}

    for step in steps:
        host.run(step)
        now = allowed(host)
        assert now <= old & new or now in (old, new)
        assert kept <= now


@settings(max_examples=60)
@given(GUARDS, GUARDS, st.integers(0, 12))
def test_a_change_is_taken_back_from_wherever_it_was(before: Guard, after: Guard, made: int) -> None:
    host = tables(before)
    loaded = host.loaded()
    steps, _ = iptables.transition(loaded, after)
    for step in steps[:made]:
        host.run(step)

    host.apply(iptables.undo(loaded, after))
    host.apply(iptables.undo(loaded, after))

    again = host.loaded()
    assert again is not None
    assert loaded is not None
    assert again.elements == loaded.elements
    assert iptables.transition(again, before) == ((), "")


@given(GUARDS, st.integers(0, 20))
def test_a_first_load_is_taken_back_from_wherever_it_was(guard: Guard, made: int) -> None:
    host = tables()
    before = host.texts()
    for step in iptables.full(guard)[:made]:
        try:
            host.run(step)
        except Exception:  # noqa: BLE001  # optional ones may fail
            assert step.optional

    host.apply(iptables.undo(None, guard))

    assert host.texts() == before


@given(GUARDS)
def test_removing_it_leaves_what_was_there_before_byte_for_byte(guard: Guard) -> None:
    host = tables()
    before = host.texts()
    host.apply(iptables.full(guard))

    host.apply(iptables.remove(host.loaded()))

    assert host.texts() == before
    assert host.loaded() is None
    assert iptables.remove(None) == ()


def test_of_what_the_tools_save_nothing_of_ours_is_taken_for_somebody_elses() -> None:
    bare, guarded = tables().texts(), tables(GUARD).texts()
    # A table that does nothing may have been made for ours alone.
    unused = re.compile(r"# Generated.*\n\*\w+\n(?::.*\n)+(?:COMMIT\n)?# Completed.*\n")

    for tool, text in guarded.items():
        assert foreign_text(text) == foreign_text(bare[tool]) == unused.sub("", bare[tool])


def test_of_what_nft_lists_nothing_of_ours_is_taken_for_somebody_elses() -> None:
    listed = """table bridge nat {
	chain domgit/vm1 {
		ether saddr != 00:00:5e:00:53:0a counter packets 0 bytes 0 jump domgit.drop.mac
	}

	chain PREROUTING {
		type filter hook prerouting priority dstnat; policy accept;
		counter packets 0 bytes 0 jump domgit
%s	}

	chain mine {
		iifname "domgit" counter packets 0 bytes 0 drop
	}
}
"""
    mine = '\t\tiifname "tap7" counter packets 0 bytes 0 jump mine\n'

    assert foreign_listing(listed % mine) == (
        f"table bridge nat {{\n\tchain PREROUTING {{\n"
        f"\t\ttype filter hook prerouting priority dstnat; policy accept;\n{mine}\t}}\n\n"
        '\tchain mine {\n\t\tiifname "domgit" counter packets 0 bytes 0 drop\n\t}\n}\n'
    )
    # A table that was made for ours alone is none of somebody else's.
    ours = listed % ""
    assert foreign_listing(f"{ours[: ours.index('	chain mine')]}}}\n") == ""
    assert foreign_listing(ours.replace("domgit/vm1", "other").replace("jump domgit", "jump other")) != ""


@given(guard=GUARDS, ibrname=st.booleans())
def test_where_the_kernel_can_tell_a_frames_bridge_every_port_of_it_that_is_unknown_is_decided(
    guard: Guard, *, ibrname: bool
) -> None:
    host = FakeTables(ibrname=True)
    host.apply(iptables.full(guard, ibrname=ibrname))
    loaded = host.loaded()

    assert iptables.transition(loaded, guard, ibrname=True) == ((), "")
    assert host.chains["ebtables", "nat"]["domgit"][-1] == "--logical-in xenbr0 -j domgit.unknown"
    steps, kind = iptables.transition(loaded, replace(guard, alone=True), ibrname=False)
    host.apply(steps)
    assert kind == "rules"
    assert host.chains["ebtables", "nat"]["domgit"][-1] == "-i vif+ -j domgit.unknown"


# What somebody else may do to our rules: (tool, table, chain, place of the rule, the rule; none takes one away).
MEDDLING = {
    "accepts before us": ("ebtables", "nat", "PREROUTING", 0, "-j ACCEPT"),
    "returns before us": ("iptables", "raw", "PREROUTING", 0, "-s 192.0.2.0/24 -j RETURN"),
    "takes our jump away": ("ip6tables", "raw", "PREROUTING", 0, ""),
    "takes the jump for reserved groups away": ("ebtables", "filter", "INPUT", 0, ""),
    "jumps to us twice": ("iptables", "raw", "PREROUTING", 1, "-j domgit"),
    "accepts within the entry": ("ebtables", "nat", "domgit", 0, "-j ACCEPT"),
    "accepts within a port's chain": ("ip6tables", "raw", "domgit/vm1", 0, "-j ACCEPT"),
    "grants an address in one tool only": ("iptables", "raw", "domgit/vm1", 3, "-s 192.0.2.9/32 -g domgit.pass"),
    "takes the drop away": ("ebtables", "nat", "domgit.drop.mac", 1, ""),
    "takes the log away": ("iptables", "raw", "domgit.log", 0, ""),
    "takes a way to a port away": ("iptables", "raw", "domgit-vm1", 0, ""),
    "grants every second address": ("ebtables", "nat", "domgit/vm1", 5, "-p IPv4 --ip-src 192.0.2.1/255.255.255.1 -j RETURN"),
    "grants some MACs": ("ebtables", "nat", "domgit/vm1", 0, "-s ! 00:00:5e:00:53:0a/ff:ff:ff:ff:ff:00 -j domgit.drop.mac"),
    "tracks connections": ("iptables", "raw", "domgit.pass", 2, ""),
}  # fmt: skip


@pytest.mark.parametrize("how", MEDDLING)
def test_whatever_somebody_does_to_our_rules_is_seen_and_put_right(how: str) -> None:
    tool, table, chain, place, rule = MEDDLING[how]
    host = tables(GUARD)
    rules = host.chains[tool, table][chain]
    if rule:
        rules.insert(place, rule)
    else:
        del rules[place]

    steps, kind = iptables.transition(host.loaded(), GUARD)
    host.apply(steps)

    assert kind == "rules"
    assert iptables.transition(host.loaded(), GUARD) == ((), "")
    assert host.chains[tool, table]["PREROUTING" if table != "filter" else "INPUT"][0].endswith("-j domgit")
    if how in {"accepts before us", "returns before us"}:
        assert rule in host.chains[tool, table][chain]


def test_a_flush_of_one_tool_is_seen_and_put_right() -> None:
    host = tables(GUARD)
    host.chains["ebtables", "nat"] = {"PREROUTING": []}

    loaded = host.loaded()
    steps, kind = iptables.transition(loaded, GUARD)
    host.apply(steps)

    assert loaded is not None
    assert not loaded.elements["own_mac"]
    assert kind == "rules"
    assert iptables.transition(host.loaded(), GUARD) == ((), "")


def test_sets_are_put_right_in_place() -> None:
    host = tables(GUARD)
    host.sets["domgit4"][1].symmetric_difference_update({"192.0.2.11", "203.0.113.7"})

    host.apply(iptables.transition(host.loaded(), GUARD)[0])

    assert host.loaded() == tables(GUARD).loaded()


def test_a_binding_that_the_hotplug_script_adds_counts_and_is_sorted_in_by_the_next_change() -> None:
    late = Binding("vif3.0", MACS[2], (POOL[3], POOL[8]), "uuid-of-late", 0)
    host, wanted = tables(GUARD), replace(GUARD, bindings=(*GUARD.bindings, late))
    waiting = iptables.binding_steps(replace(late, interface="@PORT@"))

    host.apply(replace(step, stdin=step.stdin.replace("@PORT@", "vif3.0")) for step in waiting)
    loaded = host.loaded()

    assert loaded is not None
    assert loaded.elements == known(wanted)
    assert iptables.transition(loaded, wanted) == ((), "")
    more = replace(
        wanted,
        bindings=(*wanted.bindings, Binding("vm77", "00:16:3e:00:00:77", (POOL[4],), "uuid-of-more", 0)),
    )
    host.apply(iptables.transition(loaded, more)[0])
    assert host.loaded() == tables(more).loaded()


def test_more_late_ports_than_may_stay_one_behind_the_other_are_sorted_in() -> None:
    late = [Binding(f"vif{n}.0", f"00:16:3e:0{n // 100}:{n % 100:02d}:77", (), "uuid", n) for n in range(65)]
    host, wanted = tables(GUARD), replace(GUARD, bindings=(*GUARD.bindings, *late))

    for count, each in enumerate(late, 1):
        host.apply(iptables.binding_steps(each))
        bound = replace(GUARD, bindings=(*GUARD.bindings, *late[:count]))
        if count in {1, 64, 65}:
            assert iptables.transition(host.loaded(), bound)[1] == ("elements" if count == 65 else ""), count
    host.apply(iptables.transition(host.loaded(), wanted)[0])

    assert host.loaded() == tables(wanted).loaded()


@pytest.mark.parametrize("tool", ["ebtables", "iptables", "ip6tables"])
def test_a_listing_that_was_cut_is_none(tool: str) -> None:
    texts = tables(GUARD).texts()
    whole = texts[tool]
    ends = [at for at in range(len(whole)) if "# Completed" not in whole[at - 45 :] or whole[at - 1] != "\n"]
    complete = parse(**texts)

    for at in sorted({*range(1, len(whole), 97), *ends[-40:]}):
        try:
            found = parse(**{**texts, tool: whole[:at]})
        except ReadError:
            continue
        # Between two tables an end is an end: what is missing is missed.
        assert found != complete
        assert whole[:at].endswith("\n")
        assert iptables.transition(found, GUARD)[1] == "rules"


@pytest.mark.parametrize("line", ["garbage", "-A domgit.nowhere -j DROP", "add domgit4x 1", "-X"])
def test_a_line_that_nobody_writes_is_refused(line: str) -> None:
    texts = tables(GUARD).texts()

    with pytest.raises(ReadError):
        parse(**{**texts, "iptables": texts["iptables"].replace("COMMIT\n", f"{line}\nCOMMIT\n")})


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_what_the_tools_saved_once_is_the_guard_that_was_loaded_then(variant: Variant) -> None:
    loaded = parse(
        ebtables=capture("ebtables-nft-save-1.8.9-three-bindings.txt"),
        iptables=capture(f"iptables-{variant}-save-1.8.9-three-bindings.txt"),
        ip6tables=capture(f"ip6tables-{variant}-save-1.8.9-three-bindings.txt"),
        ipset=capture("ipset-save-7.17-three-bindings.txt"),
    )

    assert loaded is not None
    assert loaded.elements == nftables.elements(captures.GUARD)
    assert iptables.transition(loaded, captures.GUARD, variant=variant) == ((), "")


def test_nothing_of_ours_is_loaded_where_there_are_only_rules_of_others() -> None:
    assert tables().loaded() is None
    assert parse(ebtables="", iptables="", ip6tables="", ipset="") is None


def _layout(guard: Guard) -> Layout:
    loaded = tables(guard).loaded()
    assert loaded is not None
    return loaded_layout(loaded)


def test_no_name_is_longer_than_the_tools_have_room_for() -> None:
    longest = replace(VM1, interface="abcdefghijk-emu")
    names = [name.split(" ") for name in _layout(replace(GUARD, bindings=(longest,)))]

    assert max(len(name[-1]) for name in names if name[0] != "ipset") <= 28
    assert max(len(name[-1]) for name in names if name[0] == "ipset") <= 31


def test_a_change_of_one_binding_is_small_however_many_there_are() -> None:
    def text(count: int) -> int:
        many = tuple(
            Binding(
                f"vm{number:04}", f"00:16:3e:00:{number >> 8:02x}:{number & 255:02x}",
                (ip_network(ip_address("10.0.0.1") + number),), f"uuid-{number}", 0,
            )
            for number in range(count)
        )  # fmt: skip
        before = replace(GUARD, bindings=many)
        one = replace(many[5], addresses=(ip_network("192.0.2.99"),))
        after = replace(before, bindings=tuple(sorted((*many[:5], one, *many[6:]))))
        return sum(len(step.stdin) for step in iptables.transition(tables(before).loaded(), after)[0])

    assert text(1000) == text(10)
