"""Bindings as elements, and the scripts that bring a kernel there."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.diff_guard import specified_guard
from reconciler.guard import nftables
from reconciler.guard.binding import Address, Binding, Guard, LogLimit, Step
from reconciler.guard.log_shares import shares
from reconciler.guard.nftables_rules import SETS, chains, listed
from reconciler.guard.port_lock import lock, unlock
from reconciler.guard.render import steps
from state.nft import Features, LoadedTable, normalised_rules
from tests.unit.captures import BARE, FEATURES, GUARD
from tests.unit.worlds import desired

WITH, WITHOUT = Features(ibrname=True), Features(ibrname=False)
VM01 = GUARD.bindings[0]
VM01_BARE = replace(VM01, addresses=())


def guard(*bindings: Binding) -> Guard:
    return replace(GUARD, bindings=bindings)


def loaded(of: Guard) -> LoadedTable:
    """The table as a kernel would hold it."""
    text = f"table bridge domgit {{\n{listed(of, FEATURES)}}}\n"
    return LoadedTable(
        {name: each for name, each in nftables.elements(of).items() if each}, normalised_rules(text)
    )


def statements(script: str) -> dict[str, set[tuple[str, str]]]:
    """The elements that a script adds and deletes: {verb: {(set, element)}}."""
    found: dict[str, set[tuple[str, str]]] = {"add": set(), "delete": set()}
    for line in script.splitlines():
        if " element " not in line:
            continue
        verb, _, _, _, name, rest = line.split(" ", 5)
        found[verb] |= {(name, element) for element in rest.strip("{} ").split(", ")}
    return found


def test_a_binding_has_its_link_local_address_by_itself() -> None:
    elements = nftables.elements(guard(replace(VM01, addresses=())))

    assert elements["own_v6"] == {'"vm01" . 00:16:3e:7c:1f:65 . fe80::216:3eff:fe7c:1f65'}
    assert elements["own_v4"] == frozenset()


def test_ports_pass_are_bound_or_are_closed_and_the_bridges_stand_beside_them() -> None:
    elements = nftables.elements(replace(guard(VM01_BARE), closed=("odd", "vif7.0")))
    uplinks = {f'"{uplink}" : accept' for bridge in GUARD.bridges for uplink in bridge.uplinks}

    assert uplinks
    assert elements["bridges"] == {f'"{bridge.name}"' for bridge in GUARD.bridges}
    assert elements["ports"] == uplinks | {
        '"vm01" : goto from_guest',
        '"odd" : goto refused_unknown',
        '"vif7.0" : goto refused_unknown',
    }


def test_a_script_says_how_much_of_the_table_it_replaces() -> None:
    changed = replace(loaded(GUARD), rules=loaded(GUARD).rules.replace("drop", "accept", 1))

    assert nftables.script(None, GUARD, FEATURES) == (nftables.full(GUARD, FEATURES), "table")
    assert nftables.script(loaded(GUARD), GUARD, FEATURES) == ("", "elements")
    assert nftables.script(loaded(guard()), GUARD, FEATURES) == (
        nftables.delta(loaded(guard()), GUARD),
        "elements",
    )
    assert nftables.script(changed, GUARD, FEATURES)[1] == "rules"


def test_addresses_and_prefixes_go_into_sets_of_their_own() -> None:
    elements = nftables.elements(GUARD)

    assert '"vm01" . 00:16:3e:7c:1f:65 . 172.16.39.101' in elements["own_v4"]
    assert elements["own_net4"] == {'"vm01" . 00:16:3e:7c:1f:65 . 172.16.39.64/29'}
    assert (
        '"vm03" . 0x20010db8003900010000000000000000-0x20010db800390001ffffffffffffffff'
        in elements["own_target_net"]
    )
    assert elements["audited"] == {'"vm02"'}


def test_a_prefix_inside_another_one_is_left_out_and_a_single_address_stays() -> None:
    """An interval set refuses what overlaps, and the whole script with it."""
    texts = (
        "172.16.39.64/29", "172.16.39.64/30", "172.16.39.80/29", "172.16.39.65",
        "2001:db8:1::/64", "2001:db8:1::/80", "2001:db8:2::/64", "2001:db8:1::1",
    )  # fmt: skip
    elements = nftables.elements(guard(replace(VM01, addresses=tuple(ip_network(each) for each in texts))))

    def last(name: str) -> set[str]:
        return {each.split(" . ")[-1] for each in elements[name]}

    assert last("own_net4") == {"172.16.39.64/29", "172.16.39.80/29"}
    assert last("own_v4") == {"172.16.39.65"}
    assert last("own_net6") == {"2001:db8:1::/64", "2001:db8:2::/64"}
    assert last("own_v6") == {"2001:db8:1::1", "fe80::216:3eff:fe7c:1f65"}


def test_an_emulated_card_is_bound_like_its_twin() -> None:
    found = nftables.elements(guard(replace(VM01, emulated=True)))

    for name, members in found.items():
        ours = {each for each in members if each.startswith('"vm01"')}
        theirs = {each.replace('"vm01-emu"', '"vm01"') for each in members if each.startswith('"vm01-emu"')}
        assert ours == theirs, name


def test_an_address_that_changes_hands_is_taken_away_before_it_is_given() -> None:
    one = replace(VM01, addresses=(ip_network("172.16.39.1"),))
    other = replace(GUARD.bindings[1], addresses=(ip_network("172.16.39.2"),), mode="enforce")
    swapped = guard(replace(one, addresses=other.addresses), replace(other, addresses=one.addresses))

    script = nftables.delta(loaded(guard(one, other)), swapped)

    verbs = [line.split(" ")[0] for line in script.splitlines()]
    assert verbs == sorted(verbs, reverse=True) == ["delete", "add"]
    assert statements(script)["delete"] == {
        ("own_v4", '"vm01" . 00:16:3e:7c:1f:65 . 172.16.39.1'),
        ("own_v4", '"vm02" . 00:16:3e:7c:1f:66 . 172.16.39.2'),
    }


def test_a_port_is_deleted_by_its_key_alone() -> None:
    script = nftables.delta(loaded(GUARD), replace(GUARD, closed=()))

    assert script == 'delete element bridge domgit ports { "stranger" }\n'


def test_nothing_is_said_where_nothing_differs() -> None:
    assert nftables.delta(loaded(GUARD), GUARD) == ""
    assert nftables.statement("add", "ports", []) == ""


ADDRESSES: list[Address] = [
    ip_network(text)
    for text in ("172.16.39.1", "172.16.39.2", "172.16.39.64/29", "2001:db8::1/128", "2001:db8:1::/64")
]
BINDINGS = st.lists(
    st.builds(
        lambda number, addresses, mode, emulated: Binding(
            f"vm{number}", f"00:16:3e:00:53:0{number}", tuple(addresses), "u", 0, mode, emulated
        ),
        st.integers(min_value=0, max_value=3),
        st.lists(st.sampled_from(ADDRESSES), unique=True, max_size=4),
        st.sampled_from(["audit", "enforce"]),
        st.booleans(),
    ),
    max_size=4,
    unique_by=lambda binding: binding.interface,
)


@given(BINDINGS, BINDINGS)
def test_a_delta_leads_from_any_bindings_to_any_others(before: list[Binding], after: list[Binding]) -> None:
    there, wanted = nftables.elements(guard(*before)), nftables.elements(guard(*after))

    found = statements(nftables.delta(loaded(guard(*before)), guard(*after)))

    for name in wanted:
        gone = {each for each in there[name] if (name, each.split(" : ")[0]) in found["delete"]}
        come = {element for where, element in found["add"] if where == name}
        assert (there[name] - gone) | come == wanted[name]
        assert not gone & wanted[name]


def test_a_full_load_replaces_whatever_was_there_in_one_transaction() -> None:
    script = nftables.full(GUARD, WITH)

    assert script.startswith("table bridge domgit\ndelete table bridge domgit\ntable bridge domgit {\n")
    assert statements("".join(line + "\n" for line in script.splitlines() if line.startswith("add element")))[
        "add"
    ] == {(name, each) for name, members in nftables.elements(GUARD).items() for each in members}


def test_a_reload_of_the_rules_touches_no_element() -> None:
    script = nftables.reload_rules(loaded(GUARD), GUARD, WITH)

    assert "delete" not in script
    assert "add element" not in script
    for name, _ in chains(GUARD, WITH):
        assert f"add chain bridge domgit {name}" in script
        assert f"flush chain bridge domgit {name}\n" in script
    assert script.index("flush chain") < script.index("add rule")


def test_reloaded_rules_are_all_rules_and_each_base_chain_is_made_with_its_hook() -> None:
    lines = nftables.reload_rules(loaded(GUARD), GUARD, WITH).splitlines()

    for name, rules in chains(GUARD, WITH):
        hooks = [rule for rule in rules if rule.startswith("type ")]
        plain = [rule for rule in rules if rule not in hooks]
        shown = "".join(f" {{ {hook.replace('; policy', ' ; policy')} }}" for hook in hooks)
        assert f"add chain bridge domgit {name}{shown}" in lines
        start = f"add rule bridge domgit {name} "
        assert [line.removeprefix(start) for line in lines if line.startswith(start)] == plain


def test_unknown_ports_are_closed_by_bridge_where_the_kernel_can_by_name_where_it_is_alone_and_else_not() -> (
    None
):
    def closing(of: Guard, features: Features) -> list[str]:
        return [line for line in dict(chains(of, features))["prerouting"] if "refused_unknown" in line]

    assert closing(GUARD, WITH) == ["meta ibrname @bridges goto refused_unknown"]
    assert closing(GUARD, WITHOUT) == ['iifname "vif*" goto refused_unknown']
    assert closing(BARE, WITHOUT) == []


@pytest.mark.parametrize(("mode", "ends"), [("drop", "drop"), ("report", "accept")])
def test_what_happens_to_unknown_ports_is_one_word(mode: str, ends: str) -> None:
    of = replace(GUARD, unknown_vifs=mode)  # type: ignore[arg-type]  # the two words above

    assert dict(chains(of, WITH))["refused_unknown"][-1] == ends


def test_every_refusal_counts_logs_and_spares_what_is_only_audited() -> None:
    found = dict(chains(GUARD, WITH))

    assert found["refused"] == (
        "jump log_refused",
        "iifname @audited accept",
        "iifname . ether saddr @bypassed accept",
        "drop",
    )
    line = 'log prefix "Dropped by firewall: " level debug'
    assert found["log_refused"] == (
        f"update @log_first {{ iifname limit rate 1/hour burst 1 packets }} limit rate 5/minute burst 2 packets {line} return",
        f"update @log_share {{ iifname limit rate 5/minute burst 2 packets }} limit rate 10/minute burst 3 packets {line}",
    )
    unknown = {"refused_unknown", "refused_renamed"}
    refusals = [name for name in found if name.startswith("refused_") and name not in unknown]
    assert len(refusals) == 8
    assert all(
        found[name][0] == f"update @count_{name.removeprefix('refused_')} {{ iifname }}" for name in refusals
    )
    # A guest's port under another name is never let through, whatever becomes of ports that nobody has declared.
    assert found["refused_renamed"] == (
        "update @count_unknown { iifname }",
        "jump log_refused",
        "drop",
    )


PER_SECOND = {"second": 1.0, "minute": 1 / 60, "hour": 1 / 3600, "day": 1 / 86400, "week": 1 / 604800}


def per_second(rate: str) -> tuple[float, int]:
    """What a limit lets through, in lines a second and in lines at once."""
    match = re.fullmatch(r"(\d+)/(\w+) burst (\d+) packets", rate)
    assert match is not None, rate
    return int(match[1]) * PER_SECOND[match[2]], int(match[3])


@given(st.integers(min_value=1, max_value=100_000), st.sampled_from(["second", "minute", "hour", "day"]))
def test_the_shares_of_the_log_are_the_limit_together_and_none_takes_all(
    count: int, per: Literal["second", "minute", "hour", "day"]
) -> None:
    of = shares(LogLimit("", "debug", count, per))

    first, common, port = (per_second(each) for each in (of.first, of.common, of.port))
    assert first[0] + common[0] == pytest.approx(count * PER_SECOND[per])
    assert first[1] + common[1] == 5  # what nft gives a limit that says nothing of it
    assert 0 < port[0] <= common[0] / 2
    assert port[1] < common[1]
    assert first[0] > 0


def test_a_chain_comes_before_whoever_jumps_to_it() -> None:
    names: list[str] = []
    for name, lines in chains(GUARD, WITH):
        targets = {
            word.strip(",;}")
            for line in lines
            for word in line.split()
            if word.strip(",;}") in dict(chains(GUARD, WITH))
        }
        assert targets - set(names) <= {name}, name
        names.append(name)


def test_the_guard_of_a_host_is_two_steps_the_second_of_which_may_fail() -> None:
    base, closing = steps(GUARD)

    assert (base.argv, base.optional) == (("nft", "-f", "-"), False)
    assert (closing.argv, closing.optional) == (("nft", "-f", "-"), True)
    assert base.stdin.startswith("table bridge domgit\ndelete table")
    assert "meta ibrname" not in base.stdin
    assert "meta ibrname @bridges goto refused_unknown" in closing.stdin


def test_a_guard_from_git_alone_binds_the_halted_too_and_nobody_who_is_gone() -> None:
    want = desired(
        {
            "vm01": {"type": "hvm", "vifs": [{}, {"name": "none"}]},
            "vm02": {"state": "halted", "vifs": [{"guard": "audit"}]},
            "vm03": {"state": "absent"},
        }
    )

    found = specified_guard(want.host, want.domus)

    assert [(each.interface, each.mode, each.emulated) for each in found.bindings] == [
        ("vm01", "enforce", True),
        ("vm02", "audit", False),
    ]
    assert found.bridges[0].uplinks == ("eth0",)


def test_one_script_adds_one_binding() -> None:
    added = statements(nftables.binding_script(replace(VM01, interface="@PORT@")))["add"]

    lines = nftables.binding_script(replace(VM01, interface="@PORT@")).splitlines()
    assert lines == sorted(lines)
    alone = {name for name, _ in added}
    assert all('"@PORT@"' in element for _, element in added)
    assert alone <= {each.name for each in SETS}
    assert ("ports", '"@PORT@" : goto from_guest') in added


# ---------------------------------------------------------------- the port


def test_a_port_is_pinned_before_it_is_locked_and_unlocked_before_it_is_unpinned() -> None:
    locked = [
        argv
        for argv in lock("vm01", "00:16:3e:00:53:01")
        if argv[:3] in {("bridge", "fdb", "replace"), ("bridge", "link", "set")}
    ]
    unlocked = unlock("vm01", "00:16:3e:00:53:01")

    assert [argv[1] for argv in locked] == ["fdb", "fdb", "link"]
    assert [argv[1] for argv in unlocked] == ["link", "link", "fdb"]
    assert unlocked[1][-4:] == ("learning", "on", "locked", "off")


def test_a_port_without_its_entry_is_unlocked_without_taking_one_away() -> None:
    assert unlock("vm01", "00:16:3e:00:53:01", pinned=False) == unlock("vm01", "00:16:3e:00:53:01")[:2]


# ---------------------------------------------------------------- back again


def test_a_delta_is_taken_back_element_by_element() -> None:
    before = guard(replace(VM01, addresses=(ip_network("172.16.39.1"),)))
    after = guard(replace(VM01, addresses=(ip_network("172.16.39.2"),)))

    lines = nftables.undo_delta(loaded(before), after).splitlines()

    assert lines == [
        'add element bridge domgit own_v4 { "vm01" . 00:16:3e:7c:1f:65 . 172.16.39.2 }',
        'delete element bridge domgit own_v4 { "vm01" . 00:16:3e:7c:1f:65 . 172.16.39.2 }',
        'add element bridge domgit own_v4 { "vm01" . 00:16:3e:7c:1f:65 . 172.16.39.1 }',
    ]


def test_a_port_gets_its_old_verdict_back() -> None:
    before, after = replace(guard(VM01), closed=()), replace(guard(), closed=("vm01",))

    lines = [line for line in nftables.undo_delta(loaded(before), after).splitlines() if " ports " in line]

    assert lines == [
        'delete element bridge domgit ports { "vm01" }',
        'add element bridge domgit ports { "vm01" : goto from_guest }',
    ]


def test_a_set_of_prefixes_is_put_back_whole_since_old_and_new_ones_may_overlap() -> None:
    before = guard(replace(VM01, addresses=(ip_network("172.16.39.64/29"), ip_network("172.16.39.16/29"))))
    after = guard(replace(VM01, addresses=(ip_network("172.16.39.64/28"), ip_network("172.16.39.16/29"))))

    lines = nftables.undo_delta(loaded(before), after).splitlines()
    shrunk = nftables.undo_delta(loaded(before), guard(VM01_BARE)).splitlines()

    both = ", ".join(f'"vm01" . 00:16:3e:7c:1f:65 . 172.16.39.{host}/29' for host in (16, 64))
    assert lines == [
        "flush set bridge domgit own_net4",
        f"add element bridge domgit own_net4 {{ {both} }}",
    ]
    assert shrunk == lines


def test_nothing_is_taken_back_where_nothing_changes() -> None:
    assert nftables.undo_delta(loaded(GUARD), GUARD) == ""


def test_a_listing_is_written_so_that_nft_can_read_it() -> None:
    text = "table bridge domgit {\n\tchain from_v6 {\n\t\tah nexthdr { 0x0 } goto refused_v6\n\t}\n}\n"

    script = nftables.restored(text)

    assert script.startswith("table bridge domgit\ndelete table bridge domgit\ntable bridge domgit {\n")
    assert "meta l4proto 51 @th,0,8 { 0x0 } goto refused_v6" in script


@pytest.mark.parametrize(
    ("there", "instead", "reloads"),
    [
        ("", "", True),
        ("iifname vmap @ports", "accept", True),
        ("policy accept", "policy drop", True),
        ("chain dhcp_client\n", "chain dhcp_client\n\tcomment a\n", True),
        ("chain dhcp_client\n", "chain evil\n", True),
        ("priority dstnat - 10", "priority 0", True),
        ("priority -310", "priority 0", True),
        ("set own_mac\n", "map own_mac\n", True),
        ("set own_mac\n", "set own_mac\n\tflags timeout\n", True),
        ("chain prerouting\n", "\n\tcounter evil {\nchain prerouting\n", False),
    ],
)
def test_everything_is_put_back_in_place_unless_there_is_something_in_the_table_that_is_no_chain_and_no_set(
    there: str, instead: str, *, reloads: bool
) -> None:
    table = loaded(GUARD)
    changed = replace(table, rules=table.rules.replace(there, instead, 1) if there else "")

    script, kind = nftables.script(changed, GUARD, FEATURES)

    assert there in table.rules
    assert kind == "rules"
    assert ("delete table" not in script) is reloads
    assert nftables.script(table, GUARD, FEATURES) == ("", "elements")


def test_what_is_of_another_make_goes_and_its_elements_come_again() -> None:
    table = loaded(GUARD)
    rules = table.rules.replace("set own_v4\n", "set own_v4\n\tsize 7\n").replace(
        "chain from_arp\n", "chain others\n\taccept\nchain from_arp\n\tcomment a\n"
    )

    script = nftables.reload_rules(replace(table, rules=rules), GUARD, FEATURES)

    kept = nftables.reload_rules(table, GUARD, FEATURES)
    assert [line for line in script.splitlines() if line.startswith("delete ")] == [
        "delete set bridge domgit own_v4",
        "delete chain bridge domgit from_arp",
        "delete chain bridge domgit others",
    ]
    assert statements(script) == {
        "add": {("own_v4", each) for each in nftables.elements(GUARD)["own_v4"]},
        "delete": set(),
    }
    assert "delete" not in kept
    assert "add element" not in kept
    assert script.index("flush chain bridge domgit others") < script.index("delete set")


def test_a_map_goes_with_a_chain_that_it_names() -> None:
    table = loaded(GUARD)
    rules = table.rules.replace("chain from_guest\n", "chain from_guest\n\tcomment a\n")

    script = nftables.reload_rules(replace(table, rules=rules), GUARD, FEATURES)

    assert script.index("delete map bridge domgit ports\n") < script.index(
        "delete chain bridge domgit from_guest\n"
    )
    assert statements(script)["add"] == {("ports", each) for each in nftables.elements(GUARD)["ports"]}


def test_a_single_address_goes_behind_the_prefix_that_comes_in_its_place() -> None:
    bound = ("192.0.2.5/32", "192.0.2.9/32", "2001:db8:1::5/128")
    before = guard(replace(VM01, addresses=tuple(ip_network(each) for each in bound)))
    after = guard(replace(VM01, addresses=(ip_network("192.0.2.0/29"), ip_network("2001:db8:1::/64"))))
    port, mac = VM01.interface, VM01.mac

    first, second = (each.stdin for each in nftables.move(loaded(before), after, FEATURES).steps)

    covered = {
        ("own_v4", f'"{port}" . {mac} . 192.0.2.5'),
        ("own_v6", f'"{port}" . {mac} . 2001:db8:1::5'),
        ("own_target", f'"{port}" . {int(ip_address("2001:db8:1::5")):#x}'),
    }
    assert statements(second) == {"add": set(), "delete": covered}
    assert statements(first)["delete"] == {("own_v4", f'"{port}" . {mac} . 192.0.2.9')}
    assert {name for name, _ in statements(first)["add"]} == {"own_net4", "own_net6", "own_target_net"}
    assert statements(nftables.script(loaded(before), after, FEATURES)[0])["delete"] > covered


def test_nothing_waits_for_a_prefix_that_is_there_already_or_is_anothers() -> None:
    single, net = ip_network("192.0.2.5/32"), ip_network("192.0.2.0/29")
    other = replace(VM01, interface="vm02", mac="00:16:3e:00:53:02", addresses=(net,))
    cases = (
        (guard(replace(VM01, addresses=(single, net))), guard(replace(VM01, addresses=(net,)))),
        (guard(replace(VM01, addresses=(single,))), guard(VM01_BARE, other)),
    )
    for before, after in cases:
        [step] = nftables.move(loaded(before), after, FEATURES).steps
        assert ("own_v4", f'"{VM01.interface}" . {VM01.mac} . 192.0.2.5') in statements(step.stdin)["delete"]


def test_what_is_not_said_of_a_binding_a_guard_and_a_step() -> None:
    binding = Binding("vm01", "00:16:3e:00:53:01", (), "uuid", 0)

    assert (binding.mode, binding.emulated) == ("enforce", False)
    assert not Guard((), (binding,), "report", LogLimit("", "debug", 1, "minute")).alone
    assert not Step(("nft", "-f", "-"), "").optional
