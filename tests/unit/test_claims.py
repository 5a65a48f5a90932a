"""What may be claimed once, and whom a conflict holds back."""

from __future__ import annotations

import time
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.address import eui64_link_local
from schemas.fleet import view
from tests.unit.fleets import domu, fleet_of, host, network

NETWORK = network("a", "10.0.0.0/16", "10.0.0.1")


def test_the_link_local_address_is_the_one_that_rfc_4291_forms() -> None:
    assert str(eui64_link_local("34:56:78:9a:bc:de")[0]) == "fe80::3656:78ff:fe9a:bcde"
    assert str(eui64_link_local("00:16:3e:7c:1f:6e")[0]) == "fe80::216:3eff:fe7c:1f6e"


def test_the_default_uuid_follows_from_the_name() -> None:
    (claimant,) = fleet_of({**host(), **domu("vm01")}).domus

    assert claimant.uuid == "e608ed38-c1b9-532e-a769-0156b41e19e1"


# Small blocks, so that most of them meet.
BLOCKS = st.builds(
    lambda length, number: IPv4Network((0x0A000100 | (number << (32 - length)) & 0xFF, length)),
    st.integers(min_value=26, max_value=32),
    st.integers(min_value=0, max_value=255),
)
CLAIMS = st.lists(
    st.tuples(st.integers(min_value=0, max_value=3), BLOCKS, st.booleans()), min_size=1, max_size=8
)


@given(CLAIMS)
def test_two_vifs_conflict_exactly_when_their_addresses_meet_and_are_not_both_shared(
    claims: list[tuple[int, IPv4Network, bool]],
) -> None:
    claims = [(vif, block, shared and block.prefixlen == 32) for vif, block, shared in claims]
    claims = list({(vif, block): (vif, block, shared) for vif, block, shared in claims}.values())
    files = {**host(), **NETWORK}
    for vif in range(4):
        items = ", ".join(
            f"{{address: {block[0]}, shared: true}}" if shared else str(block)
            for owner, block, shared in claims
            if owner == vif
        )
        files |= domu(f"vm{vif}", f"mac: 00:16:3e:00:00:0{vif}, ips: [{items}]")

    found = {each.code for each in fleet_of(files).diagnostics}

    meet = any(
        one[0] != other[0] and one[1].overlaps(other[1]) and not (one[2] and other[2])
        for one in claims
        for other in claims
    )
    assert found == ({"DG1304"} if meet else set())


@pytest.mark.parametrize("order", [("aa", "bb"), ("bb", "aa")])
def test_a_conflict_between_hosts_holds_back_both_and_no_third(order: tuple[str, str]) -> None:
    files = {**host("aa"), **host("bb"), **host("cc"), **NETWORK}
    for name, where in zip(("one", "two"), order, strict=True):
        files |= domu(name, "mac: 00:16:3e:00:00:01", host=where)
    files |= domu("three", "mac: 00:16:3e:00:00:03", host="cc")

    fleet = fleet_of(files)

    assert {name: view(fleet, name).refused for name in ("aa", "bb", "cc")} == {
        "aa": True,
        "bb": True,
        "cc": False,
    }


def test_what_a_faulty_domu_claims_is_reported_and_holds_back_that_one_only() -> None:
    files = {
        **host(),
        **NETWORK,
        **domu("good", "mac: 00:16:3e:00:00:01"),
        **domu("odd", "mac: 00:16:3e:00:00:01"),
    }
    files["hosts/dom0-a/domus/odd.yaml"] += "  maxMemory: 1MiB\n"

    seen = view(fleet_of(files), "dom0-a")

    assert not seen.refused
    assert seen.held == ("odd",)
    assert [claimant.name for claimant in seen.domus] == ["good"]
    assert {"DG1205", "DG1303"} <= {each.code for each in seen.diagnostics}


def test_a_domu_that_lives_on_another_host_is_seen_from_here() -> None:
    files = {**host("aa"), **host("bb"), **domu("one", host="bb")}

    (uuid,) = (claimant.uuid for claimant in fleet_of(files).domus)

    assert view(fleet_of(files), "aa").elsewhere == {uuid: "bb"}
    assert view(fleet_of(files), "bb").elsewhere == {}


def test_a_host_that_is_not_in_the_repository_has_nothing_to_do() -> None:
    seen = view(fleet_of({**host("aa")}), "bb")

    assert seen.refused
    assert seen.host is None
    assert seen.domus == ()


def test_a_thousand_claimants_of_one_address_are_a_thousand_problems_not_a_million() -> None:
    files = {**host(), **NETWORK}
    for number in range(1000):
        mac = f"00:16:3e:00:{number >> 8:02x}:{number & 255:02x}"
        files |= domu(f"vm{number}", f"mac: {mac}, ips: [10.0.1.1, 10.0.2.0/24]")

    started = time.process_time()
    found = fleet_of(files).diagnostics

    assert len(found) == 2 * 999
    assert time.process_time() - started < 20  # a few tenths of a second; quadratic, it would be minutes


def test_addresses_of_different_versions_never_meet() -> None:
    files = {**host(), **NETWORK, **network("b", "2001:db8::/64", "2001:db8::1")}
    files |= domu("one", "mac: 00:16:3e:00:00:01, ips: [10.0.1.1]")
    files |= domu("two", "mac: 00:16:3e:00:00:02, ips: ['2001:db8::a00:101']")

    assert fleet_of(files).diagnostics == ()


def conflicts(files: dict[str, str]) -> list[str]:
    return [each.message for each in fleet_of(files).diagnostics if each.code.startswith("DG13")]


def test_who_does_not_share_conflicts_with_everybody_who_does_and_those_with_nobody_else() -> None:
    shared, alone = "{address: 10.0.1.1, shared: true}", "10.0.1.1"
    files = {**host(), **NETWORK}
    for number, item in enumerate([shared, alone, shared], start=1):
        files |= domu(f"vm{number}", f"mac: 00:16:3e:00:00:0{number}, ips: [{item}]")

    assert [(each.address, each.message.split(" (")[0]) for each in fleet_of(files).diagnostics] == [
        ("domu.vm2", "address 10.0.1.1 is claimed by domu.vm1 too"),
        ("domu.vm3", "address 10.0.1.1 is claimed by domu.vm2 too"),
    ]


def test_a_conflict_names_the_prefix_that_meets() -> None:
    files = {**host(), **network("b", "2001:db8::/48", "2001:db8::1")}
    files |= domu("one", "mac: 00:16:3e:00:00:01, ips: ['2001:db8:0:8::/64']")
    files |= domu("two", "mac: 00:16:3e:00:00:02, ips: ['2001:db8:0:8::/80']")

    (message,) = conflicts(files)
    assert message.startswith("address 2001:db8:0:8::/80 is claimed by domu.one too")


def test_an_address_that_is_said_twice_is_shared_if_it_once_was() -> None:
    files = {**host(), **NETWORK}
    twice = "[{address: 10.0.1.1, shared: true}, 10.0.1.1]"
    files |= domu("one", f"mac: 00:16:3e:00:00:01, ips: {twice}")
    files |= domu("two", "mac: 00:16:3e:00:00:02, ips: [{address: 10.0.1.1, shared: true}]")

    assert conflicts(files) == []


def test_a_conflict_with_a_faulty_domu_holds_back_that_one_whichever_comes_first() -> None:
    for faulty, good in (("aa", "bb"), ("bb", "aa")):
        files = {**host(), **NETWORK}
        files |= domu(faulty, "mac: 00:16:3e:00:00:01") | domu(good, "mac: 00:16:3e:00:00:01")
        files[f"hosts/dom0-a/domus/{faulty}.yaml"] += "  maxMemory: 1MiB\n"

        seen = view(fleet_of(files), "dom0-a")

        assert (seen.refused, seen.held) == (False, (faulty,))


def with_metadata(files: dict[str, str], file: str, old: str, new: str) -> dict[str, str]:
    assert old in files[file]
    return {**files, file: files[file].replace(old, new)}


UUID = "0d6f3f5e-5a4b-4c4e-9a53-0d6d3f0c2b11"


def test_a_faulty_domu_elsewhere_is_known_by_its_uuid_unless_that_is_what_is_wrong() -> None:
    one = "hosts/bb/domus/one.yaml"
    files = {**host("aa"), **host("bb"), **domu("one", host="bb")}
    faulty = {**files, one: files[one] + "  maxMemory: 1MiB\n"}
    (uuid,) = (claimant.uuid for claimant in fleet_of(files).domus)

    assert view(fleet_of(faulty), "aa").elsewhere == {uuid: "bb"}
    unknown = with_metadata(faulty, one, "{name: one}", "{name: one, uuid: nonsense}")
    assert view(fleet_of(unknown), "aa").elsewhere == {}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("spec:\n", "spec:\n  state: runing\n", ["name", "uuid"]),  # perhaps a tombstone
        ("{name: two}", "{name: two, uuid: nonsense}", ["name", "MAC", "vif name", "disk", "address"]),
        (
            "bridge: xenbr0, mac",
            "bridge: xen/br0, mac",
            ["name", "uuid", "MAC", "vif name", "disk", "address"],
        ),
        ("mac: 00:16:3e:00:00:01", "mac: nonsense", ["name", "uuid", "vif name", "disk", "address"]),
    ],
)
def test_of_a_domu_with_a_wrong_value_counts_what_does_not_follow_from_it(
    old: str, new: str, told: list[str]
) -> None:
    vif = "mac: 00:16:3e:00:00:01, name: web, ips: [10.0.1.1, 'fe80::7']"
    files = {**host(), **NETWORK, **domu("one", vif), **domu("two", vif)}
    for name in ("one", "two"):
        file = f"hosts/dom0-a/domus/{name}.yaml"
        files[file] = files[file].replace(f"images/{name}.img", "images/shared.img")
        if name == "one":
            files[file] = files[file].replace("{name: one}", f"{{name: two, uuid: {UUID}}}")
        elif "uuid" not in new:
            files[file] = files[file].replace("{name: two}", f"{{name: two, uuid: {UUID}}}")
    two = "hosts/dom0-a/domus/two.yaml"

    messages = conflicts(with_metadata(files, two, old, new))

    said = [message.split(" ")[0] for message in messages if not message.startswith("address fe80")]
    assert sorted(said) == sorted(each.split(" ")[0] for each in told)
    # An address of a segment's own says nothing where the segment is not known.
    own = any(message.startswith("address fe80::7 ") for message in messages)
    assert own == ("address" in told and "br0, mac" not in new)


def test_more_than_one_link_local_address_is_refused_at_its_own_file_alone() -> None:
    files = {**host(), **NETWORK}
    files |= domu("vm01", "mac: 00:16:3e:00:00:01, ips: ['fe80::/64']")
    files |= domu("vm02", "mac: 00:16:3e:00:00:02, ips: ['fe80::216:3eff:fe00:2']")

    found = [(each.code, each.file) for each in fleet_of(files).diagnostics]

    assert found == [("DG1405", "hosts/dom0-a/domus/vm01.yaml")]


def test_who_claims_what_two_have_claimed_before_conflicts_with_the_first() -> None:
    files = {**host(), **NETWORK}
    for number in (1, 2, 3):
        files |= domu(f"vm{number}", f"mac: 00:16:3e:00:00:0{number}, ips: [10.0.1.1]")

    assert [message.split(" (")[0] for message in conflicts(files)] == [
        "address 10.0.1.1 is claimed by domu.vm1 too",
        "address 10.0.1.1 is claimed by domu.vm1 too",
    ]
