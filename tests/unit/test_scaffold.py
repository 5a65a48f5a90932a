"""`init` and `new`: what they write is valid as it stands, and takes nothing that anybody has."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.scaffold import new_domu, new_repository, next_address, next_mac
from schemas.diagnostic import SpecError
from schemas.network import Network
from tests.unit.fleets import domu, fleet_in, host, merged, network


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def a_network(subnet: str, gateway: str | None = None, reserved: tuple[str, ...] = ()) -> Network:
    spec = {"subnet": subnet, "reserved": list(reserved), "bridge": "xenbr0"}
    if gateway is not None:
        spec["gateway"] = gateway
    return Network.model_validate(
        {"apiVersion": "domgit/v1", "kind": "Network", "metadata": {"name": "a"}, "spec": spec}
    )


@pytest.fixture
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    for each in (folder, *folder.parents):
        if str(each).startswith("/tmp/"):
            each.chmod(0o755)  # pytest makes them 0700, and the reading child may be somebody else
    return folder


@pytest.mark.parametrize(
    ("subnet", "gateway"),
    [(None, None), ("172.16.39.0/24", "172.16.39.1"), ("2001:db8::/64", "fe80::1"), ("10.0.0.0/8", None)],
)
def test_a_new_repository_is_valid_and_only_watches(
    tmp_path: Path, subnet: str | None, gateway: str | None
) -> None:
    files = new_repository(host="dom0-a", bridge="xenbr0", uplink="eth0", subnet=subnet, gateway=gateway)

    fleet = fleet_in(written(tmp_path, files))

    assert fleet.diagnostics == ()
    assert (fleet.hosts["dom0-a"].spec.mode, fleet.hosts["dom0-a"].spec.guard.mode) == ("report", "audit")
    assert len(fleet.networks) == (subnet is not None)


@pytest.mark.parametrize(
    ("subnet", "gateway"),
    [
        ("172.16.39.5/24", None), ("x", None), ("10.0.0.0/24", "x"), ("172.16.39.0/24", "10.0.0.1"),
        ("172.16.39.0/24", "172.16.39.255"),
    ],
)  # fmt: skip
def test_a_subnet_that_is_none_is_refused_before_anything_is_written(
    subnet: str, gateway: str | None
) -> None:
    with pytest.raises(SpecError):
        new_repository(host="dom0-a", bridge="xenbr0", uplink="eth0", subnet=subnet, gateway=gateway)


def test_one_new_domu_after_the_other_is_valid_and_gets_what_is_free(checkout: Path) -> None:
    files = new_repository(
        host="dom0-a", bridge="xenbr0", uplink="eth0", subnet="172.16.39.0/24", gateway="172.16.39.1"
    )
    written(checkout, files)

    for name in ("web", "Mail", "very-long-name-of-a-vps"):
        path, text = new_domu(checkout, name=name, host="dom0-a", profile=None, network=None)
        path.write_text(text)

    fleet = fleet_in(checkout)
    assert fleet.diagnostics == ()
    found = {claimant.name: merged(claimant).domu.spec.vifs[0] for claimant in fleet.domus}
    assert {name: [str(address[0]) for address in vif.addresses()] for name, vif in found.items()} == {
        "web": ["172.16.39.2"],
        "Mail": ["172.16.39.3"],
        "very-long-name-of-a-vps": ["172.16.39.4"],
    }
    assert {name: vif.name for name, vif in found.items()} == {
        "web": "web",
        "Mail": "mail",
        "very-long-name-of-a-vps": None,
    }


def test_what_other_hosts_have_is_not_given_again(checkout: Path) -> None:
    written(
        checkout,
        {
            **host("dom0-a"),
            **host("dom0-b"),
            **network("a", "172.16.39.0/29", "172.16.39.1"),
            **domu("far", f"mac: {next_mac('web', frozenset())}, ips: [172.16.39.2/31]", host="dom0-b"),
        },
    )

    path, text = new_domu(checkout, name="web", host="dom0-a", profile=None, network=None)
    written(checkout, {str(path.relative_to(checkout)): text})

    assert fleet_in(checkout).diagnostics == ()
    assert "ips: [172.16.39.4]" in text
    assert next_mac("web", frozenset()) not in text


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"name": "VM01"}, "DG1301"),
        ({"host": "dom0-z"}, "DG1201"),
        ({"profile": "gone"}, "DG1201"),
        ({"network": "gone"}, "DG1202"),
    ],
)
def test_what_cannot_be_chosen_is_a_spec_error(checkout: Path, options: dict[str, str], code: str) -> None:
    files = {
        **host(),
        **network("a", "172.16.39.0/24", "172.16.39.1"),
        **domu("vm01", "mac: 00:16:3e:7c:1f:6e"),
    }
    written(checkout, files)
    chosen = {"name": "web", "host": "dom0-a", "profile": None, "network": None, **options}

    with pytest.raises(SpecError) as caught:
        new_domu(checkout, **chosen)  # type: ignore[arg-type]  # the keys are its parameters

    assert [each.code for each in caught.value.diagnostics] == [code]


def test_nothing_is_added_to_a_repository_with_errors(checkout: Path) -> None:
    written(checkout, {**host(), "networks/a.yaml": "a: 1\n"})

    with pytest.raises(SpecError):
        new_domu(checkout, name="web", host="dom0-a", profile=None, network=None)


def test_what_the_profile_brings_is_not_repeated(checkout: Path) -> None:
    profile = "apiVersion: domgit/v1\nkind: Profile\nmetadata: {name: p}\nspec: {type: pvh, boot: {run: {kernel: /srv/xen/k}}}\n"
    written(checkout, {**host(), **network("a", "172.16.39.0/24", "172.16.39.1"), "profiles/p.yaml": profile})

    path, text = new_domu(checkout, name="web", host="dom0-a", profile=None, network=None)
    written(checkout, {str(path.relative_to(checkout)): text})

    assert fleet_in(checkout).diagnostics == ()
    assert "profile: p" in text
    assert "memory: 256MiB" in text
    assert "boot:" not in text
    assert "type:" not in text


@pytest.mark.parametrize(
    ("subnet", "gateway", "reserved", "taken", "expected"),
    [
        ("10.0.0.0/24", None, (), (), "10.0.0.1"),
        ("10.0.0.0/24", "10.0.0.1", (), (), "10.0.0.2"),
        ("10.0.0.0/24", "10.0.0.1", ("10.0.0.0/28",), ("10.0.0.16", "10.0.0.17"), "10.0.0.18"),
        ("10.0.0.0/24", None, ("10.0.0.0/25",), ("10.0.0.128/26",), "10.0.0.192"),
        ("10.0.0.0/30", "10.0.0.1", (), ("10.0.0.2",), None),
        ("10.0.0.0/31", None, (), (), "10.0.0.0"),
        ("10.0.0.0/24", None, (), ("10.1.0.1", "2001:db8::1"), "10.0.0.1"),
        ("2001:db8::/64", "2001:db8::1", (), (), "2001:db8::2"),
        ("2001:db8::/64", "fe80::1", ("2001:db8::/65",), (), "2001:db8:0:0:8000::"),
        ("2001:db8::/127", None, (), ("2001:db8::",), "2001:db8::1"),
    ],
)
def test_the_next_address_is_the_lowest_that_nobody_has(
    subnet: str, gateway: str | None, reserved: tuple[str, ...], taken: tuple[str, ...], expected: str | None
) -> None:
    found = next_address(a_network(subnet, gateway, reserved), [ip_network(each) for each in taken])

    assert found == (None if expected is None else ip_address(expected))


@given(
    st.lists(
        st.builds(
            lambda length, number: IPv4Network((0x0A000000 | (number << (32 - length)) & 0xFF, length)),
            st.integers(min_value=26, max_value=32),
            st.integers(min_value=0, max_value=255),
        ),
        max_size=6,
    )
)
def test_the_next_address_is_what_trying_one_after_the_other_would_find(taken: list[IPv4Network]) -> None:
    expected = next(
        (
            address
            for address in IPv4Network("10.0.0.0/24").hosts()
            if str(address) != "10.0.0.1" and not any(address in block for block in taken)
        ),
        None,
    )

    assert next_address(a_network("10.0.0.0/24", "10.0.0.1"), taken) == expected


def test_a_mac_follows_from_the_name_and_steps_aside_when_it_is_taken() -> None:
    first = next_mac("web", frozenset())

    assert first == next_mac("web", frozenset())
    assert first.startswith("00:16:3e:")
    assert next_mac("web", frozenset({first})) != first
    assert next_mac("mail", frozenset()) != first
